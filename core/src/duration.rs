//! Durations as Kubernetes users write them: `500ms`, `30s`, `5m`, `1h30m`.

use std::time::Duration;

/// Why a text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text is empty.
    #[error("an empty text is no duration; write a number with a unit, such as 30s")]
    Empty,
    /// A number without a unit, a unit without a number, or a unit that is none of `us`, `ms`, `s`, `m`, `h`, `d`.
    #[error("{0:?} is no duration; write numbers with the units us, ms, s, m, h or d, such as 1h30m")]
    Malformed(String),
    /// More than 2^64 microseconds.
    #[error("{0:?} is longer than any duration that can be counted")]
    TooLong(String),
}

const UNITS: [(&str, u64); 6] = [
    ("us", 1),
    ("ms", 1_000),
    ("s", 1_000_000),
    ("m", 60_000_000),
    ("h", 3_600_000_000),
    ("d", 86_400_000_000),
];

/// Reads a duration; whole numbers only, units in any order, each part added up.
pub fn parse(text: &str) -> Result<Duration, Error> {
    if text.is_empty() {
        return Err(Error::Empty);
    }
    let mut rest = text;
    let mut micros: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, after) = rest.split_at(digits);
        let letters = after.len() - after.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let (unit, after) = after.split_at(letters);
        let scale = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale);
        let (Some(scale), false) = (scale, number.is_empty()) else {
            return Err(Error::Malformed(text.to_owned()));
        };
        micros = number
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(scale))
            .and_then(|n| n.checked_add(micros))
            .ok_or_else(|| Error::TooLong(text.to_owned()))?;
        rest = after;
    }
    Ok(Duration::from_micros(micros))
}

/// Writes a duration in the form that [`parse`] reads: the largest units first, nothing that is zero, `0s` for none.
pub fn format(duration: Duration) -> String {
    let mut micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    if micros == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, scale) in UNITS.iter().rev().filter(|(unit, _)| *unit != "d") {
        if micros >= *scale {
            text.push_str(&(micros / scale).to_string());
            text.push_str(unit);
            micros %= scale;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_reads_back_as_it_was_written() {
        for text in ["500ms", "30s", "5m", "1h30m", "1m500ms", "0s", "7us"] {
            assert_eq!(format(parse(text).unwrap()), text);
        }
        assert_eq!(parse("1d").unwrap(), Duration::from_hours(24));
    }

    #[test]
    fn a_number_without_a_unit_is_refused() {
        for text in ["30", "s", "1.5s", "-1s", "5 m", "3w"] {
            assert_eq!(parse(text), Err(Error::Malformed(text.to_owned())), "{text}");
        }
        assert_eq!(parse(""), Err(Error::Empty));
        assert_eq!(parse("99999999999999999d"), Err(Error::TooLong("99999999999999999d".to_owned())));
    }
}
