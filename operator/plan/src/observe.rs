//! What a world sees: instances, signals, requests, and the status that was written last.

use std::{collections::BTreeMap, fmt, sync::Arc};

use kontrol_core::{
    id::{InstanceId, Name, ObjectId, WidgetId},
    spec::Revision,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::{Status, signals::WidgetSignals};

/// All that a plan knows of the world, for one tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// The status of the last plan, as it was written; the default where there is none or it was lost.
    pub status: Status,
    /// Every instance of this tree that has been started and not yet removed, in any order. An instance that is missing is unknown,
    /// never ended: worlds say what ended.
    pub instances: Vec<Instance>,
    /// What is known of the load of widgets; a widget that is missing here is unknown.
    pub signals: BTreeMap<WidgetId, WidgetSignals>,
    /// Restarts that users asked for. They may stay here for ever: each is handled once, by its time.
    pub restarts: Vec<RestartRequest>,
    /// The generation of the manifest, to be repeated in conditions.
    pub generation: Option<u64>,
    /// How the machines are that instances run on, by name, as [`Listener::look`](crate::nodes::Listener::look) tells it. One that is missing is
    /// healthy, so a world may leave the healthy ones out.
    #[serde(default)]
    pub nodes: BTreeMap<Arc<str>, NodeHealth>,
    /// Since when the world sees all that happens, after it could not: what was to start meanwhile may have, or could not, so the time of a
    /// start is counted from then at the earliest. Zero: it always could.
    #[serde(default)]
    pub sees_since: Timestamp,
}

/// One process (or pod) of one replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Which replica.
    pub id: InstanceId,
    /// The number given by [`Action::Start`](crate::Action::Start).
    pub incarnation: u64,
    /// The epoch given by [`Action::Start`](crate::Action::Start).
    pub epoch: u64,
    /// The revision given by [`Action::Start`](crate::Action::Start).
    pub revision: Revision,
    /// How it is.
    pub state: InstanceState,
    /// Since when it is so; of one that ended, when it ended.
    pub since: Timestamp,
    /// What the world says of its end, for people: above all why it could not be started, or placed. None: its state says all.
    pub message: Option<Arc<str>>,
    /// How often its process has ended within this incarnation and was, or is about to be, started again in place, by the kubelet or the
    /// shim. It counts an end from the moment that the world sees it, also while the instance is
    /// [`Restarting`](InstanceState::Restarting). It may begin again at 0 where who counts was restarted: `last_end` tells.
    #[serde(default)]
    pub restarts: u32,
    /// The newest of these ends.
    #[serde(default)]
    pub last_end: Option<LastEnd>,
    /// Where it runs; none: it has no place yet, or the world has only one.
    #[serde(default)]
    pub place: Option<Place>,
    /// Whether callers are sent to it where it is ready (the `serving` of an `EndpointSlice`). A world that takes a moment to spread that
    /// word says so: until then the instance runs, and what waits for its start goes on, but it does not count among the ready ones.
    /// Default: true.
    #[serde(default = "yes")]
    pub serving: bool,
}

fn yes() -> bool {
    true
}

impl Instance {
    /// An instance of which nothing more is known.
    pub fn new(
        id: InstanceId,
        (incarnation, epoch, revision): (u64, u64, Revision),
        state: InstanceState,
        since: Timestamp,
    ) -> Self {
        Self {
            id,
            incarnation,
            epoch,
            revision,
            state,
            since,
            message: None,
            restarts: 0,
            last_end: None,
            place: None,
            serving: true,
        }
    }
}

/// An end that was followed by a restart in place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastEnd {
    /// When.
    pub at: Timestamp,
    /// How.
    pub end: End,
    /// What the world says of it; none: the end says all.
    #[serde(default)]
    pub message: Option<Arc<str>>,
}

/// Where an instance runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The machine's name.
    pub node: Arc<str>,
}

/// How a machine is, on the word of several signals together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NodeHealth {
    /// It gives signs of life, or nothing speaks against it.
    #[default]
    Healthy,
    /// It has been silent for a while: nothing new is put there.
    Suspect {
        /// Since when nothing was heard of it.
        since: Timestamp,
    },
    /// It is given up: what ran there has ended with [`End::NodeLost`], and is fenced off should it still run.
    Lost {
        /// Since when nothing was heard of it.
        since: Timestamp,
    },
}

impl NodeHealth {
    /// Whether it is given up.
    pub fn is_lost(self) -> bool {
        matches!(self, Self::Lost { .. })
    }
}

