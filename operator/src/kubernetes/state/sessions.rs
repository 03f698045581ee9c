//! Sidecars and hubs on their control sessions: what they say, and what they are told.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use kontrol_core::{
    id::{InstanceId, Name, ObjectId, WidgetId},
    spec::{self, ScalingTarget, StartedWhen, Widget},
    time::Timestamp,
};
use kontrol_plan::{End, InstanceState, LastEnd};
use kontrol_proto::{
    Message as _,
    session::Configuration,
    v1::{self, Health, widget_end::How},
};

use super::{Effect, State};
use crate::{
    control::{Closed, Event, Held, Reason, SessionId, Upward},
    kubernetes::{object::Key, observe::Word, pod::PodOf},
    view::{self, Addresses, View as _},
};

/// A sidecar or a hub, by the uid of its pod.
#[derive(Debug)]
pub(super) struct Companion {
    /// Its pod.
    pod: Key,
    of: PodOf,
    held: Held,
    pub(super) addresses: Addresses,
    /// What a sidecar said last, and when.
    pub(super) signals: Option<(Timestamp, v1::Signals)>,
    pub(super) word: Option<Word>,
    /// Whether its widget's silence counts.
    silence_counts: bool,
    /// When anything was heard of it.
    pub(super) heard: Timestamp,
    /// The fingerprint of the configuration that was told last.
    sent: Option<u64>,
    version: u64,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Companions {
    /// Boxed: a table has room for twice as many as are in it.
    by_uid: HashMap<Arc<str>, Box<Companion>>,
    /// Of one pod's name there may be several for a while.
    by_pod: BTreeMap<Key, BTreeSet<Arc<str>>>,
    by_session: HashMap<SessionId, Arc<str>>,
    /// Replicas whose configuration may have changed.
    pub(super) due: BTreeSet<Arc<str>>,
    /// What hubs said last of the subscriptions that widgets have, by topic.
    queues: HashMap<ObjectId, BTreeMap<Name, Queue>>,
}

/// What a hub said last of a subscription, and when.
type Queue = (Timestamp, v1::hub_signals::Subscription);

impl Companions {
    pub(super) fn of(&self, uid: &str) -> Option<&Companion> {
        self.by_uid.get(uid).map(AsRef::as_ref)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&PodOf, &Key, &Companion)> {
        self.by_uid.values().map(|companion| (&companion.of, &companion.pod, companion.as_ref()))
    }

    /// Those of the pods of one namespace.
    fn within<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = (&'a Arc<str>, &'a Companion)> {
        let pods = self.by_pod.range(Key::bound(namespace, "")..);
        let here = pods.take_while(move |(key, _)| &*key.namespace == namespace);
        here.flat_map(|(_, uids)| uids).filter_map(|uid| Some((uid, self.by_uid.get(uid)?.as_ref())))
    }

    fn remove(&mut self, uid: &str) {
        let Some(companion) = self.by_uid.remove(uid) else { return };
        if let Some(uids) = self.by_pod.get_mut(&companion.pod) {
            uids.remove(uid);
            if uids.is_empty() {
                self.by_pod.remove(&companion.pod);
            }
        }
    }

    /// What a hub said last of a subscription.
    pub(super) fn queue(&self, topic: &ObjectId, subscription: &Name) -> Option<&Queue> {
        self.queues.get(topic)?.get(subscription)
    }

