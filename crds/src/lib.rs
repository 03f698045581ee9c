//! Kontrol's API: the types of `kontrol.dev/v1alpha1`, and the way from manifests to valid worlds.
//!
//! ```text
//!   manifest (YAML) ──load──► api types ──convert──► kontrol_core::spec, cross-checked (World)
//!                                │
//!                                └──crdgen──► manifests/*.yaml (CustomResourceDefinitions), docs/reference.md
//! ```
//!
//! Invariants: a [`World`] is valid in itself, so nobody after [`load`] checks a name, a reference or a bound again. What is wrong is
//! said all at once, each [`Problem`] with its file, line, object, path, stable code and way out. No input panics.
//!
//! The crate refuses to talk to an API server, and to decide anything: it only reads.

#[allow(
    unreachable_pub,
    clippy::struct_field_names,
    reason = "KubeSchema's derive repeats each type, as it is, inside a function; names of fields are Kubernetes' own"
)]
mod api;
mod check;
pub mod convert;
mod fault;
pub mod generated;
mod load;
pub mod manifest;
mod nearest;
mod problem;
pub mod quantity;
mod yaml;

pub use api::*;
pub use convert::Runtime;
pub use fault::{Fault, Faults};
pub use load::{Declared, World, load, load_for};
pub use manifest::Source;
pub use problem::Problem;
