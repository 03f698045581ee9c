//! What is known of the cluster: what the watches say, and on top of it the answers to our own writes.
//!
//! An object never goes back: of two words about one object the one with the higher version counts, whichever comes first. So an answer
//! to a write is seen at once, an older word of a watch that comes after it changes nothing, and nothing is ever planned on what is older
//! than our own last write. A kind whose watch is broken is stale, where that watch looks: what is known of it stays, and nothing that lacks
//! there is gone.

mod removals;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use kontrol_core::{
    id::{Name, ObjectId},
    time::Timestamp,
};
use litemap::LiteMap;
use removals::Removals;

use super::{
    kind::Kind,
    object::{Key, Own, Owned},
    pod::{Pod, PodOf, Said},
    text::Text,
};

/// One watch: a kind, a label that must be there, and a namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    /// What is watched.
    pub kind: Kind,
    /// Only objects that have this label; empty: all.
    pub label: &'static str,
    /// Only this namespace; none: all.
    pub namespace: Option<String>,
}

impl Source {
    /// Whether it shows what is in a namespace.
    fn shows(&self, namespace: &str) -> bool {
        self.namespace.as_deref().is_none_or(|own| own == namespace)
    }
}

/// Whether nothing can be done before a watch was complete: who may not see machines goes by pods alone.
fn is_needed(source: &Source) -> bool {
    !matches!(source.kind, Kind::Node | Kind::Lease)
}

/// What a watch says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// An object is there, or has changed: its JSON.
    Is(String),
    /// It was removed: its JSON as it last was.
    Removed(String),
    /// A list was complete at this version: what is older and not among these names is gone.
    Listed {
        /// The list's version.
        version: u64,
        /// All that were in it.
        keys: BTreeSet<Key>,
    },
    /// The watch works.
    Alive,
    /// It does not: what is known may be old.
    Broken(String),
    /// It does not, because it is not allowed.
    Refused(String),
}

/// How a watch stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Standing {
    /// Whether its first list was complete.
    synced: bool,
    /// Whether it works at the moment.
    fresh: bool,
    /// Whether it is not allowed.
    refused: bool,
}

/// What changed, as far as others have to look at something again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing that matters.
    Nothing,
    /// An object of ours.
    Own(Kind, Key),
    /// A pod: its name, and what it was a process of.
    Pod(Key, PodOf),
    /// Something that an object of ours owns.
    Owned(Kind, Key),
    /// A machine, or its sign of life.
    Node(Key),
    /// A watch is fresh again, or stale.
    Freshness(Source),
}

/// A machine as far as it matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Its version.
    pub version: u64,
    /// Its address within the cluster.
    pub address: Box<str>,
    /// When its lease was seen renewed last.
    pub renewed: Option<Timestamp>,
    /// When its kubelet was seen to write last.
    pub written: Option<Timestamp>,
    /// The renewal that was seen last, as text.
    pub renewal: Box<str>,
    /// The heartbeat in its status that was seen last, as text: its kubelet writes that as soon as it is back.
    pub heartbeat: Box<str>,
    /// Extended resources, such as `nvidia.com/gpu`, and how many of each it gives to pods.
    pub extended: Box<[(Box<str>, u64)]>,
}

impl Node {
    /// How many of an extended resource it has.
    pub fn extended_of(&self, resource: &str) -> u64 {
        self.extended.iter().find(|(name, _)| &**name == resource).map_or(0, |(_, count)| *count)
    }
}

/// The extended resources among amounts: those whose names have a domain, which are counted in whole numbers.
pub(super) fn extended(amounts: &serde_json::Value) -> Box<[(Box<str>, u64)]> {
    let amounts = amounts.as_object().into_iter().flatten().filter(|(name, _)| name.contains('/'));
    let count = |value: &serde_json::Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
    amounts.filter_map(|(name, value)| Some((name.as_str().into(), count(value)?))).collect()
}

