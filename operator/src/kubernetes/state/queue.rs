//! Which tree is looked at next: each stands in it once, in the order in which it came; those that wait for a time beside.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use kontrol_core::time::Timestamp;

use crate::kubernetes::forest::Root;

/// For so many trees room is kept while nothing is ready.
const ROOM: usize = 1024;

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    ready: VecDeque<Root>,
    waiting_now: HashSet<Root>,
    later: BTreeMap<Timestamp, BTreeSet<Root>>,
    times: HashMap<Root, Timestamp>,
}

impl Queue {
    /// Has it looked at as soon as possible.
    pub(super) fn now(&mut self, root: Root) {
        if self.waiting_now.insert(root.clone()) {
            self.ready.push_back(root);
        }
    }

    /// Has it looked at then, in the place of any other time.
    pub(super) fn at(&mut self, root: &Root, at: Option<Timestamp>) {
        if let Some(before) = self.times.remove(root)
            && let Some(roots) = self.later.get_mut(&before)
        {
            roots.remove(root);
            if roots.is_empty() {
                self.later.remove(&before);
            }
        }
        if let Some(at) = at {
            self.times.insert(root.clone(), at);
            self.later.entry(at).or_default().insert(root.clone());
        }
    }

    /// Has it looked at then at the latest.
    pub(super) fn soon(&mut self, root: &Root, at: Option<Timestamp>) {
        if let Some(at) = at.filter(|at| self.time(root).is_none_or(|known| *at < known)) {
            self.at(root, Some(at));
        }
    }

    /// When it is looked at, as far as it waits for a time.
    pub(super) fn time(&self, root: &Root) -> Option<Timestamp> {
        self.times.get(root).copied()
    }

    /// The next one.
    pub(super) fn next(&mut self, now: Timestamp) -> Option<Root> {
        while let Some(entry) = self.later.first_entry().filter(|entry| *entry.key() <= now) {
            for root in entry.remove() {
                self.times.remove(&root);
                self.now(root);
            }
        }
        let root = self.ready.pop_front()?;
        self.waiting_now.remove(&root);
        if self.ready.is_empty() && self.ready.capacity() > ROOM {
            // All trees were marked at once, which is rare.
            (self.ready, self.waiting_now) = (VecDeque::new(), HashSet::new());
        }
        Some(root)
    }

    /// Whether something is to be looked at now.
    pub(super) fn due(&self, now: Timestamp) -> bool {
        !self.ready.is_empty() || self.later.keys().next().is_some_and(|at| *at <= now)
    }

    /// When the next time comes; in the past where something is ready.
    pub(super) fn wake(&self) -> Option<Timestamp> {
        if self.ready.is_empty() { self.later.keys().next().copied() } else { Some(Timestamp::ZERO) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::{kind::Kind, object::Key};

    fn root(name: &str) -> Root {
        Root { kind: Kind::Widget, key: Key::new("default", name) }
    }

    fn at(micros: u64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    #[test]
    fn each_tree_stands_in_it_once_in_the_order_in_which_it_came() {
        let mut queue = Queue::default();
        for name in ["a", "b", "a"] {
            queue.now(root(name));
        }
        let order: Vec<_> = std::iter::from_fn(|| queue.next(at(0))).collect();
        assert_eq!(order, [root("a"), root("b")]);
    }

    #[test]
    fn a_tree_that_waits_comes_when_its_last_given_time_has_come() {
        let mut queue = Queue::default();
        queue.at(&root("a"), Some(at(5)));
        queue.at(&root("a"), Some(at(9)));
        assert_eq!((queue.next(at(5)), queue.wake()), (None, Some(at(9))));
        assert_eq!(queue.next(at(9)), Some(root("a")));
        assert_eq!((queue.due(at(100)), queue.wake()), (false, None));
    }
}
