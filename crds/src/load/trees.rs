//! Supervisors and their children, assembled. What is wrong with a tree is said on every object concerned.

use std::collections::{BTreeMap, HashMap};

use kontrol_core::{code::Code, id::ObjectId, spec};

use super::{Entry, Object, cycle::circles, object::Kind, references::known};
use crate::Problem;

/// Levels of supervisors; more are a mistake, and would be paid for by every walk through the tree.
const DEPTH: usize = 32;

/// The trees, their roots in the order of the manifests. Empty where something is wrong with them. `complete` says that every
/// object is known, so that a child which is not there is a mistake.
pub(super) fn assemble(entries: &[Entry], complete: bool, problems: &mut Vec<Problem>) -> Vec<spec::Node> {
    let before = problems.len();
    let mut nodes: HashMap<&ObjectId, &Entry> = HashMap::new();
    for entry in entries.iter().filter(|entry| is_node(entry)) {
        nodes.entry(&entry.id).or_insert(entry);
    }
    let mut parents: BTreeMap<&ObjectId, Vec<(&Entry, usize)>> = BTreeMap::new();
    let supervisors: Vec<(&Entry, Vec<(usize, spec::ChildRef)>)> = entries
        .iter()
        .filter(|entry| entry.kind == Kind::Supervisor)
        .map(|entry| (entry, entry.named_children()))
        .collect();
    for (entry, children) in &supervisors {
        for (index, child) in children {
            let id = child_id(child);
            match nodes.get(id) {
                Some(node) if fits(child, node) => parents.entry(id).or_default().push((*entry, *index)),
                found => {
                    if complete {
                        problems.push(missing(entries, entry, *index, child, found.copied()));
                    }
                }
            }
        }
    }
    for (id, parents) in parents.iter().filter(|(_, parents)| parents.len() > 1) {
        two_parents(nodes[id], parents, problems);
    }
    circles_of(&supervisors, problems);
    if problems.len() > before || problems.iter().any(|problem| problem.code == Code::DuplicateName) {
        return Vec::new();
    }
    let parent =
        |id: &ObjectId| parents.get(id).and_then(|parents| parents.first()).map(|(parent, _)| *parent);
    for entry in entries.iter().filter(|entry| is_node(entry)) {
        let depth = std::iter::successors(parent(&entry.id), |above| parent(&above.id)).count();
        if depth > DEPTH {
            let message = format!("is {depth} levels below its root; at most {DEPTH} are possible");
            problems.push(entry.problem("", Code::InvalidValue, message));
        }
    }
    if !problems.is_empty() {
        return Vec::new();
    }
    entries
        .iter()
        .filter(|entry| is_node(entry) && parent(&entry.id).is_none())
        .filter_map(|root| build(root, &nodes))
        .collect()
}

fn is_node(entry: &Entry) -> bool {
    matches!(entry.kind, Kind::Widget | Kind::WidgetGroup | Kind::Supervisor)
}

fn child_id(child: &spec::ChildRef) -> &ObjectId {
    match child {
        spec::ChildRef::Group(id) | spec::ChildRef::Supervisor(id) => id,
    }
}

fn fits(child: &spec::ChildRef, node: &Entry) -> bool {
    match child {
        spec::ChildRef::Group(_) => matches!(node.kind, Kind::Widget | Kind::WidgetGroup),
        spec::ChildRef::Supervisor(_) => node.kind == Kind::Supervisor,
    }
}

fn missing(
    entries: &[Entry],
    entry: &Entry,
    index: usize,
    child: &spec::ChildRef,
    found: Option<&Entry>,
) -> Problem {
    let id = child_id(child);
    let (field, other) = match child {
        spec::ChildRef::Group(_) => ("group", "supervisor"),
        spec::ChildRef::Supervisor(_) => ("supervisor", "group"),
    };
    let path = format!("spec.children[{index}].{field}");
    let message = if let Some(found) = found {
        format!("{id} is no {field}, but {}; write {other}: {}", found.place(), id.name)
    } else {
        let siblings = entries
            .iter()
            .filter(|node| is_node(node) && fits(child, node) && node.id.namespace == id.namespace);
        let names: Vec<&str> = siblings
            .map(|node| node.id.name.as_str())
            .filter(|name| *name != entry.id.name.as_str())
            .collect();
        format!("there is no {field} {id}; {}", known(&names, id.name.as_str(), field))
    };
    entry.problem(&path, Code::UndeclaredChild, message)
}

fn two_parents(child: &Entry, parents: &[(&Entry, usize)], problems: &mut Vec<Problem>) {
    let places: Vec<String> = parents.iter().map(|(parent, _)| parent.place()).collect();
    for (at, (parent, index)) in parents.iter().enumerate() {
        let others = places.iter().enumerate().filter(|(other, _)| *other != at);
        let others: Vec<&str> = others.map(|(_, place)| place.as_str()).collect();
        let message = format!(
            "{child} has two parents: it is a child of {} as well; remove it from one of them",
            others.join(" and ")
        );
        problems.push(parent.problem(&format!("spec.children[{index}]"), Code::TwoParents, message));
    }
    let message = format!("has two parents: {}; remove it from one of them", places.join(" and "));
    problems.push(child.problem("", Code::TwoParents, message));
}

fn circles_of(supervisors: &[(&Entry, Vec<(usize, spec::ChildRef)>)], problems: &mut Vec<Problem>) {
    let below = |children: &[(usize, spec::ChildRef)]| {
        let supervisors = children.iter().filter_map(|(_, child)| match child {
            spec::ChildRef::Supervisor(id) => Some(id.clone()),
            spec::ChildRef::Group(_) => None,
        });
        supervisors.collect::<Vec<_>>()
    };
    let circles =
        circles(&supervisors.iter().map(|(entry, children)| (entry.id.clone(), below(children))).collect());
    for (entry, children) in supervisors {
        let Some(circle) = circles.get(&entry.id) else { continue };
        let next = circle.get(1);
        let index =
            children.iter().find(|(_, child)| Some(child_id(child)) == next).map_or(0, |(index, _)| *index);
        let way = circle.iter().map(|id| id.name.as_str()).collect::<Vec<_>>().join(" → ");
        let message = format!("supervisors go round in a circle: {way}; remove one of these children");
        problems.push(entry.problem(
            &format!("spec.children[{index}].supervisor"),
            Code::SupervisorCycle,
            message,
        ));
    }
}

/// The depth is bounded by [`DEPTH`], and there are no circles.
fn build(entry: &Entry, nodes: &HashMap<&ObjectId, &Entry>) -> Option<spec::Node> {
    match entry.object.as_ref()? {
        Object::Group(group) => Some(spec::Node::Group(group.clone())),
        Object::Supervisor(declared) => {
            let children = declared.children.iter().filter_map(|child| {
                let node = build(nodes.get(child_id(&child.child))?, nodes)?;
                Some(spec::Child { restart: child.restart, significant: child.significant, node })
            });
            let children = children.collect();
            Some(spec::Node::Supervisor(spec::Supervisor { children, ..declared.supervisor.clone() }))
        }
        _ => None,
    }
}
