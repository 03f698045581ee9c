//! What `/metrics` says: every name, label and unit of the sidecar and of the hub, in one module.
//!
//! Names are `kontrol_<subsystem>_<name>_<unit>[_total]` in base units (seconds, bytes). Labels are closed sets: states, outcomes, error codes,
//! and the targets, topics and subscriptions of the configuration, [the first of them](Named); never an id, an instance or a text. The page is
//! made when it is asked for, from counters that cost one relaxed addition each; only durations and failures are kept here ([`Timings`]).

mod hub;
mod named;
mod page;
mod sidecar;
#[cfg(test)]
mod tests;
mod timings;

pub use hub::of_hub;
pub use named::Named;
pub use sidecar::of_sidecar;
pub use timings::Timings;

/// The media type of the page.
pub const MEDIA_TYPE: &str = prometheus::TEXT_FORMAT;
