//! A simulated world that tries Kontrol's decisions under every kind of failure, replayable by seed.
//!
//! ```text
//!                 observations: late, in order          ┌────────────┐   status: versioned, durable
//!   Processes ─────────────────────────────────────────► │  Decider   │ ◄──────────────────────────── Store
//!   (the truth) ◄──────────────────────────────────────  │ plan(...)  │ ────────────────────────────►
//!                 actions: late, lost, doubled           └────────────┘   written with a precondition
//!        ▲                                                 crashes between any two steps; an old one may linger
//!        └─ ends, hangs, slow starts and stops                                  │
//!                                                                               ▼
//!                                                       Checks: every write, every start, and the rest at the end
//! ```
//!
//! One seed gives one tree and one history: some tens of seconds in which all of this goes wrong, while the manifest changes (templates,
//! numbers of replicas, children that come and go), users ask for restarts and load asks for replicas; then calm. More than half of the
//! trees run as pods: the kubelet and shims restart in place, things outside end them, machines die or are cut off and come back,
//! places are missing, and some new templates never run well. The rules are in [`Rule`].
//! Time is simulated, in microseconds; nothing is drawn but from the seed, and nothing is iterated in an order that could differ, so a
//! seed gives the same bytes on every machine. [`Mutant`]s are deciders with a mistake, to prove that the rules can find one.

mod check;
mod decider;
mod mutant;
mod processes;
mod simulation;
mod sweep;
mod tree;

pub use check::{Rule, Violation};
pub use mutant::Mutant;
pub use simulation::{Outcome, Totals, run};
pub use sweep::{Summary, sweep};
