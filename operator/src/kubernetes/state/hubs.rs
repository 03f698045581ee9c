//! The hubs of message buses: a claim, a Service and one pod each, started again with the next incarnation whenever it ends.

use std::{collections::BTreeSet, time::Duration};

use kontrol_core::{
    id::{Name, ObjectId},
    time::Timestamp,
};
use kontrol_crds as api;
use serde_json::json;

use super::{
    Effect, Purpose, State, act, messages,
    show::{accepted, shown, write},
};
use crate::{
    kubernetes::{
        forest::{Root, id_of, key_of},
        kind::Kind,
        object::Key,
        pod::{ContainerState, Phase, Pod, PodOf},
        render,
        request::{Request, Verb},
    },
    view::Addresses,
};

/// The pauses before a hub that keeps ending is started again.
const PAUSES: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(5)];
/// One that ran this long starts over with the pauses.
const STABLE: Duration = Duration::from_secs(30);

/// One hub.
#[derive(Debug, Default)]
pub(super) struct Hub {
    /// Where sidecars reach it, once it serves.
    pub(super) addresses: Option<Addresses>,
    /// The highest incarnation that was ever seen.
    incarnation: u64,
    failures: usize,
    not_before: Option<Timestamp>,
    claimed: bool,
    served: bool,
}

impl State {
    /// The buses that need a hub: those that are declared, and those that topics name.
    pub(super) fn note_buses(&mut self) {
        let mut wanted: BTreeSet<ObjectId> = self.declared.buses().map(|bus| bus.id.clone()).collect();
        for topic in self.declared.topics() {
            let bus = ObjectId { namespace: topic.id.namespace.clone(), name: topic.bus.clone() };
            wanted.insert(bus);
        }
        self.hubs.retain(|id, _| wanted.contains(id));
        for id in wanted {
            self.hubs.entry(id).or_default();
        }
    }

    fn pods_of_hub(&self, id: &ObjectId) -> Vec<(Key, Pod)> {
        let of = PodOf::Hub(id.name.clone());
        let ours = |key: &Key, pod: &Pod| pod.of == of && &*key.namespace == id.namespace.as_str();
        self.store
            .hub_pods()
            .filter(|(key, pod)| ours(key, pod))
            .map(|(key, pod)| (key.clone(), pod.clone()))
            .collect()
    }

    /// Looks after every hub.
    pub(super) fn tend_hubs(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        if !self.store.fresh(Kind::Pod) || !self.store.fresh(Kind::MessageBus) {
            return;
        }
        let ids: Vec<ObjectId> = self.hubs.keys().cloned().collect();
        for id in ids {
            let root = Root { kind: Kind::MessageBus, key: key_of(&id) };
            if self.trees.get(&root).is_some_and(|tree| tree.outstanding > 0) {
                continue;
            }
            let mut hub = self.hubs.remove(&id).unwrap_or_default();
            let requests = self.tend_hub(&id, &mut hub, now);
            self.hubs.insert(id, hub);
            for (purpose, request) in requests {
                self.ask(&root, purpose, request, effects);
            }
        }
    }

    fn tend_hub(&mut self, id: &ObjectId, hub: &mut Hub, now: Timestamp) -> Vec<(Purpose, Request)> {
        let root = Root { kind: Kind::MessageBus, key: key_of(id) };
        let held = self.trees.get(&root).and_then(|tree| tree.hold.until(now));
        if held.is_some() {
            self.queue.at(&root, held);
            return Vec::new();
        }
        let object = self.store.own(Kind::MessageBus, &root.key);
        if object.is_some_and(|object| object.meta.deleting.is_some()) {
            return Vec::new();
        }
        let owner = object.map(|object| render::Owner {
            kind: "MessageBus",
            name: id.name.to_string(),
            uid: object.meta.uid.to_string(),
        });
        let (namespace, bus) = (id.namespace.as_str(), id.name.as_str());
        let requests = self.trust(namespace);
        if !requests.is_empty() {
            return requests;
        }
        let spec = object.and_then(|object| serde_json::from_str::<api::MessageBusSpec>(&object.spec).ok());
        let storage = spec.map(|spec| spec.embedded.storage).unwrap_or_default();
        let name = render::names::hub(bus);
        let apply = |kind: Kind, body: serde_json::Value| {
            (
                Purpose::Prepare,
                Request::new(Verb::Apply, kind, namespace, &name).by("kontrol-reconciler").with(body),
            )
        };
        if !hub.claimed {
            hub.claimed = true;
            let claim = render::hub_claim(namespace, bus, &storage, true);
            let claim = serde_json::to_value(claim).unwrap_or_default();
            return vec![(Purpose::Claim(id.clone()), apply(Kind::PersistentVolumeClaim, claim).1)];
        }
        if !hub.served {
            hub.served = true;
            let service = serde_json::to_value(render::hub_service(namespace, bus, owner.as_ref()));
            return vec![apply(Kind::Service, service.unwrap_or_default())];
        }
        let pods = self.pods_of_hub(id);
        let highest = pods.iter().map(|(_, pod)| pod.incarnation).max().unwrap_or(0);
        hub.incarnation = hub.incarnation.max(highest);
        let mut requests = Vec::new();
        let mut lives = false;
        for (key, pod) in &pods {
            let over = is_over(pod);
            lives |= !over;
            if over && pod.meta.deleting.is_none() {
                let ran = now.since(pod.created);
                hub.failures = if ran >= STABLE { 0 } else { hub.failures + 1 };
                let pause = PAUSES.get(hub.failures.min(PAUSES.len() - 1)).copied().unwrap_or_default();
                hub.not_before = Some(now.plus(if ran >= STABLE { Duration::ZERO } else { pause }));
                requests.push((Purpose::Stop, act::remove(Kind::Pod, key, &pod.meta.uid, None)));
            }
        }
        let newest = pods.iter().max_by_key(|(_, pod)| pod.incarnation);
        let companion = newest.and_then(|(_, pod)| self.companions.of(&pod.meta.uid));
        let serves = companion.is_some().then(|| Addresses {
            peer: format!("{name}.{namespace}.svc:{}", render::names::PEER_PORT),
            admin: companion.map(|companion| companion.addresses.admin.clone()).unwrap_or_default(),
            ..Addresses::default()
        });
        if hub.addresses != serves {
            hub.addresses = serves;
            self.concerns_all_of(namespace);
            self.bus_changed(id);
        }
        if !requests.is_empty() {
            return requests;
        }
        if !lives {
            if let Some(at) = hub.not_before.filter(|at| *at > now) {
                self.queue.at(&root, Some(at));
                return self.show_bus(id, hub, newest.map(|(_, pod)| pod), now);
            }
            let incarnation = hub.incarnation + 1;
            let input = render::HubInput {
                settings: &self.settings,
                namespace,
                bus,
                owner: owner.as_ref(),
                incarnation,
            };
            let body = serde_json::to_value(render::hub_pod(&input)).unwrap_or_default();
            let pod = render::names::hub_pod(bus, incarnation);
            let request = Request::new(Verb::Create, Kind::Pod, namespace, &pod);
            return vec![(Purpose::Prepare, request.by("kontrol-reconciler").with(body))];
        }
        if let Some(tree) = self.trees.get_mut(&root) {
            (tree.refusal, tree.failed, tree.logged) = (None, None, None);
        }
        self.show_bus(id, hub, newest.map(|(_, pod)| pod), now)
    }

