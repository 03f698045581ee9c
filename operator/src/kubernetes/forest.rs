//! Trees from objects: dereference and validate, one tree at a time, so that a bad object stops nobody else.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use kontrol_core::{
    code::Code,
    id::{Name, ObjectId},
    spec,
};
use kontrol_crds::{
    self as api,
    convert::{self, DeclaredSupervisor, Runtime},
};
use kube::core::ObjectMeta;

use super::{
    kind::Kind,
    object::{Key, Own},
    store::Store,
};

/// The reason of objects that no cluster can run.
const NO_RUNTIME: &str = "NoRuntimeForWorld";

/// Levels of supervisors.
const DEPTH: usize = 32;
/// So many supervisors are walked over in search of a root: whoever chains thousands of them costs nobody else's trees their time.
const CIRCLE: usize = 2 * DEPTH;

/// The root of a tree.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Root {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub key: Key,
}

impl std::fmt::Display for Root {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = if self.kind == Kind::Supervisor { "supervisor" } else { "group" };
        write!(f, "{kind}/{}", self.key)
    }
}

/// Why an object is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// In one word, for the condition.
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// Whether what was there before goes on as it is: the object is left out, or its last good spec is used.
    pub goes_on: bool,
}

/// A tree as it is declared.
#[derive(Clone, Debug, Default)]
pub struct Assembled {
    /// The tree; none: it cannot be told, and what runs of it stays as it is.
    pub node: Option<spec::Node>,
    /// Its objects: supervisors, groups and widgets outside of groups.
    pub members: Vec<(Kind, Key)>,
    /// What is wrong, by object.
    pub problems: BTreeMap<(Kind, Key), Problem>,
}

/// Who names whom as a child.
#[derive(Debug, Default)]
pub struct Forest {
    /// The supervisors that name a supervisor (true) or a group (false).
    parents: HashMap<(bool, Key), BTreeSet<Key>>,
    /// The children that each supervisor names.
    children: HashMap<Key, Vec<(bool, Key)>>,
}

impl Forest {
    /// Takes note of a supervisor, or of its removal; gives the children that it named before or names now.
    pub fn note(&mut self, key: &Key, own: Option<&Own>) -> Vec<(bool, Key)> {
        let mut concerned = self.children.remove(key).unwrap_or_default();
        for child in &concerned {
            if let Some(parents) = self.parents.get_mut(child) {
                parents.remove(key);
                if parents.is_empty() {
                    self.parents.remove(child);
                }
            }
        }
        let Some(own) = own.filter(|own| own.meta.deleting().is_none()) else { return concerned };
        let Ok(spec) = serde_json::from_str::<api::SupervisorSpec>(&own.spec.read()) else {
            return concerned;
        };
        let named = |child: &api::SupervisorChild| match (&child.group, &child.supervisor) {
            (Some(group), None) => Some((false, Key::new(&key.namespace, group))),
            (None, Some(supervisor)) => Some((true, Key::new(&key.namespace, supervisor))),
            _ => None,
        };
        let children: Vec<_> = spec.children.iter().filter_map(named).collect();
        for child in &children {
            self.parents.entry(child.clone()).or_default().insert(key.clone());
        }
        concerned.extend(children.iter().cloned());
        self.children.insert(key.clone(), children);
        concerned
    }

