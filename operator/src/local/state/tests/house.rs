//! A state with all that it speaks to.

use std::{collections::BTreeMap, time::Duration};

use kontrol_core::{id::InstanceId, time::Timestamp};
use kontrol_plan::StartError;
use kontrol_proto::{
    session::Configuration,
    v1::{self, Hello},
};
use kontrol_shim::Order;

use crate::{
    authority::HUB,
    control::{self, Session, Upward},
    local::{
        Desired,
        folder::Written,
        logs::Level,
        state::{Command, Effect, Input, Key, Report, State, WidgetCommand, told},
    },
};

/// What a house does differently.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Odd {
    #[default]
    Nothing,
    /// Sidecars never apply a configuration.
    Silent,
    /// Commands do not exist.
    NoCommands,
}

pub(super) struct House {
    pub(super) state: State,
    pub(super) now: Timestamp,
    pub(super) odd: Odd,
    /// Widgets launched and ordered about, in order.
    pub(super) done: Vec<String>,
    pub(super) said: Vec<(Level, String)>,
    pub(super) launched: BTreeMap<InstanceId, WidgetCommand>,
    pub(super) sidecars: Vec<Key>,
    /// What the sidecars and the hub were told, in order.
    pub(super) told: Vec<Configuration>,
    /// Sessions that were ended.
    pub(super) ended: usize,
    sessions: u64,
}

/// What a manifest declares.
pub(super) fn desired(text: &str) -> Desired {
    let source = kontrol_crds::Source { name: "m.yaml".into(), text: text.into() };
    let kontrol_crds::World { trees, buses, topics, routes } = kontrol_crds::load(&[source]).unwrap();
    Desired { trees, buses, topics, routes }
}

/// A group of these widgets, each with lines of its own.
pub(super) fn group(rules: &str, widgets: &[(&str, &str)]) -> Desired {
    desired(&group_text(rules, widgets))
}

/// The same with a topic, which takes a hub.
pub(super) fn group_with_topic(widgets: &[(&str, &str)]) -> Desired {
    let topic = "---\napiVersion: kontrol.dev/v1alpha1\nkind: Topic\nmetadata: {name: t}\nspec: {}\n";
    desired(&format!("{}{topic}", group_text("", widgets)))
}

fn group_text(rules: &str, widgets: &[(&str, &str)]) -> String {
    let widgets: Vec<String> = widgets
        .iter()
        .map(|(name, lines)| format!("  - name: {name}\n    process: {{command: [run-{name}]}}\n{lines}"))
        .collect();
    let head = "apiVersion: kontrol.dev/v1alpha1\nkind: WidgetGroup\nmetadata: {name: g}\nspec:\n";
    format!("{head}{rules}  widgets:\n{}", widgets.concat())
}

pub(super) fn instance(name: &str) -> InstanceId {
    format!("default/g/{name}").parse().unwrap()
}

impl House {
    pub(super) fn new(desired: Desired) -> Self {
        Self::with(desired, Written::default(), Odd::Nothing)
    }

    pub(super) fn with(desired: Desired, written: Written, odd: Odd) -> Self {
        let now = Timestamp::from_micros(1_000_000_000_000);
        let mut state = State::new(written, now, || Some(4711));
        state.take(Input::Manifest(desired), now);
        let mut house = Self {
            state,
            now,
            odd,
            done: Vec::new(),
            said: Vec::new(),
            launched: BTreeMap::new(),
            sidecars: Vec::new(),
            told: Vec::new(),
            ended: 0,
            sessions: 0,
        };
        house.settle();
        house
    }

    pub(super) fn take(&mut self, input: Input) {
        let effects = self.state.take(input, self.now);
        self.carry_out(effects);
        self.settle();
    }

    pub(super) fn ends(&mut self, name: &str, incarnation: u64, code: i32) {
        let report = Report::Ended { code: Some(code), signal: None, left: 0 };
        let instance = instance(&format!("{name}/0"));
        self.take(Input::Process(Key::Widget(instance, incarnation), report));
    }

    /// The sidecar of the process that runs says this of it.
    pub(super) fn hears(&mut self, name: &str, health: v1::Health, hung: bool) {
        let instance = instance(&format!("{name}/0"));
        self.says(&instance, v1::Signals { health: health.into(), hung, ..v1::Signals::default() });
    }

    /// A sidecar opens another session beside the one that it has.
    pub(super) fn opens_another(&mut self, name: &str) {
        self.sessions += 1;
        let (id, session) = Session::unheard(self.sessions);
        let hello = Hello { subject: instance(&format!("{name}/0")).to_string(), ..Hello::default() };
        self.take(Input::Control(control::Event::Opened { id, hello, session }));
    }

    /// The session that it opened last ends.
    pub(super) fn closes(&mut self, name: &str) {
        let instance = instance(&format!("{name}/0"));
        let id = self.state.slots[&instance].sidecar.session_id().unwrap();
        self.take(Input::Control(control::Event::Closed { id, subject: instance.to_string() }));
    }

