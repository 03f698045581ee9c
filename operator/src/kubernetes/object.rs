//! Objects as they are kept: pruned to what the operator needs, specs and statuses as compact text.

use std::{collections::BTreeMap, sync::Arc};

use kontrol_core::{id::shared, time::Timestamp};
use litemap::LiteMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};

use super::{kind::Kind, text::Text, time};

/// Namespace and name. Objects without a namespace have an empty one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The namespace.
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

impl Key {
    /// The key of these.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: shared(namespace), name: shared(name) }
    }
}

impl Key {
    /// What is only looked up, or looked from: it need not be the name of anything.
    pub fn bound(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What every object says of itself, as far as it is needed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Flat", into = "Flat")]
pub struct Meta {
    /// Tells this object from another of its name.
    pub uid: Arc<str>,
    /// Its version; versions of one kind are comparable.
    pub version: u64,
    /// The generation of its spec.
    pub generation: i64,
    /// The object that controls it: kind, name and uid.
    pub controller: Option<Box<Owner>>,
    /// None: nothing of it.
    rare: Option<Box<Rare>>,
}

/// What most objects do not say of themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Rare {
    deleting: Option<Timestamp>,
    finalizers: Box<[Box<str>]>,
    annotations: LiteMap<Box<str>, Box<str>>,
}

/// The same as text.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Flat {
    uid: Arc<str>,
    version: u64,
    #[serde(skip_serializing_if = "is_default")]
    generation: i64,
    #[serde(skip_serializing_if = "is_default")]
    deleting: Option<Timestamp>,
    #[serde(skip_serializing_if = "is_default")]
    finalizers: Box<[Box<str>]>,
    #[serde(skip_serializing_if = "is_default")]
    controller: Option<Box<Owner>>,
    #[serde(skip_serializing_if = "is_default")]
    annotations: LiteMap<Box<str>, Box<str>>,
}

impl From<Flat> for Meta {
    fn from(flat: Flat) -> Self {
        let Flat { uid, version, generation, deleting, finalizers, controller, annotations } = flat;
        let rare = Rare { deleting, finalizers, annotations };
        let rare = (rare != Rare::default()).then(|| Box::new(rare));
        Self { uid, version, generation, controller, rare }
    }
}

impl From<Meta> for Flat {
    fn from(meta: Meta) -> Self {
        let Meta { uid, version, generation, controller, rare } = meta;
        let Rare { deleting, finalizers, annotations } = rare.map_or_else(Rare::default, |rare| *rare);
        Self { uid, version, generation, deleting, finalizers, controller, annotations }
    }
}

/// A controlling owner. It has many objects, so its texts are shared among them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Its kind.
    pub kind: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Its uid.
    pub uid: Arc<str>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Meta {
    /// When its removal was asked for.
    pub fn deleting(&self) -> Option<Timestamp> {
        self.rare.as_ref()?.deleting
    }

    /// Whether our finalizer is on it.
    pub fn has_finalizer(&self) -> bool {
        self.finalizers().any(|finalizer| finalizer == FINALIZER)
    }

    /// All its finalizers.
    pub fn finalizers(&self) -> impl Iterator<Item = &str> {
        self.rare.iter().flat_map(|rare| &rare.finalizers).map(AsRef::as_ref)
    }

    /// One of our annotations, by what follows `kontrol.dev/`.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.rare.as_ref()?.annotations.get(name).map(AsRef::as_ref)
    }
}

/// The finalizer of objects whose pods are stopped in order before they go.
pub const FINALIZER: &str = "kontrol.dev/drain";
/// What our labels and annotations begin with.
pub const PREFIX: &str = "kontrol.dev/";

/// Metadata as the API server writes it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct RawMeta {
    pub(super) name: String,
    pub(super) namespace: String,
    uid: String,
    resource_version: String,
    generation: i64,
    deletion_timestamp: Option<String>,
    pub(super) creation_timestamp: Option<String>,
    finalizers: Vec<String>,
    owner_references: Vec<RawOwner>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) labels: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawOwner {
    api_version: String,
    kind: String,
    name: String,
    uid: String,
    controller: bool,
}

impl RawMeta {
    pub(super) fn key(&self) -> Key {
        Key::new(&self.namespace, &self.name)
    }

    fn owner(&self) -> Option<&RawOwner> {
        self.owner_references.iter().find(|owner| owner.controller)
    }

    /// Whether its controller is an object of ours, of this kind and with such a name.
    pub(super) fn is_controlled_by(&self, kind: Kind, named: impl FnOnce(&str) -> bool) -> bool {
        self.owner().is_some_and(|owner| {
            owner.api_version.starts_with(PREFIX) && owner.kind == kind.as_str() && named(&owner.name)
        })
    }

    pub(super) fn meta(&self) -> Meta {
        let owner = self.owner();
        let ours = self
            .annotations
            .iter()
            .filter_map(|(name, value)| Some((name.strip_prefix(PREFIX)?.into(), value.as_str().into())));
        Meta::from(Flat {
            uid: self.uid.as_str().into(),
            version: self.resource_version.parse().unwrap_or(0),
            generation: self.generation,
            deleting: self.deletion_timestamp.as_deref().and_then(time::parse),
            finalizers: self.finalizers.iter().map(|finalizer| finalizer.as_str().into()).collect(),
            controller: owner.map(|owner| {
                Box::new(Owner {
                    kind: shared(&owner.kind),
                    name: shared(&owner.name),
                    uid: shared(&owner.uid),
                })
            }),
            annotations: ours.collect(),
        })
    }
}

