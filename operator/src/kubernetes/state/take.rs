//! What inputs do to the state.

use std::{sync::Arc, time::Duration};

use kontrol_core::{id::InstanceId, time::Timestamp};
use kontrol_plan::{Action, End, Event};

use super::{
    Input, Pause, Pending, Purpose, Queue, State, Ticket, Tree, prepare,
    refusal::{Denied, Refusal, TERMINATING, is_terminating},
    survey::Survey,
};
use crate::kubernetes::{
    forest::Root,
    kind::Kind,
    object::{Key, Owned},
    pod::PodOf,
    request::Outcome,
    store::{Change, Seen, Source},
};

/// After so long what was written in vain is written again.
const TRIES_AGAIN: Duration = Duration::from_hours(1);

impl State {
    /// Takes note of an input.
    pub fn take(&mut self, input: Input, now: Timestamp) {
        match input {
            Input::Watch(source, seen) => {
                if !matches!(seen, Seen::Broken(_)) {
                    self.heard(now);
                }
                self.watch(&source, seen, now);
            }
            Input::Answer(ticket, outcome) => {
                if !matches!(outcome, Outcome::Failed(_)) {
                    self.heard(now);
                }
                self.answer(ticket, &outcome, now);
            }
            Input::Holds => self.machines.listener.cluster = Some(now),
            Input::Leads(leads) => {
                let began = leads && !self.leads;
                self.leads = leads;
                if began {
                    // Whoever led before may have written what has not been seen here yet: every tree is looked at.
                    self.trees.clear();
                    self.declared.forget_trees();
                    self.machines.begin(now);
                    self.survey = Survey::default();
                    self.note_buses();
                    self.mark_all();
                }
                if !leads {
                    self.companions.forget();
                    self.hubs.clear();
                    self.trusted.clear();
                    self.pending.clear();
                    self.trees.all_awake_mut().for_each(|tree| tree.outstanding = 0);
                    self.queue = Queue::default();
                }
            }
            Input::Led { node, silent_since } => self.machines.led(node, silent_since, now),
            Input::Control(event) => self.control(event, now),
            // One that is gone is not known to open any more.
            Input::Open(node) if !self.store.nodes().contains_key(&*node) => {}
            Input::Open(node) => self.machines.opened(node, now),
            Input::Definitions(lacks) => {
                // What the API server drops though its definitions have it, an admission policy takes away: that is tried again now and then.
                let learnt = self.lacks != lacks && now.since(self.read.1) >= TRIES_AGAIN;
                if self.read.0 != lacks || learnt {
                    self.read = (lacks.clone(), now);
                    self.lacks = lacks;
                    // What was written in vain may be kept now.
                    self.trees.all_awake_mut().for_each(|tree| tree.shown.clear());
                    self.mark_all();
                }
            }
            Input::Trust(bundle) => {
                let hash = prepare::hash(&serde_json::Value::String(bundle.clone()));
                self.trust = Some((bundle, hash.into()));
                self.mark_all();
            }
        }
    }

    fn watch(&mut self, source: &Source, seen: Seen, now: Timestamp) {
        for change in self.store.hear(source, seen, now) {
            if let Change::Freshness(source) = &change {
                self.sight_changed(source, now);
            }
            self.changed(change);
        }
    }

    /// The API server was heard.
    fn heard(&mut self, now: Timestamp) {
        self.machines.listener.cluster = Some(now);
        self.sights.values_mut().for_each(|sight| sight.heard(now));
    }

    fn sight_changed(&mut self, source: &Source, now: Timestamp) {
        if source.kind == Kind::Pod {
            let sees = self.store.fresh(Kind::Pod, source.namespace.as_deref());
            let sight = self.sights.entry(source.namespace.clone()).or_default();
            sight.note(sees, self.machines.listener.cluster.unwrap_or(now), now);
        }
    }

    fn changed(&mut self, change: Change) {
        match change {
            Change::Nothing => {}
            Change::Node(key) => self.machine_changed(&key.name),
            Change::Own(kind, key) => {
                if self.store.own(kind, &key).is_none() {
                    self.forget_namespace(&key.namespace);
                }
                match kind {
                    Kind::Supervisor | Kind::WidgetGroup | Kind::Widget => self.object(kind, &key),
                    _ => self.message_object(kind, &key),
                }
            }
            Change::Pod(key, PodOf::Replica(instance)) => {
                self.mark_group(&instance.widget);
                self.pod_is_gone(&key);
                self.concerns(&PodOf::Replica(instance));
            }
            Change::Pod(key, PodOf::Hub(bus)) => {
                self.pod_is_gone(&key);
                self.mark_hub(&bus);
            }
            Change::Owned(kind, key) => {
                if kind == Kind::Service {
                    self.service_of_hub(&key);
                }
                // A revision is named after its widget and its hash, everything else like its widget.
                let revision =
                    (kind == Kind::ControllerRevision).then(|| key.name.rsplit_once('-')).flatten();
                let owner = revision.map_or(&*key.name, |(object, _)| object);
                self.mark_object(Kind::Widget, &Key::new(&key.namespace, owner));
            }
            Change::Freshness(source) => {
                let namespace = source.namespace.as_deref();
                if self.store.fresh(source.kind, namespace) {
                    self.mark_all_in(namespace);
                }
            }
        }
    }

