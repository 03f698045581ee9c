//! Delivery to the widget's own HTTP endpoint, so that a plain web service needs no library.
//!
//! ```text
//!   message ──► POST path, CloudEvents binary mode ──► 2xx ack · 4xx term · else nak
//!   call    ──► POST path, kontrol-* headers ──► one body, or chunks by server-sent events or lines
//!   health  ──► GET path ──► 2xx ready
//! ```
//!
//! Invariants: a widget that does not listen has had no attempt; what a status means is decided in [`verdict`] alone; a call that is
//! cancelled, or whose deadline has passed, closes its request; no reply is held that is larger than [`MAX_REPLY`].

mod call;
mod framing;
mod message;
#[cfg(test)]
mod tests;
mod verdict;

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming as Body;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use kontrol_core::{backoff, spec::Backoff};

use crate::service::{BoxFuture, Delivery, Incoming, Outcome, WidgetEndpoint, causes};

/// The largest reply or chunk that is taken from a widget, as at the doors.
pub const MAX_REPLY: usize = 4 << 20;
/// What is read of a body that says why something was refused.
const MAX_REASON: usize = 8 << 10;
/// How long a connection may take; the widget is on this machine.
const CONNECT: Duration = Duration::from_secs(2);
/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_secs(30);
/// The pauses before a widget that does not listen is tried again.
const NOT_LISTENING: Backoff = Backoff {
    initial: Duration::from_millis(50),
    max: Duration::from_secs(5),
    factor_percent: 200,
    jitter_percent: 0,
};

/// Reaches the widget over HTTP/1.1 on loopback, on connections that are kept.
#[derive(Debug)]
pub struct HttpEndpoint {
    client: Client<HttpConnector, Full<Bytes>>,
    /// Attempts in a row that found nobody listening.
    refusals: AtomicU32,
}

impl HttpEndpoint {
    /// No connection yet. Needs a runtime only when used.
    pub fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT));
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Self { client, refusals: AtomicU32::new(0) }
    }

    /// Sends a request; resolves with the head of the response.
    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Body>, Failed> {
        let sent = self.client.request(request).await;
        match sent {
            Ok(response) => {
                self.refusals.store(0, Ordering::Relaxed);
                Ok(response)
            }
            Err(error) if error.is_connect() => Err(Failed::NotListening(causes(&error))),
            Err(error) => Err(Failed::Broken(causes(&error))),
        }
    }

    /// The pause after one more attempt that found nobody listening.
    fn pause(&self) -> Duration {
        let before = self.refusals.fetch_add(1, Ordering::Relaxed);
        backoff::pause(&NOT_LISTENING, before.min(16), 0.0)
    }
}

impl Default for HttpEndpoint {
    fn default() -> Self {
        Self::new()
    }
}

impl WidgetEndpoint for HttpEndpoint {
    fn deliver<'a>(
        &'a self,
        address: &'a str,
        path: &'a str,
        delivery: &'a Delivery,
    ) -> BoxFuture<'a, Outcome> {
        Box::pin(message::deliver(self, address, path, delivery))
    }

    fn call<'a>(&'a self, address: &'a str, path: &'a str, incoming: Incoming) -> BoxFuture<'a, ()> {
        Box::pin(call::call(self, address, path, incoming))
    }

    fn probe<'a>(&'a self, address: &'a str, path: &'a str) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let request = Request::get(uri(address, path)).body(Full::default());
            let request = request.map_err(|error| format!("{path} is no path: {error}"))?;
            let response = self.send(request).await.map_err(|failed| failed.to_string())?;
            let status = response.status();
            let reason = reason(response.into_body()).await;
            match status.is_success() {
                true => Ok(()),
                false if reason.is_empty() => Err(format!("GET {path} answers {status}")),
                false => Err(format!("GET {path} answers {status}: {reason}")),
            }
        })
    }
}

/// Why there is no response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Failed {
    /// Nobody listens: nothing was sent.
    #[error("the widget does not listen: {0}")]
    NotListening(String),
    /// The connection ended before the response: the widget may have seen the request.
    #[error("the widget ended the connection before its response: {0}")]
    Broken(String),
}

fn uri(address: &str, path: &str) -> String {
    let slash = if path.starts_with('/') { "" } else { "/" };
    format!("http://{address}{slash}{path}")
}

/// A POST with `headers` before the body's own.
fn post(
    address: &str,
    path: &str,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Request<Full<Bytes>>, http::Error> {
    let mut request = Request::post(uri(address, path)).body(Full::new(body))?;
    *request.headers_mut() = headers;
    Ok(request)
}

/// A header's value from a text; characters that no header can carry are percent-encoded.
fn printable(text: &str) -> HeaderValue {
    let encoded = percent_encoding::utf8_percent_encode(text, percent_encoding::CONTROLS).to_string();
    HeaderValue::try_from(encoded).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn put(headers: &mut HeaderMap, name: &'static str, value: &str) {
    headers.insert(HeaderName::from_static(name), printable(value));
}

/// The beginning of a body as a reason for people, on one line; the `detail` of a problem where it is one.
async fn reason(body: Body) -> String {
    let Ok(body) = Limited::new(body, MAX_REASON).collect().await else { return String::new() };
    let bytes = body.to_bytes();
    let problem: Option<serde_json::Value> = serde_json::from_slice(&bytes).ok();
    let detail = problem.as_ref().and_then(|problem| problem.get("detail")?.as_str());
    let text = detail.map_or_else(|| String::from_utf8_lossy(&bytes), std::borrow::Cow::Borrowed);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(200).collect()
}
