//! Times as the API server writes them.

use kontrol_core::time::Timestamp;

/// RFC 3339 with microseconds, as `MicroTime` has it.
pub fn rfc3339(at: Timestamp) -> String {
    let micros = i64::try_from(at.as_micros()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_microsecond(micros).map(|at| format!("{at:.6}")).unwrap_or_default()
}

/// RFC 3339 in whole seconds, as `Time` has it.
pub fn seconds(at: Timestamp) -> String {
    let whole = i64::try_from(at.as_micros() / 1_000_000).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(whole).map(|at| format!("{at:.0}")).unwrap_or_default()
}

/// Reads either.
pub fn parse(text: &str) -> Option<Timestamp> {
    let at: jiff::Timestamp = text.parse().ok()?;
    Some(Timestamp::from_micros(u64::try_from(at.as_microsecond()).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_back() {
        let at = Timestamp::from_micros(1_795_000_000_000_042);
        assert_eq!(rfc3339(at), "2026-11-18T11:06:40.000042Z");
        assert_eq!(seconds(at), "2026-11-18T11:06:40Z");
        assert_eq!(parse(&rfc3339(at)), Some(at));
        assert_eq!(parse("no time"), None);
    }
}
