//! A small world that does at once what it is asked to, and builders for what it is asked to run.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use kontrol_core::{
    id::{InstanceId, ObjectId, WidgetId},
    spec::{
        self, AutoShutdown, Exhausted, Intensity, ReplicaEnd, Restart, Revision, Shutdown, Start, Strategy,
    },
    time::Timestamp,
};

use crate::{
    Action, End, Event, Instance, InstanceState, Observed, StartError, plan,
    status::{Inner, Node},
};

/// Instances that start, stop and end when they are told to.
pub(super) struct World {
    pub(super) desired: Option<spec::Node>,
    pub(super) observed: Observed,
    pub(super) now: Timestamp,
    /// The state that an instance has once it is started; by default ready.
    pub(super) started: BTreeMap<String, InstanceState>,
    /// What is said of the end of an instance.
    pub(super) messages: BTreeMap<String, Arc<str>>,
    /// All events so far.
    pub(super) events: Vec<Event>,
    /// All actions so far, as `start rag/llm-0 #1`.
    pub(super) acts: Vec<String>,
    pub(super) wake: Option<Timestamp>,
    /// Whether what is asked to stop only says that it is stopping.
    pub(super) slow_stops: bool,
}

impl World {
    pub(super) fn new(desired: impl Into<Option<spec::Node>>) -> Self {
        Self {
            desired: desired.into(),
            observed: Observed::default(),
            now: Timestamp::from_micros(1_000_000_000_000),
            started: BTreeMap::new(),
            messages: BTreeMap::new(),
            events: Vec::new(),
            acts: Vec::new(),
            wake: None,
            slow_stops: false,
        }
    }

    /// A world in which everything has come to rest.
    pub(super) fn settled(desired: impl Into<Option<spec::Node>>) -> Self {
        let mut world = Self::new(desired);
        world.settle();
        world
    }

    /// Plans once, writes and acts; says whether there may be more to do at once.
    pub(super) fn step(&mut self) -> bool {
        let planned = plan(self.desired.as_ref(), &self.observed, self.now);
        self.events.extend(planned.events);
        let changed = planned.status != self.observed.status;
        self.observed.status = planned.status;
        let acted = !planned.actions.is_empty();
        for action in planned.actions {
            self.act(&action);
        }
        self.wake = planned.wake;
        changed || acted || planned.wake.is_some_and(|wake| wake <= self.now)
    }

    /// Plans until nothing is left to do at this time.
    pub(super) fn settle(&mut self) {
        for _ in 0..10_000 {
            if !self.step() {
                return;
            }
        }
        panic!("no rest: {:#?}", self.acts.iter().rev().take(20).collect::<Vec<_>>());
    }

    pub(super) fn act(&mut self, action: &Action) {
        match action {
            Action::Start { instance, incarnation, epoch, revision, .. } => {
                self.acts.push(format!("start {} #{incarnation}", short(instance)));
                if self.knows(instance, *incarnation) {
                    return;
                }
                let state = self.started.get(&short(instance)).copied().unwrap_or(InstanceState::Ready);
                let numbers = (*incarnation, *epoch, *revision);
                self.observed.instances.push(Instance {
                    message: self.messages.get(&short(instance)).cloned(),
                    ..Instance::new(instance.clone(), numbers, state, self.now)
                });
            }
            Action::Stop { instance, incarnation, shutdown } => {
                let how = if *shutdown == Shutdown::Brutal { "kill" } else { "stop" };
                self.acts.push(format!("{how} {} #{incarnation}", short(instance)));
                let state = if self.slow_stops {
                    InstanceState::Stopping
                } else {
                    InstanceState::Ended(End::Exited(0))
                };
                if self.knows(instance, *incarnation) {
                    self.change(instance, *incarnation, state);
                } else {
                    self.observed.instances.push(Instance::new(
                        instance.clone(),
                        (*incarnation, 0, Revision(0)),
                        InstanceState::Ended(End::NeverRan),
                        self.now,
                    ));
                }
            }
            Action::Remove { instance, incarnation } | Action::Abandon { instance, incarnation } => self
                .observed
                .instances
                .retain(|other| other.id != *instance || other.incarnation != *incarnation),
        }
    }

    /// Whether this process or a later one was started or stopped before.
    fn knows(&self, instance: &InstanceId, incarnation: u64) -> bool {
        self.instances().any(|other| other.id == *instance && other.incarnation >= incarnation)
    }

    fn change(&mut self, instance: &InstanceId, incarnation: u64, state: InstanceState) {
        let now = self.now;
        for other in &mut self.observed.instances {
            if other.id == *instance && other.incarnation == incarnation && !other.state.is_ended() {
                other.state = state;
                other.since = now;
            }
        }
    }

    /// The status of the root.
    pub(super) fn root(&self) -> &Node {
        self.observed.status.root.as_deref().expect("a tree")
    }

