//! The restarts of a supervisor, counted as OTP counts them.

use super::{Deserialize, Serialize, Timestamp, VecDeque};
use crate::spec::Intensity;

/// When restarts were decided. More than `max_restarts` of them within `period` exhaust it; a restart exactly `period` ago still
/// counts, as in OTP's `supervisor:in_period`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restarts(VecDeque<Timestamp>);

impl Restarts {
    /// Counts a restart decided at `now`; false when it is one too many. A time in the future counts as now.
    pub fn count(&mut self, intensity: Intensity, now: Timestamp) -> bool {
        self.forget(intensity, now);
        self.0.push_back(now);
        self.0.len() <= intensity.max_restarts as usize
    }

    /// Drops what lies outside of the period, and moves times that lie in the future to now.
    pub fn forget(&mut self, intensity: Intensity, now: Timestamp) {
        for at in &mut self.0 {
            *at = (*at).min(now);
        }
        self.0.retain(|at| now.since(*at) <= intensity.period);
    }

    /// Restarts that are remembered.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}
