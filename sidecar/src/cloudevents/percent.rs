//! How the HTTP protocol binding writes attribute values into headers (section 3.1.3.2).

use percent_encoding::{AsciiSet, CONTROLS, percent_decode, utf8_percent_encode};

/// What is encoded: space, double quote, percent and everything that is not printable ASCII.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// The header value of an attribute value: printable ASCII only.
pub(super) fn encode(value: &str) -> String {
    utf8_percent_encode(value, ENCODED).to_string()
}

/// The attribute value of a header value: quoted strings are unquoted first, as older versions of the binding write them, then one round of
/// percent-decoding is done. None: not UTF-8, or a quote that does not end.
pub(super) fn decode(value: &[u8]) -> Option<String> {
    percent_decode(&unquote(value)?).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

/// Takes the quotes off quoted strings (RFC 7230, section 3.2.6) and resolves their backslashes.
fn unquote(value: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(value.len());
    let mut quoted = false;
    let mut bytes = value.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => quoted = !quoted,
            b'\\' if quoted => plain.push(bytes.next()?),
            byte => plain.push(byte),
        }
    }
    (!quoted).then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_binding_is_written_as_it_stands_there() {
        assert_eq!(encode("Euro € 😀"), "Euro%20%E2%82%AC%20%F0%9F%98%80");
        assert_eq!(decode(b"Euro%20%E2%82%AC%20%F0%9F%98%80").as_deref(), Some("Euro € 😀"));
    }

    #[test]
    fn values_of_other_writers_are_read() {
        assert_eq!(decode(b"Euro%20%e2%82%ac").as_deref(), Some("Euro €"), "lower-case digits");
        assert_eq!(decode(b"%45uro").as_deref(), Some("Euro"), "encoded without need");
        assert_eq!(decode(b"\"with space and \\\"quote\\\"\"").as_deref(), Some("with space and \"quote\""));
        assert_eq!(decode("größe".as_bytes()).as_deref(), Some("größe"), "raw UTF-8");
        assert_eq!(decode(b"100%25%32%35").as_deref(), Some("100%25"), "one round only");
        assert_eq!(decode(b"100%").as_deref(), Some("100%"), "no escape");
    }

    #[test]
    fn what_is_not_utf_8_is_refused() {
        assert_eq!(decode(b"%C0%A0"), None, "an overlong space");
        assert_eq!(decode(b"%ff"), None);
        assert_eq!(decode(b"\"no end"), None);
    }
}
