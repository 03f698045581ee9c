//! Kontrol's decisions: one pure function from what is desired and observed to actions and a status.
//!
//! ```text
//!   manifest ──► desired ─┐                   ┌─► status    written first, with a precondition
//!   world ─────► observed ┼─► plan(…, now) ───┼─► actions   then done: start, stop, remove
//!                   ▲     │   no I/O,         ├─► events    told once
//!                   └─────┘   no clock        └─► wake      when to plan again at the latest
//!          status of the last plan
//! ```
//!
//! A world (the local one, a cluster, the simulator) observes, plans, writes the status, acts, and observes again. It decides nothing.
//!
//! # What holds
//!
//! - **Nothing lives in memory.** Windows, epochs, incarnations, open restarts and scaling decisions are in the [`Status`]; whoever
//!   plans next with it goes on where the last one stopped, between any two steps.
//! - **Decide, write, then act.** A decision stands in the status before its first action, so a fault leads to one restart, never two.
//! - **Level-triggered.** Actions are told from the difference between the status and what is observed alone. Lost, doubled or late, the
//!   next plan puts them right, and planning again after all is done gives nothing.
//! - **Silence is never absence.** An instance that is not observed is unknown, not ended; a signal that is missing is unknown, not zero.
//! - **Three numbers** that are never compared with each other: the *epoch* counts a node's restarts, the *incarnation* the processes of
//!   one replica, the *revision* is the template's hash.
//! - **Every child knows why.** A node keeps the last decision about each of its children, with its chain of causes, as long as it is the
//!   last one ([`Node::decisions`](status::Node::decisions)): what happens to siblings later does not take it away.
//! - **What ends for good has an outcome.** A child that its restart type leaves ended has [completed or failed](status::Outcome); a failed
//!   one keeps all above it from being ready, though supervision is done with it.
//! - **What did not change is not copied.** A plan shares the children that it leaves as they are with the status that it was given.
//! - **Total.** Every desired tree and every observation gives a plan. At most one decision is made in each node, then `wake` asks for
//!   the next.
//!
//! It refuses to do I/O, to read a clock, to draw random numbers and to check manifests: what comes in is valid by its types.
//!
//! # Beyond one machine
//!
//! - **Restarts in place** (`in_place`) by the kubelet or a shim are ends and restarts as all others: told, counted, and from the second on
//!   the kubelet's back-off is not waited for. What a shim may do by itself is a [`grant`](fn@grant).
//! - **Ends from outside** ([`End::is_external`]) are restarted by the strategy and not counted; many of them only slow the next start down.
//! - **Places** (`place`): a replica without one tries its alternatives and fails nothing. Machines are given up by a pure fold,
//!   [`nodes`]; what ran there has ended, unless it has an identity of its own. Nothing of one replica is started beside another process of
//!   it that is not fenced off; of an identity of its own, nothing before the one before is gone altogether.
//! - **Roll-outs** (`roll`) move a widget from one template to the next within the manifest's budget, and back to the last good one.
//!
//! # Supervision is OTP's
//!
//! Strategies, restart types, windows, automatic shutdown, failed starts and the order of everything are those of Erlang/OTP's
//! `supervisor`: the plan is played against a model of it, which itself is played against the real one (the crate `kontrol-otp`). It
//! differs in these points, and each has its test in `tests/otp/differences.rs`:
//!
//! | OTP | here | why |
//! | --- | --- | --- |
//! | A root that gives up ends. | `whenExhausted`: it is started again after a pause, or stays stopped. | Nobody is above it to ask. |
//! | A first start that fails is the caller's to know. | It is an end of the root as any other. | The caller is a manifest, which stays. |
//! | A start may take for ever. | It has a time-out, and counts as failed. | A process that never gets ready has to be seen. |
//! | A supervisor does nothing while a child starts. | Under `OneForOne` siblings start side by side. | A model takes a minute to load; its siblings need not wait. |
//! | A child is one process. | A child is a widget, which replaces its replicas within an intensity of its own. | Replicas are OTP's `simple_one_for_one`, without a supervisor in between. |
//! | Only an exit is an end. | One that hangs is stopped, and that is an end. | Processes are not Erlang: they hang. |
//! | `shutdown` and `{shutdown, Term}` are normal exits. | Exit code 0 alone is normal. | A process has no other way to say it. |
//! | `restart_child` is tried once and counts nothing. | A restart that a user asks for counts nothing, its failed start is tried again and counts. | Who asked is gone by then. |
//! | Workers and supervisors may be siblings. | A group holds widgets, a supervisor holds groups and supervisors. | One kind of object for each; a widget beside groups has a group of its own. |

mod action;
mod actions;
pub mod conditions;
mod desired;
pub mod event;
mod faults;
mod grant;
mod in_place;
mod instances;
mod manifest;
pub mod nodes;
mod observe;
mod place;
mod plan;
mod requests;
mod roll;
mod root;
mod scale;
pub mod scaling;
pub mod signals;
mod start_stop;
pub mod status;
mod widget;

pub use action::Action;
pub use event::{Cause, Event};
pub use grant::grant;
pub use observe::{
    End, Instance, InstanceState, LastEnd, NodeHealth, Observed, Place, RestartRequest, RestartTarget,
    StartError,
};
pub use plan::{Plan, plan};
pub use status::Status;

#[cfg(test)]
mod tests;
