//! The world of a cluster: pods under the kubelet, a native sidecar each, decided by the same plan as on one machine.
//!
//! ```text
//!   watches ──► Store ─┐                           ┌─► requests: decision, pods, widgets, services …
//!   Control ───────────┼─► State (one task) ─plan─►┼─► configurations for sidecars and hubs
//!   answers ───────────┘      pure                 └─► status and conditions, events
//! ```
//!
//! Invariants: the [`state`] is pure, with time as an argument, and all that it asks of the API server is data; a decision is written
//! with the version that it was made from before its first act; nothing is planned on what is older than our own last write; what
//! cannot be seen is unknown, never absent; only the leader acts.

pub mod client;
pub mod definitions;
pub mod events;
pub mod forest;
pub mod kind;
pub mod lacking;
pub mod lease;
pub mod metrics;
pub mod object;
pub mod observe;
pub mod pod;
pub mod render;
pub mod request;
pub mod rights;
pub mod state;
pub mod store;
pub mod text;
pub mod time;
pub mod watch;

mod admin;
mod authority;
mod elect;
mod installed;
mod leading;
mod options;
mod world;

pub use client::connect;
pub use options::Options;
pub use world::{Error, World, sources};