    /// Sessions that are open.
    pub(super) fn open(&self) -> usize {
        self.by_session.len()
    }

    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

impl State {
    /// Takes note of what a session says.
    pub(super) fn control(&mut self, event: Event, now: Timestamp) {
        match event {
            Event::Opened { id, hello, session } => {
                let uid: Arc<str> = hello.pod_uid.as_str().into();
                let Some((key, of)) = self.pod_by_uid(&hello.subject, &uid) else {
                    // What is known of pods may be behind. Nothing could be told to it later: it comes again.
                    tracing::info!(
                        subject = hello.subject,
                        uid = &*uid,
                        "a session of a pod that is not known"
                    );
                    self.replies.push(Effect::End(session));
                    return;
                };
                let addresses = Addresses {
                    peer: hello.peer,
                    grpc: hello.grpc,
                    http: hello.http,
                    admin: hello.admin,
                    socket: hello.socket,
                };
                let silence_counts = match &of {
                    PodOf::Replica(instance) => self
                        .declared
                        .widget(&instance.widget)
                        .is_some_and(|widget| widget.start.when == StartedWhen::Running),
                    PodOf::Hub(_) => false,
                };
                self.companions.by_session.insert(id, uid.clone());
                self.companions.by_pod.entry(key.clone()).or_default().insert(uid.clone());
                let companion = self.companions.by_uid.entry(uid.clone()).or_insert_with(|| {
                    Box::new(Companion {
                        pod: key,
                        of: of.clone(),
                        held: Held::default(),
                        addresses: Addresses::default(),
                        signals: None,
                        word: None,
                        silence_counts,
                        heard: now,
                        sent: None,
                        version: 0,
                    })
                });
                companion.held.open(id, session);
                companion.addresses = addresses;
                companion.sent = None;
                companion.heard = now;
                self.companions.due.insert(uid);
                self.concerns(&of);
            }
            Event::Said { id, message, .. } => {
                let Some(uid) = self.companions.by_session.get(&id).cloned() else { return };
                match message {
                    Upward::Signals(signals) => self.signals(&uid, signals, now),
                    Upward::Hub(signals) => self.hub_signals(&uid, signals, now),
                    Upward::Applied(_) => {
                        if let Some(companion) = self.companions.by_uid.get_mut(&uid) {
                            companion.heard = now;
                        }
                    }
                }
            }
            Event::Closed { id, .. } => {
                let Some(uid) = self.companions.by_session.remove(&id) else { return };
                let Some(companion) = self.companions.by_uid.get_mut(&uid) else { return };
                if let Closed::Current(former) = companion.held.close(id) {
                    self.replies.extend(former.into_iter().map(Effect::End));
                    companion.sent = None;
                    // What it said last still stands: that its session ended says nothing of its widget.
                    companion.signals = None;
                    let of = companion.of.clone();
                    let there = self.store.pod(&companion.pod).is_some_and(|pod| pod.meta.uid == uid);
                    if !there {
                        self.companions.remove(&uid);
                    }
                    self.concerns(&of);
                }
            }
        }
    }

    fn pod_by_uid(&self, subject: &str, uid: &str) -> Option<(Key, PodOf)> {
        if let Ok(instance) = subject.parse::<InstanceId>() {
            let WidgetId { namespace, group, .. } = &instance.widget;
            let mut pods = self.store.pods_of(namespace, group);
            let (key, pod) = pods.find(|(_, pod)| &*pod.meta.uid == uid)?;
            return (pod.instance() == Some(&instance)).then(|| (key.clone(), pod.of.clone()));
        }
        let bus = hub_of(subject)?;
        let (key, pod) = self.store.hub_pods(&bus).find(|(_, pod)| &*pod.meta.uid == uid)?;
        Some((key.clone(), pod.of.clone()))
    }

    /// The subject of a pod that is ours by its labels and by its owner.
    pub fn subject(&self, namespace: &str, name: &str, uid: &str) -> Option<String> {
        let key = Key::new(namespace, name);
        let pod = self.store.pod(&key).filter(|pod| &*pod.meta.uid == uid)?;
        let owner = pod.meta.controller.as_deref();
        match &pod.of {
            PodOf::Replica(instance) => {
                let owner = owner?;
                let object = self
                    .store
                    .own(crate::kubernetes::kind::Kind::Widget, &Key::new(namespace, &owner.name))?;
                (object.meta.uid == owner.uid).then(|| instance.to_string())
            }
            PodOf::Hub(bus) => {
                // The bus that exists without being declared owns nothing.
                let is_ours = owner.is_none_or(|owner| {
                    let key = Key::new(namespace, &owner.name);
                    self.store
                        .own(crate::kubernetes::kind::Kind::MessageBus, &key)
                        .is_some_and(|object| object.meta.uid == owner.uid)
                });
                let known = self.hubs.contains_key(bus) || self.may_be_named(bus);
                (is_ours && known).then(|| kontrol_core::trust::hub(&bus.namespace, &bus.name))
            }
        }
    }

