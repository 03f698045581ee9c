//! The forms that the door writes, without a sidecar behind it.

mod forms;
