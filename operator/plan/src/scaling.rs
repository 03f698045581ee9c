//! How many replicas: one pure decision from signals, limits and a bounded history.
//!
//! ```text
//!   signals ──demand──► the highest of all targets ──► limits ──► windows ──► desired replicas + reason + next wake
//! ```
//!
//! # Rules
//!
//! - *Demand.* Each target asks for `ceil(amount / target)` replicas, the amount being that of all replicas together; the highest wins.
//!   The growth of a queue is what the running replicas leave over, so it asks for them and `ceil(growth / target)` more.
//! - *Starting replicas are counted.* Demand comes from totals and never from a ratio to what runs, so replicas that are still starting are
//!   part of the answer and not ordered a second time. Their load is not known yet, so nothing is lowered while they start.
//! - *Unknown is never zero.* A signal that is missing, or older than [`STALE_AFTER`], keeps the current count at least. What is
//!   known still raises it: the demand is at least that.
//! - *Zero* needs every signal known and zero for the whole down window: nothing in flight, nothing in the queue, no call waiting.
//!   From zero, the first message or call that waits means one replica at once, whatever the up window.
//! - *Windows are asymmetric.* The lowest demand of the up window rules an increase, the highest of the down window a decrease. A demand
//!   holds from one decision to the next. When the history starts, the current count counts as the demand so far.
//! - *Limits* hold at once and always.
//!
//! The caller writes [`Decision::history`] to its status. It changes only when an answer may change, so signals that come and go
//! each second do not write anything. The reason holds figures of the moment: write the one of the decision that changed the count.

use std::{collections::BTreeMap, time::Duration};

use kontrol_core::{
    spec::{Scaling, ScalingTarget},
    time::Timestamp,
    window::{Held, Keep},
};
use serde::{Deserialize, Serialize};

mod demand;
mod reason;
#[cfg(test)]
mod tests;

pub use demand::{Demand, Figure};
pub use reason::{Hold, Reason};

/// A signal older than this is unknown.
pub const STALE_AFTER: Duration = Duration::from_secs(15);

/// One figure, with the time at which it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// In thousandths.
    pub value: u64,
    /// When it was seen. A time in the future counts as now.
    pub at: Timestamp,
}

/// One replica that exists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replica {
    /// Whether it has not been ready yet.
    pub starting: bool,
    /// Calls and messages that it works on; none: it has not said.
    pub in_flight: Option<Reading>,
    /// The widget's own numbers, by name.
    pub reported: BTreeMap<String, Reading>,
}

/// What waits in the widget's subscriptions, added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// The widget has no subscriptions.
    Absent,
    /// The hub has not said.
    Unknown,
    /// What the hub says.
    Known {
        /// Messages that wait, in thousandths.
        depth: u64,
        /// Messages by which they grow in a second, in thousandths.
        growth: i64,
        /// When this was seen.
        at: Timestamp,
    },
}

/// All that a decision looks at.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    /// Limits, targets and windows.
    pub policy: &'a Scaling,
    /// The count decided before.
    pub current: u32,
    /// The replicas that exist.
    pub replicas: &'a [Replica],
    /// The widget's subscriptions.
    pub queue: Queue,
    /// Calls that wait for a replica to be there; none: unknown. Zero for a widget that serves nothing.
    pub waiting: Option<Reading>,
    /// [`Decision::history`] of the decision before.
    pub history: &'a History,
    /// The time.
    pub now: Timestamp,
}

/// The demand within the windows. Bounded, and written to the status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    highest: Held,
    lowest: Held,
}

/// What is decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Replicas, within the limits.
    pub desired: u32,
    /// Why.
    pub reason: Reason,
    /// When to decide again if no signal comes before.
    pub wake: Option<Timestamp>,
    /// To be given to the next decision.
    pub history: History,
}

/// Decides how many replicas there should be.
pub fn decide(input: &Input<'_>) -> Decision {
    let Input { policy, current, now, .. } = *input;
    let (min, max) = (policy.min.min(policy.max), policy.max);
    let limit = |count: u32| count.clamp(min, max);
    let view = demand::View::of(input);
    let demand = if view.unknown.is_empty() { view.replicas } else { view.replicas.max(current) };
    let demand = limit(demand);

    let mut history = input.history.clone();
    history.record(current, demand, policy, now);
    let lowest = bounded(history.lowest.extreme(), demand);
    let highest = bounded(history.highest.extreme(), demand);
    let mut desired = limit(lowest.max(current.min(highest)));
    if current == 0 && demand > 0 {
        desired = desired.max(1);
    }

    let hold = match demand {
        demand if demand < desired => history
            .highest
            .holds_until(policy.down_window)
            .map(|until| Hold::NotLower { until, window: policy.down_window }),
        demand if demand > desired => history
            .lowest
            .holds_until(policy.up_window)
            .map(|until| Hold::NotHigher { until, window: policy.up_window }),
        _ => None,
    };
    let wake = hold.map(Hold::until);
    let reason = Reason {
        demand: view.highest,
        at_least_one: view.at_least_one,
        unknown: view.unknown,
        kept: current,
        min,
        max,
        hold,
    };
    Decision { desired, reason, wake, history }
}

impl History {
    fn record(&mut self, current: u32, demand: u32, policy: &Scaling, now: Timestamp) {
        for (held, keep, window) in [
            (&mut self.highest, Keep::Highest, policy.down_window),
            (&mut self.lowest, Keep::Lowest, policy.up_window),
        ] {
            if held.extreme().is_none() {
                held.set(keep, u64::from(current), now);
            }
            held.set(keep, u64::from(demand), now);
            held.forget(window, now);
        }
    }
}

fn bounded(extreme: Option<u64>, otherwise: u32) -> u32 {
    extreme.map_or(otherwise, |value| u32::try_from(value).unwrap_or(u32::MAX))
}

impl Reading {
    /// The value, unless it is too old.
    fn fresh(self, now: Timestamp) -> Option<u64> {
        fresh(self.at, now).then_some(self.value)
    }
}

fn fresh(at: Timestamp, now: Timestamp) -> bool {
    now.since(at) <= STALE_AFTER
}
