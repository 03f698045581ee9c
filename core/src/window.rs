//! Sliding windows over time: sums and extremes of what happened lately, and the ends within a restart period.
//!
//! All three take the time as an argument and tolerate a clock that steps back: a point before the newest one seen counts as that one.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

mod held;
mod restarts;
#[cfg(test)]
mod tests;

pub use held::{Held, Keep};
pub use restarts::Restarts;

const BUCKETS: u8 = 10;

/// A sum over the last `span`, in ten buckets: what is forgotten is forgotten a tenth of the span at a time, so that the memory is
/// bounded whatever the rate. The sum covers at least nine tenths of the span and at most all of it.
#[derive(Clone, Debug)]
pub(crate) struct Sum {
    bucket: u64,
    newest: u64,
    counts: [u64; BUCKETS as usize],
}

impl Sum {
    /// An empty window; a span below ten microseconds counts as ten.
    pub(crate) fn new(span: Duration) -> Self {
        let span = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        Self { bucket: (span / u64::from(BUCKETS)).max(1), newest: 0, counts: [0; BUCKETS as usize] }
    }

    /// Adds `amount` at `now`.
    pub(crate) fn add(&mut self, now: Timestamp, amount: u64) {
        self.advance(now);
        let slot = slot(self.newest);
        self.counts[slot] = self.counts[slot].saturating_add(amount);
    }

    /// What was added within the span before `now`.
    pub(crate) fn total(&mut self, now: Timestamp) -> u64 {
        self.advance(now);
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.counts = [0; BUCKETS as usize];
    }

    fn advance(&mut self, now: Timestamp) {
        let bucket = now.as_micros() / self.bucket;
        if bucket <= self.newest {
            return;
        }
        let passed = (bucket - self.newest).min(u64::from(BUCKETS));
        for back in 0..passed {
            let slot = slot(bucket - back);
            self.counts[slot] = 0;
        }
        self.newest = bucket;
    }
}

fn slot(bucket: u64) -> usize {
    usize::try_from(bucket % u64::from(BUCKETS)).unwrap_or(0)
}
