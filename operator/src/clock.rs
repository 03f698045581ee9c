//! The operator's only clock. Everything else takes time as an argument.

use std::{
    sync::OnceLock,
    time::{Duration, Instant, SystemTime},
};

use kontrol_core::time::Timestamp;

/// Now, by the wall clock, for decisions and what is written of them.
#[allow(clippy::disallowed_methods, reason = "this is the clock")]
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// Now, since this process first asked: a time that never goes back, whatever is done to the wall clock.
pub fn steady() -> Timestamp {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    let now = instant();
    let passed = now.saturating_duration_since(*BEGAN.get_or_init(|| now));
    Timestamp::ZERO.plus(passed).plus(Duration::from_secs(1))
}

/// Now, for deadlines within this process.
#[allow(clippy::disallowed_methods, reason = "this is the clock")]
pub fn instant() -> Instant {
    Instant::now()
}

/// A point of the wall clock as the system's type, for certificates.
pub(crate) fn system_time(at: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(at.as_micros())
}
