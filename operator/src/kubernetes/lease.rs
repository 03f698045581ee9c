//! Who leads: a Lease, and the pure rule over it.
//!
//! Clocks of two machines are never compared: a lease has run out when this process has seen it unchanged for as long as it is good for,
//! and could have seen a change. A leader's own time counts from when it asked, a follower's from when it saw, so that the leader has stopped
//! acting before a follower begins.
//!
//! ```text
//!              taken                       no renewal was answered in time
//!   follows ──────────► acts ─────────────────────────────────────────────► lapsed
//!      ▲                 │ ▲                                                 │  │
//!      └─────────────────┘ └────────────────── a renewal was answered ───────┘  │
//!      └────────────────── another holder was seen ─────────────────────────────┘
//! ```

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use kontrol_core::time::Timestamp;
use serde_json::{Value, json};

use super::{
    kind::Kind,
    request::{Outcome, Request, Verb},
    time::rfc3339,
};

/// The time between two looks where no watch shows the lease.
const LOOK: Duration = Duration::from_millis(500);
/// The pause after a request that was not done.
const AGAIN: Duration = Duration::from_millis(100);
/// An answer that takes longer says that the API server stood still, or nearly.
const PROMPT: Duration = Duration::from_millis(500);
/// Requests that may be without an answer at a time.
const UNDER_WAY: u32 = 4;

/// A lease as the API server has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// Its version.
    pub version: u64,
    /// Who holds it; empty: nobody.
    pub holder: Arc<str>,
    /// For how long it is good after each renewal.
    pub duration: Duration,
    /// When the holder got it.
    pub acquired: String,
    /// How often it changed hands.
    pub transitions: u64,
}

impl Lease {
    /// Reads it.
    pub fn read(value: &Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let spec = &value["spec"];
        Some(Self {
            version: value["metadata"]["resourceVersion"].as_str()?.parse().ok()?,
            holder: spec["holderIdentity"].as_str().unwrap_or_default().into(),
            duration: Duration::from_secs(spec["leaseDurationSeconds"].as_u64().unwrap_or(0)),
            acquired: text(&spec["acquireTime"]),
            transitions: spec["leaseTransitions"].as_u64().unwrap_or(0),
        })
    }

    /// Whether nobody holds it.
    pub fn is_free(&self) -> bool {
        self.holder.is_empty()
    }
}

/// One candidate.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The lease's namespace.
    pub namespace: String,
    /// The lease's name.
    pub name: String,
    /// Who this is.
    pub me: Arc<str>,
    /// For how long a renewal is good. Only its whole seconds are used, and at least one: that is what a lease can say to others.
    pub duration: Duration,
    /// The time between renewals; at most a third of the duration is used.
    pub renew: Duration,
}

/// How a process that took the lease stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenure {
    /// Until when it may act.
    pub until: Timestamp,
    /// Who held the lease before; empty: nobody, or this process.
    pub former: Arc<str>,
    /// When that one was heard last, by this process's steady clock; none: it gave the lease up, or somebody took it away.
    pub silent_since: Option<Timestamp>,
}

/// What is asked of the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// What the lease is.
    Look,
    /// To have it.
    Take,
    /// To have it for longer.
    Renew,
}

/// A request that was made, to be given back with its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What for.
    pub what: What,
    /// When.
    pub at: Timestamp,
}

/// What a candidate knows, and what follows from it. All times are of one clock that never goes back.
#[derive(Debug)]
pub struct Election {
    candidate: Candidate,
    /// The lease, and since when it was seen so; none: there is no lease, or nobody has looked.
    seen: Option<(Lease, Timestamp)>,
    /// The newest version of which anything is known.
    version: u64,
    /// Who held it last, other than this process.
    former: Arc<str>,
    /// When that one was heard last; none: it gave the lease up, or that was taken away.
    silent_since: Option<Timestamp>,
    tenure: Option<Tenure>,
    /// Whether a watch shows every change.
    watched: bool,
    /// Whether the API server was silent: then its holder could not renew the lease either, and what is seen counts from when it is seen again.
    silent: bool,
    /// Whether what is known has to be read again before anything is written.
    look: bool,
    /// When that was asked for last which was told of the lease: a watch says nothing of a server that stands still.
    told: Timestamp,
    /// The version of which a late answer has counted as silence of the API server: once is enough for each.
    spared: u64,
    /// Nothing is asked before.
    due: Timestamp,
    under_way: u32,
}

