//! What the API server says of a cluster, as the view that the tree, the reasons and the names are made from.
//!
//! Objects are put together by the operator's own rules, its decisions are read from where it goes on from them itself, and pods are
//! looked at as it looks at them. What only it hears, from sidecars and hubs, is unknown here, but for the breakers, which it writes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use kontrol_core::{
    id::{InstanceId, Name, ObjectId, WidgetId},
    time::Timestamp,
};
use kontrol_crds as api;
use kontrol_operator::{
    kubernetes::{
        forest::{Forest, Problem, Root},
        kind::Kind,
        object::{Key, Own},
        observe::observe,
        pod::Pod,
        store::Store,
    },
    view::{Addresses, Declared, Replica, Run, Scaled, Statuses, View, widgets},
};
use kontrol_plan::{
    InstanceState, Status,
    status::{self, Inner, Node, ReplicaPhase},
};
use kontrol_proto::v1;

use super::{access::Access, failure::Failure};

/// The port of a widget's server that declares none.
const PORT: u16 = 8080;

/// What is known of a cluster, or of a namespace of it.
pub(crate) struct Known {
    pub(super) store: Store,
    declared: Declared,
    statuses: BTreeMap<String, Status>,
    replicas: BTreeMap<InstanceId, Place>,
    scaled: BTreeMap<WidgetId, u32>,
    /// What is wrong with objects.
    pub(super) problems: BTreeMap<(Kind, Key), Problem>,
}

/// A replica's place.
struct Place {
    fence: u64,
    run: Option<Run>,
    note: Option<String>,
    breakers: Vec<v1::EndpointState>,
    pod: Option<Key>,
    node: Option<Arc<str>>,
    host: String,
    port: Option<u16>,
}

impl Known {
    /// Asks for everything that is needed.
    pub(super) async fn fetch(access: &Access, now: Timestamp) -> Result<Self, Failure> {
        let (supervisors, groups, widgets, pods) = tokio::try_join!(
            access.list(Kind::Supervisor, ""),
            access.list(Kind::WidgetGroup, ""),
            access.list(Kind::Widget, ""),
            access.list(Kind::Pod, "kontrol.dev/widget"),
        )?;
        let kinds = [(Kind::Supervisor, supervisors), (Kind::WidgetGroup, groups), (Kind::Widget, widgets)];
        let objects = kinds.into_iter().chain([(Kind::Pod, pods)]);
        Ok(Self::of(objects.flat_map(|(kind, texts)| texts.into_iter().map(move |text| (kind, text))), now))
    }

    /// What these objects say, each as its JSON.
    pub(super) fn of(objects: impl IntoIterator<Item = (Kind, String)>, now: Timestamp) -> Self {
        let mut store = Store::new([]);
        for (kind, text) in objects {
            store.is(kind, &text, now);
        }
        let mut known = Self {
            store,
            declared: Declared::default(),
            statuses: BTreeMap::new(),
            replicas: BTreeMap::new(),
            scaled: BTreeMap::new(),
            problems: BTreeMap::new(),
        };
        known.assemble();
        known.place();
        known
    }

    fn assemble(&mut self) {
        let mut forest = Forest::default();
        for (key, own) in self.store.all(Kind::Supervisor) {
            forest.note(key, Some(own));
        }
        let kinds = [Kind::Supervisor, Kind::WidgetGroup, Kind::Widget];
        let all = kinds.into_iter().flat_map(|kind| self.store.all(kind).map(move |(key, _)| (kind, key)));
        let roots: BTreeSet<Root> =
            all.filter_map(|(kind, key)| forest.root_of(&self.store, kind, key)).collect();
        for root in roots {
            let Some(own) = self.store.own(root.kind, &root.key) else { continue };
            let tree = root.to_string();
            if let Ok(status) = serde_json::from_str(&own.supervision.read()) {
                self.statuses.insert(tree.clone(), status);
            }
            let assembled = forest.assemble(&self.store, &root, true, &|_| false);
            self.problems.extend(assembled.problems);
            self.declared.set_tree(&tree, assembled.node.map(Arc::new));
        }
        let declared: Vec<WidgetId> =
            self.declared.trees().flat_map(widgets).map(|widget| widget.id.clone()).collect();
        for id in declared {
            let Some((key, own)) = self.object(&id) else { continue };
            let template = own.meta.annotation("template-replicas").and_then(|text| text.parse().ok());
            let replicas = kontrol_operator::kubernetes::forest::replicas_of(&own.spec.read());
            if let Some(template) = template.filter(|template| replicas.is_some_and(|now| now != *template))
                && key.name.as_ref() != id.group.as_str()
            {
                self.scaled.insert(id, template);
            }
        }
    }

