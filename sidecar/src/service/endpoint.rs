//! The seam to a widget's own server: how the sidecar hands it messages and calls when the widget holds no stream at a door.

use std::{future::Future, pin::Pin};

use super::{Delivery, Incoming, Outcome};

/// A boxed future, for the one trait here that is used as an object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Delivers to a widget's own server. Implemented over HTTP in `delivery`; one value serves the sidecar's whole life, and the address is an
/// argument because the widget's next incarnation may listen elsewhere.
pub trait WidgetEndpoint: Send + Sync + 'static {
    /// Hands over one message at `path` of `address` (`host:port`) and says what became of it. Never fails: an unreachable endpoint is a
    /// [`Outcome::Nak`]. Dropping the future abandons the request.
    fn deliver<'a>(
        &'a self,
        address: &'a str,
        path: &'a str,
        delivery: &'a Delivery,
    ) -> BoxFuture<'a, Outcome>;

    /// Hands over one call and streams its reply into [`Incoming::replies`] until it ends or is cancelled.
    fn call<'a>(&'a self, address: &'a str, path: &'a str, incoming: Incoming) -> BoxFuture<'a, ()>;

    /// Asks the health of the widget: `Ok` when it answered well, otherwise why not.
    fn probe<'a>(&'a self, address: &'a str, path: &'a str) -> BoxFuture<'a, Result<(), String>>;
}
