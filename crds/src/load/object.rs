//! One document: which kind it is, whether it has that kind's fields, and its conversion.

use std::{collections::BTreeMap, path::Path, sync::LazyLock};

use kontrol_core::{
    code::Code,
    id::{Name, ObjectId},
    spec,
};
use kube::CustomResourceExt;
use serde_json::Value;

use super::{Entry, Object, whole};
use crate::{
    Problem, Source, api, check,
    convert::{DEFAULT_NAMESPACE, DeclaredSupervisor},
    fault::{Fault, Faults},
    manifest,
    nearest::{hint, list},
    yaml::{self, Node},
};

/// The kinds of `kontrol.dev/v1alpha1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Widget,
    WidgetGroup,
    Supervisor,
    MessageBus,
    Topic,
    Route,
}

impl Kind {
    const ALL: [Self; 6] =
        [Self::Widget, Self::WidgetGroup, Self::Supervisor, Self::MessageBus, Self::Topic, Self::Route];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Widget => "Widget",
            Self::WidgetGroup => "WidgetGroup",
            Self::Supervisor => "Supervisor",
            Self::MessageBus => "MessageBus",
            Self::Topic => "Topic",
            Self::Route => "Route",
        }
    }

    fn schema(self) -> &'static Value {
        static SCHEMAS: LazyLock<BTreeMap<Kind, Value>> = LazyLock::new(|| {
            let crds = [
                (Kind::Widget, api::Widget::crd()),
                (Kind::WidgetGroup, api::WidgetGroup::crd()),
                (Kind::Supervisor, api::Supervisor::crd()),
                (Kind::MessageBus, api::MessageBus::crd()),
                (Kind::Topic, api::Topic::crd()),
                (Kind::Route, api::Route::crd()),
            ];
            let schema = |crd| {
                let crd = serde_json::to_value(crd).unwrap_or_default();
                crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
            };
            crds.into_iter().map(|(kind, crd)| (kind, schema(crd))).collect()
        });
        SCHEMAS.get(&self).unwrap_or(&Value::Null)
    }

    fn convert(self, value: Value) -> Result<Object, Faults> {
        fn typed<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, Faults> {
            serde_json::from_value(value).map_err(|error| {
                let message = format!("cannot be read: {error}");
                Faults(vec![Fault { path: String::new(), code: Code::InvalidValue, message }])
            })
        }
        Ok(match self {
            Self::Widget => Object::Group(spec::Group::try_from(&typed::<api::Widget>(value)?)?),
            Self::WidgetGroup => Object::Group(spec::Group::try_from(&typed::<api::WidgetGroup>(value)?)?),
            Self::Supervisor => {
                Object::Supervisor(DeclaredSupervisor::try_from(&typed::<api::Supervisor>(value)?)?)
            }
            Self::MessageBus => Object::Bus(spec::Bus::try_from(&typed::<api::MessageBus>(value)?)?),
            Self::Topic => Object::Topic(spec::Topic::try_from(&typed::<api::Topic>(value)?)?),
            Self::Route => Object::Route(spec::Route::try_from(&typed::<api::Route>(value)?)?),
        })
    }
}

/// Fields of `metadata` that a manifest may have. What the API server fills in is allowed, so that its answers can be read again.
const METADATA: [&str; 15] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Reads one document. None where it has not said which object it is: then nothing can be said about what refers to it.
pub(super) fn read(source: &Source, node: Node, problems: &mut Vec<Problem>) -> Option<Entry> {
    let mut say = |path: &str, code, message: String| {
        let path = path.to_owned();
        problems.push(Problem {
            path: path.clone(),
            ..whole(&source.name, Some(node.line_of(&path)), code, message)
        });
    };
    if !matches!(node.kind, yaml::Kind::Map(_)) {
        let message =
            "expected an object with apiVersion, kind, metadata and spec; found something else".to_owned();
        say("", Code::InvalidValue, message);
        return None;
    }
    let kind = kind(&node, &mut say)?;
    let metadata = node.get("metadata").filter(|metadata| !metadata.is_null());
    let field = |field| metadata.and_then(|metadata| metadata.get(field)).filter(|value| !value.is_null());
    for field_name in ["name", "namespace"] {
        if let Some(value) = field(field_name).filter(|value| value.text().is_none()) {
            let path = format!("metadata.{field_name}");
            for fault in check::check(value, &serde_json::json!({"type": "string"}), &path) {
                say(&fault.path, fault.code, fault.message);
            }
            return None;
        }
    }
    let text = |name| field(name).and_then(Node::text);
    let Some(name) = text("name") else {
        let message = format!("this {} needs a name, such as metadata: {{name: rag}}", kind.as_str());
        say("metadata.name", Code::MissingField, message);
        return None;
    };
    let mut read_name = |field: &str, text| {
        Name::new(text)
            .map_err(|error| say(&format!("metadata.{field}"), Code::InvalidName, error.to_string()))
            .ok()
    };
    let namespace = read_name("namespace", text("namespace").unwrap_or(DEFAULT_NAMESPACE));
    let id = ObjectId { name: read_name("name", name)?, namespace: namespace? };
    let mut entry = Entry { file: source.name.clone(), node, kind, id, object: None };

    let mut faults = check_metadata(&entry.node);
    for root in ["apiVersion", "kind", "metadata"] {
        faults.retain(|fault: &Fault| fault.path != root);
    }
    faults.extend(check_root(&entry.node));
    match entry.node.get("spec").filter(|spec| !spec.is_null()) {
        Some(spec) => faults.extend(check::check(spec, &kind.schema()["properties"]["spec"], "spec")),
        None => faults.push(Fault {
            path: "spec".to_owned(),
            code: Code::MissingField,
            message: "is missing; where every default fits, write spec: {}".to_owned(),
        }),
    }
    if faults.is_empty() {
        match kind.convert(value(&entry.node)) {
            Ok(object) => entry.object = Some(located(object, source)),
            Err(Faults(found)) => faults = found,
        }
    }
    problems.extend(faults.into_iter().map(|fault| entry.problem(&fault.path, fault.code, fault.message)));
    Some(entry)
}

