//! What an expression sees of a message.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, LazyLock},
};

use cel::{
    Context, Env, Value,
    objects::{Key, Map},
};

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// A message, as routes see it: a borrowed `CloudEvent`.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// The event's id.
    pub id: &'a str,
    /// Who made it.
    pub source: &'a str,
    /// What happened.
    pub r#type: &'a str,
    /// What it happened to.
    pub subject: Option<&'a str>,
    /// When, in microseconds since the Unix epoch.
    pub time_micros: Option<i64>,
    /// The media type of `data`.
    pub datacontenttype: Option<&'a str>,
    /// Where the schema of `data` is.
    pub dataschema: Option<&'a str>,
    /// Extension attributes.
    pub extensions: &'a BTreeMap<String, String>,
    /// The payload.
    pub data: &'a [u8],
}

impl Event<'_> {
    /// `application/json`, `text/json` or any media type with the suffix `+json`, whatever its parameters.
    fn is_json(&self) -> bool {
        let media = self.datacontenttype.and_then(|text| text.split(';').next()).unwrap_or("").trim();
        let Some((_, subtype)) = media.split_once('/') else { return false };
        subtype.eq_ignore_ascii_case("json")
            || subtype.rsplit_once('+').is_some_and(|(_, suffix)| suffix.eq_ignore_ascii_case("json"))
    }
}

/// The variables of one message.
pub(super) struct Scope(pub(super) Context<'static, 'static>);

impl Scope {
    pub(super) fn new(topic: &str, event: &Event<'_>, with_data: bool) -> Self {
        let mut members: HashMap<Key, Value> = HashMap::new();
        let mut set = |name: &str, value: Value| members.insert(key(name), value);
        for (name, value) in event.extensions {
            set(name, text(value));
        }
        let optional = [
            ("subject", event.subject),
            ("datacontenttype", event.datacontenttype),
            ("dataschema", event.dataschema),
        ];
        for (name, value) in optional.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            set(name, text(value));
        }
        for (name, value) in [("id", event.id), ("source", event.source), ("type", event.r#type)] {
            set(name, text(value));
        }
        if let Some(micros) = event.time_micros {
            set("time", Value::Int(micros));
        }
        if with_data
            && event.is_json()
            && let Ok(data) = serde_json::from_slice(event.data)
        {
            set("data", json(data));
        }
        let mut context = Context::with_env(ENV.clone());
        context.add_variable_from_value("topic", text(topic));
        context.add_variable_from_value("event", map(members));
        Self(context)
    }
}

fn key(name: &str) -> Key {
    Key::String(Arc::new(name.to_owned()))
}

fn text(text: &str) -> Value {
    Value::String(Arc::new(text.to_owned()))
}

fn map(members: HashMap<Key, Value>) -> Value {
    Value::Map(Map { map: Arc::new(members) })
}

/// JSON as CEL values. The depth is bounded by the parser's (128).
fn json(value: serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(value) => Value::Bool(value),
        serde_json::Value::Number(number) => {
            number.as_i64().map_or_else(|| Value::Float(number.as_f64().unwrap_or(f64::NAN)), Value::Int)
        }
        serde_json::Value::String(value) => Value::String(Arc::new(value)),
        serde_json::Value::Array(values) => Value::List(Arc::new(values.into_iter().map(json).collect())),
        serde_json::Value::Object(members) => {
            map(members.into_iter().map(|(name, value)| (Key::String(Arc::new(name)), json(value))).collect())
        }
    }
}
