//! The hubs of message buses: a claim, a Service and one pod each, started again with the next incarnation whenever it ends. What is left of a
//! hub that nothing names any more is removed; its claim stays.
//!
//! Each look asks for all that is missing. The claim and the Service are tried again at pauses of their own, so that what is refused of them
//! keeps no hub from being started again that once ran.

mod kept;

use std::{collections::BTreeSet, time::Duration};

use kontrol_core::{id::ObjectId, time::Timestamp};
use kontrol_crds as api;
use serde_json::json;

use super::{
    Effect, Purpose, State, act, messages, prepare,
    reconcile::Requests,
    show::{accepted, shown, write},
};
use crate::{
    kubernetes::{
        forest::{Root, id_of, key_of},
        kind::Kind,
        object::{Key, Owned},
        pod::{ContainerState, Phase, Pod, PodOf},
        render,
        request::{Outcome, Request, Verb},
    },
    view::Addresses,
};

/// The pauses before a hub that keeps ending is started again.
const PAUSES: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(5)];
/// One that ran this long starts over with the pauses.
const STABLE: Duration = Duration::from_secs(30);

/// What has to be known for certain before a hub is looked after.
const KNOWN: [Kind; 4] = [Kind::Pod, Kind::Service, Kind::MessageBus, Kind::Topic];

/// One hub.
#[derive(Debug, Default)]
pub(super) struct Hub {
    /// Where sidecars reach it, once it serves.
    pub(super) addresses: Option<Addresses>,
    /// The highest incarnation that was ever seen.
    incarnation: u64,
    /// The one that its claim keeps, as far as is known.
    kept: u64,
    /// Whether the claim was read since this process leads.
    read: bool,
    /// The highest one whose end was counted.
    ended: u64,
    failures: usize,
    not_before: Option<Timestamp>,
    /// Whether its claim is there, as far as is known.
    claimed: bool,
    /// Whether the cluster refused the claim in its stricter form.
    common: bool,
    /// The generation of its bus that the claim was asked for by last, and the one that it is as.
    generations: (i64, i64),
    /// The version of the pod that missed the claim last.
    missed: u64,
}

/// The root that stands for a hub.
fn root_of(id: &ObjectId) -> Root {
    Root { kind: Kind::MessageBus, key: key_of(id) }
}

impl State {
    /// The buses that need a hub: those that are declared, and those that topics name.
    pub(super) fn note_buses(&mut self) {
        let mut wanted: BTreeSet<ObjectId> = self.declared.buses().map(|bus| bus.id.clone()).collect();
        for topic in self.declared.topics() {
            let bus = ObjectId { namespace: topic.id.namespace.clone(), name: topic.bus.clone() };
            wanted.insert(bus);
        }
        let gone: Vec<ObjectId> = self.hubs.keys().filter(|id| !wanted.contains(id)).cloned().collect();
        for id in gone {
            self.hubs.remove(&id);
            self.mark_hub(&id);
        }
        for id in wanted {
            if !self.hubs.contains_key(&id) {
                self.mark_hub(&id);
                self.hubs.insert(id, Hub::default());
            }
        }
    }

    /// Has a hub looked at again.
    pub(super) fn mark_hub(&mut self, id: &ObjectId) {
        self.mark(root_of(id));
    }

    /// The hubs that there are, or are to be, or of which something is left.
    pub(super) fn known_hubs(&self) -> BTreeSet<Root> {
        let services =
            self.store.owned_by_hubs(Kind::Service).filter_map(|(key, service)| bus_of(key, &service));
        let pods = self.store.hubs().cloned();
        self.hubs.keys().cloned().chain(pods).chain(services).map(|id| root_of(&id)).collect()
    }

    /// A Service has changed, or has gone, that may be a hub's.
    pub(super) fn service_of_hub(&mut self, key: &Key) {
        let known = self.store.owned(Kind::Service, key).and_then(|service| bus_of(key, &service));
        let here = self.hubs.keys().filter(|id| {
            id.namespace.as_str() == &*key.namespace && render::names::hub(id.name.as_str()) == *key.name
        });
        let hubs: Vec<ObjectId> = here.cloned().chain(known).collect();
        for id in &hubs {
            self.mark_hub(id);
        }
    }

