//! The trees of the world. Most rest at any time: nothing of them is under way or wrong, and all that is remembered of them can be read
//! again from what the watches say. Of such a tree only how it stands is kept, until something happens to it; and its status, where others
//! are told of it.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, hash_map::Entry},
    sync::Arc,
};

use kontrol_core::time::Timestamp;
use kontrol_plan::{Status, status::Why};

use super::{Tree, reconcile};
use crate::{
    kubernetes::{forest::Root, object::Own, text::Text},
    view::Declared,
};

/// How a tree stands, for the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Standing {
    /// All of it is ready.
    Ready,
    /// Some of it is not.
    NotReady,
    /// It has given up, and does not start again by itself.
    Failed,
    /// It cannot be told what it is.
    NotAccepted,
}

impl Standing {
    /// All of them.
    pub(super) const ALL: [Self; 4] = [Self::Ready, Self::NotReady, Self::Failed, Self::NotAccepted];

    /// Its name in the metrics.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::NotReady => "NotReady",
            Self::Failed => "Failed",
            Self::NotAccepted => "NotAccepted",
        }
    }

    /// How a tree stands that is remembered whole.
    fn of(tree: &Tree) -> Self {
        let ready = tree.status.root.as_ref().is_some_and(|root| root.conditions.ready.status);
        let failed = tree
            .status
            .exhausted
            .is_some_and(|exhausted| exhausted.why != Why::ShutDown && exhausted.until.is_none());
        match tree.node {
            None => Self::NotAccepted,
            Some(_) if failed => Self::Failed,
            Some(_) if ready => Self::Ready,
            Some(_) => Self::NotReady,
        }
    }
}

/// For so many trees that are awake room is kept.
const ROOM: usize = 1024;

/// The trees.
#[derive(Debug, Default)]
pub(super) struct Trees {
    awake: HashMap<Root, Box<Tree>>,
    resting: BTreeMap<Root, Rest>,
}

/// What is kept of a tree that rests.
#[derive(Debug)]
struct Rest {
    standing: Standing,
    /// Its status, and what it was read from; none: nobody else is told of it.
    status: Option<Box<(Text, Status)>>,
}

impl Trees {
    /// One that is remembered whole; none: there is none, or it rests.
    pub(super) fn awake(&self, root: &Root) -> Option<&Tree> {
        self.awake.get(root).map(AsRef::as_ref)
    }

    /// The same, to be changed.
    pub(super) fn awake_mut(&mut self, root: &Root) -> Option<&mut Tree> {
        self.awake.get_mut(root).map(AsMut::as_mut)
    }

    /// All that are remembered whole.
    pub(super) fn all_awake(&self) -> impl Iterator<Item = (&Root, &Tree)> {
        self.awake.iter().map(|(root, tree)| (root, tree.as_ref()))
    }

    /// The same, to be changed.
    pub(super) fn all_awake_mut(&mut self) -> impl Iterator<Item = &mut Tree> {
        self.awake.values_mut().map(AsMut::as_mut)
    }

