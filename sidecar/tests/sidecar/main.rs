//! The sidecar's real binary between a widget, an operator and a hub. One program, so that all of it is built once.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

mod calls;
mod endpoint;
mod http;
mod in_flight;
mod lifecycle;
mod messages;
mod pod;
mod refusals;
mod support;
