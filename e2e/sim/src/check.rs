//! The rules that every history has to keep, judged against what really happened.

mod rest;
mod tree;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use kontrol_core::{
    id::{InstanceId, ObjectId, WidgetId},
    spec::{self, Intensity},
    time::Timestamp,
};
use kontrol_plan::{
    Cause, End, Event, Status,
    status::{Inner, Node, Slot},
};

use crate::{
    processes::{Key, Processes},
    tree as trees,
};

pub(crate) use rest::converged;

/// A rule that a history broke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which rule.
    pub rule: Rule,
    /// When, since the start of the simulation.
    pub at: Timestamp,
    /// What was seen.
    pub what: String,
}

/// The rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Two processes of one replica never live at once.
    OneProcess,
    /// An end is told once, of a process that really ended so, and that nobody had asked to stop.
    EndsAreTrue,
    /// A fault leads to at most one decision of each node; each restart begins a new epoch and is one entry of the window.
    OneRestartPerFault,
    /// Incarnations and epochs never go back.
    NumbersGrow,
    /// No more restarts within the period than the intensity allows, and no giving up below it.
    Intensity,
    /// Children are stopped in reverse: none is asked to while a later one of the same restart lives.
    StopOrder,
    /// Children are started in order, each after those before it, and after all of the same restart have stopped.
    StartOrder,
    /// What counts as started was.
    StartedIsTrue,
    /// Every decision tells what led to it, down to the end of a process.
    CauseChain,
    /// The tree has the children of its manifest, in its order.
    Manifest,
    /// Replicas that are scaled stay within their limits.
    Limits,
    /// Every restart in place is told and counted once, and nothing else is.
    InPlace,
    /// What something outside ended is not counted, unless the widget asks for it.
    External,
    /// A roll-out takes no replica away that the manifest's budget does not bear.
    Budget,
    /// After the last failure everything desired runs and nothing else does.
    Convergence,
    /// Planning again what was done gives nothing to do.
    Idempotence,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {}: {}", self.rule, self.at, self.what)
    }
}

/// What the checks remember.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    ended: BTreeSet<Key>,
    /// How many restarts in place of a process were told.
    pub(crate) in_place: BTreeMap<Key, u32>,
    /// Which node decided on which end: the last of so many in place, or that of the process.
    decided: BTreeSet<(ObjectId, Key, u32)>,
    epochs: BTreeMap<ObjectId, u64>,
    incarnations: BTreeMap<InstanceId, u64>,
    windows: BTreeMap<ObjectId, Vec<Timestamp>>,
    pub(crate) restarts: u64,
}

/// One write of the status.
pub(crate) struct Commit<'a> {
    pub(crate) desired: Option<&'a spec::Node>,
    pub(crate) old: &'a Status,
    pub(crate) new: &'a Status,
    pub(crate) events: &'a [Event],
    /// When it was planned.
    pub(crate) planned: Timestamp,
    pub(crate) processes: &'a Processes,
}

type Checked = Result<(), (Rule, String)>;

impl Checks {
    pub(crate) fn commit(&mut self, commit: &Commit<'_>) -> Checked {
        self.ends(commit)?;
        self.decisions(commit)?;
        if let Some(root) = &commit.new.root {
            let old = commit.old.root.as_deref().filter(|old| old.id == root.id);
            self.node(commit, old, root)?;
        }
        Ok(())
    }

    fn ends(&mut self, commit: &Commit<'_>) -> Checked {
        for event in commit.events {
            if let Event::RestartedInPlace { instance, incarnation, end, times, .. } = event {
                let key = (instance.clone(), *incarnation);
                let told = self.in_place.entry(key.clone()).or_default();
                *told += times;
                let ends = commit.processes.get(&key).map_or(&[][..], |process| &process.ends);
                if *told as usize > ends.len() || !ends.contains(end) {
                    let what = format!("{event}: {told} are told, and there were {ends:?}");
                    return Err((Rule::InPlace, what));
                }
            }
            let Event::Ended { instance, incarnation, end, .. } = event else { continue };
            let key = (instance.clone(), *incarnation);
            let refuse =
                |what: String| Err((Rule::EndsAreTrue, format!("{instance} #{incarnation}: {what}")));
            if !self.ended.insert(key.clone()) {
                return refuse("its end was told twice".to_owned());
            }
            let Some(process) = commit.processes.get(&key) else {
                return refuse("it never was".to_owned());
            };
            let truth = process.instance.state;
            match end {
                End::NodeLost if process.fenced => {}
                _ if process.ends.contains(end) => {}
                End::Hung if process.was_hung => {}
                End::StartTimedOut if truth.is_ended() || process.fenced => {}
                _ if process.asked => return refuse(format!("told as {end}, and it was asked to stop")),
                _ if truth == kontrol_plan::InstanceState::Ended(*end) => {}
                _ => return refuse(format!("told as {end}, and it is {truth:?}")),
            }
        }
        Ok(())
    }

