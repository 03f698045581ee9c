//! Times as RFC 3339 has them, to the microsecond.

use jiff::Timestamp;

/// Microseconds since the Unix epoch. None: no RFC 3339 time. What is finer than a microsecond is cut off.
pub(super) fn parse(text: &str) -> Option<i64> {
    if !is_rfc3339(text) {
        return None;
    }
    text.parse::<Timestamp>().ok().map(Timestamp::as_microsecond)
}

/// The time in UTC. None: outside of the years that RFC 3339 can write.
pub(super) fn format(micros: i64) -> Option<String> {
    let time = Timestamp::from_microsecond(micros).ok()?.to_string();
    is_rfc3339(&time).then_some(time)
}

/// Whether the text has the form `YYYY-MM-DDTHH:MM:SS[.f](Z|±HH:MM)`; ISO 8601, which a time parser reads, allows more.
fn is_rfc3339(text: &str) -> bool {
    let shape = |part: &str, shape: &str| {
        part.len() == shape.len()
            && part.bytes().zip(shape.bytes()).all(|(c, s)| match s {
                b'0' => c.is_ascii_digit(),
                b'+' => c == b'+' || c == b'-',
                _ => c.eq_ignore_ascii_case(&s),
            })
    };
    let Some((time, rest)) = text.split_at_checked(19) else { return false };
    let offset = match rest.strip_prefix('.') {
        None => rest,
        Some(rest) => {
            let offset = rest.trim_start_matches(|c: char| c.is_ascii_digit());
            if offset.len() == rest.len() {
                return false;
            }
            offset
        }
    };
    shape(time, "0000-00-00T00:00:00") && (shape(offset, "Z") || shape(offset, "+00:00"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_3339_times_are_read_with_any_offset_and_written_in_utc() {
        let utc = parse("2018-04-05T17:31:00Z").unwrap();
        assert_eq!(utc, 1_522_949_460_000_000);
        assert_eq!(parse("2018-04-05t19:31:00+02:00"), Some(utc));
        assert_eq!(parse("2018-04-05T17:31:00.000001999z"), Some(utc + 1));
        assert_eq!(format(utc).as_deref(), Some("2018-04-05T17:31:00Z"));
        assert_eq!(format(utc + 500_000).as_deref(), Some("2018-04-05T17:31:00.5Z"));
    }

    #[test]
    fn other_forms_of_iso_8601_are_no_times() {
        for text in [
            "",
            "2018-04-05",
            "2018-04-05T17:31Z",
            "2018-04-05T17:31:00",
            "2018-04-05 17:31:00Z",
            "20180405T173100Z",
            "2018-04-05T17:31:00.Z",
            "2018-04-05T17:31:00+02",
            "2018-04-05T17:31:00Z[UTC]",
            "2018-13-05T17:31:00Z",
            "2018-04-05T25:31:00Z",
            "+02018-04-05T17:31:00Z",
            "2018-04-05T17:31:0äZ",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
