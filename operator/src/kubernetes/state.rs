//! The world's state, pure: inputs in, effects out, time as an argument. The plan decides; this keeps what it decides on, and turns its
//! actions into requests.
//!
//! ```text
//!   watches, answers, sessions ──take──► Store, sessions ──► trees that have to be looked at again
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
mod gate;
mod hubs;
mod machines;
mod messages;
mod pause;
mod prepare;
mod queue;
mod reconcile;
mod refusal;
mod release;
mod sessions;
mod show;
mod sight;
mod survey;
mod take;
#[cfg(test)]
mod tests;
mod trees;
mod view;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use kontrol_core::{
    id::{InstanceId, ObjectId, WidgetId},
    spec::{self, Revision},
    time::Timestamp,
};
use kontrol_crds as api;
use kontrol_plan::{Action, Event, Instance, InstanceState, NodeHealth, Status, status::Replica};
use kontrol_proto::session::Configuration;
use litemap::LiteMap;

use super::{
    definitions::Lacks,
    events::{self, Regarding},
    forest::{Forest, Problem, Root},
    kind::Kind,
    lacking,
    object::Key,
    observe::{self, Word},
    options::Options,
    pod::Pod,
    render,
    request::{Outcome, Request},
    store::{Seen, Source, Store},
    text::Text,
};
use crate::{
    control::{self, Session},
    view::Declared,
};
use follow::Taken;
use hubs::Hub;
use machines::Machines;
pub(super) use machines::OPENS_WITHIN;
use pause::Pause;
use queue::Queue;
use refusal::{Denied, Refusal, RemovedNamespaces};
use sessions::Companions;
use sight::Sight;
use survey::Survey;
use trees::{Standing, Trees};

/// What happens to the world.
#[derive(Clone, Debug)]
pub enum Input {
    /// A watch says something.
    Watch(Source, Seen),
    /// A request was answered.
    Answer(Ticket, Outcome),
    /// This process leads, or no longer does.
    Leads(bool),
    /// The process that led before stood on this machine, and was heard last at this time: it did not give up the lease.
    Led {
        /// The machine.
        node: Arc<str>,
        /// When it was heard last.
        silent_since: Timestamp,
    },
    /// This process holds the lease, which the API server has said a moment ago.
    Holds,
    /// A control session says something.
    Control(control::Event),
    /// The kubelet of a machine listens.
    Open(Arc<str>),
    /// What sidecars have to trust, as PEM.
    Trust(String),
    /// What the cluster's definitions of our kinds lack.
    Definitions(Lacks),
}