/// What is known.
#[derive(Debug, Default)]
pub struct Store {
    standings: BTreeMap<Source, Standing>,
    own: HashMap<Kind, BTreeMap<Key, Box<Own>>>,
    pods: BTreeMap<Key, Box<Pod>>,
    /// The pods of each group.
    by_group: BTreeSet<(Name, Key)>,
    hubs: BTreeMap<ObjectId, LiteMap<Key, ()>>,
    owned: HashMap<Kind, BTreeMap<Key, Packed>>,
    nodes: BTreeMap<Box<str>, Node>,
    removals: Removals,
}

/// The label of what belongs to a hub.
const BUS: &str = "kontrol.dev/bus";

impl Store {
    /// A store that waits for these watches.
    pub fn new(sources: impl IntoIterator<Item = Source>) -> Self {
        let standings = sources.into_iter().map(|source| (source, Standing::default())).collect();
        Self { standings, ..Self::default() }
    }

    /// The watches whose first list is not complete. Machines are not waited for: who may not see them goes by pods alone.
    pub fn unsynced(&self) -> impl Iterator<Item = &Source> {
        self.standings
            .iter()
            .filter(|(source, standing)| is_needed(source) && !standing.synced)
            .map(|(source, _)| source)
    }

    /// The watches that have to be complete before this process could lead. A namespace that it may not see is not waited for where it sees
    /// another.
    pub fn awaited(&self) -> impl Iterator<Item = &Source> {
        let sees = self.scopes().into_iter().any(|scope| self.is_listed(scope));
        let refused =
            move |source: &Source| sees && self.standings.get(source).is_some_and(|known| known.refused);
        self.unsynced().filter(move |source| !refused(source))
    }

    /// Where watches look, beside those of machines: namespaces; none: all.
    pub fn scopes(&self) -> BTreeSet<Option<&String>> {
        let sources = self.standings.keys().filter(|source| is_needed(source));
        sources.map(|source| source.namespace.as_ref()).collect()
    }

    /// Whether every watch that looks there was once complete.
    pub fn is_listed(&self, scope: Option<&String>) -> bool {
        self.unsynced().all(|source| source.namespace.as_ref() != scope)
    }

    /// Whether every watch that shows a namespace was once complete.
    pub fn listed_in(&self, namespace: &str) -> bool {
        self.unsynced().all(|source| !source.shows(namespace))
    }

    /// Whether all watches of a kind that show a namespace work; none: all watches of the kind.
    pub fn fresh(&self, kind: Kind, namespace: Option<&str>) -> bool {
        self.standings
            .iter()
            .filter(|(source, _)| source.kind == kind && namespace.is_none_or(|name| source.shows(name)))
            .all(|(_, standing)| standing.synced && standing.fresh)
    }

    /// The kinds of which a watch is broken.
    pub fn stale(&self) -> BTreeSet<Kind> {
        let stale = self.standings.iter().filter(|(_, standing)| !standing.synced || !standing.fresh);
        stale.map(|(source, _)| source.kind).collect()
    }

    /// Takes note of what a watch says.
    pub fn hear(&mut self, source: &Source, seen: Seen, now: Timestamp) -> Vec<Change> {
        match seen {
            Seen::Is(text) => vec![self.is(source.kind, &text, now)],
            Seen::Removed(text) => vec![self.was(source.kind, &text)],
            Seen::Listed { version, keys } => {
                let mut changes = self.listed(source, version, &keys);
                changes.extend(self.stands(source, |standing| {
                    *standing = Standing { synced: true, fresh: true, refused: false };
                }));
                changes
            }
            Seen::Alive => self.stands(source, |standing| (standing.fresh, standing.refused) = (true, false)),
            Seen::Broken(_) => self.stands(source, |standing| standing.fresh = false),
            Seen::Refused(_) => {
                self.stands(source, |standing| (standing.fresh, standing.refused) = (false, true))
            }
        }
    }

