//! The rules that every history has to keep, judged against what really happened.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use kontrol_core::{
    id::{InstanceId, ObjectId, WidgetId},
    spec::{self, Intensity, Restart, Strategy},
    time::Timestamp,
};
use kontrol_plan::{
    Cause, End, Event, Status,
    status::{Inner, Kind, Node, NodePhase, OpenKind, ReplicaPhase, Slot, SlotPhase, Stage},
};

use crate::{
    processes::{Key, Processes},
    tree,
};

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
    /// Which node decided on which end.
    decided: BTreeSet<(ObjectId, Key)>,
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
                End::Hung if process.was_hung => {}
                End::StartTimedOut if truth.is_ended() => {}
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
            let (node, gave_up, intensity) = match event {
                Event::Restarts { node, intensity, .. } => (node, false, *intensity),
                Event::GaveUp { node, intensity, .. } => (node, true, *intensity),
                _ => continue,
            };
            self.restarts += u64::from(!gave_up);
            self.count(node, gave_up, intensity, commit.planned)?;
            let Some(cause) = find_cause(commit.new.root.as_deref(), event, commit.planned) else {
                return Err((Rule::CauseChain, format!("{event}: no node remembers it")));
            };
            let leaf = cause.chain().last().map(|cause| &cause.event);
            let Some(Event::Ended { instance, incarnation, .. }) = leaf else {
                return Err((Rule::CauseChain, format!("{event}: what led to it begins with {leaf:?}")));
            };
            let key = (instance.clone(), *incarnation);
            if !self.decided.insert((node.clone(), key)) {
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

    fn node(&mut self, commit: &Commit<'_>, old: Option<&Node>, new: &Node) -> Checked {
        self.epoch(commit, old, new)?;
        for (at, slot) in new.children.iter().enumerate() {
            let before = old.and_then(|old| old.children.iter().find(|before| before.key == slot.key));
            self.slot(commit, new, at, before, slot)?;
            if let Inner::Node(below) = &slot.inner {
                let before = before.and_then(|before| match &before.inner {
                    Inner::Node(node) => Some(&**node),
                    Inner::Widget(_) => None,
                });
                self.node(commit, before, below)?;
            }
        }
        Ok(())
    }

    fn epoch(&mut self, commit: &Commit<'_>, old: Option<&Node>, new: &Node) -> Checked {
        let known = self.epochs.insert(new.id.clone(), new.epoch).unwrap_or(0);
        if new.epoch < known {
            return Err((
                Rule::NumbersGrow,
                format!("the epoch of {} fell from {known} to {}", new.id, new.epoch),
            ));
        }
        let restarted = |event: &&Event| matches!(event, Event::Restarts { node, .. } if *node == new.id);
        let gave_up = |event: &&Event| matches!(event, Event::GaveUp { node, .. } if *node == new.id);
        let restarts = commit.events.iter().filter(restarted).count();
        let begun = new.epoch.saturating_sub(old.map_or(0, |old| old.epoch));
        // A start of the whole node begins an epoch too, and an empty window.
        let started = new.since == commit.planned && begun == 1 + restarts as u64;
        if started {
            self.windows.insert(new.id.clone(), new.restarts.clone());
        } else if begun != restarts as u64 {
            return Err((
                Rule::OneRestartPerFault,
                format!("{}: {begun} epochs began with {restarts} restarts", new.id),
            ));
        }
        let counted = restarts + commit.events.iter().filter(gave_up).count();
        let entries = new.restarts.iter().filter(|at| **at == commit.planned).count();
        let cleared = new.restarts.is_empty();
        if entries != counted && !cleared {
            return Err((
                Rule::OneRestartPerFault,
                format!("{}: {entries} entries of the window for {counted} restarts", new.id),
            ));
        }
        Ok(())
    }

    fn slot(
        &mut self,
        commit: &Commit<'_>,
        node: &Node,
        at: usize,
        old: Option<&Slot>,
        slot: &Slot,
    ) -> Checked {
        let was = old.map(|old| old.phase);
        let strategy = commit.desired.and_then(|desired| strategy_of(desired, &node.id, node.kind));
        // The restart that the slot is part of, where its order binds the whole scope.
        let open =
            node.open.iter().find(|open| open.kind == OpenKind::Restart && open.scope.contains(&slot.key));
        let bound = |other: &Slot| open.is_some_and(|open| open.scope.contains(&other.key));
        if slot.phase == SlotPhase::Stopping && was != Some(SlotPhase::Stopping) {
            // Work on some children and the stop of all may be decided at once: then the work's own scope has begun.
            let begun = node.open.iter().any(|open| open.scope.contains(&slot.key));
            let all = matches!(node.phase, NodePhase::Stopping(_)) && !begun;
            for later in node.children.iter().skip(at + 1).filter(|later| all || bound(later)) {
                if let Some((id, incarnation)) = lives(commit.processes, node, later) {
                    let what = format!("{}/{} is stopped while {id} #{incarnation} lives", node.id, slot.key);
                    return Err((Rule::StopOrder, what));
                }
            }
        }
        if slot.phase == SlotPhase::Starting && was != Some(SlotPhase::Starting) {
            let in_order = node.phase == NodePhase::Starting
                || (open.is_some() && strategy.is_some_and(|strategy| strategy != Strategy::OneForOne));
            let before = node.children.iter().take(at).filter(|_| in_order);
            for earlier in before {
                if matches!(earlier.phase, SlotPhase::Waiting | SlotPhase::Starting | SlotPhase::Stopping) {
                    let what = format!("{}/{} is started before {}", node.id, slot.key, earlier.key);
                    return Err((Rule::StartOrder, what));
                }
            }
            let begun = open.is_none_or(|open| open.stage == Stage::Starting);
            for later in node.children.iter().skip(at + 1).filter(|later| in_order && bound(later)) {
                if let Some((id, incarnation)) = lives(commit.processes, node, later).filter(|_| begun) {
                    let what = format!("{}/{} is started while {id} #{incarnation} lives", node.id, slot.key);
                    return Err((Rule::StartOrder, what));
                }
            }
        }
        self.replicas(commit, node, slot)
    }

    fn replicas(&mut self, commit: &Commit<'_>, node: &Node, slot: &Slot) -> Checked {
        let Inner::Widget(widget) = &slot.inner else { return Ok(()) };
        for (ordinal, replica) in (0_u32..).zip(&widget.replicas) {
            let id = InstanceId { widget: widget_id(node, slot), ordinal };
            let known = self.incarnations.insert(id.clone(), replica.incarnation).unwrap_or(0);
            if replica.incarnation < known {
                let what = format!("the incarnation of {id} fell from {known} to {}", replica.incarnation);
                return Err((Rule::NumbersGrow, what));
            }
            let key = (id, replica.incarnation);
            let started = || commit.processes.get(&key).is_some_and(|process| process.was_started);
            if replica.phase == ReplicaPhase::Up && !started() {
                return Err((
                    Rule::StartedIsTrue,
                    format!("{} #{} counts as started and never was", key.0, key.1),
                ));
            }
        }
        Ok(())
    }
}

