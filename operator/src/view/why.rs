//! The answer to "why is it so?": what something is and waits for, and what led to it.

use std::{sync::Arc, time::Duration};

use kontrol_core::{
    duration,
    id::{ObjectId, WidgetId},
    spec::{self, ScalingClass},
    time::Timestamp,
};
use kontrol_plan::{
    InstanceState, Status,
    event::Cause,
    status::{Inner, Kind, Node, NodePhase, Outcome, Reason, Slot as Child, SlotPhase, Widget},
};
use kontrol_proto::v1;

use super::{Named, Replica, Run, Scaled, Statuses, View, replicas_rule, told};

/// How many decisions before the last one are told of a group or supervisor.
const EARLIER: usize = 3;

/// A group or supervisor, and the way to it.
struct Place<'a> {
    /// The status of its tree.
    tree: &'a Status,
    /// The nodes above it, the root first, each with the child that leads to it.
    above: Vec<(&'a Node, &'a Child)>,
    /// Itself.
    node: &'a Node,
}

/// Why it is as it is.
pub fn why(view: &impl Statuses, named: &Named, now: Timestamp) -> v1::WhyResponse {
    match named {
        Named::Widget(id) => why_widget(view, id, now),
        Named::Group(id) => why_node(view, Kind::Group, id, now),
        Named::Supervisor(id) => why_node(view, Kind::Supervisor, id, now),
    }
}

fn why_node(view: &impl Statuses, kind: Kind, id: &ObjectId, now: Timestamp) -> v1::WhyResponse {
    let Some(place) = place_of(view, kind, id) else {
        return answer(vec![format!("{} has not been started yet", id.name)], None);
    };
    let status = place.node;
    let ready = status.conditions.ready;
    let mut lines = vec![match halted(place.tree, now) {
        _ if ready.status && ready.reason == Reason::Completed => format!("{} has completed", id.name),
        _ if ready.status => format!("{} is Ready", id.name),
        Some(halted) => format!("{} is not Ready: {halted}", id.name),
        None => format!("{} is not Ready: {}", id.name, in_words(ready.reason)),
    }];
    if !ready.status {
        lines.extend(holds_back(view, status, now));
    }
    let mut intensity = None;
    match view.declared().node(kind, id) {
        Some(spec::Node::Group(group)) => {
            intensity = Some(group.intensity);
            for widget in &group.widgets {
                let found = child(status, &widget.id);
                let over = found.and_then(|(slot, _)| slot.outcome).map(over);
                let ready = found.map_or(0, |(_, widget)| widget.ready());
                let desired = found.map_or(widget.replicas, |(_, widget)| widget.desired);
                let how = over.map_or_else(|| format!("{ready} of {desired} ready"), str::to_owned);
                lines.push(format!("{}: {how}", widget.id.widget));
            }
        }
        Some(spec::Node::Supervisor(supervisor)) => {
            intensity = Some(supervisor.intensity);
            lines.extend(status.children.iter().filter_map(|slot| Some((slot, below(slot)?))).map(
                |(slot, below)| {
                    let how = if below.conditions.ready.status {
                        "Ready"
                    } else {
                        in_words(below.conditions.ready.reason)
                    };
                    format!("{}: {}", slot.key, slot.outcome.map_or(how, over))
                },
            ));
        }
        None => {}
    }
    if let Some(intensity) = intensity {
        let window = now.minus(intensity.period);
        let counted = status.restarts.iter().filter(|at| **at >= window).count();
        lines.push(format!(
            "epoch {}, {counted} of {} restarts in {}",
            status.epoch,
            intensity.max_restarts,
            duration::format(intensity.period)
        ));
    }
    let last = place.last();
    lines.extend(earlier(status, last, now));
    answer(lines, last)
}

