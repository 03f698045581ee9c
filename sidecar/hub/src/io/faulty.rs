//! The deterministic twin.