/// Whether all that is desired runs, and nothing else, by this status and in truth.
pub(crate) fn converged(
    desired: Option<&spec::Node>,
    status: &Status,
    processes: &Processes,
) -> Result<(), String> {
    let mut expected = BTreeSet::new();
    if let Some(desired) = desired {
        let Some(root) = &status.root else { return Err("the status has no root".to_owned()) };
        let halted = status.exhausted.is_some_and(|exhausted| exhausted.until.is_none());
        if halted && matches!(root.phase, NodePhase::Down(_)) {
            let stops = match desired {
                spec::Node::Group(group) => group.when_exhausted == spec::Exhausted::Stop,
                spec::Node::Supervisor(supervisor) => supervisor.when_exhausted == spec::Exhausted::Stop,
            };
            let shut_down = status
                .exhausted
                .is_some_and(|exhausted| exhausted.why == kontrol_plan::status::Why::ShutDown);
            if !stops && !shut_down {
                return Err("the root stays stopped though it is to be tried again".to_owned());
            }
        } else {
            expect(desired, root, &mut expected)?;
        }
    }
    let alive: BTreeSet<Key> = processes.alive().map(|(key, _)| key.clone()).collect();
    let name = |(id, incarnation): &Key| format!("{id} #{incarnation}");
    if let Some(missing) = expected.difference(&alive).next() {
        return Err(format!("{} is desired and does not run", name(missing)));
    }
    if let Some(extra) = alive.difference(&expected).next() {
        return Err(format!("{} runs and is not desired", name(extra)));
    }
    let revisions: BTreeMap<_, _> = desired
        .iter()
        .flat_map(|node| tree::widgets(node))
        .map(|widget| (&widget.id, widget.revision))
        .collect();
    match processes
        .alive()
        .find(|(key, process)| revisions.get(&key.0.widget) != Some(&process.instance.revision))
    {
        Some((key, _)) => Err(format!("{} runs from an old template", name(key))),
        None => Ok(()),
    }
}

