//! Whether machines are to be given up: pure, by what was heard of them, with times.
//!
//! ```text
//!   sessions of its sidecars ┐
//!   renewals of its lease   ─┤ newest sign of life     1.5 s            3 s
//!   writes of its kubelet   ─┼───────────────────────► Suspect ───────► Lost        any sign: Healthy
//!   a knock at its kubelet  ─┘
//! ```
//!
//! # Rules
//!
//! - What is heard each second are the sessions of a machine's sidecars: silence is theirs, all of them together. One slow link, or one
//!   sidecar that ends, is no silence of a machine.
//! - Everything else is a sign of life only: it keeps a machine, its absence alone gives none up at this pace.
//! - A machine of which no sidecar is expected to be heard is never suspect by its silence.
//! - Where most of several machines are silent together, or nothing at all is heard any more, it is us who are deaf. Then only the slow
//!   word counts: no sign of life of any kind for [`SLOW_AFTER`] while the cluster itself can be asked. Kubernetes' node lifecycle controller
//!   stops evictions for the same reason (`--unhealthy-zone-threshold`, 0.55).
//! - Who has just begun to listen gives everybody the time to come back first: [`RECONNECT_WITHIN`]. Whoever was deaf begins anew to count
//!   silence.
//! - As long as machines come back one after the other, to who has just begun or was deaf ([`SETTLED_WITHIN`]), the others are on their way
//!   too: silence counts from when the last one came.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use kontrol_core::time::Timestamp;

pub use crate::NodeHealth;

/// A machine is suspect after so much silence.
pub const SUSPECT_AFTER: Duration = Duration::from_millis(1_500);

/// A machine is lost after so much silence without any sign of life.
pub const LOST_AFTER: Duration = Duration::from_secs(3);

/// Without sessions, or where we are deaf to them, a machine is lost after so much time without any sign of life.
pub const SLOW_AFTER: Duration = Duration::from_secs(40);

/// How long sidecars may take to connect to who has just begun to listen, or to a sidecar's first session.
pub const RECONNECT_WITHIN: Duration = Duration::from_secs(5);

/// So long after who listens has begun, or was deaf, machines that come back speak for those that have not yet.
pub const SETTLED_WITHIN: Duration = Duration::from_secs(30);

/// What is known of one machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signs {
    /// Sidecars that are expected to be heard: those of instances that are seen to run there, and have once been heard.
    pub expected: u32,
    /// When the newest word of any of its sidecars came; none: not since we listen.
    pub heard: Option<Timestamp>,
    /// When its lease was renewed last, by the clock of who listens.
    pub lease: Option<Timestamp>,
    /// When its kubelet wrote last, its own status or that of a pod, by the clock of who listens.
    pub kubelet: Option<Timestamp>,
    /// When its kubelet's port was open to a knock last.
    pub knock: Option<Timestamp>,
}

/// Who listens, and how well.
#[derive(Clone, Debug, Default)]
pub struct Listener {
    since: Timestamp,
    /// When the cluster itself was heard last: an answer or a watch event of the API server. None: not yet.
    pub cluster: Option<Timestamp>,
    /// When it was deaf last.
    deaf: Option<Timestamp>,
    /// When a machine came back last that had been silent, while that spoke for others too.
    returned: Option<Timestamp>,
    /// The machines that were silent at the last look.
    silent: BTreeSet<Arc<str>>,
}

impl Listener {
    /// One that begins to listen.
    pub fn new(since: Timestamp) -> Self {
        Self { since, ..Self::default() }
    }

    /// Begins to listen anew: whoever was heard has to come back first.
    pub fn begin(&mut self, since: Timestamp) {
        *self = Self { cluster: self.cluster, ..Self::new(since) };
    }

    /// Since when it listens.
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// How each machine is, by all that is known of it now. Healthy ones are left out.
    pub fn look(
        &mut self,
        signs: &BTreeMap<Arc<str>, Signs>,
        now: Timestamp,
    ) -> BTreeMap<Arc<str>, NodeHealth> {
        let is_deaf = self.is_deaf(signs, now);
        self.note(signs, is_deaf, now);
        let reached = self.cluster.is_some_and(|at| now.since(at) < LOST_AFTER);
        let mut folded = BTreeMap::new();
        for (node, signs) in signs {
            let Some(last) = signs.last(self.since) else { continue };
            let counted = [Some(last), self.deaf, self.returned].into_iter().flatten().max();
            let silent = counted.map_or(Duration::ZERO, |counted| now.since(counted));
            let health = if reached && now.since(last) >= SLOW_AFTER {
                NodeHealth::Lost { since: last }
            } else if signs.expected == 0 || is_deaf || silent < SUSPECT_AFTER {
                continue;
            } else if silent < LOST_AFTER {
                NodeHealth::Suspect { since: last }
            } else {
                NodeHealth::Lost { since: last }
            };
            folded.insert(node.clone(), health);
        }
        folded
    }

    /// Whether it is us who hear nothing: most of several machines are silent together, or one is and nothing else is heard either.
    fn is_deaf(&self, signs: &BTreeMap<Arc<str>, Signs>, now: Timestamp) -> bool {
        let heard = |signs: &Signs| now.since(signs.word(self.since)) < SUSPECT_AFTER;
        let expected: Vec<_> = signs.values().filter(|signs| signs.expected > 0).collect();
        match expected.as_slice() {
            [only] => {
                let others = signs.values().filter(|other| !std::ptr::eq(*other, *only));
                let newest = others.filter_map(|other| other.knock).chain(self.cluster).max();
                !heard(only) && newest.is_none_or(|at| now.since(at) >= LOST_AFTER)
            }
            several => {
                let silent = several.iter().filter(|signs| !heard(signs)).count();
                silent * 2 > several.len()
            }
        }
    }

    fn note(&mut self, signs: &BTreeMap<Arc<str>, Signs>, is_deaf: bool, now: Timestamp) {
        if is_deaf {
            self.deaf = Some(now);
        }
        let is_heard = |signs: &Signs| signs.heard.is_some_and(|heard| now.since(heard) < SUSPECT_AFTER);
        let disturbed = self.deaf.map_or(self.since, |deaf| deaf.max(self.since));
        let came = self.silent.iter().any(|node| signs.get(node).is_some_and(is_heard));
        if came && now.since(disturbed) < SETTLED_WITHIN {
            self.returned = Some(now);
        }
        let silent = signs.iter().filter(|(_, signs)| signs.expected > 0 && !is_heard(signs));
        self.silent = silent.map(|(node, _)| node.clone()).collect();
    }
}

impl Signs {
    /// The newest word of its sidecars. Who has just begun to listen takes everybody as heard until they had the time to come back.
    fn word(&self, since: Timestamp) -> Timestamp {
        let grace = since.plus(RECONNECT_WITHIN.saturating_sub(SUSPECT_AFTER));
        self.heard.map_or(grace, |heard| heard.max(grace))
    }

    /// The newest sign of life of any kind.
    fn last(&self, since: Timestamp) -> Option<Timestamp> {
        let word = (self.expected > 0).then(|| self.word(since));
        let known = self.lease.is_some() || self.kubelet.is_some() || self.heard.is_some();
        if !known && word.is_none() {
            return None;
        }
        [word, self.heard, self.lease, self.kubelet, self.knock, Some(since)].into_iter().flatten().max()
    }
}

#[cfg(test)]
mod tests;
