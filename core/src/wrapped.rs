//! What a sidecar and the shim of a wrapped container say to each other: one JSON object a line, over a Unix socket of the pod.
//!
//! ```text
//!   sidecar ──Order: a grant, or its revocation──► shim (PID 1 of the widget's container)
//!           ◄──State, whole, at once on each change──
//! ```
//!
//! Invariants: both sides say all that they know when they connect and on each change, so a line that was lost with a connection is of
//! no matter; fields are only ever added.

use serde::{Deserialize, Serialize};

/// From the sidecar to the shim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Order {
    /// Restarts that are allowed, as [`crate::grant::Grant`] has them.
    Give {
        /// The epoch of the group under which it is given.
        epoch: u64,
        /// Restarts within the window.
        count: u32,
        /// The window in milliseconds.
        window_ms: u64,
        /// Whether an exit with code 0 is the end.
        #[serde(default)]
        only_failures: bool,
    },
    /// All grants up to this epoch are taken back.
    Revoke {
        /// The epoch.
        epoch: u64,
    },
}

/// From the shim to the sidecar: all that it knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Tells one shim from the next: its own start, in microseconds since the machine's.
    pub shim: u64,
    /// The widget's process, as the shim numbers it; 0: none runs.
    pub pid: u32,
    /// Ends that were followed by a restart, since the shim started.
    pub restarts: u64,
    /// The newest end.
    pub last_end: Option<Ended>,
    /// The epoch of the last grant or revocation; none: there was none yet.
    pub epoch: Option<u64>,
    /// Restarts that were spent under it.
    pub spent: u64,
    /// Whether the shim may restart at all: there is a grant, and it is neither spent nor revoked.
    pub open: bool,
}

/// One end of the widget's process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    /// The exit code, where it exited.
    pub code: Option<i32>,
    /// The signal, where one ended it.
    pub signal: Option<i32>,
    /// When, in microseconds since the Unix epoch.
    pub at_micros: u64,
    /// Processes that it left behind and that were killed.
    pub left: u32,
    /// Why it is not started again; none: it is.
    pub denied: Option<Why>,
}

/// Why a shim does not start the widget again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Why {
    /// The container is being stopped.
    Stopped,
    /// It ended with code 0, and the grant is for failures.
    Normal,
    /// No grant was ever given.
    Never,
    /// The grant is spent.
    Spent,
    /// The grant was revoked.
    Revoked,
    /// It could not be started again.
    Failed,
}

impl Why {
    /// As signals and logs have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Normal => "normal",
            Self::Never => "never",
            Self::Spent => "spent",
            Self::Revoked => "revoked",
            Self::Failed => "failed",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_have_the_documented_form() {
        let give = Order::Give { epoch: 3, count: 2, window_ms: 30_000, only_failures: false };
        assert_eq!(
            serde_json::to_string(&give).unwrap(),
            r#"{"order":"give","epoch":3,"count":2,"windowMs":30000,"onlyFailures":false}"#
        );
        let short = r#"{"order":"give","epoch":3,"count":2,"windowMs":30000}"#;
        assert_eq!(serde_json::from_str::<Order>(short).unwrap(), give);
        let revoke = r#"{"order":"revoke","epoch":4}"#;
        assert_eq!(serde_json::from_str::<Order>(revoke).unwrap(), Order::Revoke { epoch: 4 });
    }

    proptest! {
        #[test]
        fn a_state_reads_back(
            shim: u64,
            pid: u32,
            restarts: u64,
            code: Option<i32>,
            epoch: Option<u64>,
            spent: u64,
            open: bool,
        ) {
            let ended = Ended { code, signal: None, at_micros: shim, left: pid, denied: Some(Why::Spent) };
            let state = State { shim, pid, restarts, last_end: Some(ended), epoch, spent, open };
            let line = serde_json::to_string(&state).unwrap();
            prop_assert!(!line.contains('\n'));
            prop_assert_eq!(serde_json::from_str::<State>(&line).unwrap(), state);
        }

        #[test]
        fn any_line_is_read_or_refused(line: String) {
            drop(serde_json::from_str::<Order>(&line));
            drop(serde_json::from_str::<State>(&line));
        }
    }
}