    /// The status of a child of the root.
    pub(super) fn node(&self, name: &str) -> &Node {
        let below = self.root().children.iter().find_map(|slot| match &slot.inner {
            Inner::Node(node) if slot.key.name.as_str() == name => Some(node),
            _ => None,
        });
        below.expect("a child of this name")
    }

    pub(super) fn instances(&self) -> impl Iterator<Item = &Instance> {
        self.observed.instances.iter()
    }

    /// Sets the state of an instance, given as `rag/llm-0`.
    pub(super) fn set(&mut self, instance: &str, state: InstanceState) {
        let now = self.now;
        let found = self.observed.instances.iter_mut().find(|other| short(&other.id) == instance);
        let found = found.unwrap_or_else(|| panic!("{instance} does not run"));
        found.state = state;
        found.since = now;
    }

    /// Whether callers are sent to an instance once it is ready.
    pub(super) fn serve(&mut self, instance: &str, serving: bool) {
        let found = self.observed.instances.iter_mut().find(|other| short(&other.id) == instance);
        found.unwrap_or_else(|| panic!("{instance} does not run")).serving = serving;
    }

    /// The instances that run, as `rag/llm-0 #1`, in order.
    pub(super) fn running(&self) -> Vec<String> {
        let running = self.instances().filter(|instance| !instance.state.is_ended());
        let mut running: Vec<_> =
            running.map(|instance| format!("{} #{}", short(&instance.id), instance.incarnation)).collect();
        running.sort();
        running
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now = self.now.plus(time);
    }

    /// The acts since the last call.
    pub(super) fn take_acts(&mut self) -> Vec<String> {
        std::mem::take(&mut self.acts)
    }

    /// The lines of the events since the last call.
    pub(super) fn take_lines(&mut self) -> Vec<String> {
        std::mem::take(&mut self.events).iter().map(ToString::to_string).collect()
    }
}

pub(super) const CRASH: InstanceState = InstanceState::Ended(End::Exited(1));
pub(super) const KILLED: InstanceState = InstanceState::Ended(End::Signalled(9));
pub(super) const NORMAL: InstanceState = InstanceState::Ended(End::Exited(0));
pub(super) const REFUSED: InstanceState = InstanceState::Ended(End::NotStarted(StartError::Other));

pub(super) fn short(id: &InstanceId) -> String {
    format!("{}/{}-{}", id.widget.group, id.widget.widget, id.ordinal)
}

pub(super) fn object(name: &str) -> ObjectId {
    ObjectId { namespace: "default".parse().unwrap(), name: name.parse().unwrap() }
}

pub(super) fn widget_id(group: &str, name: &str) -> WidgetId {
    WidgetId {
        namespace: "default".parse().unwrap(),
        group: group.parse().unwrap(),
        widget: name.parse().unwrap(),
    }
}

pub(super) fn widget(group: &str, name: &str) -> spec::Widget {
    spec::Widget {
        id: widget_id(group, name),
        revision: Revision(1),
        process: None,
        container: None,
        rollout: spec::Rollout::default(),
        replicas: 1,
        restart: Restart::Always,
        significant: false,
        shutdown: Shutdown::default(),
        start: Start::default(),
        replica_end: ReplicaEnd::EndsWidget,
        intensity: Intensity::default(),
        health: None,
        endpoint: None,
        consumes: Box::default(),
        produces: Box::default(),
        serves: Box::default(),
        calls: Box::default(),
        resilience: None,
        scaling: None,
    }
}

pub(super) fn group(name: &str, strategy: Strategy, widgets: Vec<spec::Widget>) -> spec::Group {
    spec::Group {
        id: object(name),
        strategy,
        intensity: Intensity::default(),
        auto_shutdown: AutoShutdown::Never,
        when_exhausted: Exhausted::default(),
        widgets,
    }
}

/// A group of widgets by name, all with the defaults.
pub(super) fn group_of(name: &str, strategy: Strategy, widgets: &[&str]) -> spec::Group {
    group(name, strategy, widgets.iter().map(|widget_name| widget(name, widget_name)).collect())
}

pub(super) fn supervisor(name: &str, strategy: Strategy, children: Vec<spec::Child>) -> spec::Supervisor {
    spec::Supervisor {
        id: object(name),
        strategy,
        intensity: Intensity::default(),
        auto_shutdown: AutoShutdown::Never,
        when_exhausted: Exhausted::default(),
        children,
    }
}

pub(super) fn child(node: spec::Node) -> spec::Child {
    spec::Child { restart: Restart::Always, significant: false, node }
}

pub(super) fn health() -> spec::Health {
    spec::Health {
        probe: spec::HealthProbe::Report,
        timeout: Duration::from_secs(15),
        interval: Duration::from_secs(2),
    }
}
