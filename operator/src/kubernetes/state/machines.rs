//! How the machines are, on the word of several signals together; the fold itself is the plan's.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use kontrol_core::{id::WidgetId, time::Timestamp};
use kontrol_plan::{
    NodeHealth,
    nodes::{Listener, Signs, fold},
};

use super::State;
use crate::kubernetes::pod::{ContainerState, Phase, PodOf};

/// How often they are looked at.
const LOOK: Duration = Duration::from_millis(250);

/// What is known of them.
#[derive(Debug, Default)]
pub(super) struct Machines {
    /// How those are that are not well.
    pub(super) health: BTreeMap<Arc<str>, NodeHealth>,
    looked: Timestamp,
    /// Since when this process leads, and so listens.
    pub(super) since: Timestamp,
    /// When the API server was heard last.
    pub(super) cluster: Option<Timestamp>,
}

impl State {
    /// Looks at the machines, where it is time.
    pub(super) fn look_at_machines(&mut self, now: Timestamp) {
        if now.since(self.machines.looked) < LOOK {
            return;
        }
        self.machines.looked = now;
        let mut signs: BTreeMap<Arc<str>, Signs> = BTreeMap::new();
        for (of, key, companion) in self.companions.iter() {
            let Some(pod) = self.store.pod(key) else { continue };
            let Some(node) = pod.node.clone() else { continue };
            let runs = pod.phase == Phase::Running
                && pod.meta.deleting.is_none()
                && matches!(pod.container.state, ContainerState::Running(_));
            let sign = signs.entry(node).or_default();
            sign.expected += u32::from(runs && matches!(of, PodOf::Replica(_)));
            sign.heard = sign.heard.max(Some(companion.heard));
        }
        for (name, node) in self.store.nodes() {
            if let Some(sign) = signs.get_mut(&**name) {
                sign.lease = node.renewed;
                sign.kubelet = node.written;
            }
        }
        // Machines whose instances have no sidecar that was ever heard speak by their leases alone.
        for (name, node) in self.store.nodes() {
            if !signs.contains_key(&**name) && node.renewed.is_some() {
                let sign = Signs { lease: node.renewed, kubelet: node.written, ..Signs::default() };
                signs.insert(Arc::from(&**name), sign);
            }
        }
        let listener = Listener { since: self.machines.since, cluster: self.machines.cluster };
        let mut health = fold(&signs, listener, now);
        // One that was given up stays so until it gives a sign of life: that nothing is expected of it any more is none.
        for (node, before) in &self.machines.health {
            let NodeHealth::Lost { since } = before else { continue };
            let sign = signs.get(node).copied().unwrap_or_default();
            let newest = sign.heard.max(sign.lease).max(sign.kubelet);
            let silent = newest.is_none_or(|at| at <= *since);
            if silent && self.store.nodes().contains_key(&**node) && !health.contains_key(node) {
                health.insert(node.clone(), *before);
            }
        }
        if health == self.machines.health {
            return;
        }
        let changed: BTreeSet<Arc<str>> = health
            .iter()
            .filter(|(node, health)| self.machines.health.get(*node) != Some(health))
            .map(|(node, _)| node.clone())
            .chain(self.machines.health.keys().filter(|node| !health.contains_key(*node)).cloned())
            .collect();
        for node in &changed {
            let (was, is) = (self.machines.health.get(node), health.get(node));
            tracing::warn!(node = &**node, ?was, ?is, "a machine's health has changed");
        }
        self.machines.health = health;
        let widgets: BTreeSet<WidgetId> = self
            .store
            .pods()
            .filter(|(_, pod)| pod.node.as_ref().is_some_and(|node| changed.contains(node)))
            .filter_map(|(_, pod)| Some(pod.instance()?.widget.clone()))
            .collect();
        for widget in &widgets {
            self.mark_group(widget);
        }
    }

    /// When the machines are looked at next; none: nobody is expected to be heard.
    pub(super) fn next_look(&self) -> Option<Timestamp> {
        let anybody = self.companions.iter().next().is_some() || !self.machines.health.is_empty();
        anybody.then(|| self.machines.looked.plus(LOOK))
    }
}
