//! What is known of a widget's load. Absent means unknown, which is never zero.

use std::collections::BTreeMap;

use kontrol_core::time::Timestamp;
use serde::{Deserialize, Serialize};

/// The load of one widget, as its sidecars and its subscriptions report it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WidgetSignals {
    /// Each replica that has reported, in any order.
    pub replicas: Vec<ReplicaSignals>,
    /// The widget's subscriptions together; none: unknown, or the widget has none.
    pub queue: Option<QueueSignals>,
    /// Calls that wait for a replica to be there; none: unknown, or the widget serves nothing.
    pub waiting: Option<WaitingSignals>,
}

/// What one replica's sidecar reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaSignals {
    /// Which replica.
    pub ordinal: u32,
    /// Of which process.
    pub incarnation: u64,
    /// Calls and messages that it works on, in thousandths.
    pub in_flight: Option<u64>,
    /// The widget's own numbers by name, in thousandths.
    pub reported: BTreeMap<String, u64>,
    /// When this was seen.
    pub at: Timestamp,
}

/// What the hub reports of a widget's subscriptions, added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueSignals {
    /// Messages that wait, in thousandths.
    pub depth: u64,
    /// Messages by which the depth grows in a second, in thousandths; negative: it shrinks.
    pub growth: i64,
    /// When this was seen.
    pub at: Timestamp,
}

/// What callers' sidecars report, added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingSignals {
    /// Calls that wait for a replica to be there, in thousandths.
    pub calls: u64,
    /// When this was seen.
    pub at: Timestamp,
}