    fn place(&mut self) {
        let mut noted: BTreeMap<InstanceId, status::Replica> = BTreeMap::new();
        for root in self.statuses.values().filter_map(|status| status.root.as_deref()) {
            replicas_of(root, &mut noted);
        }
        let mut pods: BTreeMap<InstanceId, (&Key, &Pod)> = BTreeMap::new();
        for (key, pod) in self.store.pods() {
            let Some(id) = pod.instance() else { continue };
            let newest = pods.entry(id.clone()).or_insert((key, pod));
            if newest.1.incarnation < pod.incarnation {
                *newest = (key, pod);
            }
        }
        let all: BTreeSet<&InstanceId> = noted.keys().chain(pods.keys()).collect();
        let places = all.into_iter().map(|id| {
            let port = self.declared.widget(&id.widget).and_then(|widget| widget.endpoint);
            let port = port.map(|endpoint| endpoint.port.unwrap_or(PORT));
            (id.clone(), Place::of(id, noted.get(id), pods.get(id).copied(), port))
        });
        let mut places: BTreeMap<InstanceId, Place> = places.collect();
        for (id, place) in &mut places {
            let (Some(pod), Some((_, widget))) = (&place.pod, self.object(&id.widget)) else { continue };
            place.breakers = breakers_of(widget, &pod.name);
        }
        self.replicas = places;
    }

    /// The Widget object of a widget: one of its own, or that which its group has stamped out.
    pub(super) fn object(&self, id: &WidgetId) -> Option<(Key, &Own)> {
        let stamped = Key::new(id.namespace.as_str(), &format!("{}-{}", id.group, id.widget));
        let alone = Key::new(id.namespace.as_str(), id.group.as_str());
        let group = self.store.own(Kind::WidgetGroup, &alone).is_some();
        let key = if group || id.group != id.widget { stamped } else { alone };
        let own = self.store.own(Kind::Widget, &key)?;
        Some((key, own))
    }

    /// Everything that is known, for people and programs.
    pub(super) fn tree(&self, now: Timestamp) -> v1::TreeResponse {
        v1::TreeResponse {
            roots: kontrol_operator::view::tree(self, now),
            ready: kontrol_operator::view::is_ready(self),
            ..v1::TreeResponse::default()
        }
    }
}

impl Place {
    fn of(
        id: &InstanceId,
        noted: Option<&status::Replica>,
        pod: Option<(&Key, &Pod)>,
        port: Option<u16>,
    ) -> Self {
        let fence = noted.map_or(0, |noted| noted.incarnation).max(pod.map_or(0, |(_, pod)| pod.incarnation));
        let Some((key, pod)) = pod else {
            let lost = noted.filter(|noted| !matches!(noted.phase, ReplicaPhase::Down | ReplicaPhase::Done));
            let run = lost.map(|noted| Run {
                incarnation: noted.incarnation,
                epoch: noted.epoch,
                state: InstanceState::Starting,
                since: noted.since,
                runs: false,
                pid: None,
            });
            let note = lost.map(|_| "its pod is not there yet".to_owned());
            let breakers = Vec::new();
            return Self {
                fence,
                run,
                note,
                breakers,
                pod: None,
                node: None,
                host: String::new(),
                port: None,
            };
        };
        let noted = noted.filter(|noted| noted.incarnation == pod.incarnation);
        let instance = observe(id, pod, noted, None);
        // The operator hears the widget's sidecar, which is nearer than what the kubelet writes.
        let (state, since) = match (instance.state, noted) {
            (InstanceState::Running, Some(noted)) if noted.ready => (InstanceState::Ready, noted.since),
            (InstanceState::Ready, Some(noted)) if !noted.ready && noted.phase == ReplicaPhase::Up => {
                (InstanceState::NotReady, instance.since)
            }
            (state, _) => (state, instance.since),
        };
        let run = Run {
            incarnation: pod.incarnation,
            epoch: pod.epoch,
            state,
            since,
            runs: !state.is_ended(),
            pid: None,
        };
        Self {
            fence,
            run: Some(run),
            note: instance.message.map(|message| message.to_string()),
            breakers: Vec::new(),
            pod: Some(key.clone()),
            node: pod.node.clone(),
            host: pod.ip.to_string(),
            port: port.filter(|_| !pod.ip.is_empty()),
        }
    }
}