fn why_widget(view: &impl Statuses, id: &WidgetId, now: Timestamp) -> v1::WhyResponse {
    let object = ObjectId { namespace: id.namespace.clone(), name: id.group.clone() };
    let found = place_of(view, Kind::Group, &object).and_then(|place| {
        let (slot, widget) = child(place.node, id)?;
        Some((place, slot, widget))
    });
    let Some((place, slot, widget)) = found else {
        return answer(vec![format!("{}/{} has not been started yet", id.group, id.widget)], None);
    };
    let mut lines = vec![replicas_line(view, id, widget)];
    lines.extend(place.waits(slot, now).map(|why| format!("it does not run: {why}")));
    for replica in view.replicas(id) {
        let Some(run) = replica.run else { continue };
        lines.push(format!(
            "replica {}: {}, incarnation {}, epoch {}{}{}",
            replica.id.ordinal,
            for_how_long(run, now),
            run.incarnation,
            run.epoch,
            replica.node.map(|node| format!(", on {node}")).unwrap_or_default(),
            said(&replica)
        ));
        lines.extend(held_back(&replica, id));
    }
    answer(lines, place.last_of(slot, widget))
}

/// What keeps a node from being ready: the child that failed or that is waited for, as far down as it can be told.
fn holds_back(view: &impl View, node: &Node, now: Timestamp) -> Option<String> {
    if matches!(node.phase, NodePhase::Down(_)) {
        let first = node.last.as_ref().filter(|last| last.because.is_some())?.first();
        return Some(format!("it began with: {}", told(&first.event).1));
    }
    let slot = missing(node)?;
    let name = format!("{}/{}", node.id.name, slot.key);
    if slot.outcome.is_some() {
        return Some(format!("{name} has failed, and its restart type leaves it so"));
    }
    let below = below(slot).filter(|_| !matches!(slot.phase, SlotPhase::Waiting));
    if let Some(deeper) = below.and_then(|below| holds_back(view, below, now)) {
        return Some(deeper);
    }
    let id = WidgetId {
        namespace: node.id.namespace.clone(),
        group: node.id.name.clone(),
        widget: slot.key.name.clone(),
    };
    let replicas = view.replicas(&id).filter(|_| slot.key.kind == Kind::Widget);
    let mut running = replicas.filter_map(|replica| Some((replica, replica.run?)));
    Some(match running.find(|(_, run)| run.state != InstanceState::Ready) {
        Some((replica, run)) => {
            let (ordinal, how) = (replica.id.ordinal, for_how_long(run, now));
            format!("it waits for {name}, whose replica {ordinal} is {how}{}", said(&replica))
        }
        None => format!("it waits for {name}, which {}", phase_in_words(slot.phase)),
    })
}

fn replicas_line(view: &impl Statuses, id: &WidgetId, status: &Widget) -> String {
    let count = match status.desired {
        1 => "1 replica".to_owned(),
        count => format!("{count} replicas"),
    };
    let Some(widget) = view.declared().widget(id).filter(|widget| replicas_rule(widget)) else {
        let reason = status.scaling.as_ref().map(|scaling| format!(": {}", scaling.reason));
        return format!("{count}{}", reason.unwrap_or_default());
    };
    let external = widget.scaling.as_ref().is_some_and(|scaling| scaling.class == ScalingClass::External);
    let class = if external { "; its scaling is External" } else { "" };
    match view.scaled(id) {
        Some(Scaled { manifest, with }) => {
            format!("{count}: set by {with} (its manifest says {manifest}{class})")
        }
        None => format!("{count}: as its manifest says (spec.replicas{class})"),
    }
}

fn place_of<'a>(view: &'a impl Statuses, kind: Kind, id: &ObjectId) -> Option<Place<'a>> {
    view.statuses().find_map(|tree| {
        let mut above = Vec::new();
        let node = find_node(tree.root.as_deref()?, kind, id, &mut above)?;
        Some(Place { tree, above, node })
    })
}

