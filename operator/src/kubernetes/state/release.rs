//! Lets objects go that wait for their pods to be stopped in order: when nothing of them is left, and when their time is over, whatever
//! fails, and whatever cannot be seen.

use std::{collections::BTreeSet, time::Duration};

use kontrol_core::{spec, time::Timestamp};
use serde_json::json;

use super::{
    Purpose, State, Tree,
    reconcile::{Requests, read_status},
};
use crate::kubernetes::{
    forest::{Root, id_of},
    kind::Kind,
    object::{FINALIZER, Key, Own},
    observe,
    request::{Request, Verb},
};

impl State {
    /// What may go now of what is being removed of a tree, and when this is to be asked again.
    pub(super) fn release(&mut self, root: &Root, now: Timestamp) -> (Requests, Option<Timestamp>) {
        let leaving = self.leaving(root);
        let Some(own) = self.store.own(root.kind, &root.key).filter(|_| !leaving.is_empty()) else {
            return (Requests::new(), None);
        };
        let tree = self.trees.wake(root, &self.declared);
        read_status(own, tree);
        let later = tree.releases.until(now);
        let (mut requests, mut next) = (Requests::new(), later);
        for (kind, key) in leaving {
            let Some(own) = self.store.own(kind, &key) else { continue };
            let Some(since) = own.meta.deleting() else { continue };
            let Some(tree) = self.trees.awake(root) else { continue };
            let itself = (kind, &key) == (root.kind, &root.key);
            let (grace, left) = self.what_is_left(root, tree, (!itself).then_some(&key));
            let deadline = since.plus(grace + observe::OVERDUE);
            if left && now < deadline {
                next = next.into_iter().chain([deadline]).min();
            } else if later.is_none() {
                requests.push((Purpose::Release, without_finalizer(kind, &key, own)));
            }
        }
        (requests, next)
    }

    /// Objects of a tree that are being removed and wait for this: its root, and groups that were roots before a supervisor took them.
    fn leaving(&self, root: &Root) -> Vec<(Kind, Key)> {
        let waits = |kind: Kind, key: &Key| {
            let own = self.store.own(kind, key);
            own.is_some_and(|own| own.meta.deleting().is_some() && own.meta.has_finalizer())
        };
        let itself = waits(root.kind, &root.key).then(|| (root.kind, root.key.clone()));
        let below =
            if root.kind == Kind::Supervisor { self.forest.below(&root.key) } else { BTreeSet::new() };
        let below = below
            .into_iter()
            .map(|(supervisor, key)| (if supervisor { Kind::Supervisor } else { Kind::WidgetGroup }, key));
        let mine = |(kind, key): &(Kind, Key)| {
            waits(*kind, key) && self.forest.root_of(&self.store, *kind, key).as_ref() == Some(root)
        };
        itself.into_iter().chain(below.filter(mine)).collect()
    }

    /// How long what runs of a tree, or of one group in it, may take to end, one after the other; and whether something is left of it.
    fn what_is_left(&self, root: &Root, tree: &Tree, group: Option<&Key>) -> (Duration, bool) {
        let mut grace = Duration::ZERO;
        // What cannot be seen is not absent.
        let mut left = !self.sees(&root.key.namespace, &[Kind::Pod]);
        let mut groups = Vec::new();
        observe::each_widget(&tree.status, &mut |id, widget| {
            let of = Key::new(id.namespace.as_str(), id.group.as_str());
            if group.is_some_and(|group| *group != of) {
                return;
            }
            if let spec::Shutdown::Graceful(time) = widget.shutdown {
                grace += time;
            }
            left |= widget.replicas.iter().any(|replica| replica.incarnation > 0);
            groups.push(of);
        });
        match group {
            Some(group) => groups.push(group.clone()),
            None => groups.extend(tree.members.iter().map(|(_, key)| key).chain([&root.key]).cloned()),
        }
        left |= groups.iter().filter_map(id_of).any(|id| {
            let mut pods = self.store.pods_of(&id.namespace, &id.name);
            pods.any(|(_, pod)| !observe::is_over(pod))
        });
        (grace, left)
    }
}

/// The request that takes our finalizer off an object. Only ours is taken away: the version says that the list is the one that was seen.
fn without_finalizer(kind: Kind, key: &Key, own: &Own) -> Request {
    let others: Vec<_> = own.meta.finalizers().filter(|known| *known != FINALIZER).collect();
    let body = json!({
        "metadata": {
            "resourceVersion": own.meta.version.to_string(), "uid": own.meta.uid, "finalizers": others,
        },
    });
    Request::new(Verb::Merge, kind, &key.namespace, &key.name).by("kontrol-reconciler").with(body)
}
