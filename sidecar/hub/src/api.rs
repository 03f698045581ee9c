//! What goes in and out of the hub.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use kontrol_core::{
    id::{Name, ObjectId},
    spec,
    time::Timestamp,
};

/// Called when there is something to do. Must return at once and must not call the hub: set a flag, wake a task.
pub type Notify = Arc<dyn Fn() + Send + Sync>;

/// How a hub stores, and how it reaches its owner.
#[derive(Clone)]
pub struct Config {
    /// Bytes that the log may take, and bytes of one segment.
    pub storage: spec::Storage,
    /// Empty segments that are kept ready, so that no publish waits for one. Default 2.
    pub spares: usize,
    /// Ids that one topic remembers at most, whatever its dedup window; beyond, the oldest are forgotten and counted. Default 2^20.
    pub dedup_ids: usize,
    /// Seeds the jitter of retries.
    pub seed: u64,
    /// Called when [`crate::Hub::tick`] is due earlier than it last said.
    pub on_timer: Option<Notify>,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("storage", &self.storage)
            .field("spares", &self.spares)
            .field("dedup_ids", &self.dedup_ids)
            .finish_non_exhaustive()
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            storage: spec::Storage::default(),
            spares: 2,
            dedup_ids: 1 << 20,
            seed: 0x9e37_79b9_7f4a_7c15,
            on_timer: None,
        }
    }
}

/// A topic and every subscription that is declared for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    /// The topic.
    pub topic: spec::Topic,
    /// Its durable subscriptions. A new one starts with the oldest message that the log still holds.
    pub subscriptions: Vec<String>,
}

/// One message to be stored.
#[derive(Clone, Copy, Debug)]
pub struct Publish<'a> {
    /// The topic's namespace.
    pub namespace: &'a str,
    /// The topic.
    pub topic: &'a str,
    /// Who made it; part of the dedup key.
    pub source: &'a str,
    /// Its id, unique within the source; empty: it is not deduplicated.
    pub id: &'a str,
    /// The value that orders; empty: it is not ordered. Ignored where the topic has no key.
    pub key: &'a str,
    /// The encoded event, opaque to the hub.
    pub event: &'a [u8],
}

/// What became of one [`Publish`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// Its place in the log; that of the first one if it is a duplicate.
    pub sequence: u64,
    /// Whether the same (topic, source, id) was stored before.
    pub duplicate: bool,
    /// Messages that had to make room, moved to the dead letter topic if there is one.
    pub dropped: u64,
    /// The subscriptions that dropped them.
    pub dropped_by: Vec<String>,
}

/// One message, handed to a consumer under a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Names this delivery; unique within one run of the hub.
    pub delivery: u64,
    /// The message's place in the log.
    pub sequence: u64,
    /// When it was stored.
    pub stored: Timestamp,
    /// 1 for the first attempt.
    pub attempt: u32,
    /// The attempt after which the message is given up.
    pub max_attempts: u32,
    /// The event as it was published.
    pub event: Bytes,
    /// Extension attributes that the hub adds to the event: those of [`dead_letter`], or none. For an event encoded as a protobuf
    /// message, an encoded message with these extensions alone may simply be appended.
    pub extensions: Vec<(String, String)>,
}

/// Extension attributes of a message in a dead letter topic. The event keeps its own id and source.
pub mod dead_letter {
    /// `<namespace>/<topic>` that the message came from.
    pub const TOPIC: &str = "kontroldeadtopic";
    /// The subscription that gave it up.
    pub const SUBSCRIPTION: &str = "kontroldeadsubscription";
    /// Why.
    pub const REASON: &str = "kontroldeadreason";
    /// How often it was delivered there.
    pub const ATTEMPTS: &str = "kontroldeadattempts";
    /// Its sequence there.
    pub const SEQUENCE: &str = "kontroldeadsequence";
}

/// Asks for a message again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nak<'a> {
    /// The pause before the next attempt; `None`: the topic's backoff.
    pub delay: Option<Duration>,
    /// Whether the attempt counts against the topic's retries.
    pub counts: bool,
    /// Why, for the dead letter if this was the last attempt.
    pub reason: &'a str,
}

/// Who consumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// The instance, `<namespace>/<group>/<widget>/<ordinal>`.
    pub instance: String,
    /// Its incarnation; below the fence of the instance, it is refused.
    pub incarnation: u64,
}

/// What one subscription looks like from outside.
#[derive(Clone, Debug, PartialEq)]
pub struct Signal {
    /// The namespace.
    pub namespace: Name,
    /// The topic.
    pub topic: Name,
    /// The subscription.
    pub subscription: String,
    /// Messages that are not settled: waiting, delayed or in flight.
    pub depth: u64,
    /// Messages by which the depth grew in a second, over the last few; negative: it shrank.
    pub growth: f64,
    /// The age of the oldest message that is not settled.
    pub oldest: Duration,
    /// Messages handed out and not settled.
    pub in_flight: u64,
    /// Messages that wait for a retry.
    pub delayed: u64,
    /// Messages given up since the hub started, and those that `DropOldest` moved to the dead letter topic.
    pub dead_lettered: u64,
    /// Messages lost since the hub started: to age, or to `DropOldest` or given up with no dead letter topic to go to.
    pub dropped: u64,
    /// Open consumers.
    pub consumers: u64,
}

/// What the log has done since the hub started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Messages stored.
    pub published: u64,
    /// Publishes that were duplicates.
    pub duplicates: u64,
    /// Ids forgotten before their window ended.
    pub ids_forgotten: u64,
    /// Deliveries made.
    pub delivered: u64,
    /// Messages settled by their consumers.
    pub acknowledged: u64,
    /// Group commits: one write and one sync each.
    pub commits: u64,
    /// Bytes written to the log.
    pub bytes: u64,
    /// Segments that the log consists of.
    pub segments: u64,
    /// Bytes that the log takes on disk, spares included.
    pub disk: u64,
}

/// What was found when the log was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Segments read.
    pub segments: u64,
    /// Records read.
    pub records: u64,
    /// Messages that some subscription has not settled.
    pub unsettled: u64,
    /// The time of the last record; zero: there was none.
    pub time: Timestamp,
    /// A torn tail that was cut: nothing in it had been acknowledged.
    pub cut: Option<Cut>,
    /// Topics known from the log.
    pub topics: Vec<ObjectId>,
}

/// A torn tail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The segment's file name.
    pub file: String,
    /// Where it was cut.
    pub offset: u64,
    /// What was found there.
    pub reason: String,
}
