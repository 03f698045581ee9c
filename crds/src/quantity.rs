//! Sizes and amounts: texts with units, as numbers.

use crate::api::{Amount, Size};

const UNITS: [(&str, u64); 8] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
];

/// Why a size or amount cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a number with one of the units.
    #[error(
        "{0:?} is no size; write a number of bytes, or one with a unit (Ki, Mi, Gi, Ti, k, M, G, T), such as 64Mi"
    )]
    Size(String),
    /// Not a number with up to three decimals.
    #[error("{0:?} is no amount; write a number with up to three decimals, such as 2 or \"0.5\"")]
    Amount(String),
    /// More than 2^64.
    #[error("{0:?} is more than can be counted")]
    TooLarge(String),
}

/// The bytes of a size.
pub fn bytes(size: &Size) -> Result<u64, Error> {
    let text = match size {
        Size::Bytes(bytes) => return Ok(*bytes),
        Size::Text(text) => text,
    };
    let (number, scale) = UNITS
        .iter()
        .find_map(|(unit, scale)| text.strip_suffix(unit).map(|number| (number, *scale)))
        .unwrap_or((text, 1));
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Error::Size(text.clone()));
    }
    let count: Option<u64> = number.parse().ok();
    count.and_then(|count| count.checked_mul(scale)).ok_or_else(|| Error::TooLarge(text.clone()))
}

/// The thousandths of an amount.
pub fn thousandths(amount: &Amount) -> Result<u64, Error> {
    let text = match amount {
        Amount::Whole(number) => {
            return number.checked_mul(1000).ok_or_else(|| Error::TooLarge(number.to_string()));
        }
        Amount::Text(text) => text,
    };
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "000"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(decimals) || decimals.len() > 3 {
        return Err(Error::Amount(text.clone()));
    }
    let number: Option<u64> = format!("{whole}{decimals:0<3}").parse().ok();
    number.ok_or_else(|| Error::TooLarge(text.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_counts_bytes() {
        for (text, bytes) in [
            ("64Mi", 64 << 20),
            ("10Gi", 10 << 30),
            ("1k", 1000),
            ("7", 7),
            ("0", 0),
            ("2T", 2_000_000_000_000),
        ] {
            assert_eq!(super::bytes(&text.into()), Ok(bytes), "{text}");
        }
        assert_eq!(super::bytes(&Size::Bytes(1024)), Ok(1024));
    }

    #[test]
    fn a_size_with_an_unknown_unit_or_decimals_is_refused() {
        for text in ["", "Mi", "64MB", "1.5Gi", "-1", "1 Mi", "0x10"] {
            assert_eq!(super::bytes(&text.into()), Err(Error::Size(text.to_owned())), "{text}");
        }
        assert_eq!(super::bytes(&"99999999999Ti".into()), Err(Error::TooLarge("99999999999Ti".to_owned())));
    }

    #[test]
    fn an_amount_counts_thousandths() {
        for (text, amount) in [("2", 2000), ("0.5", 500), ("1.25", 1250), ("0.001", 1), ("10.", 0)] {
            let result = thousandths(&Amount::Text(text.to_owned()));
            if amount == 0 {
                assert_eq!(result, Err(Error::Amount(text.to_owned())));
            } else {
                assert_eq!(result, Ok(amount), "{text}");
            }
        }
        assert_eq!(thousandths(&Amount::Whole(3)), Ok(3000));
        assert!(thousandths(&Amount::Whole(u64::MAX)).is_err());
        assert!(thousandths(&Amount::Text("0.0005".to_owned())).is_err());
    }
}
