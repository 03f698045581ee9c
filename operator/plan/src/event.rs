//! What happened and what was decided, as facts. A fact is told once, by the plan whose status holds it first.

use std::{fmt, sync::Arc, time::Duration};

use kontrol_core::{
    duration,
    id::{InstanceId, ObjectId, WidgetId},
    spec::{Intensity, Restart, Revision, Strategy},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::{
    End, StartError,
    status::{Failure, Key},
};

/// A fact and what led to it, down to the end of a leaf.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// When.
    pub at: Timestamp,
    /// What.
    pub event: Event,
    /// What led to it.
    pub because: Option<Arc<Cause>>,
}

impl Cause {
    /// This fact, then the one that led to it, and so on to the first.
    pub fn chain(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |cause| cause.because.as_deref())
    }

    /// The fact that all began with.
    pub fn first(&self) -> &Self {
        self.chain().last().unwrap_or(self)
    }
}

/// One fact. Its [`Display`](fmt::Display) form is a line for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all_fields = "camelCase")]
pub enum Event {
    /// A replica's process ended by itself, or was ended because it was hung or not ready in time.
    Ended {
        /// Which.
        instance: InstanceId,
        /// Which process of it.
        incarnation: u64,
        /// How.
        end: End,
        /// What the world said of it; none: the end says all.
        message: Option<Arc<str>>,
        /// How long it had been up; none: it had not started.
        after: Option<Duration>,
    },
    /// A replica's process ended and was started again in place, by the kubelet or the shim.
    RestartedInPlace {
        /// Which.
        instance: InstanceId,
        /// Which incarnation of it, which goes on.
        incarnation: u64,
        /// How it ended; of several ends that were seen together, the last one.
        end: End,
        /// What the world said of it; none: the end says all.
        message: Option<Arc<str>>,
        /// How many ends these are.
        times: u32,
    },
    /// A node counts restarts in place of a child.
    Counts {
        /// Who.
        node: ObjectId,
        /// Whose.
        child: Key,
        /// How many.
        times: u32,
        /// The epoch that begins: one for each.
        epoch: u64,
        /// Restarts in the window, with these.
        count: usize,
        /// Of how many.
        intensity: Intensity,
    },
    /// A widget counts restarts in place of one of its replicas in its own window.
    CountsReplica {
        /// Which.
        instance: InstanceId,
        /// Restarts in the widget's own window, with these.
        count: usize,
        /// The widget's own intensity.
        intensity: Intensity,
    },
    /// Something outside ended a replica that was being started: it is started anew, and nothing is counted.
    StartsAnew {
        /// Which.
        instance: InstanceId,
    },
    /// No machine had room for a replica: the next placement alternative is tried.
    TriesNext {
        /// Which.
        instance: InstanceId,
        /// The alternative that is tried; 0: the placement itself, after all the others.
        alternative: u32,
        /// How many alternatives there are beside the placement itself.
        of: u32,
        /// How long it waited.
        waited: Duration,
        /// What the world said of it.
        message: Option<Arc<str>>,
    },
    /// A replica whose machine is lost waits for it, because it has an identity of its own.
    WaitsForNode {
        /// Which.
        instance: InstanceId,
        /// The machine.
        node: Arc<str>,
    },
    /// A new template is rolled out, replica by replica.
    RollsOut {
        /// Of which widget.
        widget: WidgetId,
        /// The template before.
        from: Revision,
        /// The template after.
        to: Revision,
    },
    /// All replicas of a widget run its new template and are ready.
    RolledOut {
        /// Which.
        widget: WidgetId,
        /// The template.
        revision: Revision,
        /// How long it took.
        after: Duration,
    },
    /// A template failed: the widget returns to the last good one.
    Returns {
        /// Which.
        widget: WidgetId,
        /// The template that failed.
        from: Revision,
        /// The last good one.
        to: Revision,
        /// Why.
        why: Failure,
    },
    /// A roll-out failed, and its manifest wants no return.
    RolloutStalls {
        /// Of which widget.
        widget: WidgetId,
        /// The template.
        revision: Revision,
        /// Why.
        why: Failure,
    },
    /// A replica has reached the state that counts as started.
    Runs {
        /// Which.
        instance: InstanceId,
        /// Whether it has run before.
        again: bool,
        /// How long the start took since it was decided.
        after: Duration,
    },
    /// A widget replaces one of its replicas.
    Replaces {
        /// Which.
        instance: InstanceId,
        /// Restarts in the widget's own window, with this one.
        count: usize,
        /// The widget's own intensity.
        intensity: Intensity,
        /// Whether something outside ended it, so that it is not counted.
        #[serde(default)]
        external: bool,
    },
    /// More replicas of a widget ended than its own intensity bears: the widget has ended.
    ReplicasExhausted {
        /// Which.
        widget: WidgetId,
        /// Restarts in the widget's own window, with the one that was too many.
        count: usize,
        /// The widget's own intensity.
        intensity: Intensity,
    },
    /// A child ended and stays ended.
    StaysEnded {
        /// Of whom.
        node: ObjectId,
        /// Which.
        child: Key,
        /// Its restart type.
        restart: Restart,
    },
    /// A node restarts children.
    Restarts {
        /// Who.
        node: ObjectId,
        /// Which, in order.
        children: Arc<[Key]>,
        /// By which strategy.
        strategy: Strategy,
        /// The epoch that begins.
        epoch: u64,
        /// Restarts in the window, with this one.
        count: usize,
        /// Of how many.
        intensity: Intensity,
        /// Whether something outside ended the child, so that the restart is not counted.
        #[serde(default)]
        external: bool,
    },
    /// A child failed to start.
    StartFailed {
        /// Of whom.
        node: ObjectId,
        /// Which.
        child: Key,
    },
    /// A node had more restarts than its intensity bears, and stops.
    GaveUp {
        /// Who.
        node: ObjectId,
        /// Restarts in the window, with the one that was too many.
        count: usize,
        /// Of how many.
        intensity: Intensity,
    },
    /// A node stops because significant children ended.
    ShutsDown {
        /// Who.
        node: ObjectId,
        /// The last of them.
        child: Key,
    },
    /// All children of a node were started.
    Started {
        /// Who.
        node: ObjectId,
    },
    /// A node and all below it have stopped, as its parent, its manifest or a user wanted.
    Stopped {
        /// Who.
        node: ObjectId,
    },
    /// A node that gave up or shut down is gone.
    Gone {
        /// Who.
        node: ObjectId,
    },
    /// A node whose start failed is gone.
    NotStarted {
        /// Who.
        node: ObjectId,
    },
    /// The root is started again after a pause.
    Retries {
        /// Who.
        node: ObjectId,
        /// How long it waits.
        pause: Duration,
    },
    /// The root stays stopped until its manifest changes or somebody asks.
    StaysStopped {
        /// Who.
        node: ObjectId,
    },
    /// A user asked to restart a child, or the root where there is no child.
    Asked {
        /// Of whom.
        node: ObjectId,
        /// Which.
        child: Option<Key>,
    },
    /// The manifest changed: these are started, or restarted from a new template.
    Follows {
        /// Who.
        node: ObjectId,
        /// Which, in order.
        children: Arc<[Key]>,
    },
    /// The manifest no longer has this child.
    Removes {
        /// Who.
        node: ObjectId,
        /// Which.
        child: Key,
    },
    /// A widget gets another number of replicas.
    Scales {
        /// Which.
        widget: WidgetId,
        /// Before.
        from: u32,
        /// After.
        to: u32,
        /// Why.
        reason: Arc<str>,
    },
    /// A world may not start a replica: somebody does not allow it. Told by worlds, never by a plan.
    NotAllowed {
        /// Which.
        instance: InstanceId,
        /// Who does not allow it and why, as it was said.
        message: Arc<str>,
    },
    /// The status was lost while instances ran: they were taken over, and restart windows start empty.
    TookOver {
        /// Who.
        node: ObjectId,
        /// How many instances.
        instances: usize,
    },
}