    fn signals(&mut self, uid: &str, mut signals: v1::Signals, now: Timestamp) {
        let Some(companion) = self.companions.by_uid.get_mut(uid) else { return };
        companion.heard = now;
        let PodOf::Replica(instance) = &companion.of else { return };
        let instance = instance.clone();
        let widget = self.declared.widget(&instance.widget);
        let declares_health = widget.is_some_and(|widget| widget.health.is_some());
        let scales = widget.is_some_and(|widget| widget.scaling.is_some());
        keep_targets(&mut signals.load, widget);
        view::signals::cut(&mut signals);
        let silent = signals.hung && companion.silence_counts;
        let state = match signals.health() {
            Health::Failed => InstanceState::Hung,
            _ if silent => InstanceState::Hung,
            Health::NotReady => InstanceState::NotReady,
            Health::Unspecified if declares_health => InstanceState::Running,
            Health::Ready | Health::Unspecified => InstanceState::Ready,
        };
        companion.silence_counts |= state == InstanceState::Ready;
        let message = (signals.health() == Health::Failed).then(|| {
            let said = if signals.message.is_empty() { "no reason given" } else { &signals.message };
            Arc::from(format!("it reported that it failed: {said}"))
        });
        let last_end = signals.last_end.as_ref().filter(|last| last.restarted).and_then(last_end);
        let since = companion.word.as_ref().filter(|word| word.state == state).map_or(now, |word| word.since);
        let restarts = u32::try_from(signals.restarts).unwrap_or(u32::MAX);
        let word = Word { state, since, message, restarts, last_end };
        let changed = companion.word.as_ref() != Some(&word);
        let load = companion
            .signals
            .as_ref()
            .is_none_or(|(_, before)| before.in_flight != signals.in_flight || before.load != signals.load);
        let breakers = companion.signals.as_ref().map_or(&[][..], |(_, before)| &before.breakers);
        let called = opened(breakers).ne(opened(&signals.breakers));
        companion.word = Some(word);
        companion.signals = Some((now, signals));
        if changed || called || (scales && load) {
            self.mark_group(&instance.widget);
        }
        if changed {
            self.concerns(&PodOf::Replica(instance));
        }
    }

    fn hub_signals(&mut self, uid: &str, signals: v1::HubSignals, now: Timestamp) {
        let Some(companion) = self.companions.by_uid.get_mut(uid) else { return };
        companion.heard = now;
        let PodOf::Hub(bus) = &companion.of else {
            return self.foreign(uid, "a sidecar speaks for a hub");
        };
        let bus = bus.clone();
        for queue in signals.subscriptions {
            let name = |text: &str| Name::new(text).ok();
            let (Some(namespace), Some(topic), Some(subscription)) =
                (name(&queue.namespace), name(&queue.topic), name(&queue.subscription))
            else {
                continue;
            };
            let topic = ObjectId { namespace, name: topic };
            let declared = self.declared.topic(&topic);
            if topic.namespace != bus.namespace || declared.is_some_and(|declared| declared.bus != bus.name) {
                self.foreign(uid, "a hub speaks for the topic of another one");
                continue;
            }
            // It may go on for a moment about what is no longer declared.
            let consumers = self.declared.consumers(&topic).filter(|(_, known)| **known == subscription);
            let consumers: Vec<WidgetId> = consumers.map(|(widget, _)| widget.clone()).collect();
            if declared.is_none() || consumers.is_empty() {
                continue;
            }
            let known = self.companions.queues.entry(topic).or_default();
            let before = known.insert(subscription, (now, queue.clone()));
            let changed = before.is_none_or(|(_, before)| {
                before.depth != queue.depth || before.growth.to_bits() != queue.growth.to_bits()
            });
            let scales = |id: &&WidgetId| self.declared.widget(id).is_some_and(|one| one.scaling.is_some());
            let concerned: Vec<&WidgetId> = consumers.iter().filter(|_| changed).filter(scales).collect();
            for widget in concerned {
                self.mark_group(widget);
            }
        }
    }

