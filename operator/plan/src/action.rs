//! What a world is asked to do. Every action may be lost or done twice: the next plan asks again for what is still missing, and a
//! second one of the same instance and incarnation changes nothing.

use std::sync::Arc;

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
        /// The template that it is started from. It may be an older one than the manifest's: the last good one, or one of a roll-out
        /// that is not at its turn yet. A world keeps the templates of the revisions that its status names.
        revision: Revision,
        /// Which of the widget's placement alternatives: 0 is the placement itself, 1 the first of its `alternatives`.
        #[serde(default)]
        alternative: u32,
        /// Machines that it must keep away from, by name.
        #[serde(default)]
        avoid: Vec<Arc<str>>,
        /// Machines that it should keep away from where another one is free: what ended there twice moves.
        #[serde(default)]
        rather_not: Vec<Arc<str>>,
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
    /// Give this incarnation up though nobody has seen its end, because its machine is lost and its manifest allows it (`forceDelete`):
    /// remove what the world keeps of it, without waiting for the machine. It is no longer observed from then on.
    Abandon {
        /// Which replica.
        instance: InstanceId,
        /// Which process of it.
        incarnation: u64,
    },
    /// Forget this incarnation, which has ended: the plan has taken note.
    Remove {
        /// Which replica.
        instance: InstanceId,
        /// Which process of it.
        incarnation: u64,
    },
}