impl Event {
    /// Whether a whole tree is started because of it.
    pub(crate) fn starts_all(&self) -> bool {
        matches!(self, Self::Retries { .. } | Self::StaysStopped { .. } | Self::Asked { child: None, .. })
    }

    /// Whether what is started because of it is started again after an end, or because somebody asked for it.
    pub(crate) fn restarts(&self) -> bool {
        self.starts_all() || matches!(self, Self::Restarts { .. } | Self::Asked { .. })
    }

    /// Whether it is about all of a group or supervisor, and not about some of its children.
    pub fn is_about_all(&self) -> bool {
        self.starts_all()
            || matches!(self, Self::GaveUp { .. } | Self::ShutsDown { .. } | Self::TookOver { .. })
    }
}

impl fmt::Display for Event {
    #[expect(clippy::too_many_lines, reason = "one line for each fact")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended { instance, end, message, after: Some(after), .. } => {
                write!(f, "{instance:#} ended: {} after {}", Told(*end, message.as_deref()), Rounded(*after))
            }
            Self::Ended { instance, end, message, after: None, .. } => {
                write!(f, "{instance:#} failed to start: {}", Told(*end, message.as_deref()))
            }
            Self::Runs { instance, again, after } => {
                let again = if *again { " again" } else { "" };
                write!(f, "{instance:#} runs{again} after {}", Rounded(*after))
            }
            Self::RestartedInPlace { instance, end, message, times: 0..=1, .. } => {
                write!(f, "{instance:#} ended and was restarted in place: {}", Told(*end, message.as_deref()))
            }
            Self::RestartedInPlace { instance, end, message, times, .. } => write!(
                f,
                "{instance:#} ended {times} times and was restarted in place, at last: {}",
                Told(*end, message.as_deref())
            ),
            Self::Counts { node, child, epoch, count, intensity, .. } => {
                write!(
                    f,
                    "{node:#} counts the restart of {child}, epoch {epoch}, {}",
                    Window(*count, *intensity)
                )
            }
            Self::CountsReplica { instance, count, intensity } => {
                write!(f, "{instance:#} counts as restarted, {}", Window(*count, *intensity))
            }
            Self::StartsAnew { instance } => write!(f, "{instance:#} is started anew, not counted"),
            Self::TriesNext { instance, alternative, of, waited, message } => {
                write!(f, "{instance:#} found no place within {}", Rounded(*waited))?;
                if let Some(message) = message {
                    write!(f, " ({message})")?;
                }
                match (alternative, of) {
                    (_, 0) => f.write_str(": tries again"),
                    (0, _) => f.write_str(": tries its first choice again, after all alternatives"),
                    (alternative, of) => write!(f, ": tries alternative {alternative} of {of}"),
                }
            }
            Self::WaitsForNode { instance, node } => {
                write!(f, "{instance:#} waits for the lost node {node}: it has an identity of its own")
            }
            Self::RollsOut { widget, from, to } => {
                write!(f, "{widget:#} rolls out revision {to}, from {from}")
            }
            Self::RolledOut { widget, revision, after } => {
                write!(f, "{widget:#} has rolled out revision {revision} in {}", Rounded(*after))
            }
            Self::Returns { widget, from, to, why } => {
                write!(f, "{widget:#} returns from revision {from} to {to}, the last good one: {why}")
            }
            Self::RolloutStalls { widget, revision, why } => {
                write!(f, "the roll-out of revision {revision} of {widget:#} stands still: {why}")
            }
            Self::Replaces { instance, external: true, .. } => {
                write!(f, "{instance:#} is replaced, not counted")
            }
            Self::Replaces { instance, count, intensity, .. } => {
                write!(f, "{instance:#} is replaced, {}", Window(*count, *intensity))
            }
            Self::ReplicasExhausted { widget, count, intensity } => {
                write!(f, "{widget:#} has ended: {}", TooMany(*count, *intensity))
            }
            Self::StaysEnded { node, child, restart } => {
                write!(f, "{node:#}/{child} stays ended (restart {restart:?})")
            }
            Self::Restarts { node, children, strategy, epoch, external: true, .. } => {
                write!(f, "{node:#} restarts {} ({strategy:?}), epoch {epoch}, not counted", List(children))
            }
            Self::Restarts { node, children, strategy, epoch, count, intensity, .. } => write!(
                f,
                "{node:#} restarts {} ({strategy:?}), epoch {epoch}, {}",
                List(children),
                Window(*count, *intensity)
            ),
            Self::StartFailed { node, child } => write!(f, "{node:#}/{child} failed to start"),
            Self::GaveUp { node, count, intensity } => {
                write!(f, "{node:#} gives up: {}", TooMany(*count, *intensity))
            }
            Self::ShutsDown { node, child } => {
                write!(f, "{node:#} shuts down: its significant {child} has ended")
            }
            Self::Started { node } => write!(f, "{node:#} has started"),
            Self::Stopped { node } => write!(f, "{node:#} has stopped"),
            Self::Gone { node } => write!(f, "{node:#} has ended"),
            Self::NotStarted { node } => write!(f, "{node:#} could not be started"),
            Self::Retries { node, pause } => {
                write!(f, "{node:#} is started again in {}", Rounded(*pause))
            }
            Self::StaysStopped { node } => {
                write!(f, "{node:#} stays stopped until its manifest changes or a restart is asked for")
            }
            Self::Asked { node, child: Some(child) } => {
                write!(f, "{node:#} restarts {child}, as asked")
            }
            Self::Asked { node, child: None } => write!(f, "{node:#} restarts, as asked"),
            Self::Follows { node, children } => {
                write!(f, "{node:#} follows its manifest: starts {}", List(children))
            }
            Self::Removes { node, child } => {
                write!(f, "{node:#} follows its manifest: stops {child}")
            }
            Self::Scales { widget, from, to, reason } => {
                write!(f, "{widget:#} scales from {from} to {to}: {reason}")
            }
            Self::NotAllowed { instance, message } => {
                write!(f, "{instance:#} may not be started: {message}")
            }
            Self::TookOver { node, instances } => {
                write!(
                    f,
                    "{node:#} took over {instances} running instances: its status was lost, windows start empty"
                )
            }
        }
    }
}