    /// Somebody said what is not theirs to say: it changes nothing, and is counted.
    fn foreign(&mut self, uid: &str, why: &str) {
        let pod = self.companions.of(uid).map(|companion| companion.pod.to_string());
        tracing::warn!(pod, "{why}");
        self.replies.push(Effect::Refused(Reason::ForeignSubject));
    }

    /// What was said of the subscriptions of a topic is forgotten as far as nobody has them any more.
    pub(super) fn forget_queues(&mut self, topic: &ObjectId) {
        let Some(queues) = self.companions.queues.get_mut(topic) else { return };
        let there = self.declared.topic(topic).is_some();
        queues.retain(|name, _| there && self.declared.consumers(topic).any(|(_, known)| known == name));
        if queues.is_empty() {
            self.companions.queues.remove(topic);
        }
    }

    /// Has the tree of a widget looked at.
    pub(super) fn mark_group(&mut self, id: &WidgetId) {
        let (kind, key) = self.group_object(id);
        self.mark_object(kind, &key);
    }

    /// Whoever has to do with these may have to be told something new.
    pub(super) fn concerns(&mut self, of: &PodOf) {
        match of {
            PodOf::Replica(instance) => {
                let id = instance.widget.clone();
                let mut widgets: BTreeSet<WidgetId> = self.declared.callers(&id).cloned().collect();
                if let Some(widget) = self.declared.widget(&id) {
                    widgets.extend(widget.calls.iter().cloned());
                    let topics =
                        widget.produces.iter().chain(widget.consumes.iter().map(|consume| &consume.topic));
                    let buses: Vec<ObjectId> = topics
                        .filter_map(|topic| {
                            let id = ObjectId { namespace: id.namespace.clone(), name: topic.clone() };
                            let bus = self.declared.topic(&id)?.bus.clone();
                            Some(ObjectId { namespace: id.namespace, name: bus })
                        })
                        .collect();
                    for bus in &buses {
                        self.due_hub(bus);
                    }
                }
                widgets.insert(id);
                for widget in &widgets {
                    self.due_widget(widget);
                }
            }
            PodOf::Hub(bus) => {
                self.mark_hub(bus);
                let here = self.companions.within(bus.namespace.as_str());
                let uids = here.filter(|(_, companion)| match &companion.of {
                    PodOf::Replica(instance) => self
                        .declared
                        .widget(&instance.widget)
                        .is_some_and(|widget| !widget.produces.is_empty() || !widget.consumes.is_empty()),
                    PodOf::Hub(other) => other == bus,
                });
                let uids: Vec<Arc<str>> = uids.map(|(uid, _)| uid.clone()).collect();
                self.companions.due.extend(uids);
            }
        }
    }

    /// Everybody in a namespace may have to be told something new.
    pub(super) fn concerns_all_of(&mut self, namespace: &str) {
        let uids: Vec<Arc<str>> = self.companions.within(namespace).map(|(uid, _)| uid.clone()).collect();
        self.companions.due.extend(uids);
    }

    /// Whoever has to do with widgets as they were declared, or as they are now, may have to be told something new.
    pub(super) fn concerns_widgets(&mut self, old: Option<&spec::Node>, new: Option<&spec::Node>) {
        for widget in old.into_iter().chain(new).flat_map(super::widgets) {
            if !(widget.produces.is_empty() && widget.consumes.is_empty()) {
                // Of a topic everybody is told who has subscribed to it.
                self.concerns_all_of(widget.id.namespace.as_str());
                return;
            }
            let callers: Vec<WidgetId> = self.declared.callers(&widget.id).cloned().collect();
            for id in callers.iter().chain(&widget.calls).chain([&widget.id]) {
                self.due_widget(id);
            }
        }
    }