    /// One, whole: where it rests or is new it is remembered whole from now on.
    pub(super) fn wake(&mut self, root: &Root, declared: &Declared) -> &mut Tree {
        match self.awake.entry(root.clone()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let mut tree = Box::<Tree>::default();
                if let Some(rest) = self.resting.remove(root) {
                    tree.node = declared.tree(&root.to_string()).map(Arc::clone);
                    if let Some(kept) = rest.status {
                        (tree.status_text, tree.status) = *kept;
                    }
                }
                entry.insert(tree)
            }
        }
    }

    /// Takes one out, whole. It is to be [put](Self::put) back.
    pub(super) fn take(&mut self, root: &Root, declared: &Declared) -> Box<Tree> {
        self.wake(root, declared);
        self.awake.remove(root).unwrap_or_default()
    }

    /// Puts one back.
    pub(super) fn put(&mut self, root: &Root, tree: Box<Tree>) {
        self.awake.insert(root.clone(), tree);
    }

    /// Lets one rest where it may. `told` says whether others are told of it.
    pub(super) fn rest(&mut self, root: &Root, told: bool) {
        if self.awake(root).is_some_and(Tree::may_rest)
            && let Some(tree) = self.awake.remove(root)
        {
            let standing = Standing::of(&tree);
            let status = told.then(|| Box::new((tree.status_text, tree.status)));
            self.resting.insert(root.clone(), Rest { standing, status });
            if self.awake.capacity() > ROOM.max(8 * self.awake.len()) {
                // All of them were awake at once, which is rare.
                self.awake.shrink_to(ROOM);
            }
        }
    }

    /// Forgets one.
    pub(super) fn remove(&mut self, root: &Root) {
        self.awake.remove(root);
        self.resting.remove(root);
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether there is one.
    pub(super) fn contains(&self, root: &Root) -> bool {
        self.awake.contains_key(root) || self.resting.contains_key(root)
    }

    /// Whether it rests.
    #[cfg(test)]
    pub(super) fn rests(&self, root: &Root) -> bool {
        self.resting.contains_key(root)
    }

    /// Whether there is one, and it is declared.
    pub(super) fn is_declared(&self, root: &Root) -> bool {
        self.resting.contains_key(root) || self.awake(root).is_some_and(|tree| tree.node.is_some())
    }

    /// Whether one that is known has been told of nothing that is not allowed.
    pub(super) fn is_unaware(&self, root: &Root) -> bool {
        self.resting.contains_key(root)
            || self.awake(root).is_some_and(|tree| tree.refusal.is_none() && tree.denied.is_empty())
    }

    /// The status of one, whose object is this; none: there is none.
    pub(super) fn status(&self, root: &Root, own: Option<&Own>) -> Option<Cow<'_, Status>> {
        if let Some(tree) = self.awake(root) {
            return Some(Cow::Borrowed(&tree.status));
        }
        let (rest, own) = (self.resting.get(root)?, own?);
        match &rest.status {
            Some(kept) if kept.0 == own.supervision => Some(Cow::Borrowed(&kept.1)),
            _ => reconcile::written(own).map(Cow::Owned),
        }
    }

    /// The roots of all of them.
    pub(super) fn roots(&self) -> impl Iterator<Item = &Root> {
        self.awake.keys().chain(self.resting.keys())
    }

    /// How all of them stand.
    pub(super) fn standings(&self) -> impl Iterator<Item = (&Root, Standing)> {
        let awake = self.awake.iter().map(|(root, tree)| (root, Standing::of(tree)));
        awake.chain(self.resting.iter().map(|(root, rest)| (root, rest.standing)))
    }
}

impl Tree {
    /// All is as it should be: what failed before is no longer counted, once the pause for it is over.
    pub(super) fn calm(&mut self, now: Timestamp) {
        let Self { hold, follows, gates, releases, shows, .. } = self;
        for pause in [hold, follows, gates, releases, shows] {
            pause.succeed(now);
        }
    }

    /// Whether all that is remembered of it can be read again, and nothing of it is under way or wrong.
    fn may_rest(&self) -> bool {
        let Self {
            node,
            members: _,
            problems,
            status,
            status_text: _,
            decided,
            more,
            outstanding,
            failed,
            behind,
            refusal,
            denied,
            logged,
            hold,
            follows,
            gates,
            releases,
            shows,
            unsaid,
            // What is lost of it is a write of what the API server does not keep, when something happens to the tree.
            shown: _,
            launched,
            templates,
            unread,
            taken,
            refused,
        } = self;
        let pauses = [hold, follows, gates, releases, shows];
        node.is_some()
            && status.root.is_some()
            && *outstanding == 0
            && !(*more || *unsaid)
            && pauses.into_iter().all(super::Pause::is_over)
            && decided.is_none()
            && [failed, behind, logged].into_iter().all(Option::is_none)
            && refusal.is_none()
            && problems.is_empty()
            && (denied.is_empty() && launched.is_empty() && refused.is_empty())
            && (templates.is_empty() && unread.is_empty() && taken.is_empty())
    }
}
