//! The observed instances by widget.
//!
//! Sorted by the name of the widget first: within a tree that tells most widgets apart, so a search compares little more. Whoever asks for
//! one widget mostly asks for the next one after it, so that place is looked at before anything is searched.

use std::{cell::Cell, cmp::Ordering};

use kontrol_core::id::Name;

use crate::Instance;

/// The instances of one tree, in order of widget, group, ordinal and incarnation.
pub(crate) struct Instances<'a> {
    sorted: Vec<&'a Instance>,
    /// Where the instances of the widget that was asked for last end: always between two widgets.
    next: Cell<usize>,
}

impl<'a> Instances<'a> {
    /// Cheapest where they come in order.
    pub(crate) fn new(instances: &'a [Instance]) -> Self {
        let mut sorted: Vec<_> = instances.iter().collect();
        sorted.sort_by(|a, b| {
            compare(&a.id.widget.widget, &b.id.widget.widget)
                .then_with(|| compare(&a.id.widget.group, &b.id.widget.group))
                .then_with(|| (a.id.ordinal, a.incarnation).cmp(&(b.id.ordinal, b.incarnation)))
        });
        Self { sorted, next: Cell::new(0) }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.sorted.len()
    }

    /// All instances.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &'a Instance> {
        self.sorted.iter().copied()
    }

    /// The instances of one widget.
    pub(crate) fn of(&self, group: &Name, widget: &Name) -> &[&'a Instance] {
        let place = |instance: &&Instance| {
            compare(&instance.id.widget.widget, widget)
                .then_with(|| compare(&instance.id.widget.group, group))
        };
        let next = self.next.get();
        let is_next = self.sorted.get(next).is_some_and(|at| place(at) == Ordering::Equal);
        let from = if is_next {
            next
        } else {
            self.sorted.partition_point(|instance| place(instance) == Ordering::Less)
        };
        let rest = self.sorted.get(from..).unwrap_or_default();
        let len = rest.iter().take_while(|instance| place(instance) == Ordering::Equal).count();
        self.next.set(from + len);
        rest.get(..len).unwrap_or_default()
    }
}

/// The process of this number among the instances of one widget.
pub(crate) fn find<'a>(instances: &[&'a Instance], ordinal: usize, incarnation: u64) -> Option<&'a Instance> {
    instances
        .iter()
        .find(|instance| instance.id.ordinal as usize == ordinal && instance.incarnation == incarnation)
        .copied()
}

fn compare(a: &Name, b: &Name) -> Ordering {
    if std::ptr::eq(a.as_str(), b.as_str()) { Ordering::Equal } else { a.cmp(b) }
}
