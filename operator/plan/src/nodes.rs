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
//! - Everything else is a sign of life only: it keeps a machine, its absence alone gives none up at this pace, but for who led.
//! - A machine of which no sidecar is expected to be heard is never suspect by its silence.
//! - Where most of several machines are silent together, or nothing at all is heard any more, it is us who are deaf. Then only the slow
//!   word counts: no sign of life of any kind for [`SLOW_AFTER`] while the cluster itself can be asked. Kubernetes' node lifecycle controller
//!   slows evictions down, or stops them, for the same reason (`--unhealthy-zone-threshold`, 0.55).
//! - Who has just begun to listen gives everybody the time to come back first: [`RECONNECT_WITHIN`]. Whoever was deaf, or did not look for a
//!   while, begins anew to count silence: what came meanwhile may not have been read yet.
//! - The age of leases counts only while the cluster is reached and leases come: where all stand still, it is the watch that does.
//! - A machine that was given up stays so until it gives a sign of life, and its silence says nothing of us.
//! - The process that led before was heard too, by the renewals of its lease. Where it fell silent without giving that up, and nothing was heard
//!   of its machine since ([`Signs::led`]), silence counts from there: its sidecars get no time to come back. A machine is often lost together
//!   with who led.
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
    /// When the process was heard last that led before, stood there, and fell silent; none: none did, or its machine's kubelet is not known
    /// to open to knocks of ours, or has not been knocked at since. Its silence then has two witnesses.
    pub led: Option<Timestamp>,
}

/// Who listens, and how well.
#[derive(Clone, Debug, Default)]
pub struct Listener {
    since: Timestamp,
    /// When the cluster itself was heard last: an answer or a watch event of the API server. None: not yet.
    pub cluster: Option<Timestamp>,
    looked: Timestamp,
    /// Since when it has looked without a break.
    hears: Timestamp,
    /// When it was deaf last.
    deaf: Option<Timestamp>,
    /// When a machine came back last that had been silent, while that spoke for others too.
    returned: Option<Timestamp>,
    /// The machines that were silent at the last look.
    silent: BTreeSet<Arc<str>>,
    /// Those that are given up, and since when they are silent.
    lost: BTreeMap<Arc<str>, Timestamp>,
}

impl Listener {
    /// One that begins to listen.
    pub fn new(since: Timestamp) -> Self {
        Self { since, looked: since, hears: since, ..Self::default() }
    }

    /// Begins to listen anew: whoever was heard has to come back first.
    pub fn begin(&mut self, since: Timestamp) {
        *self = Self { cluster: self.cluster, ..Self::new(since) };
    }

    /// Since when it listens.
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// Whether it was deaf at the last look.
    pub fn is_deaf(&self) -> bool {
        self.deaf.is_some_and(|deaf| deaf >= self.looked)
    }

    /// Whether a machine is given up.
    pub fn is_lost(&self, node: &str) -> bool {
        self.lost.contains_key(node)
    }

    /// How each machine is, by all that is known of it now. Healthy ones are left out. One that was given up stays so until it gives a sign of life,
    /// or is no longer asked about: that nothing is expected of it any more is none.
    pub fn look(
        &mut self,
        signs: &BTreeMap<Arc<str>, Signs>,
        now: Timestamp,
    ) -> BTreeMap<Arc<str>, NodeHealth> {
        if now < self.looked {
            // The clock was set back: no time that is known means anything.
            self.begin(now);
        }
        if now.since(self.looked) > SUSPECT_AFTER {
            self.hears = now;
        }
        self.looked = now;
        self.lost.retain(|node, since| {
            signs.get(node).is_some_and(|signs| signs.newest().is_none_or(|newest| newest <= *since))
        });
        self.note(signs, now);
        let trust = Trust {
            silence: !self.is_deaf() && !self.hears_nothing_else(signs, now),
            leases: self.cluster.is_some_and(|at| now.since(at) < LOST_AFTER) && leases_come(signs, now),
        };
        let folded: BTreeMap<_, _> = signs
            .iter()
            .filter_map(|(node, signs)| Some((node.clone(), self.judge(node, signs, trust, now)?)))
            .collect();
        for (node, health) in &folded {
            if let NodeHealth::Lost { since } = health {
                self.lost.entry(node.clone()).or_insert(*since);
            }
        }
        folded
    }