    /// Whether something may name a bus that cannot be read: nobody knows that nothing needs its hub.
    pub(super) fn may_be_named(&self, bus: &ObjectId) -> bool {
        let own = self.store.own(Kind::MessageBus, &key_of(bus));
        own.is_some_and(|own| own.meta.deleting().is_none())
            || self.store.all_in(Kind::Topic, bus.namespace.as_str()).any(|(key, own)| {
                let read = id_of(key).is_some_and(|id| self.declared.topic(&id).is_some());
                own.meta.deleting().is_none() && !read
            })
    }

    /// Looks after one hub, or after what is left of it.
    pub(super) fn tend_hub(&mut self, root: &Root, now: Timestamp, effects: &mut Vec<Effect>) {
        if !self.sees(&root.key.namespace, &KNOWN) {
            return;
        }
        let Some(id) = id_of(&root.key) else { return };
        let Some(mut hub) = self.hubs.remove(&id) else {
            for (purpose, request) in self.leave(&id, root, now) {
                self.ask(root, purpose, request, effects);
            }
            return;
        };
        let tree = self.trees.wake(root, &self.declared);
        let (held, paused) = (tree.hold.until(now), tree.follows.until(now));
        let pods: Vec<(Key, Pod)> =
            self.store.hub_pods(&id).map(|(key, pod)| (key.clone(), pod.clone())).collect();
        self.see_hub(&id, &mut hub, &pods, now);
        let mut requests = if held.is_some() {
            Requests::new()
        } else {
            self.missing_of_hub(&id, &hub, &pods, paused.is_none(), now)
        };
        if requests.is_empty() {
            let served = self.service_is_there(&id);
            let lives = pods.iter().any(|(_, pod)| !is_over(pod));
            if let Some(tree) =
                self.trees.awake_mut(root).filter(|_| lives && hub.claimed && served && paused.is_none())
            {
                (tree.refusal, tree.failed, tree.behind, tree.logged) = (None, None, None, None);
            }
            let newest = pods.iter().max_by_key(|(_, pod)| pod.incarnation).map(|(_, pod)| pod);
            requests = self.show_bus(&id, &hub, newest, now);
        }
        if requests.iter().any(|(purpose, _)| matches!(purpose, Purpose::Claim(_))) {
            hub.generations.0 = self.generation_of_bus(&id);
        }
        let shows = self.trees.awake(root).and_then(|tree| tree.shows.until(now));
        let later = hub.not_before.filter(|at| *at > now);
        let next = [held, paused, shows, later].into_iter().flatten().min();
        self.queue.at(root, next);
        self.hubs.insert(id, hub);
        for (purpose, request) in requests {
            self.ask(root, purpose, request, effects);
        }
    }

    /// What a hub's pods show of it.
    fn see_hub(&mut self, id: &ObjectId, hub: &mut Hub, pods: &[(Key, Pod)], now: Timestamp) {
        for (_, pod) in pods {
            hub.incarnation = hub.incarnation.max(pod.incarnation);
            if is_over(pod) && pod.incarnation > hub.ended {
                hub.ended = pod.incarnation;
                let ran = now.since(pod.created);
                hub.failures = if ran >= STABLE { 0 } else { hub.failures.saturating_add(1) };
                let pause = PAUSES.get(hub.failures.min(PAUSES.len() - 1)).copied().unwrap_or_default();
                hub.not_before = Some(now.plus(pause));
            }
        }
        let newest = pods.iter().max_by_key(|(_, pod)| pod.incarnation).map(|(_, pod)| pod);
        if let Some(pod) = newest {
            if misses_claim(pod) {
                // Somebody removed it. It is asked for once each time that the scheduler says so.
                hub.claimed &= hub.missed == pod.meta.version;
                hub.missed = pod.meta.version;
            } else {
                // What a node took had its claim.
                hub.claimed |= pod.node.is_some();
            }
        }
        let (namespace, name) = (id.namespace.as_str(), render::names::hub(id.name.as_str()));
        let companion = newest.and_then(|pod| self.companions.of(&pod.meta.uid));
        // To a new leader a hub may come later than those who use it: one that is ready is not to be missed meanwhile.
        let is_there = |pod: &Pod| pod.ready.is_some() && pod.meta.deleting().is_none();
        let serves = (companion.is_some() || newest.is_some_and(is_there)).then(|| Addresses {
            peer: format!("{name}.{namespace}.svc:{}", render::names::PEER_PORT),
            admin: companion.map(|companion| companion.addresses.admin.clone()).unwrap_or_default(),
            ..Addresses::default()
        });
        if hub.addresses != serves {
            hub.addresses = serves;
            self.concerns(&PodOf::Hub(id.clone()));
            self.bus_changed(id);
        }
    }

