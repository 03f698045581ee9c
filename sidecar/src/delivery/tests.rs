//! What goes to the widget, and what its answers mean.

mod endpoint;
mod framing;
mod verdict;