    /// The root of the tree that an object is in; none: it is owned by something else. Of supervisors that name each other in a circle it is
    /// the one that has been planned, or else the first by name.
    pub fn root_of(&self, store: &Store, kind: Kind, key: &Key) -> Option<Root> {
        let mut at = Root { kind, key: key.clone() };
        if kind == Kind::Widget
            && let Some(owner) = store.own(kind, key).and_then(|own| own.meta.controller.as_deref())
        {
            if &*owner.kind != Kind::WidgetGroup.as_str() {
                return None;
            }
            at = Root { kind: Kind::WidgetGroup, key: Key::new(&key.namespace, &owner.name) };
        }
        let mut above: Vec<&Key> = Vec::new();
        // Whatever is more than DEPTH below its root says so there, and is in no tree.
        while above.len() <= CIRCLE {
            let child = (at.kind == Kind::Supervisor, at.key.clone());
            let Some(parent) = self.parents.get(&child).and_then(|parents| parents.first()) else {
                return Some(at);
            };
            if let Some(begin) = above.iter().position(|known| *known == parent) {
                let planned = |key: &Key| {
                    store.own(Kind::Supervisor, key).is_some_and(|own| !own.supervision.is_empty())
                };
                let circle = above.get(begin..).unwrap_or_default();
                let top = circle.iter().min_by_key(|key| (!planned(key), **key))?;
                return Some(Root { kind: Kind::Supervisor, key: (*top).clone() });
            }
            above.push(parent);
            at = Root { kind: Kind::Supervisor, key: parent.clone() };
        }
        None
    }

    /// The supervisors (true) and groups (false) that a supervisor and those below it name, whether they are there or not.
    pub fn below(&self, key: &Key) -> BTreeSet<(bool, Key)> {
        let mut found = BTreeSet::new();
        let mut next = vec![key];
        while let Some(key) = next.pop() {
            for child in self.children.get(key).into_iter().flatten() {
                if found.insert(child.clone()) && child.0 {
                    next.push(&child.1);
                }
            }
        }
        found
    }

    fn parents_of(&self, kind: Kind, key: &Key) -> impl Iterator<Item = &Key> {
        self.parents.get(&(kind == Kind::Supervisor, key.clone())).into_iter().flatten()
    }

    /// Puts a tree together. `begun` says whether it has a status: a tree that has not begun, and of which nothing runs, waits for all of its
    /// children, but not for those that no cluster can run. `runs` says whether something runs of the group of this name.
    pub fn assemble(
        &self,
        store: &Store,
        root: &Root,
        begun: bool,
        runs: &dyn Fn(&Key) -> bool,
    ) -> Assembled {
        let mut assembled = Assembled::default();
        let node = self.build(store, root.kind, &root.key, (0, runs), &mut assembled);
        let begun =
            begun || assembled.members.iter().any(|(kind, key)| *kind != Kind::Supervisor && runs(key));
        let waits = !begun && assembled.problems.values().any(|problem| problem.reason != NO_RUNTIME);
        let unknown = assembled.problems.values().any(|problem| !problem.goes_on);
        assembled.node = node.filter(|_| !waits && !unknown);
        assembled
    }

