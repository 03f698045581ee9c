//! The local world: processes under shims, a sidecar each and one hub, on one machine and without a cluster.
//!
//! ```text
//!   manifests ─┐                           ┌─► launcher thread ─► kontrol-shim ─► widget
//!   Admin ─────┼─► mailbox ─► World ─plan─►┼─► orders              └──────────► kontrol-sidecar (run, hub)
//!   Control ───┤              (one task)   └─► configurations
//!   shims ─────┘                  └─► .kontrol/status.json, written before anything is done
//! ```
//!
//! Invariants: one task owns the [`state::State`], which is pure; a decision is durable before its first effect; everything that was
//! started dies with this process, however it ends; what an earlier world left is ended, never taken over.

mod admin;
pub mod desired;
pub mod folder;
mod launcher;
pub mod ledger;
pub mod logs;
pub mod preflight;
mod process;
pub mod state;
mod user;
mod world;

pub use admin::connect as connect_admin;
pub use desired::Desired;
pub use user::running;
pub use world::{Binaries, Error, Handle, Options, World};
