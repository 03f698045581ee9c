//! The root of a tree, which has no parent to decide for it: when it is started, and what its exhaustion leads to.

use std::{
    hash::{Hash, Hasher},
    time::Duration,
};

use kontrol_core::spec::{Exhausted as Policy, RetryPolicy};

use crate::{
    Status,
    desired::{Desired, DesiredChild},
    event::Event,
    plan::Planner,
    status::{Exhausted, NodePhase, Why},
};

impl Planner<'_> {
    /// Starts or stops the root; says whether something changed.
    pub(crate) fn tend_root(&mut self, status: &mut Status, desired: Option<Desired<'_>>) -> bool {
        let Some(root) = &mut status.root else {
            return false;
        };
        let Some(desired) = desired.filter(|desired| root.is(*desired)) else {
            let stops = matches!(root.phase, NodePhase::Down(None) | NodePhase::Stopping(Why::Asked));
            if !stops {
                root.begin_stop(self.now);
            }
            if root.is_gone() && root.leaving.is_empty() {
                let highest = root.highest_incarnation();
                *status = Status { floor: status.floor.max(highest), ..Status::default() };
                if let Some(desired) = desired {
                    self.plant(status, desired);
                }
                return true;
            }
            return !stops;
        };
        match root.phase {
            NodePhase::Down(Some(why)) => {
                self.take_up_own_end(status, desired, why);
                true
            }
            NodePhase::Down(None) => self.start_root(status, desired),
            NodePhase::Starting | NodePhase::Running | NodePhase::Stopping(_) => false,
        }
    }

    fn start_root(&mut self, status: &mut Status, desired: Desired<'_>) -> bool {
        if let Some(exhausted) = &status.exhausted {
            if exhausted.rules != fingerprint(desired) {
                status.exhausted = None;
            } else if exhausted.until.is_none_or(|until| until > self.now) {
                return false;
            }
        }
        let Some(root) = &mut status.root else { return false };
        self.satisfy_requests_for_root(root, &mut status.asked);
        let because = root.last.clone().filter(|last| last.event.starts_all());
        root.begin_start(because, self.now);
        true
    }

    /// Decides what the root's own end leads to.
    fn take_up_own_end(&mut self, status: &mut Status, desired: Desired<'_>, why: Why) {
        let Some(root) = &mut status.root else { return };
        let node = root.id.clone();
        let rules = fingerprint(desired);
        let because = root.last.clone();
        let exhausted = match desired.when_exhausted() {
            _ if why == Why::ShutDown => Exhausted { why, until: None, pauses: 0, rules },
            Policy::Stop => {
                root.last = Some(self.tell_because(Event::StaysStopped { node }, because));
                Exhausted { why, until: None, pauses: 0, rules }
            }
            Policy::Retry(policy) => {
                let ended = because.as_ref().map_or(root.since, |because| because.at);
                let ran = root.up_since.map_or(Duration::ZERO, |up| ended.since(up));
                let before = status.exhausted.map_or(0, |exhausted| exhausted.pauses);
                let pauses = if ran >= policy.max { 0 } else { before };
                let pause = pause(policy, pauses);
                root.last = Some(self.tell_because(Event::Retries { node, pause }, because));
                Exhausted { why, until: Some(self.now.plus(pause)), pauses: pauses.saturating_add(1), rules }
            }
        };
        root.restarts.clear();
        root.phase = NodePhase::Down(None);
        status.exhausted = Some(exhausted);
    }
}

/// The pause after so many others: doubled each time, up to the longest.
fn pause(policy: RetryPolicy, pauses: u32) -> Duration {
    let factor = 2_u32.saturating_pow(pauses.min(31));
    policy.initial.saturating_mul(factor).min(policy.max)
}

/// A number that changes with the rules and templates of a tree, the same in every process.
pub(crate) fn fingerprint(desired: Desired<'_>) -> u64 {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    hash(desired, &mut hasher);
    hasher.finish()
}

fn hash(desired: Desired<'_>, hasher: &mut Fnv) {
    desired.id().hash(hasher);
    desired.strategy().hash(hasher);
    desired.intensity().hash(hasher);
    desired.auto_shutdown().hash(hasher);
    desired.when_exhausted().hash(hasher);
    for child in desired.children() {
        (child.kind(), child.name(), child.restart(), child.significant()).hash(hasher);
        match child {
            DesiredChild::Widget(widget) => {
                (widget.revision, widget.replicas, widget.shutdown, widget.start).hash(hasher);
                (widget.replica_end, widget.intensity, &widget.health).hash(hasher);
            }
            DesiredChild::Node(child) => hash(Desired(&child.node), hasher),
        }
    }
}

/// FNV-1a: unlike the standard library's hasher it is fixed for ever, so that a status can hold it.
struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
