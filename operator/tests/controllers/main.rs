//! The controllers against an API server with stale caches, dropped watches, refused and lost writes, and a crash after each of them.
//!
//! Each scenario runs once with nothing going wrong, then again with a crash after each of its writes, and with other things that go wrong at some
//! of them; whatever it was, it has to come to the same end: the same objects, the same number of restarts, nobody else's pods touched, and then silence.
//! Time is simulated, and nothing is drawn but from seeds, so that what fails once fails always.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

mod circles;
mod cluster;
mod definitions;
mod deletion;
mod incarnations;
mod leaders;
mod namespaces;
mod operator;
mod refusals;
mod rights;
mod scenarios;
mod shape;
mod troubles;