    fn stands(&mut self, source: &Source, change: impl FnOnce(&mut Standing)) -> Vec<Change> {
        let Some(standing) = self.standings.get_mut(source) else { return Vec::new() };
        let before = *standing;
        change(standing);
        let changed = (before.synced, before.fresh) != (standing.synced, standing.fresh);
        if changed { vec![Change::Freshness(source.clone())] } else { Vec::new() }
    }

    /// Takes note of an object as an answer to a write, or a watch, shows it.
    pub fn is(&mut self, kind: Kind, text: &str, now: Timestamp) -> Change {
        let unreadable = |error: &serde_json::Error| {
            tracing::warn!(kind = kind.as_str(), %error, "an object cannot be read");
            Change::Nothing
        };
        match kind {
            Kind::Pod => match Pod::read(text) {
                Ok((key, Some(pod))) => self.is_pod(key, pod, now),
                // One whose labels or owner somebody took away is no longer ours.
                Ok((key, None)) if self.pods.contains_key(&key) => self.was(kind, text),
                Ok(_) => Change::Nothing,
                Err(error) => unreadable(&error),
            },
            Kind::Node | Kind::Lease => self.is_node(kind, text, now),
            kind if Kind::OWN.contains(&kind) => match Own::read(text) {
                Ok((key, own)) => self.is_own(kind, key, own),
                Err(error) => unreadable(&error),
            },
            kind => match Owned::read(text) {
                Ok((key, owned)) => {
                    let known = self.owned.entry(kind).or_default();
                    let old = known.get(&key).map_or(0, |old| old.version);
                    let gone = self.removals.version(kind, &key);
                    if owned.meta.version <= old.max(gone) && owned.meta.version > 0 {
                        return Change::Nothing;
                    }
                    known.insert(key.clone(), Packed::new(&owned));
                    Change::Owned(kind, key)
                }
                Err(error) => unreadable(&error),
            },
        }
    }

    fn is_own(&mut self, kind: Kind, key: Key, mut own: Own) -> Change {
        let gone = self.removals.version(kind, &key);
        let known = self.own.entry(kind).or_default();
        if let Some(old) = known.get_mut(&key) {
            if own.meta.version <= old.meta.version {
                return Change::Nothing;
            }
            if old.spec == own.spec {
                own.good = old.good.take();
                own.spec = std::mem::take(&mut old.spec);
            } else if old.meta.uid == own.meta.uid {
                // The last spec that could be read is kept until one can be read again; who reads it says so.
                own.good = old.good.take().or_else(|| Some(Box::new(std::mem::take(&mut old.spec))));
            }
        } else if own.meta.version <= gone {
            return Change::Nothing;
        }
        known.insert(key.clone(), Box::new(own));
        Change::Own(kind, key)
    }

    /// The spec of an object could be read: no older one need be kept.
    pub fn is_good(&mut self, kind: Kind, key: &Key) {
        if let Some(own) = self.own.get_mut(&kind).and_then(|own| own.get_mut(key)) {
            own.good = None;
        }
    }

    fn is_pod(&mut self, key: Key, pod: Pod, now: Timestamp) -> Change {
        let gone = self.removals.version(Kind::Pod, &key);
        let old = self.pods.get(&key);
        if pod.meta.version <= old.map_or(0, |old| old.meta.version).max(gone) {
            return Change::Nothing;
        }
        // Nobody but the kubelet says how a container is.
        let told = old.is_some_and(|old| old.container != pod.container && old.meta.uid == pod.meta.uid);
        if told && let Some(node) = pod.node.as_deref().and_then(|node| self.nodes.get_mut(node)) {
            node.written = Some(now);
        }
        let of = pod.of.clone();
        match &of {
            PodOf::Replica(instance) => {
                self.by_group.insert((instance.widget.group.clone(), key.clone()));
            }
            PodOf::Hub(bus) => drop(self.hubs.entry(bus.clone()).or_default().insert(key.clone(), ())),
        }
        self.removals.say(&key, None);
        self.pods.insert(key.clone(), Box::new(pod));
        Change::Pod(key, of)
    }

