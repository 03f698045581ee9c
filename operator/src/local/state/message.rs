//! What reaches the state and what leaves it.

use std::{collections::BTreeMap, ffi::OsString, path::PathBuf};

use kontrol_core::{
    id::{InstanceId, WidgetId},
    spec::Limits,
};
use kontrol_plan::{Action, Event, RestartTarget, StartError};
use kontrol_proto::session::Configuration;
use kontrol_shim::Order;

use crate::{
    control::{self, Session},
    local::{desired::Desired, logs::Level},
    view::Addresses,
};

/// One process that the world runs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A widget's, with its incarnation.
    Widget(InstanceId, u64),
    /// A sidecar's, with the number of its start.
    Sidecar(InstanceId, u64),
    /// The hub's, with the number of its start.
    Hub(u64),
}

impl Key {
    /// What its log lines are marked with.
    pub fn source(&self) -> String {
        match self {
            Self::Widget(instance, _) => format!("{instance:#}"),
            Self::Sidecar(instance, _) => format!("{instance:#} sidecar"),
            Self::Hub(_) => "hub".to_owned(),
        }
    }
}

/// What a shim reports, or what happened instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// The process runs.
    Started {
        /// Its process id.
        pid: u32,
    },
    /// It could not be started.
    Failed {
        /// For the plan.
        error: StartError,
        /// For people.
        reason: String,
    },
    /// It has ended.
    Ended {
        /// The exit code, where it exited.
        code: Option<i32>,
        /// The signal, where one ended it.
        signal: Option<i32>,
        /// Processes that it left behind and that were killed.
        left: u32,
    },
    /// The shim ended without a word; the process and its group have been killed.
    Lost,
}

/// What happens to a world.
#[derive(Clone, Debug)]
pub enum Input {
    /// The manifests say this now.
    Manifest(Desired),
    /// About a process.
    Process(Key, Report),
    /// From a sidecar or the hub.
    Control(control::Event),
    /// A user wants something restarted.
    Restart(RestartTarget),
    /// A user wants this number of replicas.
    Scale(WidgetId, u32),
    /// Everything is to stop in reverse order; forced: at once.
    Drain {
        /// Whether to kill instead of asking first.
        force: bool,
    },
}

/// What to do.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Start a process.
    Launch(Key, Command),
    /// Tell a process's shim.
    Order(Key, Order),
    /// Tell a sidecar or the hub.
    Tell(Session, Configuration),
    /// End a session; its sidecar, or the hub, comes back with a new one.
    End(Session),
    /// Tell people.
    Say(Level, String),
}

/// What to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A widget.
    Widget(WidgetCommand),
    /// A sidecar of an instance, listening where it listened before.
    Sidecar(InstanceId, Option<Addresses>),
    /// The hub, listening where it listened before.
    Hub(Option<Addresses>),
}

/// How a widget's process is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WidgetCommand {
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// The folder it starts in; none: that of the manifest.
    pub folder: Option<PathBuf>,
    /// Additions to the environment.
    pub environment: BTreeMap<OsString, OsString>,
    /// What the system keeps it within.
    pub limits: Limits,
    /// The port that must be free for it.
    pub port: Option<u16>,
}

/// What was decided, to be written before it is acted on.
#[derive(Debug, Default)]
pub struct Decision {
    /// Whether what is written has to change.
    pub write: bool,
    /// What to do then.
    pub actions: Vec<Action>,
    /// What happened, for people.
    pub events: Vec<Event>,
}
