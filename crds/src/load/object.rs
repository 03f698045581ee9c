//! One document: which kind it is, whether it has that kind's fields, and its conversion.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::LazyLock,
};

use kontrol_core::{
    code::Code,
    id::{DEFAULT_NAMESPACE, Name, ObjectId},
    spec,
};
use serde_json::Value;

use super::{Entry, Object, whole};
use crate::{
    Problem, Source, api, check,
    convert::{self, DeclaredSupervisor, Runtime},
    fault::{Fault, Faults},
    generated, manifest,
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
            let definitions = generated::definitions();
            let schema = |kind: Kind| {
                let is = |definition: &&Value| definition["spec"]["names"]["kind"] == kind.as_str();
                let definition = definitions.iter().find(is).unwrap_or(&Value::Null);
                (kind, definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone())
            };
            Kind::ALL.into_iter().map(schema).collect()
        });
        SCHEMAS.get(&self).unwrap_or(&Value::Null)
    }

    fn convert(self, value: Value, runtime: Runtime) -> Result<Object, Refused> {
        fn typed<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, Refused> {
            serde_json::from_value(value)
                .map_err(|error| Refused::Unreadable(format!("cannot be read: {error}")))
        }
        Ok(match self {
            Self::Widget => Object::Group(convert::lone_widget(&typed(value)?, runtime)?),
            Self::WidgetGroup => Object::Group(convert::group(&typed(value)?, runtime)?),
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
pub(super) fn read(
    source: &Source,
    node: Node,
    runtime: Runtime,
    problems: &mut Vec<Problem>,
) -> Option<Entry> {
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
    let (mut faults, object) = examine(kind, &node, runtime);
    let metadata = node.get("metadata").filter(|metadata| !metadata.is_null());
    let field = |field| metadata.and_then(|metadata| metadata.get(field)).filter(|value| !value.is_null());
    let mut name_of = |field_name: &'static str, default: Option<&str>| {
        let path = format!("metadata.{field_name}");
        let Some(value) = field(field_name) else {
            if default.is_none() {
                let message = format!("this {} needs a name, such as metadata: {{name: rag}}", kind.as_str());
                say(&path, Code::MissingField, message);
            }
            return default.and_then(|default| Name::new(default).ok());
        };
        let Some(text) = value.text() else {
            for fault in check::check(value, &serde_json::json!({"type": "string"}), &path, true) {
                say(&fault.path, fault.code, fault.message);
            }
            return None;
        };
        Name::new(text).map_err(|error| say(&path, Code::InvalidName, error.to_string())).ok()
    };
    let namespace = name_of("namespace", Some(DEFAULT_NAMESPACE));
    let name = name_of("name", None);
    let (Some(namespace), Some(name)) = (namespace, name) else {
        faults.retain(|fault| !["metadata.name", "metadata.namespace"].contains(&fault.path.as_str()));
        for fault in faults {
            say(&fault.path, fault.code, fault.message);
        }
        return None;
    };
    let object = object.map(|object| located(object, source));
    let entry = Entry { file: source.name.clone(), node, kind, id: ObjectId { namespace, name }, object };
    problems.extend(faults.into_iter().map(|fault| entry.problem(&fault.path, fault.code, fault.message)));
    Some(entry)
}

/// All that is wrong within a document, and the object that it is where nothing is.
fn examine(kind: Kind, node: &Node, runtime: Runtime) -> (Vec<Fault>, Option<Object>) {
    let schema = &kind.schema()["properties"]["spec"];
    let mut faults = check_root(node);
    faults.extend(check_metadata(node));
    let Some(spec) = node.get("spec").filter(|spec| !spec.is_null()) else {
        faults.push(Fault {
            path: "spec".to_owned(),
            code: Code::MissingField,
            message: "is missing; where every default fits, write spec: {}".to_owned(),
        });
        return (faults, None);
    };
    faults.extend(check::check(spec, schema, "spec", false));
    match kind.convert(value(node), runtime) {
        Ok(object) if faults.is_empty() => return (faults, Some(object)),
        Ok(_) => {}
        Err(Refused::Faults(Faults(found))) => {
            let known: BTreeSet<String> = faults.iter().map(|fault| fault.path.clone()).collect();
            faults.extend(found.into_iter().filter(|fault| !known.contains(&fault.path)));
        }
        Err(Refused::Unreadable(message)) => {
            let formats = check::check(spec, schema, "spec", true);
            faults.retain(|fault| !formats.contains(fault));
            faults.extend(formats);
            if faults.is_empty() {
                faults.push(Fault { path: String::new(), code: Code::InvalidValue, message });
            }
        }
    }
    (faults, None)
}

/// Why a document is no object of its kind.
enum Refused {
    /// Its values have not the types of its kind's fields.
    Unreadable(String),
    Faults(Faults),
}

impl From<Faults> for Refused {
    fn from(faults: Faults) -> Self {
        Self::Faults(faults)
    }
}

fn kind(node: &Node, say: &mut impl FnMut(&str, Code, String)) -> Option<Kind> {
    let known = Kind::ALL.map(Kind::as_str);
    let version = node.get("apiVersion").and_then(Node::text);
    let name = node.get("kind").and_then(Node::text);
    match version {
        Some(api::API_VERSION) => {}
        None => say(
            "apiVersion",
            Code::MissingField,
            format!("is missing; write apiVersion: {}", api::API_VERSION),
        ),
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
        None => say(
            "kind",
            Code::MissingField,
            format!("is missing; write the kind of the object: {}", list(&known)),
        ),
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
        let mut metadata = object.remove("metadata").unwrap_or_default();
        match metadata.as_object_mut() {
            Some(fields) => {
                fields.retain(|field, value| (field == "name" || field == "namespace") && value.is_string());
            }
            None => metadata = serde_json::json!({}),
        }
        object.insert("metadata".to_owned(), metadata);
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
