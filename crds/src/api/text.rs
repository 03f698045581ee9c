//! Durations, sizes and amounts as people write them. They are parsed by the conversions, which say what is wrong with one.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// An RFC 1123 label.
pub(crate) const LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// One to three labels.
pub(crate) const ADDRESS: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?(/[a-z0-9]([-a-z0-9]*[a-z0-9])?){0,2}$";
/// A path of an HTTP endpoint.
pub(crate) const PATH: &str = "^/[^ ]*$";
/// A variable of the environment.
pub(crate) const VARIABLE: &str = "^[A-Za-z_][A-Za-z0-9_]*$";
/// A duration.
pub(crate) const DURATION: &str = "^([0-9]+(us|ms|s|m|h|d))+$";
/// A size in bytes.
pub(crate) const SIZE: &str = "^[0-9]+(Ki|Mi|Gi|Ti|k|M|G|T)?$";
/// An amount of load.
pub(crate) const AMOUNT: &str = "^[0-9]+([.][0-9]{1,3})?$";

/// The schema of a map from names to texts of at most `LONGEST` characters.
pub(crate) fn texts<const LONGEST: u32>(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "additionalProperties": {"type": "string", "maxLength": LONGEST},
        "maxProperties": 32,
    })
}

/// A duration: whole numbers with the units `us`, `ms`, `s`, `m`, `h` and `d`, added up, such as `1h30m`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Duration(pub String);

impl From<&str> for Duration {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": DURATION, "maxLength": 32})
    }
}

/// A number of bytes: a whole number, or one with a unit, such as `64Mi`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Size {
    /// Bytes.
    Bytes(u64),
    /// A number with one of the units `Ki`, `Mi`, `Gi`, `Ti` (powers of 1024) and `k`, `M`, `G`, `T` (powers of 1000), or none.
    Text(String),
}

impl From<&str> for Size {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl JsonSchema for Size {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "pattern": SIZE,
            "minimum": 0,
            "maxLength": 32,
        })
    }
}

/// An amount that one replica should bear: a whole number, or a text with up to three decimals, such as `"0.5"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Amount {
    /// A whole number.
    Whole(u64),
    /// A number with decimals.
    Text(String),
}

impl From<u64> for Amount {
    fn from(number: u64) -> Self {
        Self::Whole(number)
    }
}

impl JsonSchema for Amount {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Amount".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "pattern": AMOUNT,
            "minimum": 0,
            "maxLength": 32,
        })
    }
}
