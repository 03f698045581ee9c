//! `CloudEvents` 1.0: between HTTP messages, JSON texts and the wire's [`Event`].
//!
//! Sources: [the specification](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md), its
//! [HTTP protocol binding](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md) and its
//! [JSON event format](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md).
//!
//! ```text
//!   ce-* headers + body ──from_http──► Event ──to_headers──► ce-* headers (the body is `Event::data`)
//!   application/cloudevents+json ──from_json──► Event ──to_json──► one line of JSON
//! ```
//!
//! Pure. What is read is a valid event with every required attribute, or an [`Error`] that names the attribute; nothing is guessed.
//! `Event` keeps every extension as its text, so the JSON types of extensions (number, boolean) are not kept.

mod attributes;
mod binary;
mod error;
mod json;
mod percent;
#[cfg(test)]
mod tests;
mod time;

pub use binary::{from_http, plain, to_headers};
pub use error::Error;
pub(crate) use json::Data;
pub use json::{from_json, to_json};
pub use kontrol_proto::v1::Event;

/// The media type of the JSON event format.
pub const JSON: &str = "application/cloudevents+json";
/// What every media type of `CloudEvents` begins with.
const PREFIX: &str = "application/cloudevents";

/// What an HTTP message claims to be, by its headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Attributes in `ce-*` headers, the body is the data.
    Binary,
    /// All of it in the body, as JSON.
    Structured,
    /// No `CloudEvent`: the body is to become the data of one.
    Plain,
}

impl Mode {
    /// Tells the mode. Batches and event formats other than JSON are refused.
    pub fn of(headers: &http::HeaderMap) -> Result<Self, Error> {
        let content_type =
            headers.get(http::header::CONTENT_TYPE).map_or("", |value| value.to_str().unwrap_or(""));
        let (media_type, parameters) = split(content_type);
        if let Some(format) = media_type.strip_prefix(PREFIX) {
            return match format {
                "+json" if is_utf8(parameters) => Ok(Self::Structured),
                "+json" => Err(Error::Format(content_type.to_owned())),
                batch if batch.starts_with("-batch") => Err(Error::Batch),
                _ => Err(Error::Format(content_type.to_owned())),
            };
        }
        let marked = headers.keys().any(|name| name.as_str().starts_with(binary::PREFIX));
        Ok(if marked { Self::Binary } else { Self::Plain })
    }
}

/// Reads the event of an HTTP request: in any mode that [`Mode::of`] tells.
pub fn read(headers: &http::HeaderMap, body: bytes::Bytes) -> Result<Event, Error> {
    let event = match Mode::of(headers)? {
        Mode::Binary => return from_http(headers, body),
        Mode::Structured => from_json(&body)?,
        Mode::Plain => plain(headers, body)?,
    };
    Ok(binary::with_trace(event, headers))
}

/// The media type in lower case without its parameters, and the parameters.
fn split(content_type: &str) -> (String, &str) {
    let (media_type, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    (media_type.trim().to_ascii_lowercase(), parameters)
}

/// Whether the parameters of a media type leave the text in UTF-8.
fn is_utf8(parameters: &str) -> bool {
    parameters.split(';').filter_map(|parameter| parameter.split_once('=')).all(|(name, value)| {
        let value = value.trim().trim_matches('"');
        !name.trim().eq_ignore_ascii_case("charset")
            || value.eq_ignore_ascii_case("utf-8")
            || value.eq_ignore_ascii_case("us-ascii")
    })
}

/// Whether a content type declares JSON: `*/json` or `*/*+json`.
pub fn is_json(content_type: &str) -> bool {
    let (media_type, _) = split(content_type);
    media_type.split_once('/').is_some_and(|(_, subtype)| subtype == "json" || subtype.ends_with("+json"))
}

/// Whether a content type declares text that JSON can carry as a string.
pub fn is_text(content_type: &str) -> bool {
    let (media_type, parameters) = split(content_type);
    let textual = media_type.starts_with("text/")
        || media_type.ends_with("+xml")
        || matches!(
            media_type.as_str(),
            "application/xml" | "application/x-www-form-urlencoded" | "application/x-ndjson"
        );
    textual && is_utf8(parameters)
}
