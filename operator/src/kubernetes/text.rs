//! Specs, statuses and what widgets own as they are kept: packed. Those of thousands of widgets rest at any time, and are read when
//! something happens to theirs.

use std::sync::Arc;

use lz4_flex::block::{compress_prepend_size_with_dict, decompress_size_prepended_with_dict};

/// What they have in common. Each is packed as what is different in it.
const TYPICAL: &[u8] = include_bytes!("text/typical.json");

/// A text, packed. Copies share what they hold, and equal texts are packed alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text(Option<Arc<[u8]>>);

impl Text {
    /// Packs a text.
    pub fn new(text: &str) -> Self {
        let packed =
            (!text.is_empty()).then(|| compress_prepend_size_with_dict(text.as_bytes(), TYPICAL).into());
        Self(packed)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The text.
    #[expect(
        clippy::expect_used,
        clippy::missing_panics_doc,
        reason = "`new` alone packs, and nothing changes what it packed"
    )]
    pub fn read(&self) -> String {
        let Some(packed) = &self.0 else { return String::new() };
        let text = decompress_size_prepended_with_dict(packed, TYPICAL).expect("packed here");
        String::from_utf8(text).expect("packed from a text")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_status_takes_a_fraction_of_its_length() {
        let text = std::str::from_utf8(TYPICAL).unwrap().lines().next().unwrap().replace("2026", "2031");
        let packed = Text::new(&text);
        assert!(packed.0.as_ref().unwrap().len() * 4 < text.len());
        assert_eq!(packed.read(), text);
    }

    #[test]
    fn nothing_is_packed_as_nothing() {
        assert!(Text::new("").is_empty());
        assert_eq!(Text::default().read(), "");
    }

    proptest! {
        #[test]
        fn every_text_is_read_as_it_was(text in ".*", part in 0..TYPICAL.len()) {
            let common = String::from_utf8_lossy(&TYPICAL[part..]);
            for text in [text.clone(), format!("{text}{common}"), format!("{common}{text}")] {
                prop_assert_eq!(Text::new(&text).read(), text);
            }
        }
    }
}
