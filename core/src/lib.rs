//! The pure rules and valid types that Kontrol's operator and sidecar share.
//!
//! ```text
//!   crds ──converts into──► spec ◄──decides on── plan
//!                            │
//!   sidecar ──applies──► breaker · backoff · budget · window · health · route · grant
//! ```
//!
//! Invariants: nothing here does I/O, reads a clock or draws a random number; time and jitter are arguments. A value of a type
//! in [`spec`] is valid by construction of its parts ([`id`], [`duration`]) and by the conversion that made it (`kontrol-crds`).
//! The crate refuses to know Kubernetes, gRPC or a runtime.

pub mod backoff;
pub mod breaker;
pub mod budget;
pub mod code;
pub mod duration;
pub mod grant;
pub mod health;
pub mod id;
pub mod limits;
pub mod report;
pub mod route;
pub mod spec;
pub mod time;
pub mod trust;
pub mod window;
pub mod wrapped;
