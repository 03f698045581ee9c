//! The controllers against an API server with stale caches, dropped watches, refused and lost writes, and a crash after each of them.
//!
//! Each scenario runs once with nothing going wrong, and then again with one thing that goes wrong at each of its writes; whatever it was,
//! it has to come to the same end: the same objects, the same number of restarts, nobody else's pods touched, and then silence.
//! Time is simulated, and nothing is drawn but from seeds, so that what fails once fails always.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

mod circles;
mod cluster;
mod definitions;
mod incarnations;
mod leaders;
mod namespaces;
mod operator;
mod refusals;
mod rights;
mod scenarios;
mod shape;
mod troubles;