    fn is_node(&mut self, kind: Kind, text: &str, now: Timestamp) -> Change {
        let Ok(value) = serde_json::from_str::<serde_json::Value>(text) else { return Change::Nothing };
        let Some(name) = value["metadata"]["name"].as_str() else { return Change::Nothing };
        let node = self.nodes.entry(name.into()).or_default();
        if kind == Kind::Lease {
            let renewal = value["spec"]["renewTime"].as_str().unwrap_or_default();
            if *node.renewal != *renewal {
                node.renewal = renewal.into();
                node.renewed = Some(now);
            }
        } else {
            let version = value["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok());
            node.version = version.unwrap_or(0);
            let addresses = value["status"]["addresses"].as_array().into_iter().flatten();
            let mut internal = addresses.filter(|address| address["type"] == "InternalIP");
            let address = internal.next().and_then(|address| address["address"].as_str());
            node.address = address.unwrap_or_default().into();
            node.extended = extended(&value["status"]["allocatable"]);
            let conditions = value["status"]["conditions"].as_array();
            let ready = conditions.into_iter().flatten().find(|condition| condition["type"] == "Ready");
            let heartbeat = ready.and_then(|ready| ready["lastHeartbeatTime"].as_str()).unwrap_or_default();
            if *node.heartbeat != *heartbeat {
                if !node.heartbeat.is_empty() {
                    node.written = Some(now);
                }
                node.heartbeat = heartbeat.into();
            }
        }
        Change::Node(Key::new("", name))
    }

    fn was(&mut self, kind: Kind, text: &str) -> Change {
        let Ok((key, last)) = Owned::read(text) else { return Change::Nothing };
        self.gone(kind, &key, last.meta.version)
    }

    /// An object was removed, at this version: by our own hand, or as its watch says.
    pub fn gone(&mut self, kind: Kind, key: &Key, version: u64) -> Change {
        self.removals.note(kind, key, version);
        match kind {
            Kind::Pod => {
                let older = self.pods.get(key).is_some_and(|pod| pod.meta.version <= version);
                let Some(pod) = older.then(|| self.pods.remove(key)).flatten() else {
                    return Change::Nothing;
                };
                match &pod.of {
                    PodOf::Replica(instance) => {
                        self.by_group.remove(&(instance.widget.group.clone(), key.clone()));
                        let taken = |said: &Said| !(said.disruption.is_empty() && said.reason.is_empty());
                        self.removals.say(key, pod.said.filter(|said| taken(said)));
                    }
                    PodOf::Hub(bus) => {
                        let empty = self.hubs.get_mut(bus).is_some_and(|names| {
                            names.remove(key);
                            names.is_empty()
                        });
                        if empty {
                            self.hubs.remove(bus);
                        }
                    }
                }
                Change::Pod(key.clone(), pod.of)
            }
            Kind::Node => {
                self.nodes.remove(&*key.name);
                Change::Node(key.clone())
            }
            Kind::Lease => Change::Nothing,
            kind if Kind::OWN.contains(&kind) => {
                let removed = remove(self.own.get_mut(&kind), key, |own| own.meta.version <= version);
                if removed { Change::Own(kind, key.clone()) } else { Change::Nothing }
            }
            kind => {
                let removed = remove(self.owned.get_mut(&kind), key, |owned| owned.version <= version);
                if removed { Change::Owned(kind, key.clone()) } else { Change::Nothing }
            }
        }
    }

    /// What a list does not have and is not newer is gone.
    fn listed(&mut self, source: &Source, version: u64, keys: &BTreeSet<Key>) -> Vec<Change> {
        let here = |key: &Key| {
            source.namespace.as_deref().is_none_or(|namespace| *key.namespace == *namespace)
                && !keys.contains(key)
        };
        let missing: Vec<Key> = match source.kind {
            Kind::Pod => {
                let hubs = source.label == BUS;
                let ours = |pod: &Pod| matches!(pod.of, PodOf::Hub(_)) == hubs;
                let pods = self.pods.iter().filter(|(key, pod)| here(key) && ours(pod));
                pods.map(|(key, _)| key.clone()).collect()
            }
            Kind::Node => {
                let nodes = self.nodes.keys().map(|name| Key::new("", name));
                nodes.filter(|key| !keys.contains(key)).collect()
            }
            Kind::Lease => Vec::new(),
            kind if Kind::OWN.contains(&kind) => names(self.own.get(&kind), here),
            kind => {
                // Of one kind there may be those of widgets and those of hubs, each with a watch of its own.
                let hubs = source.label == BUS;
                let owned = self.owned.get(&kind).into_iter().flatten();
                let missing = owned.filter(|(key, owned)| here(key) && owned.of_hub == hubs);
                missing.map(|(key, _)| key.clone()).collect()
            }
        };
        missing.iter().map(|key| self.gone(source.kind, key, version)).collect()
    }

    /// An object of ours.
    pub fn own(&self, kind: Kind, key: &Key) -> Option<&Own> {
        self.own.get(&kind)?.get(key).map(AsRef::as_ref)
    }

    /// All objects of a kind of ours.
    pub fn all(&self, kind: Kind) -> impl Iterator<Item = (&Key, &Own)> {
        entries(self.own.get(&kind))
    }

    /// The objects of a kind of ours in one namespace.
    pub fn all_in(&self, kind: Kind, namespace: &str) -> impl Iterator<Item = (&Key, &Own)> {
        begin(self.own.get(&kind), namespace, "").map(|(key, own)| (key, own.as_ref()))
    }

    /// The objects of a kind of ours in one namespace whose names begin so.
    pub fn named(&self, kind: Kind, namespace: &str, prefix: &str) -> impl Iterator<Item = (&Key, &Own)> {
        begin(self.own.get(&kind), namespace, prefix).map(|(key, own)| (key, own.as_ref()))
    }

    /// A pod.
    pub fn pod(&self, key: &Key) -> Option<&Pod> {
        self.pods.get(key).map(AsRef::as_ref)
    }

    /// What was said of a pod that is gone, where it was taken from its node.
    pub fn last_said(&self, key: &Key) -> Option<&Said> {
        self.removals.said(key)
    }

    /// All pods.
    pub fn pods(&self) -> impl Iterator<Item = (&Key, &Pod)> {
        entries(Some(&self.pods))
    }

    fn known_pod(&self, key: &Key) -> Option<(&Key, &Pod)> {
        self.pods.get_key_value(key).map(|(key, pod)| (key, pod.as_ref()))
    }

    /// The buses whose hubs have pods.
    pub fn hubs(&self) -> impl Iterator<Item = &ObjectId> {
        self.hubs.keys()
    }

    /// The pods of a hub.
    pub fn hub_pods(&self, bus: &ObjectId) -> impl Iterator<Item = (&Key, &Pod)> {
        let names = self.hubs.get(bus);
        names.into_iter().flat_map(LiteMap::keys).filter_map(|key| self.known_pod(key))
    }

    /// The pods of a group.
    pub fn pods_of(&self, namespace: &Name, group: &Name) -> impl Iterator<Item = (&Key, &Pod)> {
        let first = (group.clone(), Key::new(namespace.as_str(), ""));
        let there = (group.clone(), first.1.namespace.clone());
        let named = self.by_group.range(first..);
        let of_group = named.take_while(move |(group, key)| (group, &key.namespace) == (&there.0, &there.1));
        of_group.filter_map(|(_, key)| self.known_pod(key))
    }

    /// Something that an object of ours owns.
    pub fn owned(&self, kind: Kind, key: &Key) -> Option<Owned> {
        self.owned.get(&kind)?.get(key).map(Packed::read)
    }

    /// Whether there is something that an object of ours owns.
    pub fn has_owned(&self, kind: Kind, key: &Key) -> bool {
        self.owned.get(&kind).is_some_and(|owned| owned.contains_key(key))
    }

    /// The version of something that an object of ours owns; 0: there is none.
    pub fn owned_version(&self, kind: Kind, key: &Key) -> u64 {
        self.owned.get(&kind).and_then(|owned| owned.get(key)).map_or(0, |owned| owned.version)
    }

    /// All that hubs own, of one kind.
    pub fn owned_by_hubs(&self, kind: Kind) -> impl Iterator<Item = (&Key, Owned)> {
        let owned = self.owned.get(&kind).into_iter().flatten().filter(|(_, owned)| owned.of_hub);
        owned.map(|(key, owned)| (key, owned.read()))
    }

    /// All that objects of ours own, of one kind, in one namespace.
    pub fn owned_in(&self, kind: Kind, namespace: &str) -> impl Iterator<Item = (&Key, Owned)> {
        self.owned_named(kind, namespace, "")
    }

    /// What objects of ours own, of one kind, in one namespace, whose names begin so.
    pub fn owned_named(
        &self,
        kind: Kind,
        namespace: &str,
        prefix: &str,
    ) -> impl Iterator<Item = (&Key, Owned)> {
        begin(self.owned.get(&kind), namespace, prefix).map(|(key, owned)| (key, owned.read()))
    }

    /// The machines.
    pub fn nodes(&self) -> &BTreeMap<Box<str>, Node> {
        &self.nodes
    }

    /// How many objects there are, by kind.
    pub fn counts(&self) -> Vec<(Kind, usize)> {
        let own = self.own.iter().map(|(kind, known)| (*kind, known.len()));
        let owned = self.owned.iter().map(|(kind, known)| (*kind, known.len()));
        own.chain(owned).chain([(Kind::Pod, self.pods.len()), (Kind::Node, self.nodes.len())]).collect()
    }
}

/// What an object of ours owns, as it is kept: there are several for each widget, and nobody looks at them while it rests.
#[derive(Debug)]
struct Packed {
    version: u64,
    /// Whether it belongs to a hub.
    of_hub: bool,
    text: Text,
}

#[expect(
    clippy::expect_used,
    reason = "`new` alone writes the text, and a test reads back what any object becomes"
)]
impl Packed {
    fn new(owned: &Owned) -> Self {
        let text = serde_json::to_string(owned).expect("no key in it is anything but a text");
        Self { version: owned.meta.version, of_hub: !owned.bus.is_empty(), text: Text::new(&text) }
    }

