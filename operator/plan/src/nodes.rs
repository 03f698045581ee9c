//! Whether machines are to be given up: a pure fold over what was heard of them, with times.
//!
//! ```text
//!   streams of its sidecars ─┐
//!   renewals of its lease   ─┤ newest sign of life     1.5 s            3 s
//!   writes of its kubelet   ─┼───────────────────────► Suspect ───────► Lost        any sign: Healthy
//!   a knock at its kubelet  ─┘
//! ```
//!
//! # Rules
//!
//! - What is heard each second are the streams of a machine's sidecars: silence is theirs, all of them together. One slow link, or one
//!   sidecar that ends, is no silence of a machine.
//! - Everything else is a sign of life only: it keeps a machine, its absence alone gives none up at this pace.
//! - A machine of which no sidecar is expected to be heard is never suspect by its silence.
//! - Where all of several machines fall silent together, or nothing at all is heard any more, it is us who are deaf. Then only the slow
//!   word counts: no sign of life of any kind for [`SLOW_AFTER`] while the cluster itself can be asked.
//! - Who has just begun to listen gives everybody the time to come back first: [`RECONNECT_WITHIN`].

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use kontrol_core::time::Timestamp;

pub use crate::NodeHealth;

/// A machine is suspect after so much silence.
pub const SUSPECT_AFTER: Duration = Duration::from_millis(1_500);

/// A machine is lost after so much silence without any sign of life.
pub const LOST_AFTER: Duration = Duration::from_secs(3);

/// Without streams, or where we are deaf to them, a machine is lost after so much time without any sign of life.
pub const SLOW_AFTER: Duration = Duration::from_secs(40);

/// How long sidecars may take to connect to who has just begun to listen, or to a sidecar's first stream.
pub const RECONNECT_WITHIN: Duration = Duration::from_secs(5);

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

/// What is known of who listens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listener {
    /// Since when it listens.
    pub since: Timestamp,
    /// When the cluster itself was heard last: an answer or a watch event of the API server.
    pub cluster: Option<Timestamp>,
}

/// How each machine is. Healthy ones are left out.
pub fn fold(
    signs: &BTreeMap<Arc<str>, Signs>,
    listener: Listener,
    now: Timestamp,
) -> BTreeMap<Arc<str>, NodeHealth> {
    let deaf = is_deaf(signs, listener, now);
    let reached = listener.cluster.is_some_and(|at| now.since(at) < LOST_AFTER);
    let mut folded = BTreeMap::new();
    for (node, signs) in signs {
        let Some(last) = signs.last(listener) else { continue };
        let silent = now.since(last);
        let health = if reached && silent >= SLOW_AFTER {
            NodeHealth::Lost { since: last }
        } else if signs.expected == 0 || deaf || silent < SUSPECT_AFTER {
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

/// Whether it is us who hear nothing: all of several machines fell silent together, or one did and nothing else is heard either.
fn is_deaf(signs: &BTreeMap<Arc<str>, Signs>, listener: Listener, now: Timestamp) -> bool {
    let heard = |signs: &Signs| now.since(signs.word(listener)) < SUSPECT_AFTER;
    let expected: Vec<_> = signs.values().filter(|signs| signs.expected > 0).collect();
    if expected.iter().any(|signs| heard(signs)) {
        return false;
    }
    match expected.as_slice() {
        [only] => {
            let others = signs.values().filter(|other| !std::ptr::eq(*other, *only));
            let newest = others.filter_map(|other| other.knock).chain(listener.cluster).max();
            newest.is_none_or(|at| now.since(at) >= LOST_AFTER)
        }
        _ => true,
    }
}

impl Signs {
    /// The newest word of its sidecars. Who has just begun to listen takes everybody as heard until they had the time to come back.
    fn word(&self, listener: Listener) -> Timestamp {
        let grace = listener.since.plus(RECONNECT_WITHIN.saturating_sub(SUSPECT_AFTER));
        self.heard.map_or(grace, |heard| heard.max(grace))
    }

    /// The newest sign of life of any kind.
    fn last(&self, listener: Listener) -> Option<Timestamp> {
        let word = (self.expected > 0).then(|| self.word(listener));
        let known = self.lease.is_some() || self.kubelet.is_some() || self.heard.is_some();
        if !known && word.is_none() {
            return None;
        }
        let began = Some(listener.since);
        [word, self.heard, self.lease, self.kubelet, self.knock, began].into_iter().flatten().max()
    }
}

#[cfg(test)]
mod tests;
