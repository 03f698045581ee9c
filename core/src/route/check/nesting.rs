//! How deep a text is bracketed, found without a parser: the parser recurses on brackets, at 0.15 MB of stack each without optimisation.

/// The byte at which brackets (and choices, `?:`) stand deeper inside of each other than `limit`; none where they never do.
/// Strings and comments are skipped. A text that is no CEL may give any answer that is not too low.
pub(super) fn deeper_than(limit: usize, text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut depth = 0_usize;
    let mut index = 0;
    while let Some(byte) = bytes.get(index) {
        match byte {
            b'(' | b'[' | b'{' | b'?' => depth += 1,
            b')' | b']' | b'}' | b':' => depth = depth.saturating_sub(1),
            b'/' if bytes.get(index + 1) == Some(&b'/') => {
                index += bytes[index..].iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
            }
            b'\'' | b'"' => index = string_end(bytes, index),
            _ => {}
        }
        if depth > limit {
            return Some(index);
        }
        index += 1;
    }
    None
}

/// The last byte of the string literal that starts with the quote at `start`.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let quote = bytes[start];
    let prefix = &bytes[start.saturating_sub(2)..start];
    let raw = prefix
        .iter()
        .rev()
        .take_while(|byte| byte.is_ascii_alphabetic())
        .any(|byte| matches!(byte, b'r' | b'R'));
    let triple = bytes[start..].starts_with(&[quote; 3]);
    let closing: &[u8] = if triple { &[quote; 3] } else { &[quote] };
    let mut index = start + closing.len();
    while index < bytes.len() {
        if bytes[index] == b'\\' && !raw {
            index += 1;
        } else if bytes[index..].starts_with(closing) {
            return index + closing.len() - 1;
        } else if bytes[index] == b'\n' && !triple {
            // No literal: what follows is looked at as if the quote were not there.
            return start;
        }
        index += 1;
    }
    start
}