    fn read(&self) -> Owned {
        serde_json::from_str(&self.text.read()).expect("written here")
    }
}

/// Takes an object out, where it is one of these; says whether it was.
fn remove<T>(known: Option<&mut BTreeMap<Key, T>>, key: &Key, which: impl FnOnce(&T) -> bool) -> bool {
    known.is_some_and(|known| known.get(key).is_some_and(which) && known.remove(key).is_some())
}

/// The names of objects, as far as they are asked for.
fn names<T>(known: Option<&BTreeMap<Key, T>>, which: impl Fn(&Key) -> bool) -> Vec<Key> {
    known.into_iter().flat_map(BTreeMap::keys).filter(|key| which(key)).cloned().collect()
}

/// The objects of a map, which holds them apart from their names: it keeps room for more entries.
fn entries<T>(known: Option<&BTreeMap<Key, Box<T>>>) -> impl Iterator<Item = (&Key, &T)> {
    known.into_iter().flatten().map(|(key, one)| (key, one.as_ref()))
}

/// The objects in one namespace whose names begin so.
fn begin<'a, T>(
    known: Option<&'a BTreeMap<Key, T>>,
    namespace: &str,
    prefix: &str,
) -> impl Iterator<Item = (&'a Key, &'a T)> + use<'a, T> {
    let from = Key::bound(namespace, prefix);
    known.into_iter().flat_map(move |known| {
        let Key { namespace, name } = from.clone();
        let begins = move |key: &Key| key.namespace == namespace && key.name.starts_with(&*name);
        known.range(from.clone()..).take_while(move |(key, _)| begins(key))
    })
}

#[cfg(test)]
mod tests;
