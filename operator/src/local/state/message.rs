//! What reaches the state and what leaves it.

use std::{collections::BTreeMap, ffi::OsString, path::PathBuf};

use kontrol_core::{
    code::Code,
    id::{InstanceId, WidgetId},
    spec::Limits,
};
use kontrol_plan::{Action, End, Event, RestartTarget, StartError};
use kontrol_proto::v1;
use kontrol_shim::Order;

use crate::{
    control::{self, Session},
    local::{desired::Desired, logs::Level},
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
    Tell(Session, v1::session_response::Message),
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

/// Where a sidecar or the hub listens, `host:port`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// For sidecars.
    pub peer: String,
    /// gRPC for the widget.
    pub grpc: String,
    /// HTTP for the widget.
    pub http: String,
    /// Metrics and health.
    pub admin: String,
    /// The Unix socket for the widget.
    pub socket: String,
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

/// A fact as people are told of it: how much it matters, and its text after its code where it has one.
pub(crate) fn told(event: &Event) -> (Level, String) {
    let level = match event {
        Event::Ended { end: End::Exited(0), .. } => Level::Info,
        Event::Ended { after: None, .. }
        | Event::GaveUp { .. }
        | Event::StaysStopped { .. }
        | Event::NotStarted { .. } => Level::Error,
        Event::Ended { .. }
        | Event::ReplicasExhausted { .. }
        | Event::StartFailed { .. }
        | Event::Retries { .. }
        | Event::TookOver { .. } => Level::Warn,
        _ => Level::Info,
    };
    let text = match code_of(event) {
        Some(code) => format!("{code}: {event}"),
        None => event.to_string(),
    };
    (level, text)
}

fn code_of(event: &Event) -> Option<Code> {
    match event {
        // Silence has nothing to say of itself.
        Event::Ended { end: End::Hung, message: Some(_), .. } => Some(Code::WidgetReportedFailure),
        Event::Ended { end, .. } => match end {
            End::NotStarted(StartError::NotFound) => Some(Code::CommandNotFound),
            End::NotStarted(StartError::NotExecutable) => Some(Code::CommandNotExecutable),
            End::NotStarted(StartError::PortTaken) => Some(Code::PortTaken),
            End::NotStarted(StartError::Other) => Some(Code::StartFailed),
            End::StartTimedOut => Some(Code::StartTimedOut),
            End::Hung => Some(Code::Hung),
            _ => None,
        },
        Event::GaveUp { .. } | Event::ReplicasExhausted { .. } => Some(Code::IntensityExhausted),
        Event::TookOver { .. } => Some(Code::StatusLost),
        _ => None,
    }
}
