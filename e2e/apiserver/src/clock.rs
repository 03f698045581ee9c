//! The server's clock: the wall clock where it started, and from there tokio's, which a test may pause.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// Tells the time of objects.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// A clock of the test's own.
    pub fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// From `start` on, as tokio's time goes. Pausing and advancing that advances this.
    pub fn from(start: Timestamp) -> Self {
        #[allow(clippy::disallowed_methods, reason = "this is the clock")]
        let origin = Instant::now();
        Self::new(move || {
            let since = SignedDuration::try_from(origin.elapsed()).unwrap_or(SignedDuration::ZERO);
            start.checked_add(since).unwrap_or(start)
        })
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }
}

/// `2026-01-01T00:00:00Z`.
pub(crate) fn seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