fn expect(desired: &spec::Node, node: &Node, expected: &mut BTreeSet<Key>) -> Result<(), String> {
    if node.phase != NodePhase::Running || !node.open.is_empty() {
        return Err(format!("{} rests as {:?} with {} open", node.id, node.phase, node.open.len()));
    }
    let restarts: Vec<Restart> = match desired {
        spec::Node::Group(group) => group.widgets.iter().map(|widget| widget.restart).collect(),
        spec::Node::Supervisor(supervisor) => supervisor.children.iter().map(|child| child.restart).collect(),
    };
    for (at, slot) in node.children.iter().enumerate() {
        let restart = restarts.get(at).copied().unwrap_or_default();
        match slot.phase {
            SlotPhase::Up => {}
            SlotPhase::Ended | SlotPhase::Forgotten if restart != Restart::Always => continue,
            phase => return Err(format!("{}/{} rests as {phase:?}", node.id, slot.key)),
        }
        match (&slot.inner, desired) {
            (Inner::Widget(widget), spec::Node::Group(_)) => {
                for (ordinal, replica) in (0_u32..).zip(&widget.replicas) {
                    match replica.phase {
                        ReplicaPhase::Up if ordinal < widget.desired => {
                            let id = InstanceId { widget: widget_id(node, slot), ordinal };
                            expected.insert((id, replica.incarnation));
                        }
                        ReplicaPhase::Down if ordinal >= widget.desired => {}
                        ReplicaPhase::Done if restart != Restart::Always => {}
                        phase => {
                            return Err(format!("{}/{}-{ordinal} rests as {phase:?}", node.id, slot.key));
                        }
                    }
                }
            }
            (Inner::Node(below), spec::Node::Supervisor(supervisor)) => {
                let Some(child) = supervisor.children.get(at) else { continue };
                expect(&child.node, below, expected)?;
            }
            _ => return Err(format!("{}/{} is not what is desired", node.id, slot.key)),
        }
    }
    Ok(())
}

fn widget_id(node: &Node, slot: &Slot) -> WidgetId {
    WidgetId {
        namespace: node.id.namespace.clone(),
        group: node.id.name.clone(),
        widget: slot.key.name.clone(),
    }
}

/// A process at or below this slot that lives.
fn lives<'a>(processes: &'a Processes, node: &Node, slot: &Slot) -> Option<&'a Key> {
    match &slot.inner {
        Inner::Widget(_) => processes.lives(&widget_id(node, slot)),
        Inner::Node(below) => below.children.iter().find_map(|slot| lives(processes, below, slot)),
    }
}

fn strategy_of(desired: &spec::Node, id: &ObjectId, kind: Kind) -> Option<Strategy> {
    match desired {
        spec::Node::Group(group) => (group.id == *id && kind == Kind::Group).then_some(group.strategy),
        spec::Node::Supervisor(supervisor) if supervisor.id == *id => Some(supervisor.strategy),
        spec::Node::Supervisor(supervisor) => {
            supervisor.children.iter().find_map(|child| strategy_of(&child.node, id, kind))
        }
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
