//! The HTTP door: the widget's JSON API on loopback, for any language that can post a request.
//!
//! ```text
//!   POST /v1/topics/{topic}/events                                        publish
//!   GET  /v1/topics/{topic}/subscribe?subscription=NAME&credits=N         server-sent events
//!   POST /v1/subscriptions/{session}/deliveries/{delivery}/{ack|nak|progress|term}
//!   POST /v1/call/{target}/{method}                                       call; streamed by Accept
//!   POST /v1/report                                                       the widget's health and load
//!   GET  /v1/state                                                        what the sidecar knows
//! ```
//!
//! Invariants: the door translates between HTTP and [`Service`] and decides nothing; every error is `application/problem+json` (RFC 9457)
//! with a code; a client that goes away cancels what it waited for; no body is read beyond [`MAX_BODY`]; no web page gets in ([`guard`]).

mod body;
mod call;
pub(crate) mod guard;
mod problem;
mod publish;
mod reply;
mod request;
mod settle;
mod sse;
mod state;
mod subscribe;
#[cfg(test)]
mod tests;

pub use problem::Problem;

use std::{io, sync::Arc, time::Duration};

use axum::{
    Router,
    http::{Method, Uri},
    middleware,
    response::Response,
    routing::{get, post},
    serve::ListenerExt,
};
use kontrol_core::{code::Code, limits};
use tokio::net::TcpListener;

use crate::service::{Error, Service};
use subscribe::Sessions;

/// The largest body that the door takes, as at the gRPC door.
pub const MAX_BODY: usize = limits::MESSAGE;
/// How often a stream without news says that it lives, so that both sides notice when the other has gone.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What there is, for people who ask for something else.
const PATHS: [&str; 6] = [
    "POST /v1/topics/{topic}/events",
    "GET /v1/topics/{topic}/subscribe",
    "POST /v1/subscriptions/{session}/deliveries/{delivery}/{ack|nak|progress|term}",
    "POST /v1/call/{target}/{method}",
    "POST /v1/report",
    "GET /v1/state",
];

/// What every handler gets. Cheap to clone.
#[derive(Clone, Debug)]
struct Door {
    service: Service,
    sessions: Arc<Sessions>,
}

/// The door as a tower service.
pub fn router(service: Service) -> Router {
    let door = Door { service, sessions: Arc::default() };
    Router::new()
        .route("/v1/topics/{topic}/events", post(publish::publish))
        .route("/v1/topics/{topic}/subscribe", get(subscribe::subscribe))
        .route("/v1/subscriptions/{session}/deliveries/{delivery}/{outcome}", post(settle::settle))
        .route("/v1/call/{target}/{method}", post(call::call))
        .route("/v1/report", post(state::report))
        .route("/v1/state", get(state::state))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(middleware::from_fn(guard::programs_only))
        .with_state(door)
}

/// Serves the door until `drained`, and then what is open until it ends.
pub async fn serve(
    service: Service,
    listener: TcpListener,
    drained: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    // Without it, each small chunk of a stream waits for the acknowledgement of the one before.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    axum::serve(listener, router(service)).with_graceful_shutdown(drained).await
}

async fn no_such_path(method: Method, uri: Uri) -> Result<Response, Problem> {
    let message = format!("there is no {method} {}; there is: {}", uri.path(), PATHS.join(", "));
    Err(Error::new(Code::NoSuchPath, uri.path(), message).into())
}

async fn no_such_method(method: Method, uri: Uri) -> Result<Response, Problem> {
    let message = format!("{} does not take {method}; there is: {}", uri.path(), PATHS.join(", "));
    Err(Problem::from(Error::new(Code::NoSuchPath, uri.path(), message)).with_status(405))
}