/// Which request an answer is to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// What to do.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Ask the API server, and answer with the ticket.
    Ask(Ticket, Request),
    /// Look whether the kubelet of a machine listens, at an address.
    Knock(Arc<str>, Box<str>),
    /// Tell a sidecar or a hub.
    Tell(Session, Configuration),
    /// End a session: nobody knows whose it is. It is opened again after a pause.
    End(Session),
    /// Count a word that was not its sender's to say.
    Refused(control::Reason),
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
    /// The incarnation of a hub, on its claim.
    Keep(ObjectId, u64),
    /// The decision.
    Decide(Vec<Event>),
    /// A start.
    Start(Box<Action>),
    /// A template to start from.
    Template(WidgetId, Revision),
    /// A stop or removal.
    Stop,
    /// What a sidecar says of its widget, on its pod.
    Gate,
    /// That what is being removed may go.
    Release,
    /// What follows pods: services, revisions.
    Follow,
    /// Whose an object is that has the name of one that follows pods.
    Whose,
    /// The removal of what is not wanted any more beside pods.
    Sweep,
    /// Conditions and status, with which write it is.
    Show(u64),
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
    /// The status that is written.
    status: Option<Box<serde_json::Value>>,
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
    status_text: Text,
    /// What was decided last, until it is known to be written.
    decided: Option<Box<Decided>>,
    /// Whether it is to be looked at again at once.
    more: bool,
    /// Requests that are not answered.
    outstanding: usize,
    /// Whether one of the current step failed.
    failed: Option<String>,
    /// What of what follows pods failed, until all of it is there.
    behind: Option<String>,
    /// What the API server does not allow beside starts, as long as it is asked for.
    refusal: Option<Refusal>,
    /// Starts that it does not allow at the moment.
    denied: BTreeMap<(InstanceId, u64), Denied>,
    /// The failure that was logged last, until all goes well.
    logged: Option<String>,
    /// After a failure nothing is decided or done before this is over.
    hold: Pause,
    /// The same for what follows pods.
    follows: Pause,
    /// The same for the readiness of pods: a Service whose name somebody else has does not hold it back.
    gates: Pause,
    /// The same for what may go.
    releases: Pause,
    /// The same for what is shown.
    shows: Pause,
    /// Whether it waits for the other trees to say what it names of them that is not there.
    unsaid: bool,
    /// What of a status was written, by object: the version that it became, and which write it was. What looks the same after it was
    /// written is not kept by the API server, and is not written again.
    shown: LiteMap<(Kind, Key), (u64, u64)>,
    /// Incarnations that were launched, of replicas that start.
    launched: BTreeMap<InstanceId, u64>,
    /// Templates of other revisions than the declared ones, as far as they were read.
    templates: HashMap<(WidgetId, Revision), Box<api::WidgetSpec>>,
    /// Templates that are kept and cannot be read: why, and before when they are not read again.
    unread: HashMap<(WidgetId, Revision), (Pause, Arc<str>)>,
    /// Names of what follows pods that somebody else's objects have.
    taken: BTreeMap<(Kind, Key), Taken>,
    /// Starts that the API server refused for good, and why.
    refused: BTreeMap<(InstanceId, u64), (Timestamp, Arc<str>)>,
}

