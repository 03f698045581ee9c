//! Conditions by the conventions of Kubernetes: `Ready`, `Reconciling`, `Stalled`, `Accepted` and `Progressing` of each object.

use kontrol_core::id::WidgetId;
use kontrol_plan::{
    conditions::{self, Finding},
    status::{Condition, Inner, Node, NodePhase, Outcome, Reason, Slot, SlotPhase},
};

use super::{Of, Shown, chain, rollout};
use crate::{
    kubernetes::{
        forest::Problem,
        kind::Kind,
        object::Key,
        state::{Tree, refusal::Refusal},
    },
    view::Declared,
};

/// One condition.
pub(in crate::kubernetes::state) fn shown(
    kind: &'static str,
    status: bool,
    reason: &str,
    message: String,
) -> Shown {
    Shown { kind, status: if status { "True" } else { "False" }, reason: reason.to_owned(), message }
}

/// The condition `Accepted`.
pub(in crate::kubernetes::state) fn accepted(problem: Option<&Problem>) -> Shown {
    match problem {
        Some(problem) => shown("Accepted", false, problem.reason, problem.message.clone()),
        None => shown("Accepted", true, "Valid", "the spec can be carried out".to_owned()),
    }
}

/// The conditions of an object of which nothing is planned yet.
fn unknown(tree: &Tree, first: Option<&Problem>, accepted: Shown) -> Vec<Shown> {
    let reason = if first.is_some() { "NotAccepted" } else { "Pending" };
    let message = first.map_or_else(String::new, |problem| problem.message.clone());
    let unknown =
        |kind| Shown { kind, status: "Unknown", reason: reason.to_owned(), message: message.clone() };
    vec![
        unknown("Ready"),
        unknown("Reconciling"),
        stalled(tree.refusal.as_ref(), Stalled::No, first)
            .unwrap_or_else(|| shown("Stalled", false, reason, String::new())),
        accepted,
        unknown("Progressing"),
    ]
}

