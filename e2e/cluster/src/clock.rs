//! The one place that reads the clocks.

use std::time::{Instant, SystemTime};

/// Now, on the clock that only goes forward.
#[allow(clippy::disallowed_methods, reason = "the edge where time comes in")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Now, on the clock on the wall.
#[allow(clippy::disallowed_methods, reason = "the edge where time comes in")]
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}