/// A decision that is being written.
#[derive(Debug)]
struct Decided {
    text: Text,
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
    /// Since when pods are seen, by where watches look.
    sights: BTreeMap<Option<String>, Sight>,
    /// What sidecars have to trust, with its hash; none: nobody said.
    trust: Option<(String, Box<str>)>,
    /// The hash of what the sidecars of a namespace are told to trust.
    trusted: HashMap<Box<str>, Box<str>>,
    trees: Trees,
    queue: Queue,
    pending: HashMap<Ticket, Pending>,
    tickets: u64,
    leads: bool,
    /// Plans made so far.
    plans: u64,
    /// Trees whose sidecars may have to be told of a decision.
    decided: BTreeSet<Root>,
    /// What follows from the words of sessions.
    replies: Vec<Effect>,
    /// Trees that were not looked at since this process leads.
    survey: Survey,
    /// Facts that were decided, to be told.
    told: Vec<(Root, Event)>,
    removed_namespaces: RemovedNamespaces,
    /// What the cluster's definitions of our kinds lack, or the API server drops, and is not written.
    lacks: Lacks,
    /// What the definitions themselves lacked when that changed last, and when.
    read: (Lacks, Timestamp),
}

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
            sights: BTreeMap::new(),
            trust: None,
            trusted: HashMap::new(),
            trees: Trees::default(),
            queue: Queue::default(),
            pending: HashMap::new(),
            tickets: 0,
            leads: false,
            plans: 0,
            decided: BTreeSet::new(),
            replies: Vec::new(),
            survey: Survey::default(),
            told: Vec::new(),
            removed_namespaces: RemovedNamespaces::default(),
            lacks: Lacks::default(),
            read: (Lacks::default(), Timestamp::ZERO),
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

    /// What the cluster's definitions of our kinds lack.
    pub fn lacks(&self) -> &Lacks {
        &self.lacks
    }

    /// Plans made so far.
    pub fn plans(&self) -> u64 {
        self.plans
    }

    /// Control sessions that are open.
    pub fn sessions(&self) -> usize {
        self.companions.open()
    }

    /// Whether nothing is under way and nothing waits to be looked at now.
    pub fn settled(&self, now: Timestamp) -> bool {
        self.pending.is_empty() && !self.queue.due(now)
    }

    /// Trees by how they stand, for the metrics.
    pub fn trees(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::from(Standing::ALL.map(|standing| (standing.as_str(), 0)));
        let is_tree = |root: &Root| !matches!(root.kind, Kind::MessageBus | Kind::Topic | Kind::Route);
        for (_, standing) in self.trees.standings().filter(|(root, _)| is_tree(root)) {
            *counts.entry(standing.as_str()).or_default() += 1;
        }
        counts
    }

    /// Objects of a kind that are not accepted.
    pub fn not_accepted(&self, kind: Kind) -> usize {
        let problems = self.trees.all_awake().flat_map(|(_, tree)| tree.problems.keys());
        problems.filter(|(known, _)| *known == kind).count()
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
            let lone = id.group == id.widget && self.group_object(id).0 == Kind::Widget;
            of(Kind::Widget, &Key::new(id.namespace.as_str(), &object_name(id, lone)))
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
        let mut effects = std::mem::take(&mut self.replies);
        if !self.leads || !self.survey_all() {
            return effects;
        }
        self.look_at_machines(now, &mut effects);
        while self.pending.len() < self.options.concurrency {
            let Some(root) = self.queue.next(now) else { break };
            if self.trees.awake(&root).is_some_and(|tree| tree.outstanding > 0) {
                // It is looked at when its answers are there.
                continue;
            }
            if root.kind == Kind::MessageBus {
                self.tend_hub(&root, now, &mut effects);
                continue;
            }
            if matches!(root.kind, Kind::Topic | Kind::Route) {
                if self.survey.is_over(&root.key.namespace) {
                    self.show_message(&root, now, &mut effects);
                }
                continue;
            }
            self.reconcile(&root, now, &mut effects);
        }
        self.configure(&mut effects);
        effects
    }

    /// Has a tree looked at again, where this process leads: who begins to lead looks at all of them.
    fn mark(&mut self, root: Root) {
        if self.leads {
            self.queue.now(root);
        }
    }

    fn mark_object(&mut self, kind: Kind, key: &Key) {
        if let Some(root) = self.forest.root_of(&self.store, kind, key) {
            self.mark(root);
        }
    }

    fn mark_all(&mut self) {
        self.mark_all_in(None);
    }

    /// Has all trees of a namespace looked at again; none: of all namespaces.
    fn mark_all_in(&mut self, namespace: Option<&str>) {
        if !self.leads {
            return;
        }
        let mut known: BTreeSet<Root> = self.trees.roots().cloned().chain(self.roots()).collect();
        known.extend(self.known_hubs());
        for root in known.into_iter().filter(|root| namespace.is_none_or(|name| *root.key.namespace == *name))
        {
            self.queue.now(root);
        }
    }

    /// Whether all of a namespace was listed, and what is known of these kinds is not old: what cannot be seen is not absent.
    fn sees(&self, namespace: &str, kinds: &[Kind]) -> bool {
        self.store.listed_in(namespace) && kinds.iter().all(|kind| self.store.fresh(*kind, Some(namespace)))
    }

    /// The roots of all trees.
    fn roots(&self) -> BTreeSet<Root> {
        let kinds = [Kind::Supervisor, Kind::WidgetGroup, Kind::Widget];
        let objects =
            kinds.into_iter().flat_map(|kind| self.store.all(kind).map(move |(key, _)| (kind, key)));
        objects.filter_map(|(kind, key)| self.forest.root_of(&self.store, kind, key)).collect()
    }

    /// Takes note of which trees there are, wherever all was listed since this was asked last. `false`: nowhere.
    fn survey_all(&mut self) -> bool {
        let scopes = self.store.scopes();
        let new: Vec<Option<String>> = scopes
            .into_iter()
            .filter(|scope| !self.survey.knows(*scope) && self.store.is_listed(*scope))
            .map(Option::<&String>::cloned)
            .collect();
        for scope in new {
            let mut roots = self.roots();
            roots.retain(|root| scope.as_deref().is_none_or(|name| *root.key.namespace == *name));
            self.survey.begin(scope.clone(), roots);
            self.surveyed_all(scope.as_deref());
        }
        self.survey.is_begun()
    }

    /// A tree was looked at.
    fn surveyed(&mut self, root: &Root) {
        if self.survey.looked(root) {
            self.surveyed_all(Some(&root.key.namespace));
        }
    }

    /// Where all trees were looked at, what they say of each other is shown.
    fn surveyed_all(&mut self, namespace: Option<&str>) {
        let here = |root: &Root| namespace.is_none_or(|name| *root.key.namespace == *name);
        let unsaid = self.trees.all_awake().filter(|(root, tree)| tree.unsaid && here(root));
        let unsaid: Vec<Root> = unsaid.map(|(root, _)| root.clone()).collect();
        for root in unsaid {
            self.mark(root);
        }
        self.mark_messages(namespace);
    }

    /// Asks the API server, for a tree.
    fn ask(&mut self, root: &Root, purpose: Purpose, mut request: Request, effects: &mut Vec<Effect>) {
        let key = Key::new(request.namespace.as_deref().unwrap_or_default(), &request.name);
        let shows = matches!(purpose, Purpose::Show(_));
        if shows {
            let status = self.store.own(request.kind, &key).map(|own| own.status.clone());
            if !self.lacks.trim(&mut request, &status.unwrap_or_default()) {
                return;
            }
        }
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let version = match request.kind {
            Kind::Pod => self.store.pod(&key).map_or(0, |pod| pod.meta.version),
            kind => self.store.owned_version(kind, &key),
        };
        let status = shows.then(|| Box::new(request.body["status"].clone()));
        let pending = Pending { root: root.clone(), purpose, kind: request.kind, key, version, status };
        self.pending.insert(ticket, pending);
        self.trees.wake(root, &self.declared).outstanding += 1;
        effects.push(Effect::Ask(ticket, request));
    }
}

