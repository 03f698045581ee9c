//! What the world and the shim say to each other, one line each.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

/// From the shim to the world: one JSON object a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "camelCase")]
pub enum Event {
    /// The command runs. Its process group has the same number.
    Started {
        /// The command's process id.
        pid: u32,
    },
    /// The command could not be started. Nothing else follows.
    Failed {
        /// Why, for people.
        reason: String,
        /// Why, for the plan.
        kind: FailedKind,
    },
    /// The command has ended and nothing that it started is left. Nothing else follows.
    Ended {
        /// The exit code, where it exited.
        code: Option<i32>,
        /// The signal, where one ended it.
        signal: Option<i32>,
        /// Processes that it left behind and that had to be killed.
        left: u32,
    },
}

/// The command could not be started.
const NOT_STARTED: u8 = 127;

impl Event {
    /// The status that the shim itself exits with: the command's own, 128 and the number of the signal that ended it, or 127 where it could not
    /// be started.
    pub fn status(&self) -> u8 {
        match self {
            Self::Ended { code, signal, .. } => {
                let status = code.or_else(|| signal.map(|signal| 128 + signal)).unwrap_or(1);
                u8::try_from(status).unwrap_or(1)
            }
            Self::Started { .. } | Self::Failed { .. } => NOT_STARTED,
        }
    }
}

/// Why a command could not be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FailedKind {
    /// There is no such program, in PATH or at the given place.
    NotFound,
    /// The file is there but may not be executed, or is no program.
    NotExecutable,
    /// The system refused a process: limits, memory.
    Refused,
}

/// From the world to the shim: one word a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// `stop` or `stop MILLISECONDS`: SIGTERM to the group; SIGKILL after the grace given here, or the one the shim was started with.
    Stop(Option<Duration>),
    /// `kill`: SIGKILL to the group at once.
    Kill,
}

/// A line that is no order.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no order; the orders are: stop, stop MILLISECONDS, kill")]
pub struct NoOrder(String);

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stop(None) => f.write_str("stop"),
            Self::Stop(Some(grace)) => write!(f, "stop {}", grace.as_millis()),
            Self::Kill => f.write_str("kill"),
        }
    }
}

impl FromStr for Order {
    type Err = NoOrder;
    fn from_str(line: &str) -> Result<Self, NoOrder> {
        let malformed = || NoOrder(line.to_owned());
        let mut words = line.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some("stop"), None, None) => Ok(Self::Stop(None)),
            (Some("stop"), Some(millis), None) => {
                Ok(Self::Stop(Some(Duration::from_millis(millis.parse().map_err(|_| malformed())?))))
            }
            (Some("kill"), None, None) => Ok(Self::Kill),
            _ => Err(malformed()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_reads_back_as_it_was_written() {
        for order in [Order::Stop(None), Order::Stop(Some(Duration::from_millis(1500))), Order::Kill] {
            assert_eq!(order.to_string().parse(), Ok(order));
        }
        assert!("halt".parse::<Order>().is_err());
        assert!("stop now".parse::<Order>().is_err());
    }

    #[test]
    fn events_have_the_documented_form() {
        let line = |event: Event| serde_json::to_string(&event).unwrap();
        assert_eq!(line(Event::Started { pid: 7 }), r#"{"event":"started","pid":7}"#);
        assert_eq!(
            line(Event::Ended { code: None, signal: Some(9), left: 2 }),
            r#"{"event":"ended","code":null,"signal":9,"left":2}"#
        );
        assert_eq!(
            line(Event::Failed { reason: "no".into(), kind: FailedKind::NotFound }),
            r#"{"event":"failed","reason":"no","kind":"NotFound"}"#
        );
    }
}
