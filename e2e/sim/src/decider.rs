//! Who plans, writes and acts. It remembers nothing but what it has seen of the world lately.

use std::collections::BTreeMap;

use kontrol_core::{spec, time::Timestamp};
use kontrol_plan::{Event, Instance, Observed, Plan, plan, status::Inner, status::Node};

use crate::processes::Key;

/// A mistake that a decider is given, to prove that the checks can find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// It acts before its decision is written, so a crash in between leaves acts that nobody decided.
    ActsBeforeWriting,
    /// It writes over whatever was written since it read.
    IgnoresVersion,
    /// It counts each restart twice in the window.
    CountsTwice,
    /// It begins an epoch for a restart that it has begun before.
    RestartsTwice,
    /// It never writes.
    NeverWrites,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::ActsBeforeWriting,
        Self::IgnoresVersion,
        Self::CountsTwice,
        Self::RestartsTwice,
        Self::NeverWrites,
    ];
}

/// A decider.
#[derive(Debug, Default)]
pub(crate) struct Decider {
    pub(crate) alive: bool,
    /// Between a plan and the end of its acts.
    pub(crate) busy: bool,
    /// When it plans next.
    pub(crate) next: Option<Timestamp>,
    /// What it has seen.
    pub(crate) view: BTreeMap<Key, Instance>,
    /// Until when its observations are under way, so that they stay in order.
    pub(crate) seen_until: u64,
}

/// A plan that is not written yet.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) plan: Plan,
    /// The version of the status that it was made from.
    pub(crate) version: u64,
    pub(crate) changed: bool,
    pub(crate) at: Timestamp,
}

impl Pending {
    pub(crate) fn new(
        desired: Option<&spec::Node>,
        observed: &Observed,
        version: u64,
        mutant: Option<Mutant>,
        now: Timestamp,
    ) -> Self {
        let mut plan = plan(desired, observed, now);
        if let Some(root) = &mut plan.status.root {
            match mutant {
                Some(Mutant::CountsTwice) => again(root, &plan.events, &|node| node.restarts.push(now)),
                Some(Mutant::RestartsTwice) => again(root, &plan.events, &|node| node.epoch += 1),
                _ => {}
            }
        }
        let changed = plan.status != observed.status;
        Self { plan, version, changed, at: now }
    }
}

/// Does something to each node that restarts.
fn again(node: &mut Node, events: &[Event], mistake: &impl Fn(&mut Node)) {
    if events.iter().any(|event| matches!(event, Event::Restarts { node: id, .. } if *id == node.id)) {
        mistake(node);
    }
    for slot in &mut node.children {
        if let Inner::Node(below) = &mut slot.inner {
            again(below, events, mistake);
        }
    }
}
