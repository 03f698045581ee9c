//! The seam to a widget's own server: how the sidecar hands it messages and calls when the widget holds no stream at a door.

use std::{future::Future, pin::Pin, time::Duration};

use kontrol_core::code::Code;

use super::{Delivery, Error, Incoming, Outcome};

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

/// A widget without a server of its own: nothing reaches it.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoEndpoint;

impl WidgetEndpoint for NoEndpoint {
    fn deliver<'a>(&'a self, _: &'a str, path: &'a str, _: &'a Delivery) -> BoxFuture<'a, Outcome> {
        let reason = format!("nothing delivers to {path}");
        Box::pin(async { Outcome::Nak { delay: Duration::ZERO, reason, attempt_counts: false } })
    }

    fn call<'a>(&'a self, address: &'a str, path: &'a str, incoming: Incoming) -> BoxFuture<'a, ()> {
        let message = format!("nothing delivers to {address}{path}");
        incoming.replies.fail(&Error::new(Code::EndpointUnreachable, address, message));
        Box::pin(async {})
    }

    fn probe<'a>(&'a self, address: &'a str, _: &'a str) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move { Err(format!("nothing asks {address}")) })
    }
}
