//! Facts about the state.