    /// A namespace in which nothing is left may go, and come back without what was made there.
    fn forget_namespace(&mut self, namespace: &str) {
        if Kind::OWN.into_iter().all(|kind| self.store.all_in(kind, namespace).next().is_none()) {
            self.trusted.remove(namespace);
            self.removed_namespaces.forget(namespace);
        }
    }

    /// A topic, a route or a bus.
    fn message_object(&mut self, kind: Kind, key: &Key) {
        let Some(id) = self.declare_message(kind, key) else { return };
        if self.leads {
            self.note_buses();
            self.concerns_all_of(&key.namespace);
            self.message_changed(kind, &id);
            if kind == Kind::MessageBus {
                self.mark_hub(&id);
            }
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
        if self.trees.contains(&root) {
            self.mark(root);
        }
        self.mark_object(kind, key);
        if kind == Kind::Widget {
            // The group whose widget it was may have to make it again.
            if self.store.own(kind, key).is_none() {
                for (end, _) in key.name.match_indices('-') {
                    let group = Key::bound(&key.namespace, &key.name[..end]);
                    if self.store.own(Kind::WidgetGroup, &group).is_some() {
                        self.mark_object(Kind::WidgetGroup, &group);
                    }
                }
            }
        }
    }

    fn answer(&mut self, ticket: Ticket, outcome: &Outcome, now: Timestamp) {
        let Some(pending) = self.pending.remove(&ticket) else { return };
        let Pending { root, purpose, kind, key, version, status } = pending;
        if let (Some(status), Outcome::Done(_)) = (status, outcome) {
            self.lacks.learn(kind, &status, &outcome.value());
        }
        let removes = matches!(purpose, Purpose::Stop | Purpose::Sweep);
        // Only what is ours is kept.
        let foreign = match (&purpose, outcome) {
            (Purpose::Whose, Outcome::Done(text)) => Owned::foreign(text),
            _ => None,
        };
        if let (Outcome::Done(text), None) = (outcome, &foreign) {
            let change = if removes && is_status(text) {
                self.store.gone(kind, &key, version)
            } else {
                self.store.is(kind, text, now)
            };
            self.changed(change);
        }
        if let (Purpose::Template(id, revision), Outcome::Done(text)) = (&purpose, outcome)
            && let Some(tree) = self.trees.awake_mut(&root)
        {
            Self::keep_template(tree, id, *revision, text, now);
        }
        if let (Purpose::Trust(namespace, hash), true) = (&purpose, outcome.is_done()) {
            self.trusted.insert(namespace.clone(), hash.clone());
        }
        let other_form = matches!(&purpose, Purpose::Claim(id) if self.claim_answered(id, outcome));
        if let Purpose::Keep(id, number) = &purpose {
            self.number_answered(id, *number, outcome);
        }
        let Some(tree) = self.trees.awake_mut(&root) else { return };
        tree.outstanding = tree.outstanding.saturating_sub(1);
        if matches!(outcome, Outcome::Forbidden(message) if is_terminating(message)) {
            self.removed_namespaces.note(&root.key.namespace, now);
        }
        let failure = match (&purpose, outcome) {
            (Purpose::Whose, Outcome::Done(_) | Outcome::Gone(_)) => {
                tree.belongs((kind, key.clone()), foreign.as_ref(), now);
                None
            }
            (Purpose::Follow, Outcome::Exists(_)) if root.kind != Kind::MessageBus => {
                tree.collides((kind, key.clone()));
                None
            }
            // What is to go is gone.
            (Purpose::Stop | Purpose::Sweep, Outcome::Gone(_)) => {
                let change = self.store.gone(kind, &key, version);
                self.changed(change);
                None
            }
            (Purpose::Claim(_), outcome) if other_form && !is_terminating(outcome.message()) => None,
            // It was done; or what is to go, or to be marked, is gone, and another one of its name is there, which the watch will show.
            (_, Outcome::Done(_))
            | (Purpose::Stop | Purpose::Sweep, Outcome::Conflict(_))
            | (Purpose::Gate, Outcome::Gone(_) | Outcome::Conflict(_)) => None,
            (Purpose::Start(action), Outcome::Invalid(message)) => {
                if let Some(of) = started(action) {
                    tree.refused.insert(of, (now, message.as_str().into()));
                }
                None
            }
            (Purpose::Start(action), Outcome::Forbidden(message)) => {
                self.denied(&root, action, message, now);
                None
            }
            (_, Outcome::Busy(after)) => {
                tree.pause(&purpose).wait(*after, now);
                None
            }
            (_, Outcome::Forbidden(message)) if is_terminating(message) => {
                tree.hold.wait(TERMINATING, now);
                tree.refusal = Some(Refusal::of(message));
                None
            }
            (Purpose::Start(_), Outcome::Exists(message)) if self.store.pod(&key).is_none() => {
                Some(format!("{message}; where that one is not the widget's, remove it or rename the widget"))
            }
            (_, outcome) => Some(outcome.message().to_owned()),
        };
        if outcome.is_done() {
            self.done(&root, &purpose, (kind, &key));
        }
        let Some(tree) = self.trees.awake_mut(&root) else { return };
        if let Some(message) = failure {
            tree.fails(&root, &purpose, (kind, &key), outcome, message, now);
        }
        if tree.outstanding == 0 {
            if !other_form {
                tree.pause(&purpose).succeed(now);
            }
            self.mark(root);
        }
    }

    /// Takes note of a request that was done.
    fn done(&mut self, root: &Root, purpose: &Purpose, (kind, key): (Kind, &Key)) {
        let Some(tree) = self.trees.awake_mut(root) else { return };
        match purpose {
            Purpose::Start(action) => {
                if let Some(of) = started(action) {
                    tree.denied.remove(&of);
                    tree.launched.insert(of.0, of.1);
                }
            }
            Purpose::Decide(events) => {
                // What shims may do by themselves, and who is fenced off, follows from it.
                self.decided.insert(root.clone());
                // A pod waits for ever for a certificate that somebody removed: it is made sure of before the next one.
                let late = |event: &Event| matches!(event, Event::Ended { end: End::StartTimedOut, .. });
                if events.iter().any(late) {
                    self.trusted.remove(&*key.namespace);
                }
                self.told.extend(events.iter().map(|event| (root.clone(), event.clone())));
            }
            Purpose::Show(write) => {
                let version = self.store.own(kind, key).map_or(0, |own| own.meta.version);
                tree.shown.insert((kind, key.clone()), (version, *write));
            }
            _ => {}
        }
    }

    /// A start is not allowed at the moment. That is told once, and again where the API server says something else.
    fn denied(&mut self, root: &Root, action: &Action, message: &str, now: Timestamp) {
        let Some(tree) = self.trees.awake_mut(root) else { return };
        let Some(of) = started(action) else { return };
        let refusal = Refusal::of(message);
        let before = tree.denied.remove(&of);
        let is_news = before.as_ref().is_none_or(|before| before.refusal.reason != refusal.reason);
        if is_news && !is_terminating(message) {
            let event = Event::NotAllowed { instance: of.0.clone(), message: Arc::clone(&refusal.message) };
            self.told.push((root.clone(), event));
        }
        tree.denied.insert(of, Denied::new(before, action.clone(), refusal, now));
    }
}

impl Tree {
    /// Takes note of a request that was not done.
    fn fails(
        &mut self,
        root: &Root,
        purpose: &Purpose,
        (kind, key): (Kind, &Key),
        outcome: &Outcome,
        message: String,
        now: Timestamp,
    ) {
        if self.logged.as_ref() == Some(&message) {
            tracing::debug!(tree = %root, kind = kind.as_str(), name = %key, message, "a request was not done");
        } else {
            tracing::warn!(tree = %root, kind = kind.as_str(), name = %key, message, "a request was not done");
        }
        match outcome {
            Outcome::Forbidden(message) => self.refusal = Some(Refusal::of(message)),
            Outcome::Exists(message) if (root.kind, kind) == (Kind::MessageBus, Kind::Service) => {
                self.refusal = Some(Refusal { reason: "NameCollision", message: message.as_str().into() });
            }
            _ => {}
        }
        self.logged = Some(message.clone());
        if purpose.follows() {
            self.behind = Some(message);
        } else {
            self.failed = Some(message);
        }
        self.pause(purpose).fail(now);
    }

    /// What failed last and is not mended, in words.
    pub(super) fn trouble(&self) -> String {
        self.failed.as_ref().or(self.behind.as_ref()).cloned().unwrap_or_default()
    }

    /// The pause after a failure of such a request.
    fn pause(&mut self, purpose: &Purpose) -> &mut Pause {
        match purpose {
            Purpose::Show(_) => &mut self.shows,
            Purpose::Release => &mut self.releases,
            Purpose::Gate => &mut self.gates,
            purpose if purpose.follows() => &mut self.follows,
            _ => &mut self.hold,
        }
    }
}

impl Purpose {
    /// Whether it is about what follows pods, which holds up nothing else.
    fn follows(&self) -> bool {
        matches!(
            self,
            Self::Follow | Self::Gate | Self::Claim(_) | Self::Keep(..) | Self::Whose | Self::Sweep
        )
    }
}

/// What a start starts.
fn started(action: &Action) -> Option<(InstanceId, u64)> {
    match action {
        Action::Start { instance, incarnation, .. } => Some((instance.clone(), *incarnation)),
        _ => None,
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
