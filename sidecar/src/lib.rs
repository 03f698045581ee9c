//! Kontrol's sidecar: what a widget talks to, and what talks to all the others for it.
//!
//! ```text
//!   widget ◄──gRPC, HTTP──► doors ──► service ──► bus ──link──► hub
//!                                       │    └──► peers ──link──► other sidecars
//!   operator ◄──control: configuration down, signals up──┤
//!   shim (PID 1 of a wrapped container) ◄──grants──────────┘
//! ```
//!
//! Invariants: doors translate and decide nothing; a configuration is applied whole; what was acknowledged is durable; every connection to
//! another process is mTLS under the operator's authority and ends with its certificate. One runtime of one thread does it all: nothing
//! here blocks. The crate refuses to know Kubernetes, and to decide about restarts or replicas: it tells what it sees.

#![allow(clippy::similar_names, reason = "`changed` comes from `changes`, and `stats` stand beside `state`")]

pub mod admin;
pub mod bus;
pub mod clock;
pub mod cloudevents;
pub mod config;
pub mod consuming;
pub mod control;
pub mod delivery;
pub mod grpc;
pub mod health;
pub mod http;
pub mod hub;
pub mod identity;
pub mod link;
pub mod metrics;
pub mod peers;
pub mod service;
pub mod serving;
pub mod shared;
pub mod sidecar;
pub mod wrapped;