    /// Whether what happens to a tree concerns others, or is theirs to be told.
    pub(super) fn concerns_others(&self, node: &spec::Node) -> bool {
        super::widgets(node)
            .any(|widget| super::names_others(widget) || self.declared.callers(&widget.id).next().is_some())
    }

    fn due_widget(&mut self, id: &WidgetId) {
        let pods = self.store.pods_of(&id.namespace, &id.group);
        let uids = pods
            .filter(|(_, pod)| pod.instance().is_some_and(|instance| instance.widget == *id))
            .map(|(_, pod)| pod.meta.uid.clone());
        let uids: Vec<Arc<str>> = uids.filter(|uid| self.companions.by_uid.contains_key(uid)).collect();
        self.companions.due.extend(uids);
    }

    fn due_hub(&mut self, bus: &ObjectId) {
        let uids = self.store.hub_pods(bus).map(|(_, pod)| pod.meta.uid.clone());
        let uids: Vec<Arc<str>> = uids.filter(|uid| self.companions.by_uid.contains_key(uid)).collect();
        self.companions.due.extend(uids);
    }

    /// Tells each sidecar and hub what is new for it.
    pub(super) fn configure(&mut self, effects: &mut Vec<Effect>) {
        for root in std::mem::take(&mut self.decided) {
            let node = self.declared.tree(&root.to_string()).cloned();
            for widget in node.as_deref().into_iter().flat_map(super::widgets) {
                self.due_widget(&widget.id);
            }
        }
        for uid in std::mem::take(&mut self.companions.due) {
            let Some(companion) = self.companions.by_uid.get(&uid) else { continue };
            if companion.held.session().is_none() {
                continue;
            }
            if self.store.pod(&companion.pod).is_none_or(|pod| pod.meta.uid != uid) {
                continue;
            }
            let message = match &companion.of {
                PodOf::Replica(instance) => {
                    // An older pod of the same replica keeps what it has.
                    let newest = self.newest(instance).is_some_and(|(_, newest)| newest.meta.uid == uid);
                    if !newest {
                        continue;
                    }
                    let replica = self.replicas(&instance.widget).find(|replica| replica.id == instance);
                    let Some(replica) = replica else { continue };
                    let Some(mut config) = view::configure::sidecar(self, &replica) else { continue };
                    if let Some(widget) = self.declared.widget(&instance.widget) {
                        let topics = widget.produces.iter().chain(widget.consumes.iter().map(|c| &c.topic));
                        let topic = topics.map(|topic| ObjectId {
                            namespace: instance.widget.namespace.clone(),
                            name: topic.clone(),
                        });
                        let bus = topic
                            .filter_map(|topic| self.declared.topic(&topic))
                            .map(|topic| &topic.bus)
                            .next();
                        if let Some(bus) = bus {
                            config.hub_subject = kontrol_core::trust::hub(&instance.widget.namespace, bus);
                        }
                        if widget.container.is_some_and(|container| container.wrapped) {
                            config.grant = Some(self.grant(instance));
                        }
                    }
                    Configuration::Sidecar(config.into())
                }
                PodOf::Hub(id) => {
                    let storage = self.declared.bus(id).map(|bus| bus.storage).unwrap_or_default();
                    let of = |topic: &kontrol_core::spec::Topic| {
                        topic.bus == id.name && topic.id.namespace == id.namespace
                    };
                    Configuration::Hub(view::configure::hub(self, storage, of))
                }
            };
            let Some(companion) = self.companions.by_uid.get_mut(&uid) else { continue };
            let fingerprint = fingerprint(&message);
            if companion.sent == Some(fingerprint) {
                continue;
            }
            companion.version += 1;
            companion.sent = Some(fingerprint);
            let told = message.with_version(companion.version);
            if let Some(session) = companion.held.session() {
                effects.push(Effect::Tell(session.clone(), told));
            }
        }
    }

