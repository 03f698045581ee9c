//! The observed instances by widget.
//!
//! The widgets of the last status are numbered as they stand in the tree, and each instance is put to the number of its widget once.
//! Whoever walks over the tree asks for one widget after the other, and worlds give instances in some such order too: the place next to
//! the last one is looked at before anything is searched, and names are compared by their letters only where they are not the same text
//! in memory.

use std::{
    cell::{Cell, OnceCell},
    cmp::Ordering,
    collections::HashMap,
};

use kontrol_core::id::Name;

use crate::{
    Instance, Status,
    status::{Inner, Node},
};

/// The instances of one tree.
pub(crate) struct Instances<'a> {
    /// In order of their widget's number, ordinal and incarnation; those of widgets that the last status does not have come last, by name.
    sorted: Vec<&'a Instance>,
    /// The widgets of the last status, by number.
    widgets: Widgets<'a>,
    /// Where the instances of each of these end in `sorted`.
    ends: Vec<usize>,
    /// The number after the one that was asked for last.
    next: Cell<usize>,
}

impl<'a> Instances<'a> {
    /// Cheapest where they come in the order of the status.
    pub(crate) fn new(status: &'a Status, instances: &'a [Instance]) -> Self {
        let widgets = Widgets::of(status);
        let mut ends = vec![0; widgets.list.len()];
        let mut numbered = Vec::with_capacity(instances.len());
        let mut last = 0;
        for instance in instances {
            let (group, widget) = (&instance.id.widget.group, &instance.id.widget.widget);
            let near = [last, last + 1].into_iter().find(|number| widgets.is(*number, group, widget));
            let number = near.or_else(|| widgets.search(group, widget));
            if let Some(count) = number.and_then(|number| ends.get_mut(number)) {
                *count += 1;
            }
            last = number.unwrap_or(last);
            numbered.push((number.unwrap_or(usize::MAX), instance));
        }
        let mut end = 0;
        for count in &mut ends {
            end += *count;
            *count = end;
        }
        numbered.sort_by(|(number, instance), (other_number, other)| {
            let names = || if *number == usize::MAX { by_name(instance, other) } else { Ordering::Equal };
            let process = |instance: &Instance| (instance.id.ordinal, instance.incarnation);
            number.cmp(other_number).then_with(names).then_with(|| process(instance).cmp(&process(other)))
        });
        let sorted = numbered.into_iter().map(|(_, instance)| instance).collect();
        Self { sorted, widgets, ends, next: Cell::new(0) }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.sorted.len()
    }

    /// All instances.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &'a Instance> {
        self.sorted.iter().copied()
    }

    /// The instances of one widget, in order of ordinal and incarnation.
    pub(crate) fn of(&self, group: &Name, widget: &Name) -> &[&'a Instance] {
        let next = self.next.get();
        let number = self.widgets.near(next, group, widget).or_else(|| self.widgets.search(group, widget));
        let Some(number) = number else { return self.of_stranger(group, widget) };
        self.next.set(number + 1);
        let before = number.checked_sub(1).and_then(|before| self.ends.get(before));
        let (from, to) = (before.copied().unwrap_or(0), self.ends.get(number).copied().unwrap_or(0));
        self.sorted.get(from..to).unwrap_or_default()
    }

    /// The instances of a widget that the last status does not have.
    fn of_stranger(&self, group: &Name, widget: &Name) -> &[&'a Instance] {
        let strangers =
            self.ends.last().map_or(&*self.sorted, |end| self.sorted.get(*end..).unwrap_or_default());
        let place = |instance: &&Instance| {
            (&instance.id.widget.group, &instance.id.widget.widget).cmp(&(group, widget))
        };
        let from = strangers.partition_point(|instance| place(instance) == Ordering::Less);
        let rest = strangers.get(from..).unwrap_or_default();
        let len = rest.partition_point(|instance| place(instance) == Ordering::Equal);
        rest.get(..len).unwrap_or_default()
    }
}