/// What the plan says of standing still.
enum Stalled {
    /// It does not.
    No,
    /// It does, for this reason.
    Because(&'static str, String),
}

/// The condition `Stalled`: what the API server does not allow comes before what the plan says, and that before what is wrong with the
/// manifests. None: nothing of that.
fn stalled(refusal: Option<&Refusal>, planned: Stalled, problem: Option<&Problem>) -> Option<Shown> {
    if let Some(refusal) = refusal {
        return Some(shown("Stalled", true, refusal.reason, refusal.message.to_string()));
    }
    if let Stalled::Because(reason, message) = planned {
        return Some(shown("Stalled", true, reason, message));
    }
    Some(shown("Stalled", true, "NotAccepted", problem?.message.clone()))
}

/// The condition `Reconciling`, with what is in the way.
fn reconciling((status, reason): (bool, Reason), tree: &Tree) -> Shown {
    shown("Reconciling", status, reason.as_str(), tree.trouble())
}

/// The condition `Progressing`; without a text what its reason says.
fn progressing(finding: Finding, text: Option<String>) -> Shown {
    let text = text.unwrap_or_else(|| rollout::said(finding.reason).to_owned());
    shown("Progressing", finding.status, finding.reason.as_str(), text)
}

fn settled() -> Shown {
    shown("Stalled", false, Reason::Settled.as_str(), String::new())
}

/// The conditions of a supervisor or a group.
pub(super) fn of_node(
    noted: Option<&Node>,
    tree: &Tree,
    kind: Kind,
    key: &Key,
    declared: &Declared,
) -> Vec<Shown> {
    let accepted = accepted(tree.problems.get(&(kind, key.clone())));
    let problem = tree.problems.values().next();
    let Some(node) = noted else { return unknown(tree, problem, accepted) };
    let refused = tree.denied.iter().find(|((instance, _), _)| {
        let id = &instance.widget;
        kind == Kind::Supervisor || (id.group == node.id.name && id.namespace == node.id.namespace)
    });
    let refused = refused.map(|((instance, _), denied)| {
        let message = format!("{instance:#}: {}", denied.refusal.message);
        Refusal { reason: denied.refusal.reason, message: message.into() }
    });
    let refusal = refused.as_ref().or(tree.refusal.as_ref());
    let known = node.conditions;
    let total = node.children.len();
    let number = node.children.iter().filter(|slot| is_ready(slot)).count();
    let ready = format!("{number} of {total} are ready");
    let mut ready = shown("Ready", known.ready.status, known.ready.reason.as_str(), ready);
    if let Some(refusal) = refusal.filter(|_| !known.ready.status) {
        refusal.reason.clone_into(&mut ready.reason);
        ready.message = format!("{}: {}", ready.message, refusal.message);
    }
    let planned = if known.stalled.status {
        Stalled::Because(known.stalled.reason.as_str(), chain(node).unwrap_or_default())
    } else {
        Stalled::No
    };
    let progress = progress(node, declared, known.progressing);
    vec![
        ready,
        reconciling((known.reconciling.status, known.reconciling.reason), tree),
        stalled(refusal, planned, problem).unwrap_or_else(settled),
        accepted,
        progressing(progress, None),
    ]
}

/// How the roll-outs at and below a node go: as the plan has it, and those that it has not turned to.
fn progress(node: &Node, declared: &Declared, planned: Condition) -> Finding {
    fn walk(node: &Node, declared: &Declared, waits: &mut Option<Reason>) {
        for slot in &node.children {
            match &slot.inner {
                Inner::Node(below) => walk(below, declared, waits),
                Inner::Widget(widget) => {
                    let id = WidgetId {
                        namespace: node.id.namespace.clone(),
                        group: node.id.name.clone(),
                        widget: slot.key.name.clone(),
                    };
                    let planned = Finding { status: true, reason: Reason::RolledOut };
                    let reason = rollout::progressing(planned, widget, declared.widget(&id)).reason;
                    if reason == Reason::RollingOut || (reason == Reason::Paused && waits.is_none()) {
                        *waits = Some(reason);
                    }
                }
            }
        }
    }
    let planned = Finding { status: planned.status, reason: planned.reason };
    if planned.reason != Reason::RolledOut {
        return planned;
    }
    let mut waits = None;
    walk(node, declared, &mut waits);
    Finding { reason: waits.unwrap_or(planned.reason), ..planned }
}

fn is_ready(slot: &Slot) -> bool {
    match (&slot.inner, slot.phase) {
        (_, SlotPhase::Ended | SlotPhase::Forgotten) => slot.outcome != Some(Outcome::Failed),
        (Inner::Node(node), _) => node.conditions.ready.status,
        (Inner::Widget(widget), SlotPhase::Up) => widget.ready() >= widget.desired as usize,
        (Inner::Widget(_), _) => false,
    }
}

/// The conditions of a widget. `alone` is its object where it is in no group.
pub(super) fn of_widget(of: Option<Of<'_>>, tree: &Tree, alone: Option<(Kind, &Key)>) -> Vec<Shown> {
    let accepted = accepted(alone.and_then(|(kind, key)| tree.problems.get(&(kind, key.clone()))));
    // What is wrong with a group is said of the group.
    let problem = tree.problems.values().next().filter(|_| alone.is_some());
    let planned = of.and_then(|of| Some((of, conditions::of_widget(of.node, of.slot)?)));
    let Some((of, planned)) = planned else { return unknown(tree, problem, accepted) };
    let denied = tree.denied.iter().find(|((instance, _), _)| instance.widget == *of.id);
    let refusal = denied.map(|(_, denied)| &denied.refusal).or(tree.refusal.as_ref());
    let failed = of.slot.outcome == Some(Outcome::Failed);
    let halted = alone.is_some() && matches!(of.node.phase, NodePhase::Down(_));
    let is_ready = planned.ready.status && !halted;
    let reason = if halted { of.node.conditions.ready.reason } else { planned.ready.reason };
    let mut ready = shown(
        "Ready",
        is_ready,
        reason.as_str(),
        format!("{} of {} replicas are ready", of.widget.ready(), of.widget.desired),
    );
    if let Some(refusal) = refusal.filter(|_| !is_ready) {
        refusal.reason.clone_into(&mut ready.reason);
        ready.message = format!("{}: {}", ready.message, refusal.message);
    }
    let cause = || of.widget.last.as_deref().map(|last| last.first().event.to_string()).unwrap_or_default();
    let stands = if failed {
        Stalled::Because(Reason::Failed.as_str(), cause())
    } else if planned.stalled.status {
        let text = match planned.stalled.reason {
            Reason::Returned | Reason::RolloutStalled => None,
            _ => Some(cause()),
        };
        let text = text.or_else(|| rollout::status(of.widget, of.spec, of.node.since).message);
        Stalled::Because(planned.stalled.reason.as_str(), text.unwrap_or_default())
    } else {
        Stalled::No
    };
    let otherwise = || {
        let cause = if is_ready { String::new() } else { cause() };
        Shown { message: cause, ..settled() }
    };
    let progress = rollout::progressing(planned.progressing, of.widget, of.spec);
    let text = rollout::status(of.widget, of.spec, of.node.since).message;
    vec![
        ready,
        reconciling((planned.reconciling.status, planned.reconciling.reason), tree),
        stalled(refusal, stands, problem).unwrap_or_else(otherwise),
        accepted,
        progressing(progress, text),
    ]
}
