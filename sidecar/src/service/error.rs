//! What a door says when something is refused or has failed.

use std::{fmt, time::Duration};

pub use kontrol_core::code::Status;
use kontrol_core::{code::Code, limits};
use kontrol_proto::v1;

/// An error as every door reports it: as the details of a gRPC status, as RFC 9457 on HTTP, as a `LinkFailure` between sidecars.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The stable code.
    pub code: Code,
    /// The gRPC status: the code's own, or the one that the target's widget has chosen.
    pub status: Status,
    /// The thing, the reason and the way out, for people.
    pub message: String,
    /// The object concerned: a topic, a target, a subscription; empty: none.
    pub subject: String,
    /// When trying again makes sense; none: not by itself.
    pub retry_after: Option<Duration>,
}

impl Error {
    /// An error with its code's own status.
    pub fn new(code: Code, subject: impl Into<String>, message: impl Into<String>) -> Self {
        let status = code.status();
        Self { code, status, message: message.into(), subject: subject.into(), retry_after: None }
    }

    /// An error that the target's widget itself answered with.
    pub fn of_widget(status: Status, subject: impl Into<String>, message: impl Into<String>) -> Self {
        let status = if status == Status::Ok { Status::Unknown } else { status };
        Self { status, ..Self::new(Code::WidgetError, subject, message) }
    }

    /// What is said of a message that no topic takes.
    pub(crate) fn over_every_limit() -> String {
        let most = limits::MESSAGE;
        format!(
            "over {most} bytes, and no topic's maxMessageSize is above that: keep what is larger elsewhere, and publish where it is"
        )
    }

    /// The same, with a hint when to try again.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Reads what a peer or a hub said. A code that this version does not know counts as the widget's own.
    pub fn from_wire(status: i32, problem: Option<v1::Problem>) -> Self {
        let v1::Problem { code, message, subject, retry_after_ms } = problem.unwrap_or_default();
        let retry_after = (retry_after_ms > 0).then(|| Duration::from_millis(retry_after_ms));
        let code = code.parse().unwrap_or(Code::WidgetError);
        Self { code, retry_after, ..Self::of_widget(Status::of(status), subject, message) }
    }

    /// The wire form of all but the status.
    pub fn problem(&self) -> v1::Problem {
        let retry_after_ms =
            self.retry_after.map_or(0, |after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
        let (message, subject) = (self.message.clone(), self.subject.clone());
        v1::Problem { code: self.code.to_string(), message, subject, retry_after_ms }
    }
}

/// An error of another library with all its causes, which its own text hides.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Error {}