impl Election {
    /// A candidate that knows nothing.
    pub fn new(mut candidate: Candidate, now: Timestamp) -> Self {
        candidate.duration = Duration::from_secs(candidate.duration.as_secs().max(1));
        Self {
            candidate,
            seen: None,
            version: 0,
            former: Arc::default(),
            silent_since: None,
            tenure: None,
            watched: false,
            silent: false,
            look: true,
            told: Timestamp::ZERO,
            spared: 0,
            due: now,
            under_way: 0,
        }
    }

    /// How this process stands; none: it does not hold the lease.
    pub fn tenure(&self) -> Option<&Tenure> {
        self.tenure.as_ref()
    }

    /// When to go on if nothing happens before; none: an answer has to come first.
    pub fn due(&self) -> Option<Timestamp> {
        (self.under_way < UNDER_WAY).then_some(self.due)
    }

    /// The longest that an answer is worth waiting for: it would come too late for its own renewal.
    pub fn patience(&self) -> Duration {
        self.candidate.duration
    }

    /// What is to be asked now; `wall` is the time by the wall clock. The next request is due whether or not this one is answered.
    pub fn next(&mut self, now: Timestamp, wall: Timestamp) -> Option<(Asked, Request)> {
        if now < self.due || self.under_way >= UNDER_WAY {
            return None;
        }
        let seen = self.seen.as_ref().map(|(lease, _)| lease);
        let what = match &self.seen {
            _ if self.look => What::Look,
            Some((lease, _)) if lease.holder == self.candidate.me => What::Renew,
            Some((lease, since)) if !lease.is_free() && now < since.plus(lease.duration) => {
                if self.watched {
                    self.due = since.plus(lease.duration);
                    return None;
                }
                What::Look
            }
            // Asked for once more, so that a renewal that waited with us is seen.
            Some((lease, since)) if !lease.is_free() && self.told < since.plus(lease.duration) => What::Look,
            _ => What::Take,
        };
        let third = self.candidate.duration / 3;
        let (request, next) = match what {
            What::Look => (self.candidate.look(), third),
            What::Take => (self.candidate.take(seen, wall), third),
            What::Renew => (self.candidate.renew(wall), self.candidate.renew.min(third)),
        };
        self.due = now.plus(next);
        self.under_way += 1;
        Some((Asked { what, at: now }, request))
    }

    /// Takes note of an answer.
    pub fn answered(&mut self, asked: Asked, outcome: &Outcome, now: Timestamp) {
        self.under_way = self.under_way.saturating_sub(1);
        match (asked.what, outcome) {
            (What::Look, Outcome::Done(_)) => {
                self.look = false;
                let lease = Lease::read(&outcome.value());
                let version = lease.as_ref().map_or(0, |lease| lease.version);
                if now.since(asked.at) > PROMPT && self.spared != version {
                    self.spared = version;
                    self.silent = true;
                }
                self.see(lease, now);
                self.told = self.told.max(asked.at);
            }
            (What::Look, Outcome::Gone(_)) => {
                self.look = false;
                self.see(None, now);
            }
            (What::Look, _) => {
                self.silent = true;
                self.due = self.due.max(now.plus(AGAIN));
            }
            (What::Take | What::Renew, Outcome::Done(_)) => {
                self.see(Lease::read(&outcome.value()), now);
                if self.seen.as_ref().is_some_and(|(lease, _)| lease.holder == self.candidate.me) {
                    let until = asked.at.plus(self.candidate.duration);
                    let renew = self.candidate.renew.min(self.candidate.duration / 3);
                    self.due = self.due.max(asked.at.plus(renew));
                    let (former, silent_since) = (&self.former, self.silent_since);
                    let tenure = self.tenure.get_or_insert_with(|| Tenure {
                        until,
                        former: former.clone(),
                        silent_since,
                    });
                    tenure.until = tenure.until.max(until);
                }
            }
            // It is not there, or is another's: whoever wrote it is to be seen first.
            (_, Outcome::Conflict(_) | Outcome::Exists(_) | Outcome::Gone(_) | Outcome::Invalid(_)) => {
                self.look = true;
                self.due = now;
            }
            // Whether it was taken is not known.
            (What::Take, _) => {
                self.look = true;
                self.due = now.plus(AGAIN);
            }
            (What::Renew, _) => {
                if self.tenure.as_ref().is_some_and(|tenure| tenure.until > now) {
                    self.due = self.due.min(now.plus(AGAIN));
                }
            }
        }
    }