    fn grant(&self, instance: &InstanceId) -> v1::RestartGrant {
        let granted = self.status_with(&instance.widget).and_then(|(root, status)| {
            kontrol_plan::grant(self.declared.tree(&root.to_string())?, &status, instance)
        });
        let epoch = self.newest(instance).map_or(0, |(_, pod)| pod.epoch);
        match granted {
            Some(grant) => v1::RestartGrant {
                epoch: grant.epoch,
                count: grant.count,
                window_ms: u64::try_from(grant.window.as_millis()).unwrap_or(u64::MAX),
                revoked: false,
                only_failures: !grant.normal,
            },
            None => v1::RestartGrant { epoch, revoked: true, ..v1::RestartGrant::default() },
        }
    }

    /// The companions of pods that are gone are forgotten.
    pub(super) fn pod_is_gone(&mut self, key: &Key) {
        let there = self.store.pod(key).map(|pod| &pod.meta.uid);
        let uids = self.companions.by_pod.get(key).into_iter().flatten();
        let gone = uids.filter(|uid| {
            let silent = self.companions.of(uid).is_none_or(|companion| companion.held.session().is_none());
            silent && there != Some(*uid)
        });
        let gone: Vec<Arc<str>> = gone.cloned().collect();
        for uid in &gone {
            self.companions.remove(uid);
        }
    }
}

/// The bus whose hub has this subject.
fn hub_of(subject: &str) -> Option<ObjectId> {
    let mut parts = subject.split('/');
    let (namespace, role, name) = (parts.next()?, parts.next()?, parts.next()?);
    let one = role == "hub" && parts.next().is_none();
    one.then_some(ObjectId { namespace: Name::new(namespace).ok()?, name: Name::new(name).ok()? })
}

/// The port of an endpoint that names none.
const ENDPOINT: u16 = 8080;

/// The port of a widget's own server in its pod.
pub(super) fn port_of(widget: &kontrol_core::spec::Widget) -> Option<u16> {
    widget.endpoint.map(|endpoint| endpoint.port.unwrap_or(ENDPOINT))
}

/// Keeps of a widget's numbers those that a target of its scaling names: nobody asks for the others.
fn keep_targets(load: &mut HashMap<String, f64>, widget: Option<&Widget>) {
    let targets = widget.and_then(|widget| widget.scaling.as_ref()).map(|scaling| &scaling.targets);
    let named = targets.into_iter().flatten().filter_map(|target| match target {
        ScalingTarget::Reported(name, _) => load.remove_entry(name),
        _ => None,
    });
    *load = named.collect();
}

/// What is shown of breakers that are not closed.
fn opened(breakers: &[v1::EndpointState]) -> impl Iterator<Item = (&str, &str)> {
    breakers.iter().map(|breaker| (breaker.instance.as_str(), breaker.reason.as_str()))
}

fn last_end(end: &v1::WidgetEnd) -> Option<LastEnd> {
    let how = match end.how.as_ref()? {
        How::ExitCode(code) => End::Exited(*code),
        How::Signal(signal) => End::Signalled(*signal),
    };
    let at = Timestamp::from_micros(u64::try_from(end.at_micros).unwrap_or(0));
    Some(LastEnd { at, end: how, message: None })
}

/// A number that tells a configuration from others; both without a version.
fn fingerprint(configuration: &Configuration) -> u64 {
    let mut hasher = DefaultHasher::new();
    match configuration {
        Configuration::Sidecar(config) => ("sidecar", config.encode_to_vec()).hash(&mut hasher),
        Configuration::Hub(config) => ("hub", config.encode_to_vec()).hash(&mut hasher),
    }
    hasher.finish()
}
