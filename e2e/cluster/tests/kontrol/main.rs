//! Kontrol on a real cluster, in the language of its behaviours. One program, so that it is linked once.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what the tests share fails as they do")]

mod alerts;
mod apiserver;
mod bad_input;
mod changed;
mod conformance;
mod definitions;
mod deletion;
mod edits;
mod gpu;
mod hub;
mod identity;
mod install;
mod leader;
mod messaging;
mod node;
mod partition;
mod permissions;
mod pipeline;
mod preemption;
mod prometheus;
mod rollout;
mod scaling;
mod strangers;
mod supervision;
mod tools;
mod uninstall;
