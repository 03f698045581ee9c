//! The topics of every history: plain, ordered by key, dropping, and for dead letters.

use std::time::Duration;

use kontrol_core::{
    id::{Name, ObjectId},
    spec::{self, Overflow},
};
use kontrol_hub::TopicConfig;

use crate::{history::LEASE, model::Sub};

/// Every subscription.
pub(crate) const SUBS: [Sub; 5] =
    [("plain", "a"), ("plain", "b"), ("keyed", "k"), ("ring", "r"), ("dead", "d")];

/// The topics with them.
pub(crate) fn topics() -> Vec<TopicConfig> {
    let name = |text: &str| Name::new(text).unwrap();
    let topic = |text: &str, subscriptions: &[&str]| TopicConfig {
        topic: spec::Topic {
            id: ObjectId { namespace: name("default"), name: name(text) },
            bus: name("default"),
            retention: spec::Retention::default(),
            key: None,
            buffer: spec::Buffer { limit: 40, overflow: Overflow::RejectNew },
            retry: spec::Retry {
                limit: 2,
                backoff: spec::Backoff { initial: Duration::from_millis(50), ..spec::Backoff::default() },
            },
            dead_letter: None,
            dedup_window: Duration::from_mins(1),
            ack_timeout: LEASE,
            max_message: 500,
        },
        subscriptions: subscriptions.iter().map(|name| (*name).to_owned()).collect(),
    };
    let mut keyed = topic("keyed", &["k"]);
    keyed.topic.key = Some("subject".to_owned());
    keyed.topic.dead_letter = Some(name("dead"));
    let mut ring = topic("ring", &["r"]);
    ring.topic.buffer = spec::Buffer { limit: 5, overflow: Overflow::DropOldest };
    ring.topic.dead_letter = Some(name("dead"));
    vec![topic("plain", &["a", "b"]), keyed, ring, topic("dead", &["d"])]
}
