//! A reference model of Erlang/OTP's `supervisor`, written apart from Kontrol's plan and proven against the real one.
//!
//! ```text
//!             generate(seed)
//!                   │ Case: Tree + Schedule
//!         ┌─────────┼──────────────┐
//!      play()    term()         any other
//!         │         │           supervisor
//!         │   erlang/player.erl    │
//!         │   OTP's supervisor     │
//!         ▼         ▼              ▼
//!       Trace ═══ Trace ═══════ Trace
//! ```
//!
//! A [`Case`] is a tree of supervisors and workers with what happens to it. [`play`] gives its [`Trace`]: for the start and
//! for each event the ordered acts (starts, refused starts, stops, supervisors that give up or shut down) and who runs when
//! the tree is at rest again. The same seed gives the same bytes on every machine.
//!
//! ```
//! use kontrol_otp::{generate, play};
//!
//! let case = generate(7);
//! let trace = play(&case);
//! for step in &trace.steps {
//!     println!("{:?} -> {:?}", step.acts, step.rest);
//! }
//! ```
//!
//! # What is modelled
//!
//! After the documentation of `supervisor` and "Supervisor Behaviour" of OTP's design principles (OTP 25; automatic shutdown
//! came with OTP 24), and what the real one was seen to do:
//!
//! - **Strategies** `one_for_one`, `one_for_all`, `rest_for_one`: stops in reverse of the start order, then starts in order.
//!   A group restart starts every child that has a specification, also one that had ended normally or was terminated.
//! - **Restart types** permanent, transient, temporary. `normal`, `shutdown` and `{shutdown, Term}` are normal ends. A
//!   temporary child is forgotten when it ends, when a group restart stops it, and when it is terminated; it is back when its
//!   supervisor is started anew.
//! - **Intensity and period**: each restart counts, and each further try of one. More than `intensity` within `period`, and
//!   the supervisor stops its children in reverse and ends with `shutdown`, which its parent takes for a normal end.
//! - **Failed starts.** At a supervisor's own start: what was started is stopped in reverse, and the start fails. In a
//!   restart: the supervisor sends itself a message to try again with the child that failed. `one_for_all` then starts over
//!   with every child, `rest_for_one` from the child that failed. The message waits behind the exits that are already in the
//!   mailbox, and does nothing if another restart has started the child since.
//! - **Exits that wait in the mailbox** while a restart runs: an exit of a child that the restart stops is taken out unread.
//!   The others are dealt with in turn. A supervisor that ends leaves its mailbox unread.
//! - **Automatic shutdown**: a significant child that ends and stays ended, `any_significant` or the last of
//!   `all_significant`. Neither a stop by the supervisor nor an exit that a restart swallowed counts. A child whose restart is
//!   being tried again is active; one that waits behind it in a group restart is not.
//! - **Shutdown** by grace (the worker obeys) or brutal kill. Supervisors are given all the time they need.
//! - **Requests** `terminate_child`, `restart_child`, `delete_child`.
//!
//! # What is not
//!
//! - How long a start or a stop takes: both are done at once, and no event falls between. A grace that runs out looks like a
//!   brutal kill.
//! - `simple_one_for_one`, `start_child`, starts that return `ignore`, changes of code.
//! - Supervisors that are killed from outside, and ends of workers of two supervisors at once: OTP promises no order there.
//! - What a request answers.
//!
//! # The proof
//!
//! `tests/otp/facts` states the points above as cases with their whole traces. They and random cases ([`Mix::TIMELESS`]) are
//! played under the real `supervisor`, whose traces must be equal to the last act; `SEED=n` plays one and prints both. Time
//! is the exception: there the real one has a period of an hour, and the window is tested on the model alone.

mod coverage;
mod erlang;
mod generate;
mod model;
mod random;
mod schedule;
mod trace;
mod tree;

pub use coverage::{Combination, Coverage};
pub use erlang::term;
pub use generate::{Mix, generate, generate_with};
pub use model::{Model, play};
pub use random::Random;
pub use schedule::{Case, End, Event, Reason, Refusal, Request, Schedule};
pub use trace::{Act, Condition, Step, Trace};
pub use tree::{
    AutoShutdown, Child, Id, Illegal, Node, Restart, Shutdown, Strategy, Supervisor, Tree, Worker,
};