    /// What is to be asked for so that a hub runs.
    fn missing_of_hub(
        &self,
        id: &ObjectId,
        hub: &Hub,
        pods: &[(Key, Pod)],
        surroundings: bool,
        now: Timestamp,
    ) -> Requests {
        let (namespace, bus) = (id.namespace.as_str(), id.name.as_str());
        let object = self.store.own(Kind::MessageBus, &key_of(id));
        if object.is_some_and(|object| object.meta.deleting().is_some()) {
            return Requests::new();
        }
        let trust = self.trust(namespace);
        if !trust.is_empty() {
            return trust;
        }
        let owner = object.map(|object| render::Owner {
            kind: "MessageBus",
            name: id.name.to_string(),
            uid: object.meta.uid.to_string(),
        });
        let mut requests = Requests::new();
        if surroundings {
            // Before anything is written on it, what it keeps is read.
            if !hub.claimed || !hub.read || hub.generations.1 != self.generation_of_bus(id) {
                requests.push((Purpose::Claim(id.clone()), self.claim(id, !hub.common)));
            } else if hub.kept < hub.incarnation {
                requests.push(Self::keep_number(id, hub.incarnation));
            }
            requests.extend(self.service_of(id, owner.as_ref()));
        }
        let over = pods.iter().filter(|(_, pod)| is_over(pod) && pod.meta.deleting().is_none());
        requests
            .extend(over.map(|(key, pod)| (Purpose::Stop, act::remove(Kind::Pod, key, &pod.meta.uid, None))));
        let lives = pods.iter().any(|(_, pod)| !is_over(pod));
        let waits = hub.not_before.is_some_and(|at| at > now);
        // One that ran needs no new word on what is there.
        let may_start = hub.incarnation > 0 || (hub.claimed && self.service_is_there(id));
        if requests.is_empty() && !lives && !waits && may_start {
            let incarnation = hub.incarnation.saturating_add(1);
            if surroundings && hub.claimed && hub.kept < incarnation {
                // Decided, written, and then done; where it may not be written, done all the same.
                requests.push(Self::keep_number(id, incarnation));
                return requests;
            }
            let spec = self.spec_of_bus(id).unwrap_or_default().embedded;
            let input = render::HubInput {
                spec: &spec,
                settings: &self.settings,
                namespace,
                bus,
                owner: owner.as_ref(),
                incarnation,
            };
            let body = serde_json::to_value(render::hub_pod(&input)).unwrap_or_default();
            let pod = render::names::hub_pod(bus, incarnation);
            let request = Request::new(Verb::Create, Kind::Pod, namespace, &pod);
            requests.push((Purpose::Prepare, request.by("kontrol-reconciler").with(body)));
        }
        requests
    }

    /// A hub that nothing names any more: its pods and its Service go. Its claim stays: what it holds is the user's.
    fn leave(&mut self, id: &ObjectId, root: &Root, now: Timestamp) -> Requests {
        let held = self.trees.awake(root).and_then(|tree| tree.hold.until(now));
        self.queue.at(root, held);
        if held.is_some() || self.may_be_named(id) {
            return Requests::new();
        }
        let key = Key::new(id.namespace.as_str(), &render::names::hub(id.name.as_str()));
        let service = self.store.owned(Kind::Service, &key);
        let service = service.filter(|service| bus_of(&key, service).as_ref() == Some(id));
        let pods = self.store.hub_pods(id).map(|(key, pod)| (Kind::Pod, key, &pod.meta));
        let left: Vec<_> =
            pods.chain(service.iter().map(|service| (Kind::Service, &key, &service.meta))).collect();
        if left.is_empty() {
            self.trees.remove(root);
            return Requests::new();
        }
        let stays = left.into_iter().filter(|(_, _, meta)| meta.deleting().is_none());
        stays.map(|(kind, key, meta)| (Purpose::Stop, act::remove(kind, key, &meta.uid, None))).collect()
    }

    /// The request for a hub's claim: only for one pod at a time, or in the form that every cluster has.
    fn claim(&self, id: &ObjectId, one_pod: bool) -> Request {
        let (namespace, bus) = (id.namespace.as_str(), id.name.as_str());
        let storage = self.spec_of_bus(id).map(|spec| spec.embedded.storage).unwrap_or_default();
        let claim = render::hub_claim(namespace, bus, &storage, one_pod);
        let name = render::names::hub(bus);
        let request = Request::new(Verb::Apply, Kind::PersistentVolumeClaim, namespace, &name);
        request.by("kontrol-reconciler").with(serde_json::to_value(claim).unwrap_or_default())
    }

