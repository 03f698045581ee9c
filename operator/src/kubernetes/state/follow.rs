//! What follows pods: widgets that a group no longer has, and statuses that a tree above has taken over.

use std::collections::BTreeSet;

use serde_json::json;

use super::{Purpose, State, Tree, act, reconcile::Requests};
use crate::kubernetes::{
    kind::Kind,
    object::{Key, Own},
    observe,
    request::{Request, Verb},
};

impl State {
    /// What is to be done.
    pub(super) fn follow(&self, own: &Own, tree: &Tree) -> Requests {
        let mut requests = self.sweep(tree);
        requests.extend(self.take_over(own, tree));
        requests
    }

    /// Removes widgets that their group no longer has, once nothing of them runs.
    fn sweep(&self, tree: &Tree) -> Requests {
        let mut requests = Requests::new();
        let mut noted = BTreeSet::new();
        observe::each_widget(&tree.status, &mut |id, _| {
            noted.insert(id.clone());
        });
        let Some(node) = tree.node.as_deref() else { return requests };
        for group in super::groups(node) {
            let key = crate::kubernetes::forest::key_of(&group.id);
            let Some(own) = self.store.own(Kind::WidgetGroup, &key) else { continue };
            let wanted: BTreeSet<Key> =
                group.widgets.iter().map(|widget| self.object_of(tree, &widget.id).0).collect();
            let kept: BTreeSet<Key> = noted
                .iter()
                .filter(|id| id.group == group.id.name)
                .map(|id| self.object_of(tree, id).0)
                .collect();
            let prefix = format!("{}-", key.name);
            for (name, there) in self.store.named(Kind::Widget, &key.namespace, &prefix) {
                let ours = there
                    .meta
                    .controller
                    .as_ref()
                    .is_some_and(|owner| owner.uid == own.meta.uid);
                if ours && there.meta.deleting.is_none() && !wanted.contains(name) && !kept.contains(name) {
                    requests.push((Purpose::Stop, act::remove(Kind::Widget, name, &there.meta.uid, None)));
                }
            }
        }
        requests
    }

    /// The status of what is a child now speaks for no tree any more.
    fn take_over(&self, own: &Own, tree: &Tree) -> Requests {
        if own.supervision.is_empty() {
            return Requests::new();
        }
        let below = tree.members.iter().skip(1).filter_map(|(kind, key)| {
            let child = self.store.own(*kind, key).filter(|child| !child.supervision.is_empty())?;
            let body = json!({
                "metadata": {"resourceVersion": child.meta.version.to_string(), "uid": child.meta.uid},
                "status": {"supervision": null},
            });
            let request = Request::new(Verb::Merge, *kind, &key.namespace, &key.name).of("status");
            Some((Purpose::Follow, request.by("kontrol-plan").with(body)))
        });
        below.collect()
    }
}