    fn build(
        &self,
        store: &Store,
        kind: Kind,
        key: &Key,
        (depth, runs): (usize, &dyn Fn(&Key) -> bool),
        into: &mut Assembled,
    ) -> Option<spec::Node> {
        into.members.push((kind, key.clone()));
        let own = store.own(kind, key)?;
        let mut wrong = |reason, message: String, goes_on| {
            into.problems.insert((kind, key.clone()), Problem { reason, message, goes_on });
        };
        let mut parents = self.parents_of(kind, key);
        if let (Some(one), Some(other)) = (parents.next(), parents.next()) {
            let message = format!(
                "it has two parents, the supervisors {} and {}; remove it from one of them",
                one.name, other.name
            );
            wrong("TwoParents", message, true);
        }
        let read = read(kind, key, &own.spec.read()).and_then(|read| read.on_a_cluster(kind));
        let (read, problem) = match (read, own.good.as_ref()) {
            (Ok(read), _) => (Some(read), None),
            (Err(wrong), Some(good)) => {
                let before = self::read(kind, key, &good.read()).ok();
                let goes_on = before.is_some();
                (before, Some((wrong, goes_on)))
            }
            // One that nothing runs of is left out.
            (Err(wrong @ Wrong::NoRuntime(_)), None) => (None, Some((wrong, depth > 0 && !runs(key)))),
            (Err(wrong @ Wrong::Invalid(_)), None) => (None, Some((wrong, false))),
        };
        match problem {
            Some((Wrong::Invalid(message), goes_on)) => wrong("Invalid", message, goes_on),
            Some((Wrong::NoRuntime(message), goes_on)) => wrong(NO_RUNTIME, message, goes_on),
            None => {}
        }
        match read? {
            Read::Group(mut group) => {
                if kind == Kind::WidgetGroup {
                    self::stamped(store, key, own, &mut group, into);
                }
                Some(spec::Node::Group(group))
            }
            Read::Supervisor(declared) => {
                if depth >= DEPTH {
                    wrong("TooDeep", format!("it is more than {DEPTH} levels below its root"), true);
                    return None;
                }
                let mut children = Vec::new();
                let mut missing = Vec::new();
                let mut circle = None;
                for child in &declared.children {
                    let (kind, key) = match &child.child {
                        spec::ChildRef::Supervisor(id) => (Kind::Supervisor, key_of(id)),
                        spec::ChildRef::Group(id) => group_kind(store, &key_of(id)),
                    };
                    let there = store.own(kind, &key).filter(|own| own.meta.deleting().is_none());
                    // One with two parents is where the first of them, by name, has it.
                    let mine = self
                        .parents_of(kind, &key)
                        .next()
                        .is_none_or(|first| *first == key_of(&declared.supervisor.id));
                    if there.is_none() {
                        missing.push(format!("{} {}", kind.as_str(), key.name));
                        continue;
                    }
                    if !mine {
                        continue;
                    }
                    if into.members.first() == Some(&(kind, key.clone())) {
                        let message = format!(
                            "{} spec.children: the supervisor {} is above this one, and named below it: they go round in a circle; remove one of the two references",
                            Code::SupervisorCycle,
                            key.name
                        );
                        circle = Some(message);
                        continue;
                    }
                    if let Some(node) = self.build(store, kind, &key, (depth + 1, runs), into) {
                        children.push(spec::Child {
                            restart: child.restart,
                            significant: child.significant,
                            node,
                        });
                    }
                }
                if !missing.is_empty() {
                    let message = format!("there is no {}", missing.join(", no "));
                    into.problems.entry((kind, key.clone())).or_insert(Problem {
                        reason: "ChildNotFound",
                        message,
                        goes_on: true,
                    });
                }
                if let Some(message) = circle {
                    let problem = Problem { reason: "SupervisorCycle", message, goes_on: true };
                    into.problems.entry((kind, key.clone())).or_insert(problem);
                }
                Some(spec::Node::Supervisor(spec::Supervisor { children, ..declared.supervisor }))
            }
        }
    }
}

/// A group is a `WidgetGroup`, or a `Widget` outside any.
fn group_kind(store: &Store, key: &Key) -> (Kind, Key) {
    let alone = |own: &Own| own.meta.controller.is_none();
    if store.own(Kind::WidgetGroup, key).is_none() && store.own(Kind::Widget, key).is_some_and(alone) {
        return (Kind::Widget, key.clone());
    }
    (Kind::WidgetGroup, key.clone())
}

/// The widgets that a group stamps out: their own number of replicas rules, as far as the group has not given another one since.
fn stamped(store: &Store, key: &Key, own: &Own, group: &mut spec::Group, into: &mut Assembled) {
    for widget in &mut group.widgets {
        let name = format!("{}-{}", group.id.name, widget.id.widget);
        let child = Key::new(&key.namespace, &name);
        let Some(object) = store.own(Kind::Widget, &child) else { continue };
        let mine = object.meta.controller.as_ref().is_some_and(|owner| owner.uid == own.meta.uid);
        if !mine {
            let message = match &object.meta.controller {
                Some(owner) => format!("the Widget {name} belongs to the {} {}", owner.kind, owner.name),
                None => format!("there is a Widget {name} of its own; rename it, or the widget of the group"),
            };
            let problem = Problem { reason: "NameCollision", message, goes_on: false };
            into.problems.insert((Kind::WidgetGroup, key.clone()), problem);
            continue;
        }
        let template = object.meta.annotation("template-replicas").and_then(|text| text.parse().ok());
        if template == Some(widget.replicas)
            && let Some(replicas) = replicas_of(&object.spec.read())
        {
            widget.replicas = replicas;
        }
    }
}