    /// Each restart and each giving up: its epoch, its window, its cause.
    fn decisions(&mut self, commit: &Commit<'_>) -> Checked {
        for event in commit.events {
            let (node, gave_up, intensity, external) = match event {
                Event::Restarts { node, intensity, external, .. } => (node, false, *intensity, *external),
                Event::GaveUp { node, intensity, .. } => (node, true, *intensity, false),
                Event::Counts { node, times, .. } => {
                    let window = self.windows.entry(node.clone()).or_default();
                    window.extend((0..*times).map(|_| commit.planned));
                    continue;
                }
                _ => continue,
            };
            self.restarts += u64::from(!gave_up);
            let Some(cause) = find_cause(commit.new.root.as_deref(), event, commit.planned) else {
                return Err((Rule::CauseChain, format!("{event}: no node remembers it")));
            };
            let leaf = cause.chain().last().map(|cause| &cause.event);
            let counted = cause.chain().any(|cause| matches!(cause.event, Event::Counts { .. }));
            let returned = cause.chain().any(|cause| matches!(cause.event, Event::Returns { .. }));
            let (instance, incarnation, end, told) = match leaf {
                Some(Event::Ended { instance, incarnation, end, .. }) => {
                    (instance, incarnation, *end, u32::MAX)
                }
                Some(Event::RestartedInPlace { instance, incarnation, end, .. }) => {
                    let told = self.in_place.get(&(instance.clone(), *incarnation));
                    (instance, incarnation, *end, told.copied().unwrap_or_default())
                }
                _ => {
                    let what = format!("{event}: what led to it begins with {leaf:?}");
                    return Err((Rule::CauseChain, what));
                }
            };
            let outside = end.is_external() && matches!(leaf, Some(Event::Ended { after: Some(_), .. }));
            let direct = matches!(cause.chain().nth(1).map(|cause| &cause.event), Some(Event::Ended { .. }));
            let asks = commit.desired.is_some_and(|desired| {
                let mut widgets = trees::widgets(desired).into_iter();
                widgets.any(|widget| {
                    widget.id == instance.widget
                        && widget.container.is_some_and(|container| container.count_external)
                })
            });
            if !returned && external != (outside && direct && !asks) {
                return Err((Rule::External, format!("{event}: it ended by {end}")));
            }
            if returned && external {
                self.windows.remove(node);
            }
            if !(external || gave_up && counted) {
                self.count(node, gave_up, intensity, commit.planned)?;
            }
            let key = (instance.clone(), *incarnation);
            if !self.decided.insert((node.clone(), key, told)) {
                let what =
                    format!("{event}: {} decided on the end of {instance} #{incarnation} before", node.name);
                return Err((Rule::OneRestartPerFault, what));
            }
        }
        Ok(())
    }

    fn count(&mut self, node: &ObjectId, gave_up: bool, intensity: Intensity, at: Timestamp) -> Checked {
        let window = self.windows.entry(node.clone()).or_default();
        window.retain(|before| at.since(*before) <= intensity.period);
        window.push(at);
        let too_many = window.len() > intensity.max_restarts as usize;
        if too_many == gave_up {
            return Ok(());
        }
        let what = format!(
            "{node}: restart {} of {} in the period, gave up: {gave_up}",
            window.len(),
            intensity.max_restarts
        );
        Err((Rule::Intensity, what))
    }
}

fn widget_id(node: &Node, slot: &Slot) -> WidgetId {
    WidgetId {
        namespace: node.id.namespace.clone(),
        group: node.id.name.clone(),
        widget: slot.key.name.clone(),
    }
}

fn find_cause<'a>(node: Option<&'a Node>, event: &Event, at: Timestamp) -> Option<&'a Cause> {
    let node = node?;
    let chain = node.last.as_ref().into_iter().flat_map(|last: &Arc<Cause>| last.chain());
    let here = chain.into_iter().find(|cause| cause.at == at && cause.event == *event);
    here.or_else(|| {
        node.children.iter().find_map(|slot| match &slot.inner {
            Inner::Node(below) => find_cause(Some(below), event, at),
            Inner::Widget(_) => None,
        })
    })
}
