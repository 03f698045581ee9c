//! The world as others see it.

use std::{borrow::Cow, collections::BTreeMap, net::SocketAddr};

use kontrol_core::{
    id::{InstanceId, Name, ObjectId, WidgetId},
    time::Timestamp,
};
use kontrol_plan::{
    Status,
    status::{Replica as Noted, ReplicaPhase},
};
use kontrol_proto::v1;

use super::{State, sessions};
use crate::{
    kubernetes::{forest::Root, object::Key, observe, pod::Pod, render::names::PEER_PORT},
    view::{Addresses, Declared, Replica, Run, View},
};

impl View for State {
    fn declared(&self) -> &Declared {
        &self.declared
    }

    fn replicas(&self, widget: &WidgetId) -> impl Iterator<Item = Replica<'_>> {
        let mut newest: BTreeMap<u32, (&InstanceId, &Pod)> = BTreeMap::new();
        for (_, pod) in self.store.pods_of(&widget.namespace, &widget.group) {
            let Some(id) = pod.instance().filter(|id| id.widget == *widget) else { continue };
            let known =
                newest.get(&id.ordinal).is_some_and(|(_, known)| known.incarnation >= pod.incarnation);
            if !known {
                newest.insert(id.ordinal, (id, pod));
            }
        }
        let status = self.status_with(widget);
        let noted = status.as_ref().and_then(|(_, status)| observe::noted(status, widget));
        let noted = |id: &InstanceId| noted.and_then(|noted| noted.replicas.get(id.ordinal as usize));
        let replicas: Vec<Replica<'_>> =
            newest.into_values().map(|(id, pod)| self.replica(id, pod, noted(id))).collect();
        replicas.into_iter()
    }

    /// What the sidecar has said, or where it is by its pod: with a new leader it may come later than those who call it, and who is ready
    /// is not to be missed meanwhile.
    fn peer(&self, replica: &Replica<'_>) -> Option<String> {
        let said = replica.addresses.map(|addresses| addresses.peer.clone());
        let by_pod = || {
            let ip = replica.host.parse().ok().filter(|_| replica.is_ready())?;
            Some(SocketAddr::new(ip, PEER_PORT).to_string())
        };
        said.or_else(by_pod)
    }

    fn hub(&self, bus: &ObjectId) -> Option<&Addresses> {
        self.hubs.get(bus)?.addresses.as_ref()
    }

    fn queue(
        &self,
        topic: &ObjectId,
        subscription: &Name,
    ) -> Option<(Timestamp, &v1::hub_signals::Subscription)> {
        self.companions.queue(topic, subscription).map(|(at, queue)| (*at, queue))
    }
}

impl State {
    /// The newest pod of a replica.
    pub(super) fn newest(&self, instance: &InstanceId) -> Option<(&Key, &Pod)> {
        let WidgetId { namespace, group, .. } = &instance.widget;
        let pods = self.store.pods_of(namespace, group);
        pods.filter(|(_, pod)| pod.instance() == Some(instance)).max_by_key(|(_, pod)| pod.incarnation)
    }

    /// The status of the tree that a widget is in, with its root.
    pub(super) fn status_with(&self, id: &WidgetId) -> Option<(Root, Cow<'_, Status>)> {
        let (kind, key) = self.group_object(id);
        let root = self.forest.root_of(&self.store, kind, &key)?;
        let status = self.trees.status(&root, self.store.own(root.kind, &root.key))?;
        Some((root, status))
    }

    /// One replica as others see it, and as it is noted.
    fn replica<'a>(&'a self, id: &'a InstanceId, pod: &'a Pod, noted: Option<&Noted>) -> Replica<'a> {
        let companion = self.companions.of(&pod.meta.uid);
        let seen = self.seen(id, pod, noted);
        let decided = noted.map_or(0, |noted| match noted.phase {
            ReplicaPhase::Starting => noted.incarnation.saturating_sub(1),
            _ => noted.incarnation,
        });
        Replica {
            id,
            fence: pod.incarnation.max(decided),
            run: Some(Run {
                incarnation: pod.incarnation,
                epoch: pod.epoch,
                state: seen.state,
                since: seen.since,
                runs: !seen.state.is_ended() && pod.node.is_some(),
                pid: None,
            }),
            signals: companion
                .and_then(|companion| companion.signals.as_ref())
                .map(|(at, signals)| (*at, signals)),
            breakers: companion
                .and_then(|companion| companion.signals.as_ref())
                .map_or(&[], |(_, signals)| &signals.breakers),
            note: None,
            addresses: companion.map(|companion| &companion.addresses),
            host: &pod.ip,
            port: self.declared.widget(&id.widget).and_then(sessions::port_of),
            sidecar_pid: None,
            pod: None,
            node: pod.node.as_deref(),
        }
    }
}