/// An end with what the world said of it.
struct Told<'a>(End, Option<&'a str>);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self(end, None) => end.fmt(f),
            // One that speaks has not hung: what it says is how it ended.
            Self(End::NotStarted(StartError::Other) | End::Hung, Some(message)) => f.write_str(message),
            Self(end @ End::NotStarted(_), Some(message)) => write!(f, "{end}: {message}"),
            Self(end, Some(message)) => write!(f, "{end} ({message})"),
        }
    }
}

struct List<'a>(&'a [Key]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, key) in self.0.iter().enumerate() {
            write!(f, "{}{key}", if n == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// `1 of 3 restarts in 30 s`.
struct Window(usize, Intensity);

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} restarts in {}", self.0, self.1.max_restarts, Rounded(self.1.period))
    }
}

/// `4 restarts in 30 s are more than 3`.
struct TooMany(usize, Intensity);

impl fmt::Display for TooMany {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(count, Intensity { max_restarts, period }) = self;
        let (noun, verb) = if *count == 1 { ("restart", "is") } else { ("restarts", "are") };
        write!(f, "{count} {noun} in {} {verb} more than {max_restarts}", Rounded(*period))
    }
}

/// A duration in one unit for people: `9 ms`, `41 s`, `5 min`; exact where it is not a whole number of them and short.
struct Rounded(Duration);

impl fmt::Display for Rounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        match millis {
            0 => f.write_str("less than 1 ms"),
            1..1_000 => write!(f, "{millis} ms"),
            1_000..10_000 if !millis.is_multiple_of(1_000) => {
                write!(f, "{}.{} s", millis / 1_000, millis % 1_000 / 100)
            }
            1_000..60_000 => write!(f, "{} s", millis / 1_000),
            60_000.. if millis.is_multiple_of(60_000) => write!(f, "{} min", millis / 60_000),
            _ => f.write_str(&duration::format(Duration::from_secs(self.0.as_secs()))),
        }
    }
}
