//! The one place that reads the clock.

use std::time::Instant;

/// Now, on the clock that only goes forward.
#[allow(clippy::disallowed_methods, reason = "the edge where time comes in")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