/// How an instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum InstanceState {
    /// Its start is under way.
    Starting,
    /// No machine has room for it, or fits what it asks for, since then; [`Instance::message`] says which lacks what.
    Unschedulable,
    /// Its process has ended so, and the kubelet or the shim is about to start it again in place, at once or after a back-off. Nothing of
    /// it runs at the moment.
    Restarting(End),
    /// Its process runs; nothing is known of its health.
    Running,
    /// It runs, and its health is good or it declares none.
    Ready,
    /// It runs, and says that it cannot work at the moment.
    NotReady,
    /// It runs, and has given no good word for longer than its health allows, or says itself that it failed.
    Hung,
    /// It was asked to stop and has not ended yet.
    Stopping,
    /// It has ended.
    Ended(End),
}

impl InstanceState {
    /// Whether the instance has ended.
    pub fn is_ended(self) -> bool {
        matches!(self, Self::Ended(_))
    }
}

/// How an instance ended. Only [`End::Exited`] with 0 is normal; after a requested stop every end is as wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum End {
    /// Its process exited with this code.
    Exited(i32),
    /// A signal ended its process.
    Signalled(i32),
    /// Its process could not be started.
    NotStarted(StartError),
    /// It was stopped before it was started.
    NeverRan,
    /// The world lost it and makes sure that it no longer runs.
    Lost,
    /// It took more memory than it may, or than its machine had.
    OutOfMemory,
    /// It was evicted from its machine: a drain, a taint, or pressure.
    Evicted,
    /// It had to make room for something of a higher priority.
    Preempted,
    /// Its machine is [lost](NodeHealth::Lost), or was removed. It may still run there, behind its fence.
    NodeLost,
    /// Somebody else removed it.
    Deleted,
    /// It did not become ready in time and was stopped. Made by the plan.
    StartTimedOut,
    /// It was hung and was stopped. Made by the plan.
    Hung,
}

impl End {
    /// Whether a child with [`OnFailure`](kontrol_core::spec::Restart::OnFailure) stays ended after it.
    pub fn is_normal(self) -> bool {
        self == Self::Exited(0)
    }

    /// Whether something outside of the widget ended it. Such an end is restarted by the strategy as any other that is not normal, but
    /// uses up no intensity unless the widget asks for it.
    pub fn is_external(self) -> bool {
        matches!(self, Self::OutOfMemory | Self::Evicted | Self::Preempted | Self::NodeLost | Self::Deleted)
    }
}

/// Why a process could not be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum StartError {
    /// There is no such command.
    NotFound,
    /// The command may not be executed.
    NotExecutable,
    /// The port it was to listen on is taken.
    PortTaken,
    /// Anything else; [`Instance::message`] says what.
    Other,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exit code {code}"),
            Self::Signalled(signal) => match signal_name(*signal) {
                Some(name) => write!(f, "signal {signal} ({name})"),
                None => write!(f, "signal {signal}"),
            },
            Self::NotStarted(error) => match error {
                StartError::NotFound => f.write_str("command not found"),
                StartError::NotExecutable => f.write_str("command not executable"),
                StartError::PortTaken => f.write_str("port taken"),
                StartError::Other => f.write_str("not started"),
            },
            Self::NeverRan => f.write_str("stopped before it ran"),
            Self::Lost => f.write_str("lost"),
            Self::OutOfMemory => f.write_str("out of memory"),
            Self::Evicted => f.write_str("evicted"),
            Self::Preempted => f.write_str("preempted"),
            Self::NodeLost => f.write_str("node lost"),
            Self::Deleted => f.write_str("deleted by somebody else"),
            Self::StartTimedOut => f.write_str("not ready in time"),
            Self::Hung => f.write_str("hung"),
        }
    }
}

fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        _ => return None,
    })
}

/// A user wants something restarted. It counts for no intensity.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RestartRequest {
    /// What.
    pub target: RestartTarget,
    /// When it was asked. A request is handled once; a later one of the same target is another.
    pub at: Timestamp,
}

/// What a user wants restarted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RestartTarget {
    /// All replicas of one widget.
    Widget(WidgetId),
    /// A group, all of it, with a cleared window.
    Group(ObjectId),
    /// A supervisor and all below it, with cleared windows.
    Supervisor(ObjectId),
}

impl RestartTarget {
    pub(crate) fn name(&self) -> &Name {
        match self {
            Self::Widget(id) => &id.widget,
            Self::Group(id) | Self::Supervisor(id) => &id.name,
        }
    }
}