    /// How a machine is; none: healthy.
    fn judge(&self, node: &str, signs: &Signs, trust: Trust, now: Timestamp) -> Option<NodeHealth> {
        if let Some(since) = self.lost.get(node) {
            return Some(NodeHealth::Lost { since: *since });
        }
        if let Some(since) = signs.led.and_then(|led| signs.newest().max(Some(led)))
            && self.went_with_who_led(signs, trust)
            && now.since(since) >= LOST_AFTER
        {
            return Some(NodeHealth::Lost { since });
        }
        let since = signs.last(self.since)?;
        let heard = since.max(self.hears);
        if trust.leases && now.since(heard) >= SLOW_AFTER {
            return Some(NodeHealth::Lost { since });
        }
        let counted = [self.deaf, self.returned].into_iter().flatten().fold(heard, Timestamp::max);
        let silent = now.since(counted);
        if signs.expected == 0 || !trust.silence || silent < SUSPECT_AFTER {
            return None;
        }
        Some(if silent < LOST_AFTER { NodeHealth::Suspect { since } } else { NodeHealth::Lost { since } })
    }

    /// Whether the silence of a machine where the former leader stood counts from that one's last word.
    fn went_with_who_led(&self, signs: &Signs, trust: Trust) -> bool {
        // Deaf since, or a gap between two looks: then its sidecars get their time like those of others.
        let unbroken = self.deaf.is_none() && self.hears == self.since;
        signs.expected > 0 && signs.heard.is_none() && trust.silence && unbroken
    }

    /// The machines that sidecars are expected of. Those that are given up say nothing of us any more.
    fn expected<'a>(
        &self,
        signs: &'a BTreeMap<Arc<str>, Signs>,
    ) -> impl Iterator<Item = (&'a Arc<str>, &'a Signs)> {
        signs.iter().filter(|(node, signs)| signs.expected > 0 && !self.is_lost(node))
    }

    /// Whether sidecars are expected of one machine alone, and nothing else was heard for long either.
    fn hears_nothing_else(&self, signs: &BTreeMap<Arc<str>, Signs>, now: Timestamp) -> bool {
        let mut expected = self.expected(signs);
        let (Some((only, _)), None) = (expected.next(), expected.next()) else { return false };
        let others = signs.iter().filter(|(node, _)| *node != only);
        let newest = others.filter_map(|(_, other)| other.knock).chain(self.cluster).max();
        newest.is_none_or(|at| now.since(at) >= LOST_AFTER)
    }

    /// Takes note of who is silent, and of what that says of us.
    fn note(&mut self, signs: &BTreeMap<Arc<str>, Signs>, now: Timestamp) {
        let is_heard = |signs: &Signs| signs.heard.is_some_and(|heard| now.since(heard) < SUSPECT_AFTER);
        let (silent, heard): (Vec<_>, Vec<_>) =
            self.expected(signs).partition(|(_, signs)| now.since(signs.word(self.since)) >= SUSPECT_AFTER);
        if silent.len() > 1.max(heard.len()) {
            self.deaf = Some(now);
        }
        let disturbed = self.deaf.map_or(self.hears, |deaf| deaf.max(self.hears));
        let came = self.silent.iter().any(|node| signs.get(node).is_some_and(is_heard));
        if came && now.since(disturbed) < SETTLED_WITHIN {
            self.returned = Some(now);
        }
        let silent = signs.iter().filter(|(_, signs)| signs.expected > 0 && !is_heard(signs));
        self.silent = silent.map(|(node, _)| node.clone()).collect();
    }
}

/// What may be gone by.
#[derive(Clone, Copy, Debug)]
struct Trust {
    /// The silence of sidecars.
    silence: bool,
    /// The age of leases.
    leases: bool,
}

/// Whether leases are renewed for all that is seen: where those of several machines all stand still, it is what shows them that does.
fn leases_come(signs: &BTreeMap<Arc<str>, Signs>, now: Timestamp) -> bool {
    let leases = || signs.values().filter_map(|signs| signs.lease);
    leases().count() < 2 || leases().max().is_some_and(|newest| now.since(newest) < SLOW_AFTER / 2)
}

impl Signs {
    /// The newest sign of life that was seen; none: none was.
    fn newest(&self) -> Option<Timestamp> {
        self.heard.max(self.lease).max(self.kubelet).max(self.knock)
    }

    /// The newest word of its sidecars. Who has just begun to listen takes everybody as heard until they had the time to come back.
    fn word(&self, since: Timestamp) -> Timestamp {
        let grace = since.plus(RECONNECT_WITHIN.saturating_sub(SUSPECT_AFTER));
        self.heard.map_or(grace, |heard| heard.max(grace))
    }

    /// What its silence is counted from: the newest sign of life, or when it could give one first. None: nothing was ever known of it.
    fn last(&self, since: Timestamp) -> Option<Timestamp> {
        let word = (self.expected > 0).then(|| self.word(since));
        let known = self.lease.is_some() || self.kubelet.is_some() || self.heard.is_some();
        if !known && word.is_none() {
            return None;
        }
        word.max(self.newest()).max(Some(since))
    }
}

#[cfg(test)]
mod tests;
