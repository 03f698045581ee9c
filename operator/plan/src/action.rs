//! What a world is asked to do. Every action may be lost or done twice: the next plan asks again for what is still missing, and a
//! second one of the same instance and incarnation changes nothing.

use kontrol_core::{
    id::InstanceId,
    spec::{Revision, Shutdown},
};
use serde::{Deserialize, Serialize};

/// One thing to do, after the status that asks for it is written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Action {
    /// Start this incarnation. From then on it is observed, as [`Starting`](crate::InstanceState::Starting) at first, until it is
    /// removed. Done already, or a higher incarnation was started: nothing happens. A start that cannot be carried out leaves the
    /// incarnation observed as ended, with [`End::NotStarted`](crate::End::NotStarted).
    Start {
        /// Which replica.
        instance: InstanceId,
        /// Its number among the processes of this replica.
        incarnation: u64,
        /// The restart epoch of its group, carried as a label.
        epoch: u64,
        /// The template that it is started from.
        revision: Revision,
    },
    /// Stop this incarnation. It stays observed, ended, until it is removed. One that was never started must never start from then
    /// on, and is observed as ended with [`End::NeverRan`](crate::End::NeverRan).
    Stop {
        /// Which replica.
        instance: InstanceId,
        /// Which process of it.
        incarnation: u64,
        /// Asked first and given time, or killed at once.
        shutdown: Shutdown,
    },
    /// Forget this incarnation, which has ended: the plan has taken note.
    Remove {
        /// Which replica.
        instance: InstanceId,
        /// Which process of it.
        incarnation: u64,
    },
}
