//! The world's state, pure: inputs in, effects out, time as an argument. The plan decides; this keeps what it decides on, and turns its
//! actions into requests.
//!
//! ```text
//!   watches, answers, streams ──take──► Store, sessions ──► trees that have to be looked at again
//!                                                              │ step: one at a time for each tree
//!        ┌─────────────────────────────────────────────────────┘
//!        ▼
//!   dereference ─► validate ─► prepare ─► plan ─► write the decision ─► act ─► follow up ─► show
//!                              widgets of         with the version       pods   services,    conditions,
//!                              a group, trust     it was made from              revisions    status, events
//! ```
//!
//! Each look at a tree does the first of these steps that has something to do, waits for the answers, and looks again; where nothing is
//! left to do nothing is written. What an answer shows is known before the tree is looked at again.

mod act;
mod follow;
mod hubs;
mod machines;
mod prepare;
mod queue;
mod reconcile;
mod sessions;
mod show;
mod take;
#[cfg(test)]
mod tests;
mod view;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use kontrol_core::{
    id::{InstanceId, ObjectId, WidgetId},
    spec::{self, Revision},
    time::Timestamp,
};
use kontrol_crds as api;
use kontrol_plan::{Action, Event, NodeHealth, Status};
use kontrol_proto::v1;

use super::{
    events::{self, Regarding},
    forest::{Forest, Problem, Root},
    kind::Kind,
    object::Key,
    observe::Word,
    options::Options,
    pod::Pod,
    render,
    request::{Outcome, Request},
    store::{Seen, Source, Store},
};
use crate::{
    control::{self, Session},
    view::Declared,
};
use hubs::Hub;
use machines::Machines;
use queue::Queue;
use sessions::Companions;

/// What happens to the world.
#[derive(Clone, Debug)]
pub enum Input {
    /// A watch says something.
    Watch(Source, Seen),
    /// A request was answered.
    Answer(Ticket, Outcome),
    /// This process leads, or no longer does.
    Leads(bool),
    /// A control stream says something.
    Control(control::Event),
    /// What sidecars have to trust, as PEM.
    Trust(String),
}

/// Which request an answer is to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// What to do.
#[expect(clippy::large_enum_variant, reason = "carried out as soon as it is made")]
#[derive(Clone, Debug)]
pub enum Effect {
    /// Ask the API server, and answer with the ticket.
    Ask(Ticket, Request),
    /// Tell a sidecar or a hub.
    Tell(Session, v1::session_response::Message),
}

/// What a request was made for.
#[derive(Clone, Debug)]
enum Purpose {
    /// Something that has to be there before pods are.
    Prepare,
    /// The certificates that the sidecars of a namespace trust, by the hash of them.
    Trust(Box<str>, Box<str>),
    /// The claim of a hub.
    Claim(ObjectId),
    /// The decision.
    Decide(Vec<Event>),
    /// A start of this incarnation.
    Start(InstanceId, u64),
    /// A template to start from.
    Template(WidgetId, Revision),
    /// A stop or removal.
    Stop,
    /// What follows pods: services, revisions.
    Follow,
    /// Conditions and status.
    Show,
}

/// A request that has not been answered.
#[derive(Clone, Debug)]
struct Pending {
    root: Root,
    purpose: Purpose,
    kind: Kind,
    key: Key,
    /// The version that the object had, where it is to be removed.
    version: u64,
}

/// What is remembered of a tree beside what is written. All of it can be found again.
#[derive(Debug, Default)]
struct Tree {
    /// As it is declared.
    node: Option<Arc<spec::Node>>,
    /// Its objects.
    members: Vec<(Kind, Key)>,
    /// What is wrong with them.
    problems: BTreeMap<(Kind, Key), Problem>,
    /// The status that was read last, and the text that it was read from.
    status: Status,
    status_text: Box<str>,
    /// What was decided last, until it is known to be written.
    decided: Option<Box<Decided>>,
    /// Whether it is to be looked at again at once.
    more: bool,
    /// Requests that are not answered.
    outstanding: usize,
    /// Whether one of the current step failed.
    failed: Option<String>,
    /// Whether that was in the requests that are under way.
    stumbled: bool,
    /// What the API server does not allow, until a pod can be made again.
    refusal: Option<String>,
    /// Failures in a row.
    failures: u32,
    /// No step but showing before this time.
    hold: Option<Timestamp>,
    /// Incarnations that were launched, of replicas that start.
    launched: BTreeMap<InstanceId, u64>,
    /// Templates of other revisions than the declared ones, as far as they were read.
    templates: HashMap<(WidgetId, Revision), Box<api::WidgetSpec>>,
    /// Starts that the API server refused for good, and why.
    refused: BTreeMap<(InstanceId, u64), (Timestamp, Arc<str>)>,
}