impl State {
    /// The object that declares the group of a widget: a widget outside of groups is its own.
    fn group_object(&self, id: &WidgetId) -> (Kind, Key) {
        let key = Key::new(id.namespace.as_str(), id.group.as_str());
        let is_group = self.store.own(Kind::WidgetGroup, &key).is_some();
        (if is_group { Kind::WidgetGroup } else { Kind::Widget }, key)
    }

    /// What the sidecar of a pod says.
    fn word(&self, pod: &Pod) -> Option<&Word> {
        self.companions.of(&pod.meta.uid)?.word.as_ref()
    }

    /// The instance that a pod is, by its own state and by what its sidecar says.
    fn seen(&self, id: &InstanceId, pod: &Pod, noted: Option<&Replica>) -> Instance {
        let word = self.word(pod);
        let mut instance = observe::observe(id, pod, noted, word);
        if word.is_none() && instance.state == InstanceState::Running {
            let when = self.declared.widget(&id.widget).map(|widget| widget.start.when);
            instance.state = observe::unheard(noted, when.unwrap_or_default());
        }
        if instance.state == InstanceState::Unschedulable && !pod.said().wants.is_empty() {
            instance.message = Some(lacking::said(pod, self.store.nodes()).into());
        }
        // What has an identity of its own is there until it is gone for certain, whoever asked it to go.
        let has_identity = || {
            self.declared.widget(&id.widget).and_then(|widget| widget.container).is_some_and(|c| c.identity)
        };
        let goes = matches!(instance.state, InstanceState::Ended(_)) && !observe::is_over(pod);
        if goes && has_identity() {
            instance.state = InstanceState::Stopping;
        }
        instance
    }

    /// Since when all is seen that happens in a namespace.
    fn sees_since(&self, namespace: &str) -> Timestamp {
        let here = |scope: &Option<String>| scope.as_deref().is_none_or(|scope| scope == namespace);
        let sights = self.sights.iter().filter(|(scope, _)| here(scope));
        sights.map(|(_, sight)| sight.since()).max().unwrap_or_default()
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

/// Whether a widget names topics or other widgets.
fn names_others(widget: &spec::Widget) -> bool {
    !(widget.calls.is_empty() && widget.produces.is_empty() && widget.consumes.is_empty())
}
