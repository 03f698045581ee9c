//! The rules that attributes obey in every form of an event.

use super::{Error, Event, time};

/// An event that gets its attributes one by one.
#[derive(Debug, Default)]
pub(super) struct Draft {
    event: Event,
    seen: Vec<String>,
}

impl Draft {
    /// Sets an attribute from its canonical text. Each may come once.
    pub(super) fn set(&mut self, name: &str, value: String) -> Result<(), Error> {
        if self.seen.iter().any(|seen| seen == name) {
            return Err(Error::attribute_of(name, "is there more than once"));
        }
        self.seen.push(name.to_owned());
        let event = &mut self.event;
        match name {
            "specversion" if value == "1.0" => {}
            "specversion" => return Err(Error::Version(value)),
            "id" => event.id = text(name, value)?,
            "source" => event.source = reference(name, value)?,
            "type" => event.r#type = text(name, value)?,
            "subject" => event.subject = text(name, value)?,
            "dataschema" => event.dataschema = absolute(name, value)?,
            "datacontenttype" => event.datacontenttype = media_type(value)?,
            "time" => {
                let micros = time::parse(&value);
                event.time_micros = micros.ok_or_else(|| {
                    Error::attribute_of(name, format!("is {value:?}, which is no RFC 3339 time"))
                })?;
            }
            extension => {
                extension_name(extension)?;
                event.extensions.insert(extension.to_owned(), characters(extension, value)?);
            }
        }
        Ok(())
    }

    /// Whether an attribute was set.
    pub(super) fn has(&self, name: &str) -> bool {
        self.seen.iter().any(|seen| seen == name)
    }

    /// The event, if every required attribute is there.
    pub(super) fn finish(self) -> Result<Event, Error> {
        for name in ["specversion", "id", "source", "type"] {
            if !self.has(name) {
                return Err(Error::Missing(name));
            }
        }
        Ok(self.event)
    }
}

/// An extension's name: lower-case letters and digits, and not one that JSON uses otherwise.
fn extension_name(name: &str) -> Result<(), Error> {
    let valid = !name.is_empty() && name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    match name {
        "data" => Err(Error::attribute_of(name, "has a name that is reserved")),
        _ if valid => Ok(()),
        _ => Err(Error::attribute_of(name, "has a name that is not made of lower-case letters and digits")),
    }
}

/// A text without characters that the specification excludes.
fn characters(name: &str, value: String) -> Result<String, Error> {
    let excluded =
        |c: char| c.is_control() || (c as u32 & 0xfffe) == 0xfffe || ('\u{fdd0}'..='\u{fdef}').contains(&c);
    if value.contains(excluded) {
        return Err(Error::attribute_of(
            name,
            "has a control character or a code point that is no character",
        ));
    }
    Ok(value)
}

/// A text that is not empty.
fn text(name: &str, value: String) -> Result<String, Error> {
    if value.is_empty() {
        return Err(Error::attribute_of(name, "is empty"));
    }
    characters(name, value)
}

/// A URI reference by its characters (RFC 3986, section 2).
fn reference(name: &str, value: String) -> Result<String, Error> {
    let value = text(name, value)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._~:/?#[]@!$&'()*+,;=%".contains(c);
    match value.chars().find(|c| !allowed(*c)) {
        None => Ok(value),
        Some(c) => Err(Error::attribute_of(name, format!("has {c:?}, which no URI has"))),
    }
}

/// A URI with a scheme.
fn absolute(name: &str, value: String) -> Result<String, Error> {
    let value = reference(name, value)?;
    let scheme = value.split_once(':').map_or("", |(scheme, _)| scheme);
    let valid = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    if valid { Ok(value) } else { Err(Error::attribute_of(name, "is no URI with a scheme")) }
}

/// A media type by its form: `type/subtype`, then parameters that a header can carry.
pub(super) fn media_type(value: String) -> Result<String, Error> {
    let token = |part: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))
    };
    let (essence, parameters) = value.split_once(';').unwrap_or((&value, ""));
    let valid = essence.trim().split_once('/').is_some_and(|(kind, subtype)| token(kind) && token(subtype));
    if valid && parameters.chars().all(|c| c == ' ' || c.is_ascii_graphic()) {
        return Ok(value);
    }
    Err(Error::attribute_of("datacontenttype", format!("is {value:?}, which is no media type")))
}
