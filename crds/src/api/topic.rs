//! A topic of durable messages.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Backoff, Duration, Size, TopicRef, TopicStatus, text::LABEL};

/// A topic of durable messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "kontrol.dev",
    version = "v1alpha1",
    kind = "Topic",
    plural = "topics",
    shortname = "ktp",
    category = "kontrol",
    namespaced,
    status = "TopicStatus",
    derive = "PartialEq",
    doc = "A topic of durable messages, delivered at least once to each of its subscriptions.",
    printcolumn(name = "Bus", type_ = "string", json_path = ".spec.bus", description = "Where it lives."),
    printcolumn(name = "Retention", type_ = "string", json_path = ".spec.retention.age", description = "How long messages are kept."),
    printcolumn(name = "DeadLetter", type_ = "string", json_path = ".spec.deadLetter.topic", description = "Where messages go that were tried often enough."),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason", description = "Why it is ready or not."),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("size(self.metadata.name) <= 63").message("the name of a topic has at most 63 characters"),
    validation = Rule::new("!has(self.spec.deadLetter) || self.spec.deadLetter.topic != self.metadata.name").message("a topic cannot be its own dead letter topic")
)]
#[serde(rename_all = "camelCase")]
pub struct TopicSpec {
    /// The `MessageBus` of the same namespace that it lives on. Default `default`. Example: `orders`.
    #[serde(default = "bus")]
    #[schemars(length(min = 1, max = 63), regex(pattern = LABEL))]
    pub bus: String,
    /// How long messages are kept. Default: `{age: 7d}`. Example: `{age: 1h}`.
    #[serde(default)]
    pub retention: Retention,
    /// The attribute of a message whose value orders: messages of one value are delivered one after the other. `subject`, or the name
    /// of an extension attribute. Default: no order. Example: `subject`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 20), regex(pattern = "^[a-z0-9]+$"))]
    pub key: Option<String>,
    /// How many messages may wait for one subscription, and what happens beyond. Default: `{limit: 10000, overflow: RejectNew}`.
    /// Example: `{limit: 100, overflow: DropOldest}`.
    #[serde(default)]
    pub buffer: Buffer,
    /// How often a message is delivered again. Default: `{limit: 3}` with growing pauses. Example: `{limit: 10}`.
    #[serde(default)]
    pub retry: Retry,
    /// The topic that gets messages which were tried often enough. Default: they are dropped and counted.
    /// Example: `{topic: failed-documents}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<TopicRef>,
    /// How long a message's source and id are remembered, so that it is stored once however often it is published; `0s` switches that
    /// off. A duration; default `2m`. Example: `1h`.
    #[serde(default = "dedup_window")]
    pub dedup_window: Duration,
    /// How long a delivered message may stay unacknowledged without a sign of life, before it is delivered again. A duration above
    /// zero; default `30s`. Example: `5m`.
    #[serde(default = "ack_timeout")]
    pub ack_timeout: Duration,
    /// The largest message, envelope included, in bytes. From 1 to `4Mi`, and at most an eighth
    /// of its bus's `segmentSize`; default `1Mi`. Example: `16Ki`.
    #[serde(default = "max_message_size")]
    pub max_message_size: Size,
}

fn bus() -> String {
    "default".to_owned()
}

fn dedup_window() -> Duration {
    "2m".into()
}

fn ack_timeout() -> Duration {
    "30s".into()
}

fn max_message_size() -> Size {
    "1Mi".into()
}

impl Default for TopicSpec {
    fn default() -> Self {
        Self {
            bus: bus(),
            retention: Retention::default(),
            key: None,
            buffer: Buffer::default(),
            retry: Retry::default(),
            dead_letter: None,
            dedup_window: dedup_window(),
            ack_timeout: ack_timeout(),
            max_message_size: max_message_size(),
        }
    }
}

/// What a topic keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// Messages older than this are dropped, acknowledged or not. A duration above zero, of the hub's time: while no hub runs nothing
    /// grows older. Default `7d`. Example: `1h`.
    #[serde(default = "Retention::age")]
    pub age: Duration,
}

impl Retention {
    fn age() -> Duration {
        "7d".into()
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self { age: Self::age() }
    }
}

/// What happens to a message that finds the buffer full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Overflow {
    /// The oldest message that waits is dropped.
    DropOldest,
    /// The publisher is refused.
    #[default]
    RejectNew,
}

/// Messages that may wait for one subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Buffer {
    /// How many messages. A number from 1; default 10000. Example: `100`.
    #[serde(default = "Buffer::limit")]
    #[schemars(range(min = 1, max = 100_000_000))]
    pub limit: u64,
    /// What happens to the next one: `RejectNew` refuses the publisher and says why; `DropOldest` drops the oldest that waits, counts
    /// it and offers it to the dead letter topic. Default `RejectNew`. Example: `DropOldest`.
    #[serde(default)]
    pub overflow: Overflow,
}

impl Buffer {
    const fn limit() -> u64 {
        10_000
    }
}

impl Default for Buffer {
    fn default() -> Self {
        Self { limit: Self::limit(), overflow: Overflow::default() }
    }
}

/// How often and when a message is delivered again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// Deliveries after the first. A number from 0; default 3. Example: `10`.
    #[serde(default = "Retry::limit")]
    #[schemars(range(min = 0, max = 1000))]
    pub limit: u32,
    /// The pause before each. Default: the defaults of its fields. Example: `{initial: 5s, max: 5m}`.
    #[serde(default)]
    pub backoff: Backoff,
}

impl Retry {
    const fn limit() -> u32 {
        3
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self { limit: Self::limit(), backoff: Backoff::default() }
    }
}
