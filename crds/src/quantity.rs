//! Sizes and amounts: texts with units, as numbers.

use kontrol_core::spec;

use crate::api::{Amount, Quantity, Share, Size};

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
    /// Not a quantity of Kubernetes.
    #[error("{0:?} is no quantity; write a whole number, or a text such as \"500m\", \"0.5\" or 1Gi")]
    Quantity(String),
    /// Neither a number nor a share.
    #[error("{0:?} is no number of replicas; write a whole number, or a share from 0% to 100%, such as 25%")]
    Share(String),
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

/// The billionths of a quantity of Kubernetes, so that quantities can be compared.
pub fn nano(quantity: &Quantity) -> Result<u128, Error> {
    const NANO: u128 = 1_000_000_000;
    let text = match quantity {
        Quantity::Whole(number) => return Ok(u128::from(*number) * NANO),
        Quantity::Text(text) => text,
    };
    let wrong = || Error::Quantity(text.clone());
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    if whole.len() + decimals.len() == 0 || decimals.contains('.') || text.len() > 32 {
        return Err(wrong());
    }
    let scale = match unit {
        "n" => Ok(1),
        "u" => Ok(1_000),
        "m" => Ok(1_000_000),
        "" => Ok(NANO),
        "k" => Ok(NANO * 1_000),
        "M" => Ok(NANO * 1_000_000),
        "G" => Ok(NANO * 1_000_000_000),
        "T" => Ok(NANO * 1_000_000_000_000),
        "P" => Ok(NANO * 1_000_000_000_000_000),
        "E" => Ok(NANO * 1_000_000_000_000_000_000),
        "Ki" => Ok(NANO << 10),
        "Mi" => Ok(NANO << 20),
        "Gi" => Ok(NANO << 30),
        "Ti" => Ok(NANO << 40),
        "Pi" => Ok(NANO << 50),
        "Ei" => Ok(NANO << 60),
        exponent => Err(exponent),
    };
    let too_large = || Error::TooLarge(text.clone());
    let scale = match scale {
        Ok(scale) => scale,
        Err(exponent) => {
            let digits = exponent.strip_prefix(['e', 'E']).ok_or_else(wrong)?;
            let exponent: i32 = digits.parse().map_err(|_| wrong())?;
            let exponent = u32::try_from(exponent + 9).map_err(|_| wrong())?;
            10_u128.checked_pow(exponent).ok_or_else(too_large)?
        }
    };
    let part = |digits: &str| -> Result<u128, Error> {
        if digits.is_empty() { Ok(0) } else { digits.parse().map_err(|_| too_large()) }
    };
    let decimals = decimals.trim_end_matches('0');
    let length = u32::try_from(decimals.len()).map_err(|_| wrong())?;
    let fraction = 10_u128.checked_pow(length).ok_or_else(too_large)?;
    let below = part(decimals)?.checked_mul(scale).ok_or_else(too_large)?.div_ceil(fraction);
    let above = part(whole)?.checked_mul(scale).ok_or_else(too_large)?;
    above.checked_add(below).ok_or_else(too_large)
}

/// A number of replicas, or a share of them.
pub fn share(share: &Share) -> Result<spec::Share, Error> {
    let text = match share {
        Share::Count(count) => return Ok(spec::Share::Count(*count)),
        Share::Text(text) => text,
    };
    let (number, percent) = text.strip_suffix('%').map_or((text.as_str(), false), |number| (number, true));
    let digits = (1..=4).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
    match number.parse() {
        Ok(number) if digits && percent && number <= 100 => Ok(spec::Share::Percent(number)),
        Ok(number) if digits && !percent => Ok(spec::Share::Count(number)),
        _ => Err(Error::Share(text.clone())),
    }
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

    #[test]
    fn a_quantity_is_compared_by_what_it_means() {
        for (text, nano) in [
            ("500m", 500_000_000),
            ("0.5", 500_000_000),
            (".5", 500_000_000),
            ("1.", 1_000_000_000),
            ("1Ki", 1024 * 1_000_000_000),
            ("1e3", 1_000_000_000_000),
            ("1E-3", 1_000_000),
            ("2k", 2_000_000_000_000),
            ("1n", 1),
            ("0", 0),
        ] {
            assert_eq!(super::nano(&text.into()), Ok(nano), "{text}");
        }
        assert_eq!(super::nano(&Quantity::Whole(2)), super::nano(&"2000m".into()));
        for text in ["", "m", "1GB", "-1", "1 Gi", "1.2.3", "1e", "0x1", "1ee3", "1e-30"] {
            assert_eq!(super::nano(&text.into()), Err(Error::Quantity(text.to_owned())), "{text}");
        }
        let large = "99999999999999999999999999E";
        assert_eq!(super::nano(&large.into()), Err(Error::TooLarge(large.to_owned())));
    }

    #[test]
    fn a_share_is_a_number_or_a_part_of_all() {
        let read = |text: &str| super::share(&Share::Text(text.to_owned()));
        assert_eq!(read("25%"), Ok(spec::Share::Percent(25)));
        assert_eq!(read("3"), Ok(spec::Share::Count(3)));
        assert_eq!(super::share(&Share::Count(2)), Ok(spec::Share::Count(2)));
        for text in ["", "%", "101%", "-1", "1.5", "25 %", "+1%"] {
            assert_eq!(read(text), Err(Error::Share(text.to_owned())), "{text}");
        }
    }
}