    /// Takes note of the lease as it is; none: there is none.
    pub fn see(&mut self, lease: Option<Lease>, now: Timestamp) {
        let silent = std::mem::take(&mut self.silent);
        let Some(lease) = lease else {
            // Somebody took it away: another may make it at any time.
            if let Some(tenure) = &mut self.tenure {
                tenure.until = tenure.until.min(now);
            }
            (self.seen, self.silent_since) = (None, None);
            self.due = now;
            return;
        };
        if lease.version < self.version {
            return;
        }
        self.version = lease.version;
        let since = match &self.seen {
            Some((known, since)) if known.version == lease.version && !silent => *since,
            _ => now,
        };
        if lease.holder == self.candidate.me {
            if self.tenure.is_none() {
                self.due = now;
            }
        } else {
            self.tenure = None;
            let end = since.plus(lease.duration);
            self.due = match (lease.is_free(), self.watched) {
                (true, _) => now,
                (false, true) => end,
                (false, false) => end.min(now.plus(LOOK)),
            };
            self.silent_since = (!lease.is_free()).then_some(since);
            if !lease.is_free() {
                self.former = lease.holder.clone();
            }
        }
        self.seen = Some((lease, since));
    }

    /// The lease was removed, as of a version.
    pub fn removed(&mut self, version: u64, now: Timestamp) {
        if version >= self.version {
            self.version = version;
            if self.seen.is_some() {
                self.see(None, now);
            }
        }
    }

    /// Whether a watch shows every change from now on, or no longer does.
    pub fn watched(&mut self, watched: bool, now: Timestamp) {
        if self.watched && !watched && self.tenure.is_none() {
            self.look = true;
            self.due = self.due.min(now);
        }
        self.watched = watched;
    }

    /// The request that gives the lease up, so that the next one need not wait; none: it is not this process's.
    pub fn give_up(&mut self, wall: Timestamp) -> Option<Request> {
        self.tenure.take().map(|_| self.candidate.give_up(wall))
    }
}

impl Candidate {
    fn of(&self, verb: Verb) -> Request {
        Request::new(verb, Kind::Lease, &self.namespace, &self.name)
    }

    fn look(&self) -> Request {
        self.of(Verb::Get)
    }

    /// Makes the lease, or takes the one that was seen.
    fn take(&self, seen: Option<&Lease>, wall: Timestamp) -> Request {
        let mut metadata = json!({"name": self.name, "namespace": self.namespace});
        if let Some(lease) = seen {
            metadata["resourceVersion"] = json!(lease.version.to_string());
        }
        let body = json!({
            "apiVersion": Kind::Lease.api_version(),
            "kind": "Lease",
            "metadata": metadata,
            "spec": {
                "holderIdentity": &*self.me,
                "leaseDurationSeconds": self.duration.as_secs(),
                "acquireTime": rfc3339(wall),
                "renewTime": rfc3339(wall),
                "leaseTransitions": seen.map_or(0, |lease| lease.transitions + 1),
            },
        });
        let verb = if seen.is_some() { Verb::Replace } else { Verb::Create };
        self.of(verb).by("kontrol-lease").with(body)
    }

    /// Holds for the holder alone, however often it is sent.
    fn renew(&self, wall: Timestamp) -> Request {
        self.of(Verb::Test).by("kontrol-lease").with(json!([
            {"op": "test", "path": "/spec/holderIdentity", "value": &*self.me},
            {"op": "add", "path": "/spec/leaseDurationSeconds", "value": self.duration.as_secs()},
            {"op": "add", "path": "/spec/renewTime", "value": rfc3339(wall)},
        ]))
    }

    fn give_up(&self, wall: Timestamp) -> Request {
        self.of(Verb::Test).by("kontrol-lease").with(json!([
            {"op": "test", "path": "/spec/holderIdentity", "value": &*self.me},
            {"op": "add", "path": "/spec/holderIdentity", "value": ""},
            {"op": "add", "path": "/spec/renewTime", "value": rfc3339(wall)},
        ]))
    }
}
