//! Facts as people are told of them.

use kontrol_core::code::Code;
use kontrol_plan::{End, Event, StartError};

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// For who looks for a mistake.
    Debug,
    /// What goes on.
    Info,
    /// What may need somebody.
    Warn,
    /// What needs somebody.
    Error,
}

impl Level {
    /// `error`, `warn`, `info` or `debug`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// A fact as people are told of it: how much it matters, and its text after its code where it has one.
pub fn told(event: &Event) -> (Level, String) {
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
        | Event::NotAllowed { .. }
        | Event::TookOver { .. } => Level::Warn,
        _ => Level::Info,
    };
    let text = match code_of(event) {
        Some(code) => format!("{code}: {event}"),
        None => event.to_string(),
    };
    (level, text)
}

/// The stable code of a fact; none: it has none.
pub fn code_of(event: &Event) -> Option<Code> {
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
