//! Kontrol on a real cluster, in the language of its behaviours. One program, so that it is linked once.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what the tests share fails as they do")]

mod alerts;
mod apiserver;
mod bad_input;
mod changed;
mod conformance;
mod definitions;
mod deletion;
mod disruption;
mod edits;
mod gpu;
mod group_rollout;
mod hub;
mod identity;
mod install;
mod ladder;
mod leader;
mod messaging;
mod node;
mod partition;
mod permissions;
mod pipeline;
mod policies;
mod preemption;
mod prometheus;
mod references;
mod rollout;
mod rotation;
mod scaling;
mod strangers;
mod supervision;
mod tools;
mod uninstall;
