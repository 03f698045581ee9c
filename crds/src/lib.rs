//! Kontrol's API types.
#[allow(unreachable_pub, reason = "KubeSchema's derive repeats each type, as it is, inside a function")]
mod api;
pub use api::*;