/// A decision that is being written.
#[derive(Debug)]
struct Decided {
    text: Box<str>,
    status: Status,
    actions: Vec<Action>,
}

/// The world.
#[derive(Debug)]
pub struct State {
    options: Arc<Options>,
    settings: render::Settings,
    store: Store,
    forest: Forest,
    declared: Declared,
    companions: Companions,
    hubs: BTreeMap<ObjectId, Hub>,
    machines: Machines,
    /// What sidecars have to trust, with its hash; none: nobody said.
    trust: Option<(String, Box<str>)>,
    /// The hash of what the sidecars of a namespace are told to trust.
    trusted: HashMap<Box<str>, Box<str>>,
    trees: HashMap<Root, Tree>,
    queue: Queue,
    pending: HashMap<Ticket, Pending>,
    tickets: u64,
    leads: bool,
    /// Plans made so far.
    plans: u64,
    /// Trees whose sidecars may have to be told of a decision.
    decided: BTreeSet<Root>,
    /// Requests that are asked in another form.
    again: Vec<(Root, Request)>,
    /// Facts that were decided, to be told.
    told: Vec<(Root, Event)>,
}

/// The first and the longest pause after a request failed.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// The pause before anything is made again in a namespace that is being removed.
const TERMINATING: Duration = Duration::from_mins(1);

impl State {
    /// A world that knows nothing yet.
    pub fn new(options: Arc<Options>, sources: impl IntoIterator<Item = Source>) -> Self {
        let settings = render::Settings {
            sidecar_image: options.sidecar_image.clone(),
            shim_image: options.shim_image.clone().unwrap_or_else(|| options.sidecar_image.clone()),
            control: options.control_address.clone(),
            trust_domain: options.trust_domain.clone(),
        };
        Self {
            options,
            settings,
            store: Store::new(sources),
            forest: Forest::default(),
            declared: Declared::default(),
            companions: Companions::default(),
            hubs: BTreeMap::new(),
            machines: Machines::default(),
            trust: None,
            trusted: HashMap::new(),
            trees: HashMap::new(),
            queue: Queue::default(),
            pending: HashMap::new(),
            tickets: 0,
            leads: false,
            plans: 0,
            decided: BTreeSet::new(),
            again: Vec::new(),
            told: Vec::new(),
        }
    }

    /// What is known of the cluster.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Whether this process leads.
    pub fn leads(&self) -> bool {
        self.leads
    }

    /// Plans made so far.
    pub fn plans(&self) -> u64 {
        self.plans
    }

    /// Control streams that are open.
    pub fn sessions(&self) -> usize {
        self.companions.open()
    }

    /// Whether nothing is under way and nothing waits to be looked at now.
    pub fn settled(&self, now: Timestamp) -> bool {
        self.pending.is_empty() && !self.queue.due(now)
    }

    /// Trees by how they stand, for the metrics.
    pub fn trees(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::from([("ready", 0), ("not_ready", 0), ("held", 0)]);
        for tree in self.trees.iter().filter(|(root, _)| root.kind != Kind::MessageBus).map(|(_, tree)| tree)
        {
            let ready = tree.status.root.as_ref().is_some_and(|root| root.conditions.ready.status);
            let name = if tree.node.is_none() {
                "held"
            } else if ready {
                "ready"
            } else {
                "not_ready"
            };
            *counts.entry(name).or_default() += 1;
        }
        counts
    }

    /// Objects of a kind that are not accepted.
    pub fn not_accepted(&self, kind: Kind) -> usize {
        self.trees.values().map(|tree| tree.problems.keys().filter(|(known, _)| *known == kind).count()).sum()
    }

    /// Machines that are not well: how many are suspect, how many lost.
    pub fn machines(&self) -> (usize, usize) {
        let lost = self.machines.health.values().filter(|health| health.is_lost()).count();
        (self.machines.health.len() - lost, lost)
    }

