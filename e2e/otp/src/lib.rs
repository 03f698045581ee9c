//! A reference model of Erlang/OTP's `supervisor`.

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
pub use schedule::{Case, End, Event, Reason, Refusal, Request, Schedule};
pub use trace::{Act, Condition, Step, Trace};
pub use tree::{
    AutoShutdown, Child, Id, Illegal, Node, Restart, Shutdown, Strategy, Supervisor, Tree, Worker,
};
