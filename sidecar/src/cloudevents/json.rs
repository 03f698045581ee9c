//! The JSON event format.

use std::{borrow::Cow, fmt};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
    ser::SerializeMap,
};
use serde_json::value::RawValue;

use super::{Error, Event, attributes::Draft, binary, is_json, is_text};

/// Reads an event in the JSON event format. `data` stays byte for byte what it was, without the line breaks between its tokens.
pub fn from_json(body: &[u8]) -> Result<Event, Error> {
    let members: Members<'_> =
        serde_json::from_slice(body).map_err(|error| Error::Body(error.to_string()))?;
    let mut draft = Draft::default();
    let (mut data, mut base64) = (None, None);
    let mut content_type = String::new();
    for (name, raw) in members.0 {
        match name.as_ref() {
            "data" => data = Some(raw),
            "data_base64" if raw.get() == "null" => {}
            "data_base64" => base64 = Some(raw),
            name => {
                let Some(value) = attribute(name, raw)? else { continue };
                if name == "datacontenttype" {
                    content_type.clone_from(&value);
                }
                draft.set(name, value)?;
            }
        }
    }
    let data = match (data, base64) {
        (Some(_), Some(_)) => return Err(Error::Body("it has both data and data_base64".to_owned())),
        (None, None) => Bytes::new(),
        (None, Some(raw)) => decoded(raw)?,
        (Some(raw), None) => {
            if content_type.is_empty() {
                "application/json".clone_into(&mut content_type);
                draft.set("datacontenttype", content_type.clone())?;
            }
            if is_json(&content_type) {
                Bytes::from(one_line(raw).into_owned())
            } else {
                string(raw, &content_type)?
            }
        }
    };
    Ok(Event { data, ..draft.finish()? })
}

/// The canonical text of an attribute's JSON value; none: `null`, which is the same as absent.
fn attribute(name: &str, raw: &RawValue) -> Result<Option<String>, Error> {
    let text = raw.get();
    let refused = |reason: &str| Err(Error::attribute_of(name, reason));
    match text.as_bytes().first() {
        Some(b'n') => Ok(None),
        Some(b't' | b'f') => Ok(Some(text.to_owned())),
        Some(b'"') => match serde_json::from_str(text) {
            Ok(text) => Ok(Some(text)),
            Err(_) => refused("is no valid JSON string"),
        },
        Some(b'{' | b'[') => refused("is an object or a list; attributes are texts, numbers or booleans"),
        _ => match text.parse::<i32>() {
            Ok(number) => Ok(Some(number.to_string())),
            Err(_) => refused("is a number that is not a whole one of 32 bits"),
        },
    }
}

fn decoded(raw: &RawValue) -> Result<Bytes, Error> {
    let text: Cow<'_, str> =
        serde_json::from_str(raw.get()).map_err(|_| Error::Body("data_base64 is no string".to_owned()))?;
    let bytes = BASE64_STANDARD.decode(text.as_bytes());
    bytes.map(Bytes::from).map_err(|error| Error::Body(format!("data_base64 is no base64: {error}")))
}

fn string(raw: &RawValue, content_type: &str) -> Result<Bytes, Error> {
    serde_json::from_str::<String>(raw.get()).map(Bytes::from).map_err(|_| {
        Error::Body(format!("its datacontenttype {content_type} is no JSON, so data must be a string"))
    })
}

/// JSON without the line breaks between its tokens: tokens are always kept apart by more than white space, and strings have none.
fn one_line(raw: &RawValue) -> Cow<'_, str> {
    let text = raw.get();
    if text.contains(['\n', '\r']) { Cow::Owned(text.replace(['\n', '\r'], "")) } else { Cow::Borrowed(text) }
}

/// Writes an event in the JSON event format, on one line, with further integer attributes beside its own. Data that is neither JSON nor text
/// by its content type becomes `data_base64`.
pub fn to_json(event: &Event, beside: &[(&str, u64)]) -> Result<String, Error> {
    let members = Written { event, time: binary::written_time(event)?, beside };
    serde_json::to_string(&members).map_err(|error| Error::Body(error.to_string()))
}

/// Bytes as a member of JSON: the same rules for an event's data and for the chunks of a reply.
#[derive(Debug)]
pub(crate) enum Data<'a> {
    /// JSON, on one line.
    Json(Cow<'a, str>),
    /// Text.
    Text(&'a str),
    /// Anything else.
    Binary(&'a [u8]),
}

impl<'a> Data<'a> {
    /// What the content type declares, if the bytes are that.
    pub(crate) fn of(content_type: &str, data: &'a [u8]) -> Self {
        if is_json(content_type)
            && let Ok(raw) = serde_json::from_slice::<&RawValue>(data)
        {
            return Self::Json(one_line(raw));
        }
        match std::str::from_utf8(data) {
            Ok(text) if is_text(content_type) => Self::Text(text),
            _ => Self::Binary(data),
        }
    }

    /// Writes it as `data` or `data_base64`.
    pub(crate) fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        match self {
            Self::Json(json) => {
                let raw: &RawValue = serde_json::from_str(json).map_err(serde::ser::Error::custom)?;
                map.serialize_entry("data", raw)
            }
            Self::Text(text) => map.serialize_entry("data", text),
            Self::Binary(bytes) => map.serialize_entry("data_base64", &BASE64_STANDARD.encode(bytes)),
        }
    }
}

struct Written<'a> {
    event: &'a Event,
    time: Option<String>,
    beside: &'a [(&'a str, u64)],
}

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let event = self.event;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("specversion", "1.0")?;
        let time = self.time.as_deref().unwrap_or("");
        for (name, value) in [
            ("id", event.id.as_str()),
            ("source", &event.source),
            ("type", &event.r#type),
            ("subject", &event.subject),
            ("time", time),
            ("dataschema", &event.dataschema),
            ("datacontenttype", &event.datacontenttype),
        ] {
            if !value.is_empty() {
                map.serialize_entry(name, value)?;
            }
        }
        let mut extensions: Vec<_> = event.extensions.iter().collect();
        extensions.sort_unstable();
        for (name, value) in extensions {
            if !self.beside.iter().any(|(beside, _)| beside == name) {
                map.serialize_entry(name, value)?;
            }
        }
        for (name, value) in self.beside {
            map.serialize_entry(name, value)?;
        }
        if !event.data.is_empty() {
            Data::of(&event.datacontenttype, &event.data).write(&mut map)?;
        }
        map.end()
    }
}

/// The members of a JSON object in their order, each name once.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut members: Self::Value = Vec::new();
                while let Some((name, value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
                    if members.iter().any(|(known, _)| *known == name.0) {
                        return Err(serde::de::Error::custom(format!(
                            "{:?} is there more than once",
                            name.0
                        )));
                    }
                    members.push((name.0, value));
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Object).map(Members)
    }
}

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);
