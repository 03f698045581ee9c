//! Kontrol's shim: the small process that runs one widget and outlives nobody.
//!
//! ```text
//!   world ──stdin: a Unix socket──► kontrol-shim ──own process group──► command ──► its children
//!         ◄── events, one JSON line each ──
//! ```
//!
//! Invariants, all of them by the system and not by good will:
//! - The world gone (its end of the socket closed, even by `kill -9`) is the whole group gone, at once, and all that left it. The shim
//!   itself ends last: a signal at its parent's death would end it before it could see to them.
//! - The shim gone is the command gone (`PR_SET_PDEATHSIG`).
//! - The command gone is everything it started gone: the shim is the subreaper of all that the command leaves behind, in its process
//!   group or out of it, and ends only when nothing is left.
//! - A process id is signalled only while the shim holds it un-reaped, so no signal ever reaches a stranger.
//!
//! As the first process of a wrapped container there is no world on stdin: signals are its orders, and a sidecar may connect to its socket.
//!
//! The shim decides nothing: whether a command is started again is the plan's decision, given beforehand as a grant where a decision
//! would come late.

mod family;
mod launch;
mod machine;
mod options;
mod supervise;
mod sys;
mod wire;
mod wrapped;

pub use launch::{Launch, Launched};
pub use options::{Error as OptionsError, Limits, Options, USAGE};
pub use supervise::{Error as RunError, run};
pub use wire::{Event, FailedKind, Order};
pub use wrapped::run as run_wrapped;