/// The widgets of a status, in the order of its tree.
struct Widgets<'a> {
    /// Group and name of each.
    list: Vec<(&'a Name, &'a Name)>,
    /// Whether no two have one name. A widget that leaves and the one that took its place elsewhere in the tree have, and share instances.
    unique: bool,
    /// Their numbers by where in memory their names are, sorted, once somebody had to search.
    addresses: OnceCell<Vec<(*const u8, usize)>>,
    /// Their numbers by group and name, once somebody had to search for a name that is elsewhere in memory.
    index: OnceCell<HashMap<(&'a str, &'a str), usize>>,
}

impl<'a> Widgets<'a> {
    fn of(status: &'a Status) -> Self {
        let mut widgets =
            Self { list: Vec::new(), unique: true, addresses: OnceCell::new(), index: OnceCell::new() };
        if let Some(root) = &status.root {
            widgets.enumerate(root);
        }
        widgets
    }

    fn enumerate(&mut self, node: &'a Node) {
        self.unique &= node.leaving.is_empty();
        self.list.reserve(node.children.len());
        for slot in node.children.iter().chain(&node.leaving) {
            match &slot.inner {
                Inner::Widget(_) => self.list.push((&node.id.name, &slot.key.name)),
                Inner::Node(below) => self.enumerate(below),
            }
        }
    }

    /// Whether this number is the widget's.
    fn is(&self, number: usize, group: &Name, widget: &Name) -> bool {
        self.unique && self.list.get(number).is_some_and(|known| *known == (group, widget))
    }

    /// The number of a widget, at or near this one as a rule, as far as that can be told at a glance.
    fn near(&self, number: usize, group: &Name, widget: &Name) -> Option<usize> {
        if self.is(number, group, widget) {
            return Some(number);
        }
        let is_same = |name: &Name, other: &Name| std::ptr::eq(name.as_str(), other.as_str());
        let is = |known: &(&Name, &Name)| is_same(known.1, widget) && is_same(known.0, group);
        let (before, rest) = self.list.split_at_checked(number).filter(|_| self.unique)?;
        let after = rest.iter().position(is).map(|at| number + at);
        after.or_else(|| before.iter().position(is))
    }

    /// The number of a widget.
    fn search(&self, group: &Name, widget: &Name) -> Option<usize> {
        self.search_memory(group, widget).or_else(|| self.search_names(group, widget))
    }

    fn search_memory(&self, group: &Name, widget: &Name) -> Option<usize> {
        let address = |name: &Name| name.as_str().as_ptr();
        let addresses = self.addresses.get_or_init(|| {
            let numbered = self.list.iter().enumerate();
            let mut addresses: Vec<_> = numbered.map(|(number, known)| (address(known.1), number)).collect();
            addresses.sort_unstable();
            addresses
        });
        let at = addresses.binary_search_by_key(&address(widget), |known| known.0).ok()?;
        addresses.get(at).map(|known| known.1).filter(|number| self.is(*number, group, widget))
    }

    /// The first of this name.
    fn search_names(&self, group: &Name, widget: &Name) -> Option<usize> {
        let numbers = || self.list.iter().enumerate().rev();
        let index = self.index.get_or_init(|| {
            numbers().map(|(number, (group, widget))| ((group.as_str(), widget.as_str()), number)).collect()
        });
        index.get(&(group.as_str(), widget.as_str())).copied()
    }
}

fn by_name(a: &Instance, b: &Instance) -> Ordering {
    let (a, b) = (&a.id.widget, &b.id.widget);
    (&a.group, &a.widget).cmp(&(&b.group, &b.widget))
}

/// The process of this number among the instances of one widget.
pub(crate) fn find<'a>(instances: &[&'a Instance], ordinal: usize, incarnation: u64) -> Option<&'a Instance> {
    instances
        .iter()
        .find(|instance| instance.id.ordinal as usize == ordinal && instance.incarnation == incarnation)
        .copied()
}
