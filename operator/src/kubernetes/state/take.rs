//! What inputs do to the state.

use std::sync::Arc;

use kontrol_core::{spec, time::Timestamp};
use kontrol_crds as api;

use super::{Input, PAUSES, Pending, Purpose, State, TERMINATING, Ticket, prepare};
use crate::kubernetes::{
    forest::{Root, id_of},
    kind::Kind,
    object::Key,
    pod::PodOf,
    request::Outcome,
    store::{Change, Seen, Source},
};

impl State {
    /// Takes note of an input.
    pub fn take(&mut self, input: Input, now: Timestamp) {
        match input {
            Input::Watch(source, seen) => {
                if !matches!(seen, Seen::Broken(_)) {
                    self.machines.cluster = Some(now);
                }
                self.watch(&source, seen, now);
            }
            Input::Answer(ticket, outcome) => {
                if !matches!(outcome, Outcome::Failed(_)) {
                    self.machines.cluster = Some(now);
                }
                self.answer(ticket, &outcome, now);
            }
            Input::Leads(leads) => {
                if leads && !self.leads {
                    // Whoever led before may have written what has not been seen here yet: every tree is looked at.
                    self.trees.clear();
                    self.machines.since = now;
                    self.machines.health.clear();
                    self.mark_all();
                    self.note_buses();
                }
                if !leads {
                    self.companions.forget();
                    self.hubs.clear();
                    self.trusted.clear();
                    self.pending.clear();
                    self.trees.values_mut().for_each(|tree| tree.outstanding = 0);
                }
                self.leads = leads;
            }
            Input::Control(event) => self.control(event, now),
            Input::Trust(bundle) => {
                let hash = prepare::hash(&serde_json::Value::String(bundle.clone()));
                self.trust = Some((bundle, hash.into()));
                self.mark_all();
            }
        }
    }

    fn watch(&mut self, source: &Source, seen: Seen, now: Timestamp) {
        for change in self.store.hear(source, seen, now) {
            self.changed(change);
        }
    }

    fn changed(&mut self, change: Change) {
        match change {
            Change::Nothing | Change::Node(_) => {}
            Change::Own(kind @ (Kind::Supervisor | Kind::WidgetGroup | Kind::Widget), key) => {
                self.object(kind, &key);
            }
            Change::Own(kind, key) => self.message_object(kind, &key),
            Change::Pod(key, PodOf::Replica(instance)) => {
                self.mark_group(&instance.widget);
                self.pod_is_gone(&key);
                self.concerns(&PodOf::Replica(instance));
            }
            Change::Pod(key, PodOf::Hub(bus)) => {
                self.pod_is_gone(&key);
                if let Some(id) = Self::bus_of(&key.namespace, &bus) {
                    self.queue
                        .now(Root { kind: Kind::MessageBus, key: crate::kubernetes::forest::key_of(&id) });
                }
            }
            Change::Owned(_, key) => {
                let owner = Key::new(&key.namespace, &key.name);
                self.mark_object(Kind::Widget, &owner);
            }
            Change::Freshness(source) => {
                if self.store.fresh(source.kind) {
                    self.mark_all();
                }
            }
        }
    }

    /// A topic, a route or a bus.
    fn message_object(&mut self, kind: Kind, key: &Key) {
        let Some(id) = id_of(key) else { return };
        let own = self.store.own(kind, key).filter(|own| own.meta.deleting.is_none());
        let metadata = || kube::core::ObjectMeta {
            namespace: Some(key.namespace.to_string()),
            name: Some(key.name.to_string()),
            ..kube::core::ObjectMeta::default()
        };
        // One that cannot be read leaves what was declared before as it is.
        match (kind, own) {
            (Kind::Topic, None) => self.declared.set_topic(&id, None),
            (Kind::Route, None) => self.declared.set_route(&id, None),
            (Kind::MessageBus, None) => self.declared.set_bus(&id, None),
            (Kind::Topic, Some(own)) => {
                let object = serde_json::from_str(&own.spec).ok();
                let object = object.map(|spec| api::Topic { metadata: metadata(), spec, status: None });
                if let Some(topic) = object.and_then(|object| spec::Topic::try_from(&object).ok()) {
                    self.declared.set_topic(&id, Some(Arc::new(topic)));
                }
            }
            (Kind::Route, Some(own)) => {
                let object = serde_json::from_str(&own.spec).ok();
                let object = object.map(|spec| api::Route { metadata: metadata(), spec, status: None });
                if let Some(route) = object.and_then(|object| spec::Route::try_from(&object).ok()) {
                    self.declared.set_route(&id, Some(Arc::new(route)));
                }
            }
            (_, Some(own)) => {
                let object = serde_json::from_str(&own.spec).ok();
                let object = object.map(|spec| api::MessageBus { metadata: metadata(), spec, status: None });
                if let Some(bus) = object.and_then(|object| spec::Bus::try_from(&object).ok()) {
                    self.declared.set_bus(&id, Some(Arc::new(bus)));
                }
            }
            _ => {}
        }
        if self.leads {
            self.note_buses();
            self.concerns_all_of(&key.namespace);
            self.queue.now(Root { kind: Kind::MessageBus, key: key.clone() });
        }
    }