fn kind(node: &Node, say: &mut impl FnMut(&str, Code, String)) -> Option<Kind> {
    let known = Kind::ALL.map(Kind::as_str);
    let version = node.get("apiVersion").and_then(Node::text);
    let name = node.get("kind").and_then(Node::text);
    match version {
        Some(api::API_VERSION) => {}
        None => say("apiVersion", Code::MissingField, format!("write apiVersion: {}", api::API_VERSION)),
        Some(other) => {
            let (group, version) = other.split_once('/').unwrap_or(("", other));
            let message = if group == api::GROUP {
                format!(
                    "this Kontrol knows {}, not {version}; upgrade Kontrol, or write the manifest for {}",
                    api::API_VERSION,
                    api::VERSION
                )
            } else {
                format!("{other:?} is not Kontrol's; this Kontrol knows {}", api::API_VERSION)
            };
            say("apiVersion", Code::UnsupportedVersion, message);
        }
    }
    let kind = name.and_then(|name| Kind::ALL.into_iter().find(|kind| kind.as_str() == name));
    let ours = version == Some(api::API_VERSION);
    match name {
        None => say("kind", Code::MissingField, format!("write the kind of the object: {}", list(&known))),
        Some(name) if kind.is_none() && ours => {
            let meant =
                hint(name, &known).map(|meant| format!("; did you mean {meant}?")).unwrap_or_default();
            say(
                "kind",
                Code::UnknownKind,
                format!("there is no kind {name:?}; the kinds are {}{meant}", list(&known)),
            );
        }
        Some(_) => {}
    }
    kind.filter(|_| ours)
}

fn check_root(node: &Node) -> Vec<Fault> {
    let known = ["apiVersion", "kind", "metadata", "spec", "status"];
    unknown(node, &known, "")
}

fn check_metadata(node: &Node) -> Vec<Fault> {
    node.get("metadata").map(|metadata| unknown(metadata, &METADATA, "metadata.")).unwrap_or_default()
}

fn unknown(node: &Node, known: &[&str], prefix: &str) -> Vec<Fault> {
    let yaml::Kind::Map(entries) = &node.kind else { return Vec::new() };
    let strangers = entries.iter().filter(|(name, ..)| !known.contains(&name.as_str()));
    strangers
        .map(|(name, ..)| {
            let message = match hint(name, known) {
                Some(meant) => format!("there is no such field; did you mean {meant}?"),
                None if prefix.is_empty() => {
                    format!("there is no such field; the fields here are {}", list(known))
                }
                None => "there is no such field; write name, namespace, labels or annotations".to_owned(),
            };
            Fault { path: format!("{prefix}{name}"), code: Code::UnknownField, message }
        })
        .collect()
}

/// The object as the API types read it: of its metadata only what they use, and no status.
fn value(node: &Node) -> Value {
    let mut value = node.to_json();
    if let Some(object) = value.as_object_mut() {
        object.remove("status");
        let metadata = object.get_mut("metadata").and_then(Value::as_object_mut);
        if let Some(metadata) = metadata {
            metadata.retain(|field, _| field == "name" || field == "namespace");
        }
    }
    value
}

/// The folders of processes are those of their manifest, or start there.
fn located(mut object: Object, source: &Source) -> Object {
    let folder = match source.name.as_str() {
        manifest::STDIN => Path::new(""),
        name => Path::new(name).parent().unwrap_or(Path::new("")),
    };
    if let Object::Group(group) = &mut object {
        for process in group.widgets.iter_mut().filter_map(|widget| widget.process.as_mut()) {
            let own = process.working_dir.take().unwrap_or_default();
            let joined = folder.join(own);
            process.working_dir = Some(if joined.as_os_str().is_empty() { ".".into() } else { joined });
        }
    }
    object
}
