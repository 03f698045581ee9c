//! What the API server does not allow: why, in one word, and when it is tried again.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use kontrol_core::time::Timestamp;
use kontrol_plan::Action;

/// The first and the longest pause before what was not allowed is tried again.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// The pause before anything is made again in a namespace that is being removed.
pub(super) const TERMINATING: Duration = Duration::from_mins(1);

/// A request that is not allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Why, in one word, for conditions.
    pub(super) reason: &'static str,
    /// What the API server said.
    pub(super) message: Arc<str>,
}

impl Refusal {
    /// What the API server said, by what it begins with or holds: there is no other sign of which of its guards it was.
    pub(super) fn of(message: &str) -> Self {
        let reason = if is_terminating(message) {
            "NamespaceTerminating"
        } else if message.contains("exceeded quota") || message.contains("failed quota") {
            "QuotaExceeded"
        } else if message.contains("violates PodSecurity")
            || message.contains("denied the request")
            || message.contains("denied request")
        {
            "AdmissionDenied"
        } else {
            "Forbidden"
        };
        Self { reason, message: message.into() }
    }
}

/// Whether it is refused because it goes with its namespace; until then nothing can be made there.
pub(super) fn is_terminating(message: &str) -> bool {
    message.contains("unable to create new content in namespace")
        && message.ends_with("because it is being terminated")
}

/// The namespaces that are being removed, and until when nobody tries to make anything there again. Those that have tried say why, each minute
/// a few more; the others neither decide nor write what would go with the namespace anyway. There may be thousands of them.
#[derive(Debug, Default)]
pub(super) struct RemovedNamespaces(BTreeMap<Arc<str>, Timestamp>);

impl RemovedNamespaces {
    /// The API server has said so of one.
    pub(super) fn note(&mut self, namespace: &Arc<str>, now: Timestamp) {
        self.0.insert(Arc::clone(namespace), now.plus(TERMINATING));
    }

    /// Nothing of ours is left in one: it may come back.
    pub(super) fn forget(&mut self, namespace: &str) {
        self.0.remove(namespace);
    }

    /// Until when nobody tries; none: it is not known to be removed.
    pub(super) fn until(&self, namespace: &str, now: Timestamp) -> Option<Timestamp> {
        self.0.get(namespace).copied().filter(|until| *until > now)
    }
}

/// A start that is not allowed at the moment.
#[derive(Clone, Debug)]
pub(super) struct Denied {
    /// The start.
    pub(super) action: Action,
    /// Since when.
    pub(super) since: Timestamp,
    /// Why, as it was said last.
    pub(super) refusal: Refusal,
    /// When it is tried again.
    pub(super) next: Timestamp,
    tries: u32,
}

impl Denied {
    /// One that was refused for the first time, or `before`.
    pub(super) fn new(before: Option<Self>, action: Action, refusal: Refusal, now: Timestamp) -> Self {
        let tries = before.as_ref().map_or(0, |before| before.tries.saturating_add(1));
        let pause = if is_terminating(&refusal.message) {
            TERMINATING
        } else {
            PAUSES.0.saturating_mul(2_u32.saturating_pow(tries.min(10))).min(PAUSES.1)
        };
        Self {
            action,
            since: before.map_or(now, |before| before.since),
            refusal,
            next: now.plus(pause),
            tries,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_guard_of_the_api_server_has_a_word_of_its_own() {
        for (message, reason) in [
            (
                "pods \"w-0-1\" is forbidden: exceeded quota: few, requested: pods=1, used: pods=3, limited: pods=3",
                "QuotaExceeded",
            ),
            ("pods \"w-0-1\" is forbidden: failed quota: few: must specify limits.cpu", "QuotaExceeded"),
            (
                "pods \"w-0-1\" is forbidden: unable to create new content in namespace t because it is being terminated",
                "NamespaceTerminating",
            ),
            (
                "pods \"w-0-1\" is forbidden: violates PodSecurity \"restricted:latest\": privileged",
                "AdmissionDenied",
            ),
            ("admission webhook \"v.example\" denied the request: no", "AdmissionDenied"),
            (
                "admission webhook \"v.example\" denied the request: the pool is being terminated",
                "AdmissionDenied",
            ),
            ("pods is forbidden: User \"x\" cannot create resource \"pods\" in API group \"\"", "Forbidden"),
        ] {
            assert_eq!(Refusal::of(message).reason, reason, "{message}");
        }
    }
}