    fn object(&mut self, kind: Kind, key: &Key) {
        if kind == Kind::Supervisor {
            let own = self.store.own(kind, key).cloned();
            for (supervisor, child) in self.forest.note(key, own.as_ref()) {
                if supervisor {
                    self.mark_object(Kind::Supervisor, &child);
                } else {
                    self.mark_object(Kind::WidgetGroup, &child);
                    self.mark_object(Kind::Widget, &child);
                }
            }
        }
        // One that was the root of a tree is looked at as such, so that its tree is forgotten where it no longer is.
        let root = Root { kind, key: key.clone() };
        if self.trees.contains_key(&root) {
            self.mark(root);
        }
        self.mark_object(kind, key);
        if kind == Kind::Widget {
            // The group whose widget it was may have to make it again.
            let groups = self.trees.iter().filter(|(_, tree)| {
                tree.members.iter().any(|(kind, group)| {
                    *kind == Kind::WidgetGroup
                        && group.namespace == key.namespace
                        && key.name.strip_prefix(&*group.name).is_some_and(|rest| rest.starts_with('-'))
                })
            });
            if self.store.own(kind, key).is_none() {
                let groups: Vec<Root> = groups.map(|(root, _)| root.clone()).collect();
                for root in groups {
                    self.mark(root);
                }
            }
        }
    }

    fn answer(&mut self, ticket: Ticket, outcome: &Outcome, now: Timestamp) {
        let Some(Pending { root, purpose, kind, key, version }) = self.pending.remove(&ticket) else {
            return;
        };
        if let Outcome::Done(text) = outcome {
            let change = if matches!(purpose, Purpose::Stop) && is_status(text) {
                self.store.gone(kind, &key, version)
            } else {
                self.store.is(kind, text, now)
            };
            self.changed(change);
        }
        if let (Purpose::Template(id, revision), Outcome::Done(text)) = (&purpose, outcome)
            && let Some(mut tree) = self.trees.remove(&root)
        {
            Self::keep_template(&mut tree, id, *revision, text);
            self.trees.insert(root.clone(), tree);
        }
        if let (Purpose::Trust(namespace, hash), true) = (&purpose, outcome.is_done()) {
            self.trusted.insert(namespace.clone(), hash.clone());
        }
        if let (Purpose::Claim(id), Outcome::Invalid(_) | Outcome::Forbidden(_)) = (&purpose, outcome)
            && let Some(request) = self.claim_refused(id)
        {
            self.again.push((root.clone(), request));
        }
        let Some(tree) = self.trees.get_mut(&root) else { return };
        tree.outstanding = tree.outstanding.saturating_sub(1);
        let failure = match (&purpose, outcome) {
            // What is to go is gone.
            (Purpose::Stop, Outcome::Gone(_)) => {
                let change = self.store.gone(kind, &key, version);
                self.changed(change);
                None
            }
            // It was done; or what is to go is gone, and another one of its name is there, which the watch will show.
            (_, Outcome::Done(_)) | (Purpose::Stop, Outcome::Conflict(_)) => None,
            (Purpose::Start(instance, incarnation), Outcome::Invalid(message)) => {
                let refused: Arc<str> = message.as_str().into();
                tree.refused.insert((instance.clone(), *incarnation), (now, refused));
                None
            }
            (_, Outcome::Busy(after)) => {
                tree.hold = Some(now.plus(*after));
                None
            }
            // It goes with its namespace; until then nothing can be made in it.
            (_, Outcome::Forbidden(message)) if message.contains("being terminated") => {
                tree.hold = Some(now.plus(TERMINATING));
                tree.refusal = Some(message.clone());
                None
            }
            (_, outcome) => Some(outcome.message().to_owned()),
        };
        let Some(tree) = self.trees.get_mut(&root) else { return };
        match (&purpose, outcome.is_done()) {
            (Purpose::Start(instance, incarnation), true) => {
                tree.launched.insert(instance.clone(), *incarnation);
                tree.refusal = None;
            }
            (Purpose::Decide(_), true) => {
                // What shims may do by themselves, and who is fenced off, follows from it.
                self.decided.insert(root.clone());
                if let Purpose::Decide(events) = purpose {
                    self.told.extend(events.into_iter().map(|event| (root.clone(), event)));
                }
            }
            _ => {}
        }
        let Some(tree) = self.trees.get_mut(&root) else { return };
        if let Some(message) = failure {
            tracing::warn!(tree = %root, kind = kind.as_str(), name = %key, message, "a request was not done");
            if let Outcome::Forbidden(message) = outcome {
                tree.refusal = Some(message.clone());
            }
            tree.failed = Some(message);
            tree.stumbled = true;
        }
        if tree.outstanding == 0 {
            if std::mem::take(&mut tree.stumbled) {
                let pause =
                    PAUSES.0.saturating_mul(2_u32.saturating_pow(tree.failures.min(10))).min(PAUSES.1);
                tree.failures += 1;
                tree.hold = tree.hold.max(Some(now.plus(pause)));
            } else if tree.hold.is_none() {
                tree.failures = 0;
            }
            self.mark(root);
        }
    }
}

/// Whether an answer is a `Status`: what was to go is gone at once.
fn is_status(text: &str) -> bool {
    #[derive(serde::Deserialize)]
    struct Kind {
        kind: String,
    }
    serde_json::from_str::<Kind>(text).is_ok_and(|known| known.kind == "Status")
}