    /// The sidecar of the process that runs says this.
    pub(super) fn says(&mut self, instance: &InstanceId, signals: v1::Signals) {
        let slot = &self.state.slots[instance];
        let incarnation = slot.process.as_ref().unwrap().incarnation;
        let id = slot.sidecar.session_id().unwrap();
        let signals = v1::Signals { incarnation, ..signals };
        let message = Upward::Signals(signals);
        self.take(Input::Control(control::Event::Said { id, subject: instance.to_string(), message }));
    }

    pub(super) fn wait(&mut self, duration: Duration) {
        self.now = self.now.plus(duration);
        self.settle();
    }

    pub(super) fn why(&self, name: &str) -> v1::WhyResponse {
        let named = self.state.named(name);
        assert_eq!(named.len(), 1, "{named:?}");
        self.state.why(&named[0], self.now)
    }

    /// As the world does: decide, (write,) act, tend, configure, until nothing follows.
    fn settle(&mut self) {
        for _ in 0..1000 {
            let decision = self.state.decide(self.now);
            self.said.extend(decision.events.iter().map(told));
            let settled = decision.actions.is_empty();
            let mut effects = self.state.act(decision.actions, self.now);
            effects.extend(self.state.tend(self.now));
            effects.extend(self.state.configure(self.now));
            let quiet = effects.is_empty();
            self.carry_out(effects);
            if settled && quiet {
                return;
            }
        }
        unreachable!("the state never settles");
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            let inputs = match effect {
                Effect::Say(level, text) => {
                    self.said.push((level, text));
                    Vec::new()
                }
                Effect::Tell(_, message) => {
                    self.told.push(message.clone());
                    match message {
                        Configuration::Sidecar(config) => self.applied(&config),
                        Configuration::Hub(_) => Vec::new(),
                    }
                }
                Effect::End(_) => {
                    self.ended += 1;
                    Vec::new()
                }
                Effect::Launch(key, command) => self.launch(key, command),
                Effect::Order(key, order) => self.order(key, order),
            };
            for input in inputs {
                let effects = self.state.take(input, self.now);
                self.carry_out(effects);
            }
        }
    }

    fn launch(&mut self, key: Key, command: Command) -> Vec<Input> {
        self.sessions += 1;
        let (id, session) = Session::unheard(self.sessions);
        let opened = |subject: String| {
            let hello = Hello { subject, peer: format!("127.0.0.1:{}", id_number(&key)), ..Hello::default() };
            Input::Control(control::Event::Opened { id, hello, session })
        };
        let started = Input::Process(key.clone(), Report::Started { pid: 1 });
        match command {
            Command::Widget(widget) => {
                let Key::Widget(instance, incarnation) = &key else { unreachable!() };
                self.done.push(format!("start {}", instance.widget.widget));
                self.launched.insert(instance.clone(), widget);
                assert!(*incarnation > 0);
                match self.odd {
                    Odd::NoCommands => {
                        let reason = "it is not in PATH".to_owned();
                        vec![Input::Process(key, Report::Failed { error: StartError::NotFound, reason })]
                    }
                    _ => vec![started],
                }
            }
            Command::Sidecar(instance, _) => {
                self.sidecars.push(key.clone());
                vec![started, opened(instance.to_string())]
            }
            Command::Hub(_) => vec![started, opened(HUB.to_owned())],
        }
    }

    fn order(&mut self, key: Key, order: Order) -> Vec<Input> {
        if let Key::Widget(instance, _) = &key {
            let word = if order == Order::Kill { "kill" } else { "stop" };
            self.done.push(format!("{word} {}", instance.widget.widget));
        }
        vec![Input::Process(key, Report::Ended { code: Some(0), signal: None, left: 0 })]
    }

    /// Every sidecar is asked whether it is the one that was told: the incarnation says so.
    fn applied(&mut self, config: &v1::SidecarConfig) -> Vec<Input> {
        if self.odd == Odd::Silent {
            return Vec::new();
        }
        let session = |instance: &InstanceId| self.state.slots.get(instance)?.sidecar.session_id();
        let instances: Vec<InstanceId> = self
            .state
            .slots
            .iter()
            .filter(|(_, slot)| {
                slot.sent.as_ref().is_some_and(|sent| {
                    v1::SidecarConfig { version: config.version, ..sent.clone() } == *config
                })
            })
            .map(|(instance, _)| instance.clone())
            .collect();
        let applied = v1::Applied { version: config.version, incarnation: config.incarnation };
        instances
            .into_iter()
            .filter_map(|instance| {
                let id = session(&instance)?;
                let message = Upward::Applied(applied);
                Some(Input::Control(control::Event::Said { id, subject: instance.to_string(), message }))
            })
            .collect()
    }
}

fn id_number(key: &Key) -> u64 {
    match key {
        Key::Widget(_, number) | Key::Sidecar(_, number) | Key::Hub(number) => *number,
    }
}
