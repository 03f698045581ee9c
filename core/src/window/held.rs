//! The highest or lowest value that was in force within a window.

use super::{Deserialize, Duration, Serialize, Timestamp, VecDeque};

/// Which value of a window is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Keep {
    /// The highest.
    Highest,
    /// The lowest.
    Lowest,
}

impl Keep {
    fn at_least_as_good(self, new: u64, old: u64) -> bool {
        match self {
            Self::Highest => new >= old,
            Self::Lowest => new <= old,
        }
    }
}

/// The extreme of a value that holds from one change to the next.
///
/// It is kept in a status, so it changes only when its answer may: setting the same value again changes nothing, values that can
/// never again be the extreme are dropped, and at most [`Held::LIMIT`] are kept (beyond, the two oldest become one: the better value
/// of both for as long as the later of both, which errs on the side of the extreme).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Values that were in force until a time, best (and oldest) first.
    pub(super) past: VecDeque<(u64, Timestamp)>,
    /// The value in force.
    latest: Option<u64>,
}

impl Held {
    /// The most values that are kept beside the one in force.
    pub const LIMIT: usize = 32;

    /// Sets the value from `now` on.
    pub fn set(&mut self, keep: Keep, value: u64, now: Timestamp) {
        let Some(latest) = self.latest.replace(value) else { return };
        if latest == value {
            return;
        }
        let now = self.past.back().map_or(now, |(_, until)| now.max(*until));
        self.past.push_back((latest, now));
        while self.past.back().is_some_and(|(old, _)| keep.at_least_as_good(value, *old)) {
            self.past.pop_back();
        }
        if self.past.len() > Self::LIMIT
            && let Some((best, _)) = self.past.pop_front()
            && let Some((next, _)) = self.past.front_mut()
        {
            *next = best;
        }
    }

    /// Forgets what was in force only before the last `span`.
    pub fn forget(&mut self, span: Duration, now: Timestamp) {
        while self.past.front().is_some_and(|(_, until)| until.plus(span) <= now) {
            self.past.pop_front();
        }
    }

    /// The extreme within the span of the last [`Self::forget`]; none where no value was ever set.
    pub fn extreme(&self) -> Option<u64> {
        self.past.front().map(|(value, _)| *value).or(self.latest)
    }

    /// When the extreme will be forgotten if nothing changes; none where it is the value in force.
    pub fn holds_until(&self, span: Duration) -> Option<Timestamp> {
        self.past.front().map(|(_, until)| until.plus(span))
    }
}
