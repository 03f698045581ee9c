//! Kontrol's worlds: what observes and acts around the plan.
//!
//! ```text
//!   manifests ──► World ──► plan (pure) ──► status, written ──► actions ──► local: shims, sidecars, the hub
//!                   ▲                                                          │
//!                   └── control: one mTLS session per sidecar ◄────────────────┘
//! ```
//!
//! Invariants: one task owns the world's state, and all else are messages to it; a decision is written before it is carried out;
//! nothing that was started outlives this process. The crate decides nothing itself: who is restarted and how many run is the plan's.

pub mod authority;
pub mod clock;
pub mod control;
pub mod kubernetes;
pub mod local;
pub mod view;