impl View for Known {
    fn declared(&self) -> &Declared {
        &self.declared
    }

    fn replicas(&self, widget: &WidgetId) -> impl Iterator<Item = Replica<'_>> {
        let place = |ordinal| InstanceId { widget: widget.clone(), ordinal };
        self.replicas.range(place(0)..=place(u32::MAX)).map(|(id, place)| Replica {
            id,
            fence: place.fence,
            run: place.run,
            signals: None,
            breakers: &place.breakers,
            note: place.note.as_deref(),
            addresses: None,
            host: &place.host,
            port: place.port,
            sidecar_pid: None,
            pod: place.pod.as_ref().map(|key| &*key.name),
            node: place.node.as_deref(),
        })
    }

    fn hub(&self, _bus: &ObjectId) -> Option<&Addresses> {
        None
    }

    fn queue(&self, _topic: &ObjectId, _name: &Name) -> Option<(Timestamp, &v1::hub_signals::Subscription)> {
        None
    }
}

impl Statuses for Known {
    fn status(&self, tree: &str) -> Option<&Status> {
        self.statuses.get(tree)
    }

    fn statuses(&self) -> impl Iterator<Item = &Status> {
        self.statuses.values()
    }

    fn scaled(&self, widget: &WidgetId) -> Option<Scaled> {
        let manifest = *self.scaled.get(widget)?;
        Some(Scaled { manifest, with: "`kubectl scale`, `kubectl kontrol scale` or an autoscaler" })
    }
}

/// The breakers of a pod's calls that are not closed, as the operator has written them.
fn breakers_of(widget: &Own, pod: &str) -> Vec<v1::EndpointState> {
    let status = widget.status.read();
    if !status.contains("\"breakers\"") {
        return Vec::new();
    }
    let status: api::WidgetStatus = serde_json::from_str(&status).unwrap_or_default();
    let ours = status.instances.into_iter().flatten().find(|instance| instance.name == pod);
    let breakers = ours.into_iter().flat_map(|instance| instance.breakers);
    breakers
        .map(|api::BreakerStatus { instance, reason }| v1::EndpointState {
            instance,
            reason,
            ..v1::EndpointState::default()
        })
        .collect()
}

/// The replicas of all widgets at and below a node, as they were decided.
fn replicas_of(node: &Node, into: &mut BTreeMap<InstanceId, status::Replica>) {
    for slot in &node.children {
        match &slot.inner {
            Inner::Node(below) => replicas_of(below, into),
            Inner::Widget(widget) => {
                let id = WidgetId {
                    namespace: node.id.namespace.clone(),
                    group: node.id.name.clone(),
                    widget: slot.key.name.clone(),
                };
                let ran = widget.replicas.iter().zip(0..).filter(|(replica, ordinal)| {
                    replica.incarnation > 0
                        && (*ordinal < widget.desired || replica.phase != ReplicaPhase::Down)
                });
                into.extend(
                    ran.map(|(replica, ordinal)| {
                        (InstanceId { widget: id.clone(), ordinal }, replica.clone())
                    }),
                );
            }
        }
    }
}
