//! What a widget may report of itself: a short text and a few numbers.
//!
//! A report goes to the operator each second, and a part of it into the widget's status; so each of its parts has a
//! [limit](crate::limits), which every door checks with [`check`]. Whoever hears a report of somebody else cuts it with [`cut`]: a text
//! that is too long is still a text.

use crate::limits::{REPORT_MESSAGE, REPORT_NAME, REPORT_NAMES};

/// The first of the limits that a report is over.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Excess {
    /// The text is too long.
    #[error(
        "the message has {0} characters, over the limit of {REPORT_MESSAGE}; say the reason in a line, and write what is longer to the log"
    )]
    Message(usize),
    /// There are too many numbers.
    #[error(
        "load has {0} names, over the limit of {REPORT_NAMES}; report the numbers that scaling or people go by, and sum up what differs by request or user"
    )]
    Names(usize),
    /// The name of a number is too long.
    #[error(
        "load has a name of {characters} characters, {name:?}…, over the limit of {REPORT_NAME}; choose a shorter one"
    )]
    Name {
        /// How it begins.
        name: String,
        /// Its length.
        characters: usize,
    },
    /// A number is none.
    #[error(
        "load has {value} as its {name:?}, which is no finite number; leave the name out where nothing is known"
    )]
    Value {
        /// The number's name.
        name: String,
        /// What was given.
        value: f64,
    },
}

/// Checks the parts of a report against their limits.
pub fn check<'a>(message: &str, load: impl ExactSizeIterator<Item = (&'a str, f64)>) -> Result<(), Excess> {
    let characters = message.chars().count();
    if characters > REPORT_MESSAGE {
        return Err(Excess::Message(characters));
    }
    if load.len() > REPORT_NAMES {
        return Err(Excess::Names(load.len()));
    }
    for (name, value) in load {
        let characters = name.chars().count();
        if characters > REPORT_NAME {
            return Err(Excess::Name { name: cut(name, REPORT_NAME).to_owned(), characters });
        }
        if !value.is_finite() {
            return Err(Excess::Value { name: name.to_owned(), value });
        }
    }
    Ok(())
}

/// The first so many characters of a text.
pub fn cut(text: &str, characters: usize) -> &str {
    text.char_indices().nth(characters).map_or(text, |(end, _)| text.get(..end).unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(names: &[String]) -> Result<(), Excess> {
        check("", names.iter().map(|name| (name.as_str(), 1.0)))
    }

    #[test]
    fn a_report_is_taken_up_to_each_limit_and_refused_beyond() {
        let none = || std::iter::empty();
        assert_eq!(check(&"ü".repeat(REPORT_MESSAGE), none()), Ok(()));
        assert_eq!(check(&"ü".repeat(REPORT_MESSAGE + 1), none()), Err(Excess::Message(1001)));
        let mut names: Vec<String> = (0..REPORT_NAMES).map(|at| format!("n{at}")).collect();
        names[0] = "ü".repeat(REPORT_NAME);
        assert_eq!(load(&names), Ok(()));
        names[0].push('x');
        let name = "ü".repeat(REPORT_NAME);
        assert_eq!(load(&names), Err(Excess::Name { name, characters: 64 }));
        names.push("one more".to_owned());
        assert_eq!(load(&names), Err(Excess::Names(33)));
        for value in [f64::MAX, f64::MIN, 0.0, -0.0] {
            assert_eq!(check("", [("n", value)].into_iter()), Ok(()));
        }
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(matches!(check("", [("n", value)].into_iter()), Err(Excess::Value { .. })), "{value}");
        }
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!((cut("üöä", 2), cut("üöä", 3), cut("üöä", 4), cut("", 0)), ("üö", "üöä", "üöä", ""));
    }
}
