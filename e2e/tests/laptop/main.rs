//! Whole worlds without a cluster, and what can be said of the code as a whole. One program, so that all of it is built once.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

mod bad_input_disk;
mod bad_input_message;
mod bad_input_place;
mod bad_input_process;
mod broken_under_load;
mod command_line;
mod direction;
mod edge_pipeline;
mod local_life;
