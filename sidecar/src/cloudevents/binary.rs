//! The binary content mode of the HTTP protocol binding, and bodies that are no `CloudEvents` yet.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_TYPE};

use super::{
    Error, Event,
    attributes::{self, Draft},
    percent, time,
};

/// What the headers of attributes begin with.
pub(super) const PREFIX: &str = "ce-";
/// W3C trace context travels as extensions and, beside them, as the headers that every HTTP server knows.
const TRACE: [&str; 2] = ["traceparent", "tracestate"];

/// Reads an event whose attributes are `ce-*` headers. `traceparent` and `tracestate` are taken from the headers of that name where the
/// event has none of its own.
pub fn from_http(headers: &HeaderMap, body: Bytes) -> Result<Event, Error> {
    let mut draft = Draft::default();
    for (header, value) in headers {
        let Some(name) = header.as_str().strip_prefix(PREFIX) else { continue };
        if name == "datacontenttype" {
            return Err(Error::attribute_of(name, "stands in Content-Type, not in a ce- header"));
        }
        let value = percent::decode(value.as_bytes())
            .ok_or_else(|| Error::attribute_of(name, "is not percent-encoded UTF-8"))?;
        draft.set(name, value)?;
    }
    if let Some(value) = content_type(headers)? {
        draft.set("datacontenttype", value)?;
    }
    let event = draft.finish()?;
    Ok(with_trace(Event { data: body, ..event }, headers))
}

/// Makes the body of a request that is no `CloudEvent` the data of one that has no other attributes yet.
pub fn plain(headers: &HeaderMap, body: Bytes) -> Result<Event, Error> {
    let datacontenttype = content_type(headers)?.map(attributes::media_type).transpose()?.unwrap_or_default();
    Ok(Event { datacontenttype, data: body, ..Event::default() })
}

fn content_type(headers: &HeaderMap) -> Result<Option<String>, Error> {
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(None) };
    let text =
        value.to_str().map_err(|_| Error::attribute_of("datacontenttype", "is not printable ASCII"))?;
    Ok(Some(text.to_owned()))
}

/// Adds the trace context of the HTTP message to an event that has none.
pub(super) fn with_trace(mut event: Event, headers: &HeaderMap) -> Event {
    if event.extensions.contains_key(TRACE[0]) {
        return event;
    }
    for name in TRACE {
        if let Some(value) =
            headers.get(name).and_then(|value| value.to_str().ok()).filter(|value| !value.is_empty())
        {
            event.extensions.insert(name.to_owned(), value.to_owned());
        }
    }
    event
}

/// The headers of an event in binary mode; its body is `event.data`. `Content-Type` is absent where the event has no `datacontenttype`.
pub fn to_headers(event: &Event) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::with_capacity(10 + event.extensions.len());
    let mut set = |name: &str, value: &str| -> Result<(), Error> {
        let header = HeaderName::try_from(format!("{PREFIX}{name}"))
            .map_err(|_| Error::attribute_of(name, "has a name that no header can have"))?;
        headers.insert(header, printable(name, &percent::encode(value))?);
        Ok(())
    };
    set("specversion", "1.0")?;
    set("id", &event.id)?;
    set("source", &event.source)?;
    set("type", &event.r#type)?;
    for (name, value) in [("subject", &event.subject), ("dataschema", &event.dataschema)] {
        if !value.is_empty() {
            set(name, value)?;
        }
    }
    if let Some(time) = written_time(event)? {
        set("time", &time)?;
    }
    for (name, value) in &event.extensions {
        set(name, value)?;
    }
    if !event.datacontenttype.is_empty() {
        headers.insert(CONTENT_TYPE, printable("datacontenttype", &event.datacontenttype)?);
    }
    for name in TRACE {
        if let Some(value) = event.extensions.get(name) {
            headers.insert(HeaderName::from_static(name), printable(name, value)?);
        }
    }
    Ok(headers)
}

/// The event's time as text; none: it has none.
pub(super) fn written_time(event: &Event) -> Result<Option<String>, Error> {
    let out_of_range = || Error::attribute_of("time", "is outside of the years that RFC 3339 can write");
    match event.time_micros {
        0 => Ok(None),
        micros => time::format(micros).ok_or_else(out_of_range).map(Some),
    }
}

fn printable(name: &str, value: &str) -> Result<HeaderValue, Error> {
    HeaderValue::from_str(value)
        .map_err(|_| Error::attribute_of(name, "has a character that no header can have"))
}
