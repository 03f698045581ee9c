//! Kontrol's decisions: one pure function from what is desired and observed to actions and a status.

mod action;
mod actions;
mod conditions;
mod desired;
pub mod event;
mod faults;
mod instances;
mod manifest;
mod observe;
mod plan;
mod requests;
mod root;
mod scale;
pub mod scaling;
pub mod signals;
mod start_stop;
pub mod status;
mod widget;

pub use action::Action;
pub use event::{Cause, Event};
pub use observe::{End, Instance, InstanceState, Observed, RestartRequest, RestartTarget, StartError};
pub use plan::{Plan, plan};
pub use status::Status;

#[cfg(test)]
mod tests;
