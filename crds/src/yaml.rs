//! YAML with the line of each value. The only module that knows the YAML library.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;
use serde_saphyr::{Spanned, UserMessageFormatter};

/// Levels of nesting that a manifest may have; the schemas need half of them. Each costs stack.
const DEPTH: usize = 24;

/// A value and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    /// From 1.
    pub(crate) line: u64,
    pub(crate) kind: Kind,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// Null, a boolean, a number or a text.
    Scalar(Value),
    List(Vec<Node>),
    /// Keys in the order of the text, each with its line.
    Map(Vec<(String, u64, Node)>),
}

impl Node {
    /// The value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        match &self.kind {
            Kind::Map(entries) => entries.iter().find(|(name, ..)| name == key).map(|(.., node)| node),
            _ => None,
        }
    }

    /// The text that this is.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self.kind, Kind::Scalar(Value::Null))
    }

    /// The line of a path such as `spec.widgets[1].name`: of its key, or of the nearest value around it that is there.
    pub(crate) fn line_of(&self, path: &str) -> u64 {
        let mut here = self;
        let mut line = self.line;
        for part in path.split(['.', '[']).filter(|part| !part.is_empty()) {
            let next = match (&here.kind, part.strip_suffix(']')) {
                (Kind::List(items), Some(index)) => {
                    index.parse().ok().and_then(|index: usize| items.get(index)).map(|item| (item.line, item))
                }
                (Kind::Map(entries), None) => {
                    entries.iter().find(|(name, ..)| name == part).map(|(_, line, node)| (*line, node))
                }
                _ => None,
            };
            let Some((at, node)) = next else { break };
            (line, here) = (at, node);
        }
        line
    }

    /// The value without its places; keys whose value is null are left out, as the API server does where a default stands in.
    pub(crate) fn to_json(&self) -> Value {
        match &self.kind {
            Kind::Scalar(value) => value.clone(),
            Kind::List(items) => items.iter().map(Self::to_json).collect(),
            Kind::Map(entries) => {
                let given = entries.iter().filter(|(.., node)| !node.is_null());
                Value::Object(given.map(|(name, _, node)| (name.clone(), node.to_json())).collect())
            }
        }
    }
}

/// Why a text is no YAML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Error {
    /// From 1.
    pub(crate) line: u64,
    /// In characters, from 1.
    pub(crate) column: u64,
    pub(crate) message: String,
}

/// Reads all documents of a text; empty ones are left out.
pub(crate) fn documents(text: &str) -> Result<Vec<Node>, Error> {
    let budget = serde_saphyr::budget! { max_depth: DEPTH };
    let options = serde_saphyr::options! { budget: budget, with_snippet: false };
    let documents: Result<Vec<Node>, _> = serde_saphyr::from_multiple_with_options(text, options);
    documents.map(|documents| documents.into_iter().filter(|node| !node.is_null()).collect()).map_err(
        |error| {
            let location = error.location();
            let rendered = error.render_with_formatter(&UserMessageFormatter);
            let mut message = rendered
                .rsplit_once(" at line ")
                .map_or(rendered.as_str(), |(message, _)| message)
                .to_owned();
            if message.starts_with("tabs disallowed") {
                message.push_str("; indent with spaces");
            }
            Error {
                line: location.map_or(1, |at| at.line()),
                column: location.map_or(1, |at| at.column()),
                message,
            }
        },
    )
}

/// Writes a value as YAML.
pub(crate) fn write(value: &Value) -> Result<String, serde_saphyr::SerializeError> {
    serde_saphyr::to_string(value)
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Kind>::deserialize(deserializer)?;
        Ok(Self { line: spanned.referenced.line(), kind: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KindVisitor)
    }
}

struct KindVisitor;

impl<'de> Visitor<'de> for KindVisitor {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Kind, E> {
        Ok(Kind::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Kind, D::Error> {
        deserializer.deserialize_any(Self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Kind, E> {
        Ok(Kind::Scalar(
            serde_json::Number::from_f64(value).map_or_else(|| value.to_string().into(), Value::Number),
        ))
    }

    fn visit_str<E>(self, value: &str) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Kind, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Kind::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Kind, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, node)) = access.next_entry::<Spanned<String>, Node>()? {
            entries.push((key.value, key.referenced.line(), node));
        }
        Ok(Kind::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_its_line() {
        let text = "a: 1\nb:\n  - c: x\n    d: [1,\n      2]\n---\n\ne: y\n";
        let documents = documents(text).unwrap();
        let lines = ["a", "b", "b[0]", "b[0].c", "b[0].d", "b[0].d[1]", "b[1].c", "z"];
        assert_eq!(lines.map(|path| documents[0].line_of(path)), [1, 2, 3, 3, 4, 5, 2, 1]);
        assert_eq!(documents[1].line_of("e"), 8);
    }

    #[test]
    fn what_is_no_yaml_is_said_with_its_place() {
        let said = |text| documents(text).map_err(|error| (error.line, error.column, error.message));
        for (text, line, column, message) in [
            ("a: 1\n b: 2\n", 2, 3, "mapping values are not allowed in this context"),
            (
                "a:\n\tb: 1\n",
                2,
                2,
                "tabs disallowed within this context (block indentation); indent with spaces",
            ),
            ("- a\nb: 1\n", 2, 1, "while parsing a block collection, did not find expected '-' indicator"),
            ("a: 1\na: 2\n", 2, 1, "duplicate mapping key `a` is not allowed here"),
        ] {
            assert_eq!(said(text), Err((line, column, message.to_owned())), "{text:?}");
        }
    }

    #[test]
    fn deep_nesting_and_endless_aliases_are_refused() {
        assert!(documents(&"[".repeat(10_000)).is_err());
        assert!(documents(&format!("{}{}", "[".repeat(100), "]".repeat(100))).is_err());
        let level = |n: u32| format!("a{n}: &a{n} [{}]", format!("*a{},", n - 1).repeat(9));
        let bomb = (1..12).map(level).collect::<Vec<_>>().join("\n");
        assert!(documents(&format!("a0: &a0 x\n{bomb}")).is_err());
    }
}
