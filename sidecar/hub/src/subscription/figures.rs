//! What a subscription looks like from outside.

use kontrol_core::time::Timestamp;

use super::Subscription;
use crate::index::Index;

impl Subscription {
    /// Messages that are not settled.
    pub(crate) const fn depth(&self) -> u64 {
        self.depth
    }

    /// Messages that are neither settled nor in flight.
    pub(crate) fn waits(&self) -> u64 {
        self.depth.saturating_sub(self.in_flight())
    }

    /// Messages in flight and not settled.
    pub(crate) fn in_flight(&self) -> u64 {
        self.flights.len() as u64 - self.settling
    }

    /// Messages that wait for a retry.
    pub(crate) fn delayed(&self) -> u64 {
        self.delayed.len() as u64
    }

    /// When the oldest message that is not settled was stored.
    pub(crate) fn oldest(&self, index: &Index) -> Option<Timestamp> {
        index.from(index.above(self.floor)).next().map(|entry| entry.time)
    }

    /// Takes a sample of the depth, at most one a second.
    pub(crate) fn sample(&mut self, now: Timestamp) {
        if self.samples.back().is_none_or(|(time, _)| now.since(*time).as_millis() >= 1_000) {
            self.samples.push_back((now, self.depth));
            if self.samples.len() > 5 {
                self.samples.pop_front();
            }
        }
    }

    /// Messages by which the depth grew in a second, since the oldest sample.
    pub(crate) fn growth(&self, now: Timestamp) -> f64 {
        let Some((time, depth)) = self.samples.front() else { return 0.0 };
        let seconds = now.since(*time).as_secs_f64();
        if seconds < 0.1 { 0.0 } else { (self.depth as f64 - *depth as f64) / seconds }
    }
}