/// An object of `kontrol.dev`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// What it says of itself.
    pub meta: Meta,
    /// Its spec, as JSON.
    pub spec: Text,
    /// The last spec that could be read, where this one cannot.
    pub good: Option<Box<Text>>,
    /// Its status without the plan's, as JSON; empty: none.
    pub status: Text,
    /// The plan's status; empty: none.
    pub supervision: Text,
}

impl Own {
    /// The last spec that could be read.
    pub fn readable(&self) -> &Text {
        self.good.as_deref().unwrap_or(&self.spec)
    }

    /// Reads one.
    pub fn read(text: &str) -> Result<(Key, Self), serde_json::Error> {
        #[derive(Deserialize)]
        struct Raw<'a> {
            #[serde(default)]
            metadata: RawMeta,
            #[serde(borrow)]
            spec: Option<&'a RawValue>,
            #[serde(default)]
            status: Option<Map<String, Value>>,
        }
        let raw: Raw<'_> = serde_json::from_str(text)?;
        let mut status = raw.status.unwrap_or_default();
        let supervision = match status.remove("supervision") {
            Some(Value::Object(mut supervision)) => match supervision.remove("plan") {
                Some(Value::String(text)) => Text::new(&text),
                _ => Text::default(),
            },
            _ => Text::default(),
        };
        let status =
            if status.is_empty() { Text::default() } else { Text::new(&Value::Object(status).to_string()) };
        let spec = Text::new(raw.spec.map_or("{}", RawValue::get));
        let mut meta = raw.metadata.meta();
        // What it owns names it by this.
        meta.uid = shared(&meta.uid);
        Ok((raw.metadata.key(), Self { meta, spec, good: None, status, supervision }))
    }
}

/// Any object of which only the metadata is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Owned {
    /// What it says of itself.
    pub meta: Meta,
    /// Its label `kontrol.dev/widget-object`, or nothing.
    #[serde(skip_serializing_if = "is_default")]
    pub of: Box<str>,
    /// Its label `kontrol.dev/bus`, or nothing.
    #[serde(skip_serializing_if = "is_default")]
    pub bus: Box<str>,
}

impl Owned {
    /// Reads one.
    pub fn read(text: &str) -> Result<(Key, Self), serde_json::Error> {
        #[derive(Deserialize)]
        struct Raw {
            #[serde(default)]
            metadata: RawMeta,
        }
        let Raw { metadata } = serde_json::from_str(text)?;
        let label = |name: &str| metadata.labels.get(name).map_or("", String::as_str).into();
        let (of, bus) = (label("kontrol.dev/widget-object"), label("kontrol.dev/bus"));
        Ok((metadata.key(), Self { meta: metadata.meta(), of, bus }))
    }

    /// Reads one that no watch of ours shows; none: it has the labels of ours.
    pub fn foreign(text: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Raw {
            #[serde(default)]
            metadata: RawMeta,
        }
        let Raw { metadata } = serde_json::from_str(text).ok()?;
        let ours = metadata.labels.contains_key("kontrol.dev/widget");
        (!ours).then(|| Self { meta: metadata.meta(), ..Self::default() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option, prelude::*};

    use super::*;

    #[test]
    fn an_object_keeps_its_spec_as_text_and_its_plan_apart() {
        let text = r#"{"status":{"supervision":{"plan":"{}"},"restarts":2},"metadata":{"name":"rag","namespace":"default","uid":"u",
            "resourceVersion":"42","generation":3,"annotations":{"kontrol.dev/restart-requested-at":"x","other":"y"},
            "ownerReferences":[{"kind":"WidgetGroup","name":"g","uid":"o","controller":true}]},"spec":{"b":1,"a":"2"}}"#;
        let (key, own) = Own::read(text).unwrap();
        assert_eq!(key.to_string(), "default/rag");
        assert_eq!(
            (&*own.spec.read(), &*own.status.read(), &*own.supervision.read()),
            (r#"{"b":1,"a":"2"}"#, r#"{"restarts":2}"#, "{}")
        );
        assert_eq!((own.meta.version, own.meta.generation), (42, 3));
        assert_eq!(own.meta.annotation("restart-requested-at"), Some("x"));
        assert_eq!(own.meta.controller.as_ref().map(|owner| &*owner.name), Some("g"));
    }

    fn text() -> impl Strategy<Value = Box<str>> {
        ".{0,12}".prop_map(Into::into)
    }

    proptest! {
        #[test]
        fn what_is_written_of_an_object_is_read_back(
            (uid, version, generation, deleting) in (text(), any::<u64>(), any::<i64>(), any::<Option<u32>>()),
            finalizers in vec(text(), 0..3),
            owner in option::of((text(), text(), text())),
            annotations in vec((text(), text()), 0..3),
            (of, bus) in (text(), text()),
        ) {
            let owner = owner.map(|(kind, name, uid)| {
                Box::new(Owner { kind: shared(&kind), name: shared(&name), uid: shared(&uid) })
            });
            let meta = Meta::from(Flat {
                uid: uid.into(), version, generation, finalizers: finalizers.into(), controller: owner,
                deleting: deleting.map(|at| Timestamp::from_micros(at.into())),
                annotations: annotations.into_iter().collect(),
            });
            let owned = Owned { meta, of, bus };
            let text = serde_json::to_string(&owned).unwrap();
            prop_assert_eq!(serde_json::from_str::<Owned>(&text).unwrap(), owned);
        }
    }

    #[test]
    fn an_object_without_a_status_or_with_a_strange_one_is_read_all_the_same() {
        let (_, own) =
            Own::read(r#"{"metadata":{"name":"a"},"spec":{},"status":{"supervision":7}}"#).unwrap();
        assert!(own.status.is_empty() && own.supervision.is_empty());
        assert!(Own::read("[]").is_err());
    }
}
