//! Topics from the wire, as the log takes them.

use std::time::Duration;

use kontrol_core::{
    code::Code,
    id::{Name, ObjectId},
    spec::{Backoff, Buffer, Overflow, Retention, Retry, Topic},
};
use kontrol_hub::TopicConfig;
use kontrol_proto::v1;

use crate::{config::backoff, service::Error};

/// All of them, or the first that makes no sense.
pub(super) fn all(wire: Vec<v1::TopicConfig>) -> Result<Vec<TopicConfig>, Error> {
    wire.into_iter().map(topic).collect()
}

fn topic(wire: v1::TopicConfig) -> Result<TopicConfig, Error> {
    let refuse = |error: kontrol_core::id::Error| {
        Error::new(Code::ConfigurationRefused, wire.name.as_str(), format!("topic {}: {error}", wire.name))
    };
    let name = |text: &str| Name::new(text).map_err(refuse);
    let dead_letter = if wire.dead_letter.is_empty() { None } else { Some(name(&wire.dead_letter)?) };
    let overflow = if wire.drop_oldest { Overflow::DropOldest } else { Overflow::RejectNew };
    let or = |number: u64, default: u64| if number == 0 { default } else { number };
    let retention = match wire.retention_ms {
        0 => Retention::default(),
        millis => Retention { age: Duration::from_millis(millis) },
    };
    let topic = Topic {
        id: ObjectId { namespace: name(&wire.namespace)?, name: name(&wire.name)? },
        bus: name("default")?,
        retention,
        key: (!wire.key.is_empty()).then(|| wire.key.clone()),
        buffer: Buffer { limit: or(wire.buffer_limit, Buffer::default().limit), overflow },
        retry: Retry { limit: wire.retry_limit, backoff: backoff(wire.retry_backoff, Backoff::default()) },
        dead_letter,
        dedup_window: Duration::from_millis(wire.dedup_window_ms),
        ack_timeout: Duration::from_millis(or(wire.ack_timeout_ms, 30_000)),
        max_message: or(wire.max_message_bytes, 1 << 20),
    };
    Ok(TopicConfig { topic, subscriptions: wire.subscriptions })
}
