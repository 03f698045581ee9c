//! The last objects that were removed.

use std::collections::{HashMap, VecDeque};

use crate::kubernetes::{kind::Kind, object::Key, pod::Said};

/// Removals that are remembered.
pub(super) const REMOVALS: usize = 1024;

/// The last removals, [`REMOVALS`] of them.
#[derive(Debug, Default)]
pub(super) struct Removals {
    known: HashMap<(Kind, Key), Removal>,
    /// The oldest first.
    order: VecDeque<(Kind, Key)>,
}

#[derive(Debug, Default)]
struct Removal {
    version: u64,
    said: Option<Box<Said>>,
}

impl Removals {
    /// An object was removed at this version.
    pub(super) fn note(&mut self, kind: Kind, key: &Key, version: u64) {
        let known = self.known.len();
        self.known.entry((kind, key.clone())).or_default().version = version;
        if self.known.len() > known {
            self.order.push_back((kind, key.clone()));
        }
        if self.order.len() > REMOVALS
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// The version at which an object was removed; 0: that is not known. An answer to a write may come after the word of its removal.
    pub(super) fn version(&self, kind: Kind, key: &Key) -> u64 {
        self.known.get(&(kind, key.clone())).map_or(0, |removal| removal.version)
    }

    /// What was said of a pod that was taken from its node: it may be gone before anybody has looked at it. None: another one of its name is
    /// there. Of a removal that is not remembered nothing is.
    pub(super) fn say(&mut self, pod: &Key, said: Option<Box<Said>>) {
        if let Some(removal) = self.known.get_mut(&(Kind::Pod, pod.clone())) {
            removal.said = said;
        }
    }

    /// What was said of a pod that was removed.
    pub(super) fn said(&self, pod: &Key) -> Option<&Said> {
        self.known.get(&(Kind::Pod, pod.clone()))?.said.as_deref()
    }
}
