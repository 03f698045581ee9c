//! The codec against the specification's own examples, round trips, and what it refuses.

mod examples;
mod refused;
mod round_trip;