impl<'a> Place<'a> {
    /// The last decision that concerns the node: its own, or one about it or all above it.
    fn last(&self) -> Option<&'a Cause> {
        newest(self.node.last.as_deref().into_iter().chain(self.decided_above()))
    }

    /// The last that happened to a widget in this group, or that was decided about it, its group or what is above.
    fn last_of(&self, slot: &Child, widget: &'a Widget) -> Option<&'a Cause> {
        let group = self.node;
        let own = widget.last.as_deref();
        let came_of_it = |last: &&Cause| own.is_some_and(|own| last.first().event == own.first().event);
        let of_group = group.last.as_deref().filter(|last| last.event.is_about_all() || came_of_it(last));
        let about_it = group.decision_about(slot).map(AsRef::as_ref);
        newest(own.into_iter().chain(about_it).chain(of_group).chain(self.decided_above()))
    }

    /// What a widget of this group that does not run waits for.
    fn waits(&self, slot: &Child, now: Timestamp) -> Option<String> {
        let group = self.node;
        match (slot.phase, slot.outcome) {
            (SlotPhase::Ended | SlotPhase::Forgotten, Some(Outcome::Completed)) => {
                Some("it has completed".to_owned())
            }
            (SlotPhase::Ended | SlotPhase::Forgotten, Some(Outcome::Failed)) => {
                Some("it has failed, and its restart type leaves it so".to_owned())
            }
            (SlotPhase::Ended | SlotPhase::Forgotten, None) => {
                Some("it was stopped with others of its group, and its restart type leaves it so".to_owned())
            }
            (SlotPhase::Waiting, _) => {
                let mut before = group.children.iter().take_while(|other| other.key != slot.key);
                let before = before.find(|other| not_started(other));
                let before = before.map(|other| format!("{} has to be started before it", other.key));
                let halted = halted(self.tree, now).map(|halted| format!("{}: {halted}", group.id.name));
                Some(halted.or(before).unwrap_or_else(|| {
                    format!("{}: {}", group.id.name, in_words(group.conditions.ready.reason))
                }))
            }
            _ => None,
        }
    }

    fn decided_above(&self) -> impl Iterator<Item = &'a Cause> {
        self.above.iter().rev().flat_map(|&(node, slot)| {
            let all = node.last.as_deref().filter(|last| last.event.is_about_all());
            node.decision_about(slot).map(AsRef::as_ref).into_iter().chain(all)
        })
    }
}

/// Decisions before the last one that brought children where they are, the newest first.
fn earlier(node: &Node, last: Option<&Cause>, now: Timestamp) -> impl Iterator<Item = String> {
    let holds = move |cause: &&Arc<Cause>| {
        last.is_some_and(|last| last != &***cause)
            && node
                .children
                .iter()
                .any(|slot| node.decision_about(slot).is_some_and(|of| Arc::ptr_eq(of, cause)))
    };
    let held = node.decisions.iter().rev().map(|decision| &decision.cause).filter(holds);
    held.take(EARLIER).map(move |cause| {
        let chain: Vec<_> = cause.chain().map(|cause| told(&cause.event).1).collect();
        format!("{} ago: {}", whole(now.since(cause.at)), chain.join(", because "))
    })
}

/// The last in time; of several at one time, that which comes last.
fn newest<'a>(causes: impl Iterator<Item = &'a Cause>) -> Option<&'a Cause> {
    causes.max_by_key(|cause| cause.at)
}

fn find_node<'a>(
    node: &'a Node,
    kind: Kind,
    id: &ObjectId,
    above: &mut Vec<(&'a Node, &'a Child)>,
) -> Option<&'a Node> {
    if node.kind == kind && node.id == *id {
        return Some(node);
    }
    for slot in &node.children {
        let Some(inner) = below(slot) else { continue };
        above.push((node, slot));
        if let Some(found) = find_node(inner, kind, id, above) {
            return Some(found);
        }
        above.pop();
    }
    None
}

/// The group or supervisor in a place.
fn below(slot: &Child) -> Option<&Node> {
    match &slot.inner {
        Inner::Node(node) => Some(node),
        Inner::Widget(_) => None,
    }
}

/// A widget's place in its group.
fn child<'a>(group: &'a Node, id: &WidgetId) -> Option<(&'a Child, &'a Widget)> {
    let slot = group.children.iter().find(|slot| slot.key.name == id.widget)?;
    match &slot.inner {
        Inner::Widget(widget) => Some((slot, widget)),
        Inner::Node(_) => None,
    }
}

/// The child that keeps a node from being ready: one that failed, or the first that is not there yet.
fn missing(node: &Node) -> Option<&Child> {
    let children = || node.children.iter().map(AsRef::as_ref);
    let failed = children().find(|slot| slot.outcome == Some(Outcome::Failed));
    let waiting = || children().find(|slot| slot.outcome.is_none() && not_started(slot));
    let unwell = || {
        children().find(|slot| match &slot.inner {
            Inner::Widget(widget) => slot.outcome.is_none() && widget.ready() < widget.desired as usize,
            Inner::Node(below) => slot.outcome.is_none() && !below.conditions.ready.status,
        })
    };
    failed.or_else(waiting).or_else(unwell)
}