/// `replicas` of the spec of a Widget.
pub fn replicas_of(spec: &str) -> Option<u32> {
    #[derive(serde::Deserialize)]
    struct Replicas {
        replicas: Option<u32>,
    }
    serde_json::from_str::<Replicas>(spec).ok()?.replicas
}

/// A valid object.
enum Read {
    Group(spec::Group),
    Supervisor(DeclaredSupervisor),
}

/// What is wrong with a spec, in one text.
enum Wrong {
    Invalid(String),
    /// There is no way to run it on a cluster.
    NoRuntime(String),
}

impl Read {
    /// Itself, where each of its widgets can run on a cluster.
    fn on_a_cluster(self, kind: Kind) -> Result<Self, Wrong> {
        let Self::Group(group) = &self else { return Ok(self) };
        let lone = kind == Kind::Widget;
        let without = group.widgets.iter().enumerate().find(|(_, widget)| widget.container.is_none());
        let Some((at, widget)) = without else { return Ok(self) };
        let (code, name) = (Code::NoRuntimeForWorld, &widget.id.widget);
        let path = if lone { "spec.container".to_owned() } else { format!("spec.widgets[{at}].container") };
        Err(Wrong::NoRuntime(format!(
            "{code} {path}: the widget {name} gives no way to run on a cluster; add container: {{image: ...}}, or run it with kontrol up"
        )))
    }
}

/// Reads a spec.
fn read(kind: Kind, key: &Key, text: &str) -> Result<Read, Wrong> {
    let metadata = ObjectMeta {
        namespace: Some(key.namespace.to_string()),
        name: Some(key.name.to_string()),
        ..ObjectMeta::default()
    };
    let unreadable = |error: serde_json::Error| Wrong::Invalid(format!("spec cannot be read: {error}"));
    let said = |faults: &api::Faults| Wrong::Invalid(said(faults));
    match kind {
        Kind::Supervisor => {
            let spec = serde_json::from_str(text).map_err(unreadable)?;
            let object = api::Supervisor { metadata, spec, status: None };
            Ok(Read::Supervisor(DeclaredSupervisor::try_from(&object).map_err(|faults| said(&faults))?))
        }
        Kind::WidgetGroup => {
            let spec = serde_json::from_str(text).map_err(unreadable)?;
            let object = api::WidgetGroup { metadata, spec, status: None };
            Ok(Read::Group(convert::group(&object, Runtime::Cluster).map_err(|faults| said(&faults))?))
        }
        _ => {
            let spec = serde_json::from_str(text).map_err(unreadable)?;
            let object = api::Widget { metadata, spec, status: None };
            Ok(Read::Group(convert::lone_widget(&object, Runtime::Cluster).map_err(|faults| said(&faults))?))
        }
    }
}

/// All that is wrong with an object, in one text.
pub fn said(faults: &api::Faults) -> String {
    let texts: Vec<String> = faults
        .0
        .iter()
        .map(|fault| {
            let place = if fault.path.is_empty() { String::new() } else { format!("{}: ", fault.path) };
            format!("{} {place}{}", fault.code, fault.message)
        })
        .collect();
    texts.join("; ")
}

/// The key of an object of ours.
pub fn key_of(id: &ObjectId) -> Key {
    Key::new(id.namespace.as_str(), id.name.as_str())
}

/// The id of an object of ours; none: its name is none for us.
pub fn id_of(key: &Key) -> Option<ObjectId> {
    Some(ObjectId { namespace: Name::new(&key.namespace).ok()?, name: Name::new(&key.name).ok()? })
}