    fn spec_of_bus(&self, id: &ObjectId) -> Option<api::MessageBusSpec> {
        let object = self.store.own(Kind::MessageBus, &key_of(id))?;
        serde_json::from_str(&object.readable().read()).ok()
    }

    /// What became of the request for a hub's claim. `true`: it is asked for in another form at once.
    pub(super) fn claim_answered(&mut self, id: &ObjectId, outcome: &Outcome) -> bool {
        let Some(hub) = self.hubs.get_mut(id) else { return false };
        hub.claimed = outcome.is_done();
        if hub.claimed {
            hub.remember(&outcome.value());
            hub.generations.1 = hub.generations.0;
        }
        // Of one that was read its form is known: what is refused then is another size.
        if hub.read || !matches!(outcome, Outcome::Invalid(_) | Outcome::Forbidden(_)) {
            return false;
        }
        hub.common = !hub.common;
        hub.common
    }

    /// 0: it is not declared, as those that topics alone name.
    fn generation_of_bus(&self, id: &ObjectId) -> i64 {
        self.store.own(Kind::MessageBus, &key_of(id)).map_or(0, |object| object.meta.generation)
    }

    /// The request that makes a hub's Service as it is to be; none: it is. One that somebody else has is left alone.
    fn service_of(&self, id: &ObjectId, owner: Option<&render::Owner>) -> Option<(Purpose, Request)> {
        let (namespace, bus) = (id.namespace.as_str(), id.name.as_str());
        let mut body = serde_json::to_value(render::hub_service(namespace, bus, owner)).unwrap_or_default();
        let name = render::names::hub(bus);
        let there = self.store.owned(Kind::Service, &Key::new(namespace, &name));
        let hash = prepare::hash(&body);
        if there.as_ref().and_then(|there| there.meta.annotation("applied")) == Some(hash.as_str()) {
            return None;
        }
        body["metadata"]["annotations"] = json!({"kontrol.dev/applied": hash});
        let verb = if self.service_is_there(id) { Verb::Apply } else { Verb::Create };
        let request = Request::new(verb, Kind::Service, namespace, &name);
        Some((Purpose::Follow, request.by("kontrol-reconciler").with(body)))
    }

    fn service_is_there(&self, id: &ObjectId) -> bool {
        let key = Key::new(id.namespace.as_str(), &render::names::hub(id.name.as_str()));
        let there = self.store.owned(Kind::Service, &key);
        there.is_some_and(|there| bus_of(&key, &there).as_ref() == Some(id))
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
        let Some(tree) = self.trees.awake(&Root { kind: Kind::MessageBus, key: key.clone() }) else {
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
        serves.message = pod.map_or_else(String::new, |pod| pod.said().message.to_string());
        let stalled = match &tree.refusal {
            Some(refusal) => shown("Stalled", true, refusal.reason, refusal.message.to_string()),
            None => shown("Stalled", false, "Settled", String::new()),
        };
        let mut working = of("Reconciling", !ready, "Settled", "Starting");
        working.message = tree.trouble();
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
}

/// The bus that a Service is of, by its labels and its owner; none: it is no hub's.
fn bus_of(key: &Key, service: &Owned) -> Option<ObjectId> {
    let id = id_of(&Key::new(&key.namespace, &service.bus))?;
    let owner = service.meta.controller.as_deref();
    let ours = owner.is_none_or(|owner| &*owner.kind == "MessageBus" && *owner.name == *service.bus);
    (ours && render::names::hub(id.name.as_str()) == *key.name).then_some(id)
}

fn is_over(pod: &Pod) -> bool {
    match &pod.container.state {
        _ if matches!(pod.phase, Phase::Succeeded | Phase::Failed) => true,
        ContainerState::Ended(_) => !pod.restarts_itself,
        // Nobody waits for the kubelet.
        ContainerState::Waiting { reason, .. } => &**reason == "CrashLoopBackOff",
        _ => false,
    }
}

/// Whether no node takes a pod because there is no claim, or one that is being removed.
fn misses_claim(pod: &Pod) -> bool {
    pod.said().unschedulable.is_some()
        && pod.said().message.contains("persistentvolumeclaim")
        && (pod.said().message.contains("not found") || pod.said().message.contains("being deleted"))
}
