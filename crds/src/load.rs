//! Manifests into a world: read, held against the schema, converted, and checked against each other.
//!
//! ```text
//!   Source ──yaml──► Node ──read──► Object ──convert──► Entry ──references, trees──► World
//!             │               │                │                      │
//!             └───────────────┴────────────────┴──────────────────────┴──────► Problems, all of them
//! ```
//!
//! Where a text could not be read at all, nothing is said about references: what they name may stand in that text.

use kontrol_core::{
    code::Code,
    id::{Name, ObjectId},
    spec,
};

pub use declared::Declared;

use crate::{
    Problem, Source,
    convert::{DeclaredSupervisor, Runtime},
    yaml,
};

mod cycle;
mod declared;
mod named;
mod object;
mod references;
mod trees;

/// Everything that manifests declare, valid and checked against each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct World {
    /// The trees of supervision, their roots in the order of the manifests. A widget outside any group is the only widget of a group
    /// of its own name.
    pub trees: Vec<spec::Node>,
    /// The buses; the one named `default` of each namespace that has topics on it is always there.
    pub buses: Vec<spec::Bus>,
    /// The topics.
    pub topics: Vec<spec::Topic>,
    /// The routes.
    pub routes: Vec<spec::Route>,
}

/// Reads manifests for the local world. All that is wrong is said at once, in the order of the sources and their lines.
pub fn load(sources: &[Source]) -> Result<World, Vec<Problem>> {
    load_for(sources, Runtime::Local)
}

/// Reads manifests for a world. All that is wrong is said at once, in the order of the sources and their lines.
pub fn load_for(sources: &[Source], runtime: Runtime) -> Result<World, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut entries = Vec::new();
    let mut complete = true;
    for source in sources {
        match yaml::documents(&source.text) {
            Ok(documents) => {
                for node in documents {
                    match object::read(source, node, runtime, &mut problems) {
                        Some(entry) => entries.push(entry),
                        None => complete = false,
                    }
                }
            }
            Err(error) => {
                complete = false;
                let message = format!("this is no YAML: {} (column {})", error.message, error.column);
                problems.push(whole(&source.name, Some(error.line), Code::MalformedYaml, message));
            }
        }
    }
    if entries.is_empty() && complete {
        let name = sources.first().map_or("-", |source| source.name.as_str());
        let message = "there is no object here; write at least one of kontrol.dev/v1alpha1".to_owned();
        problems.push(whole(name, None, Code::NothingDeclared, message));
    }
    references::names(&entries, &mut problems);
    if complete {
        references::check(&entries, runtime, &mut problems);
    }
    let trees = trees::assemble(&entries, complete, &mut problems);
    if problems.is_empty() {
        return Ok(world(entries, trees));
    }
    let position = |problem: &Problem| sources.iter().position(|source| source.name == problem.file);
    problems.sort_by_cached_key(|problem| (position(problem), problem.line));
    problems.dedup();
    Err(problems)
}

fn whole(file: &str, line: Option<u64>, code: Code, message: String) -> Problem {
    Problem { file: file.to_owned(), line, object: None, path: String::new(), code, message }
}

/// One object of a manifest.
#[derive(Debug)]
struct Entry {
    file: String,
    node: yaml::Node,
    kind: object::Kind,
    id: ObjectId,
    /// None where its conversion failed; what is wrong was said then.
    object: Option<Object>,
}

/// A valid object.
#[derive(Debug)]
enum Object {
    /// A group; implicit where a widget outside any group stands for it.
    Group(spec::Group),
    Supervisor(DeclaredSupervisor),
    Bus(spec::Bus),
    Topic(spec::Topic),
    Route(spec::Route),
}

impl Entry {
    fn problem(&self, path: &str, code: Code, message: impl Into<String>) -> Problem {
        Problem {
            file: self.file.clone(),
            line: Some(self.node.line_of(path)),
            object: Some(self.to_string()),
            path: path.to_owned(),
            code,
            message: message.into(),
        }
    }

    /// Where it stands, for problems of others that name it.
    fn place(&self) -> String {
        format!("{} ({}:{})", self, self.file, self.node.line)
    }

    fn group(&self) -> Option<&spec::Group> {
        match &self.object {
            Some(Object::Group(group)) => Some(group),
            _ => None,
        }
    }

    fn topic(&self) -> Option<&spec::Topic> {
        match &self.object {
            Some(Object::Topic(topic)) => Some(topic),
            _ => None,
        }
    }

    /// The path of the widget with this index.
    fn widget_path(&self, index: usize) -> String {
        match self.kind {
            object::Kind::Widget => "spec".to_owned(),
            _ => format!("spec.widgets[{index}]"),
        }
    }
}

impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind.as_str(), self.id)
    }
}

fn world(entries: Vec<Entry>, trees: Vec<spec::Node>) -> World {
    let mut world = World { trees, ..World::default() };
    for entry in entries {
        match entry.object {
            Some(Object::Bus(bus)) => world.buses.push(bus),
            Some(Object::Topic(topic)) => world.topics.push(topic),
            Some(Object::Route(route)) => world.routes.push(route),
            _ => {}
        }
    }
    for topic in &world.topics {
        let id = ObjectId { namespace: topic.id.namespace.clone(), name: topic.bus.clone() };
        if !world.buses.iter().any(|bus| bus.id == id) {
            world.buses.push(spec::Bus { id, storage: spec::Storage::default() });
        }
    }
    world
}

/// The bus that exists without being declared.
const DEFAULT_BUS: &str = "default";

fn is_default(bus: &Name) -> bool {
    bus.as_str() == DEFAULT_BUS
}