    /// What an event about a widget, or about a whole tree, regards.
    pub fn regarding(&self, root: &Root, event: &Event) -> Option<Regarding> {
        let of = |kind, key: &Key| {
            self.store.own(kind, key).map(|own| Regarding {
                kind,
                key: key.clone(),
                uid: own.meta.uid.to_string(),
            })
        };
        let widget = events::widget_of(event).and_then(|id| {
            let tree = self.trees.get(root)?;
            of(Kind::Widget, &self.object_of(tree, id).0)
        });
        widget.or_else(|| of(root.kind, &root.key))
    }

    /// Facts that were decided and written since this was asked last.
    pub fn told(&mut self) -> Vec<(Root, Event)> {
        std::mem::take(&mut self.told)
    }

    /// When to go on if nothing happens before.
    pub fn wake(&self) -> Option<Timestamp> {
        self.queue.wake().into_iter().chain(self.next_look()).min()
    }

    /// Goes on with every tree that has something to do, as far as requests may be under way.
    pub fn step(&mut self, now: Timestamp) -> Vec<Effect> {
        let mut effects = Vec::new();
        if !self.leads || !self.store.synced() {
            return effects;
        }
        for (root, request) in std::mem::take(&mut self.again) {
            self.ask(&root, Purpose::Prepare, request, &mut effects);
        }
        self.look_at_machines(now);
        self.tend_hubs(now, &mut effects);
        while self.pending.len() < self.options.concurrency {
            let Some(root) = self.queue.next(now) else { break };
            if root.kind == Kind::MessageBus {
                continue;
            }
            if self.trees.get(&root).is_some_and(|tree| tree.outstanding > 0) {
                // It is looked at when its answers are there.
                continue;
            }
            self.reconcile(&root, now, &mut effects);
        }
        self.configure(&mut effects);
        effects
    }

    /// Has a tree looked at again.
    fn mark(&mut self, root: Root) {
        self.queue.now(root);
    }

    fn mark_object(&mut self, kind: Kind, key: &Key) {
        if let Some(root) = self.forest.root_of(&self.store, kind, key) {
            self.mark(root);
        }
    }

    fn mark_all(&mut self) {
        let mut roots: BTreeSet<Root> = self.trees.keys().cloned().collect();
        for kind in [Kind::Supervisor, Kind::WidgetGroup, Kind::Widget] {
            for (key, _) in self.store.all(kind) {
                roots.extend(self.forest.root_of(&self.store, kind, key));
            }
        }
        for root in roots {
            self.queue.now(root);
        }
    }

    /// Asks the API server, for a tree.
    fn ask(&mut self, root: &Root, purpose: Purpose, request: Request, effects: &mut Vec<Effect>) {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let key = Key::new(request.namespace.as_deref().unwrap_or_default(), &request.name);
        let version = match request.kind {
            Kind::Pod => self.store.pod(&key).map_or(0, |pod| pod.meta.version),
            kind => self.store.owned(kind, &key).map_or(0, |owned| owned.meta.version),
        };
        let pending = Pending { root: root.clone(), purpose, kind: request.kind, key, version };
        self.pending.insert(ticket, pending);
        self.trees.entry(root.clone()).or_default().outstanding += 1;
        effects.push(Effect::Ask(ticket, request));
    }
}

impl State {
    /// What the sidecar of a pod says.
    fn word(&self, _instance: &InstanceId, pod: &Pod) -> Option<&Word> {
        self.companions.of(&pod.meta.uid)?.word.as_ref()
    }

    /// How the machines are that are not well.
    fn health(&self) -> BTreeMap<Arc<str>, NodeHealth> {
        self.machines.health.clone()
    }
}

/// The name of the `Widget` object of a widget: one outside of groups is in a group of its own name.
pub(crate) fn object_name(id: &WidgetId, lone: bool) -> String {
    if lone { id.widget.to_string() } else { format!("{}-{}", id.group, id.widget) }
}

/// All groups at and below a node.
fn groups(node: &spec::Node) -> Vec<&spec::Group> {
    match node {
        spec::Node::Group(group) => vec![group],
        spec::Node::Supervisor(supervisor) => {
            supervisor.children.iter().flat_map(|child| groups(&child.node)).collect()
        }
    }
}

/// All widgets at and below a node.
fn widgets(node: &spec::Node) -> impl Iterator<Item = &spec::Widget> {
    groups(node).into_iter().flat_map(|group| &group.widgets)
}
