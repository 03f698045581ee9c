//! Topics, routes and the bus they live on.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{Name, ObjectId};

/// Where messages live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bus {
    /// The bus. The one named `default` serves topics that name none, and exists without being declared.
    pub id: ObjectId,
    /// The embedded hub's storage.
    pub storage: Storage,
}

/// The embedded hub's storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Storage {
    /// Bytes that the log may take; a publish that would exceed them is refused. Default 10 GiB.
    pub size: u64,
    /// Bytes of one segment, the unit in which space is given back. Default 64 MiB.
    pub segment: u64,
}

impl Default for Storage {
    fn default() -> Self {
        Self { size: 10 << 30, segment: 64 << 20 }
    }
}

/// A topic of durable messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    /// The topic.
    pub id: ObjectId,
    /// The bus it lives on. Default `default`.
    pub bus: Name,
    /// How long and how much is kept after it was acknowledged by every subscription.
    pub retention: Retention,
    /// The message attribute whose value orders: messages of one value are delivered one after the other. Default: none, no order.
    pub key: Option<String>,
    /// Messages that may wait for a subscription, and what happens beyond.
    pub buffer: Buffer,
    /// How often a message is delivered again.
    pub retry: Retry,
    /// Where a message goes that was tried often enough; none: it is dropped and counted.
    pub dead_letter: Option<Name>,
    /// How long a (topic, source, id) is remembered, so that it is stored once. Default 2 min; 0 switches it off.
    pub dedup_window: Duration,
    /// How long a delivered message may stay unacknowledged without a sign of life. Default 30 s.
    pub ack_timeout: Duration,
    /// The largest message, envelope included, in bytes. Default 1 MiB.
    pub max_message: u64,
}

/// What a topic keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Retention {
    /// Messages older than this are dropped even unacknowledged. Default 7 days.
    pub age: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self { age: Duration::from_hours(24 * 7) }
    }
}

/// Messages that may wait for one subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Buffer {
    /// How many. Default 10,000.
    pub limit: u64,
    /// What happens to the next one.
    pub overflow: Overflow,
}

impl Default for Buffer {
    fn default() -> Self {
        Self { limit: 10_000, overflow: Overflow::RejectNew }
    }
}

/// What happens to a message that finds the buffer full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Overflow {
    /// The oldest message that waits in that subscription is dropped, counted, and offered to the dead letter topic.
    DropOldest,
    /// The publisher is refused with `RESOURCE_EXHAUSTED`, the depth and the subscription's name.
    #[default]
    RejectNew,
}

/// How often and when a message is delivered again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Retry {
    /// Deliveries after the first. Default 3.
    pub limit: u32,
    /// The pause before each.
    pub backoff: Backoff,
}

impl Default for Retry {
    fn default() -> Self {
        Self { limit: 3, backoff: Backoff::default() }
    }
}

/// Exponential pauses with jitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Backoff {
    /// The first pause. Default 1 s.
    pub initial: Duration,
    /// The longest pause. Default 1 min.
    pub max: Duration,
    /// Each pause over the one before, in percent. Default 200.
    pub factor_percent: u32,
    /// The share of a pause that is drawn at random, in percent. Default 20.
    pub jitter_percent: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            initial: Duration::from_secs(1),
            max: Duration::from_mins(1),
            factor_percent: 200,
            jitter_percent: 20,
        }
    }
}

/// Copies messages of one topic to others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The route.
    pub id: ObjectId,
    /// The topic whose messages it looks at.
    pub from: Name,
    /// Only messages for which this CEL expression is true; none: all.
    pub filter: Option<String>,
    /// The first rule whose `when` is true decides, unless `all` is set: then every one that is true does.
    pub rules: Vec<RouteRule>,
    /// Whether every matching rule is followed instead of the first.
    pub all: bool,
}

/// One rule of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteRule {
    /// A CEL expression over the message; none is always true.
    pub when: Option<String>,
    /// The topics that get a copy.
    pub to: Vec<Name>,
}
