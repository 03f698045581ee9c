//! What Kontrol's end-to-end tests and benchmarks share: a world started by the real `kontrol up`, and figures with their spreads.
//!
//! Everything here drives the real programs from outside, as a user would. Time is read directly: measuring it is what this crate is
//! for, and nothing here decides anything.
#![allow(clippy::disallowed_methods)]

pub mod bench;
pub mod widget;
pub mod world;