fn not_started(slot: &Child) -> bool {
    !matches!(slot.phase, SlotPhase::Up | SlotPhase::Ended | SlotPhase::Forgotten)
}

/// Why a whole tree stands still.
fn halted(root: &Status, now: Timestamp) -> Option<String> {
    let exhausted = root.exhausted?;
    let down = root.root.as_ref().is_none_or(|node| matches!(node.phase, NodePhase::Down(_)));
    match exhausted.until {
        _ if !down => None,
        Some(until) => Some(format!("it is started again in {}", whole(until.since(now)))),
        None => Some("it stays stopped until its manifest changes or `kontrol restart` is called".to_owned()),
    }
}

fn over(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Completed => "has completed",
        Outcome::Failed => "has failed",
    }
}

fn phase_in_words(phase: SlotPhase) -> &'static str {
    match phase {
        SlotPhase::Waiting => "waits for its turn to be started",
        SlotPhase::Starting => "is being started",
        SlotPhase::Up => "is not ready",
        SlotPhase::Failed(_) => "failed to start and is tried again",
        SlotPhase::Stopping => "is being stopped",
        SlotPhase::Ended | SlotPhase::Forgotten => "has ended",
    }
}

fn in_words(reason: Reason) -> &'static str {
    match reason {
        Reason::AllReady | Reason::Settled => "nothing is under way",
        Reason::Completed => "it has completed",
        Reason::Failed => "what was to run once has failed",
        Reason::NotReady => "a replica is not ready",
        Reason::Starting => "it is being started",
        Reason::Restarting => "it is being restarted",
        Reason::Changing => "it follows its manifest",
        Reason::Stopping => "it is being stopped",
        Reason::BackingOff => "it pauses before it is started again",
        Reason::Exhausted => "it stays stopped",
        Reason::ShutDown => "it shut down when its significant child had ended",
        Reason::Stopped => "it is not to run",
        Reason::Waiting => "it waits to be started",
        Reason::Unschedulable => "no node has room for a replica, or fits what it asks for",
        Reason::NodeLost => "a replica with an identity of its own waits for a lost node",
        Reason::RollingOut => "a new revision is rolled out",
        Reason::RolledOut => "the revision of its manifest runs",
        Reason::Paused => "its roll-out is paused",
        Reason::RolloutStalled => "its roll-out stands still",
        Reason::Returned => "the revision of its manifest failed, and the last good one runs instead",
    }
}

/// The state of a process, and since when.
fn for_how_long(run: Run, now: Timestamp) -> String {
    format!("{} for {}", state_in_words(run.state), whole(now.since(run.since)))
}

/// What a widget said of itself last, or else what its world says of it, after a colon.
fn said(replica: &Replica<'_>) -> String {
    let said = replica.signals.map(|(_, signals)| signals.message.as_str()).filter(|said| !said.is_empty());
    said.or(replica.note).map(|said| format!(": {said}")).unwrap_or_default()
}

/// Whom a replica does not call for a while.
fn held_back<'a>(replica: &'a Replica<'_>, of: &'a WidgetId) -> impl Iterator<Item = String> + 'a {
    let run = replica.run.filter(|run| run.runs);
    replica.breakers.iter().filter(move |_| run.is_some()).map(move |breaker| {
        let here = breaker.instance.strip_prefix(of.namespace.as_str());
        let name = here.and_then(|rest| rest.strip_prefix('/')).unwrap_or(&breaker.instance);
        format!(
            "replica {}: its calls to {name} are held back, since its circuit breaker is open: {}",
            replica.id.ordinal, breaker.reason
        )
    })
}

fn state_in_words(state: InstanceState) -> String {
    match state {
        InstanceState::Ended(end) => format!("ended ({end})"),
        InstanceState::NotReady => "not Ready".to_owned(),
        state => format!("{state:?}"),
    }
}

/// In whole seconds.
fn whole(duration: Duration) -> String {
    duration::format(Duration::from_secs(duration.as_secs()))
}

fn answer(lines: Vec<String>, last: Option<&Cause>) -> v1::WhyResponse {
    let chain = last.into_iter().flat_map(Cause::chain);
    v1::WhyResponse {
        lines,
        chain: chain
            .map(|cause| v1::WhyCause { at_micros: cause.at.as_micros(), text: told(&cause.event).1 })
            .collect(),
    }
}
