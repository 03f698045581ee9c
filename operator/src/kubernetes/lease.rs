//! Who leads: a Lease, and the pure rule over it.
//!
//! Clocks of two machines are never compared: a lease has run out when this process has seen it unchanged for as long as it is good for.

use std::time::Duration;

use kontrol_core::time::Timestamp;
use serde_json::{Value, json};

use super::{
    kind::Kind,
    request::{Request, Verb},
    time::rfc3339,
};

/// A lease as the API server has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// Its version.
    pub resource_version: String,
    /// Who holds it; empty: nobody.
    pub holder: String,
    /// For how long it is good after each renewal.
    pub duration: Duration,
    /// When it was renewed last, by the holder's clock: compared only with itself.
    pub renewed: String,
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
            resource_version: value["metadata"]["resourceVersion"].as_str()?.to_owned(),
            holder: text(&spec["holderIdentity"]),
            duration: Duration::from_secs(spec["leaseDurationSeconds"].as_u64().unwrap_or(0)),
            renewed: text(&spec["renewTime"]),
            acquired: text(&spec["acquireTime"]),
            transitions: spec["leaseTransitions"].as_u64().unwrap_or(0),
        })
    }
}

/// What to do about the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is none: make it.
    Create,
    /// Nobody holds it, or its holder is silent: take it.
    Take,
    /// It is ours: renew it.
    Renew,
    /// Another one holds it: look again at this time at the latest.
    Wait(Timestamp),
}

/// What is to be done about the lease that was seen unchanged since `since`.
pub fn evaluate(lease: Option<(&Lease, Timestamp)>, me: &str, now: Timestamp) -> Verdict {
    match lease {
        None => Verdict::Create,
        Some((lease, _)) if lease.holder == me => Verdict::Renew,
        Some((lease, _)) if lease.holder.is_empty() => Verdict::Take,
        Some((lease, since)) => {
            let end = since.plus(lease.duration);
            if end <= now { Verdict::Take } else { Verdict::Wait(end) }
        }
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
    pub me: String,
    /// For how long a renewal is good; whole seconds.
    pub duration: Duration,
}

impl Candidate {
    /// The request that carries out a verdict; none: wait.
    pub fn request(&self, verdict: &Verdict, lease: Option<&Lease>, now: Timestamp) -> Option<Request> {
        let (verb, acquired, transitions) = match (verdict, lease) {
            (Verdict::Create, _) => (Verb::Create, rfc3339(now), 0),
            (Verdict::Renew, Some(lease)) => (Verb::Replace, lease.acquired.clone(), lease.transitions),
            (Verdict::Take, Some(lease)) => (Verb::Replace, rfc3339(now), lease.transitions + 1),
            _ => return None,
        };
        Some(self.write(verb, lease, &self.me, &acquired, transitions, now))
    }

    /// The request that gives the lease up, so that the next one need not wait.
    pub fn give_up(&self, lease: &Lease, now: Timestamp) -> Request {
        self.write(Verb::Replace, Some(lease), "", &lease.acquired, lease.transitions, now)
    }

    fn write(
        &self,
        verb: Verb,
        lease: Option<&Lease>,
        holder: &str,
        acquired: &str,
        transitions: u64,
        now: Timestamp,
    ) -> Request {
        let mut metadata = json!({"name": self.name, "namespace": self.namespace});
        if let Some(lease) = lease {
            metadata["resourceVersion"] = json!(lease.resource_version);
        }
        let body = json!({
            "apiVersion": Kind::Lease.api_version(),
            "kind": "Lease",
            "metadata": metadata,
            "spec": {
                "holderIdentity": holder,
                "leaseDurationSeconds": self.duration.as_secs().max(1),
                "acquireTime": acquired,
                "renewTime": rfc3339(now),
                "leaseTransitions": transitions,
            },
        });
        Request::new(verb, Kind::Lease, &self.namespace, &self.name).by("kontrol-lease").with(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_micros(millis * 1000)
    }

    fn held_by(holder: &str) -> Lease {
        Lease { holder: holder.into(), duration: Duration::from_secs(2), ..Lease::default() }
    }

    #[test]
    fn a_lease_that_is_not_there_is_made_and_a_free_one_taken() {
        assert_eq!(evaluate(None, "a", at(0)), Verdict::Create);
        assert_eq!(evaluate(Some((&held_by(""), at(0))), "a", at(0)), Verdict::Take);
    }

    #[test]
    fn ones_own_lease_is_renewed_even_after_it_ran_out() {
        assert_eq!(evaluate(Some((&held_by("a"), at(0))), "a", at(9000)), Verdict::Renew);
    }

    #[test]
    fn anothers_lease_is_taken_once_it_was_seen_unchanged_for_its_whole_duration() {
        let lease = held_by("b");
        assert_eq!(evaluate(Some((&lease, at(100))), "a", at(2099)), Verdict::Wait(at(2100)));
        assert_eq!(evaluate(Some((&lease, at(100))), "a", at(2100)), Verdict::Take);
    }

    #[test]
    fn every_write_but_the_first_carries_the_version_that_was_seen() {
        let candidate = Candidate {
            namespace: "kontrol-system".into(),
            name: "kontrol-operator".into(),
            me: "a".into(),
            duration: Duration::from_secs(2),
        };
        let lease = Lease { resource_version: "7".into(), transitions: 3, ..held_by("b") };
        let take = candidate.request(&Verdict::Take, Some(&lease), at(5000)).unwrap();
        assert_eq!((take.verb, &take.body["metadata"]["resourceVersion"]), (Verb::Replace, &json!("7")));
        assert_eq!(take.body["spec"]["leaseTransitions"], 4);
        let given = candidate.give_up(&lease, at(5000));
        assert_eq!(given.body["spec"]["holderIdentity"], "");
    }
}