    fn show_bus(
        &self,
        id: &ObjectId,
        hub: &Hub,
        pod: Option<&Pod>,
        now: Timestamp,
    ) -> Vec<(Purpose, Request)> {
        let key = key_of(id);
        let Some(object) = self.store.own(Kind::MessageBus, &key) else { return Vec::new() };
        let Some(tree) = self.trees.get(&Root { kind: Kind::MessageBus, key: key.clone() }) else {
            return Vec::new();
        };
        if tree.shows.until(now).is_some() {
            return Vec::new();
        }
        let ready = hub.addresses.is_some();
        let of = |kind, status: bool, yes: &str, no: &str| {
            shown(kind, status, if ready { yes } else { no }, String::new())
        };
        let mut serves = of("Ready", ready, "Serving", "Starting");
        serves.message = pod.map_or_else(String::new, |pod| pod.message.to_string());
        let stalled = match &tree.refusal {
            Some(refusal) => shown("Stalled", true, refusal.reason, refusal.message.to_string()),
            None => shown("Stalled", false, "Settled", String::new()),
        };
        let mut working = of("Reconciling", !ready, "Settled", "Starting");
        working.message = tree.failed.clone().unwrap_or_default();
        let conditions = vec![
            serves,
            working,
            stalled,
            accepted(messages::problem_of_bus(object, &key).as_ref()),
            of("Progressing", !ready, "Complete", "Starting"),
        ];
        let bus = id.name.as_str();
        let view = json!({
            "pod": render::names::hub_pod(bus, hub.incarnation),
            "claim": render::names::hub(bus),
            "address": format!("{}.{}.svc:{}", render::names::hub(bus), id.namespace, render::names::PEER_PORT),
            "restarts": hub.incarnation.saturating_sub(1),
            "guarantees": ["Durable", "AtLeastOnce", "OrderedByKey", "Deduplicated"],
        });
        write(Kind::MessageBus, &key, object, tree, view, conditions, now).into_iter().collect()
    }

    /// A claim that the cluster refused in its stricter form is asked for in the common one.
    pub(super) fn claim_refused(&mut self, id: &ObjectId) -> Option<Request> {
        let storage = self
            .store
            .own(Kind::MessageBus, &key_of(id))
            .and_then(|object| serde_json::from_str::<api::MessageBusSpec>(&object.spec).ok())
            .map(|spec| spec.embedded.storage)
            .unwrap_or_default();
        let (namespace, bus) = (id.namespace.as_str(), id.name.as_str());
        let claim = serde_json::to_value(render::hub_claim(namespace, bus, &storage, false)).ok()?;
        let request =
            Request::new(Verb::Apply, Kind::PersistentVolumeClaim, namespace, &render::names::hub(bus));
        Some(request.by("kontrol-reconciler").with(claim))
    }

    /// The bus that a hub's pod is of.
    pub(super) fn bus_of(namespace: &str, bus: &Name) -> Option<ObjectId> {
        id_of(&Key::new(namespace, bus.as_str()))
    }
}

fn is_over(pod: &Pod) -> bool {
    matches!(pod.phase, Phase::Succeeded | Phase::Failed)
        || (!pod.restarts_itself && matches!(pod.container.state, ContainerState::Ended(_)))
}
