//! The way to the API server.

use std::time::Duration;

use http_body_util::BodyExt as _;
use kube::client::Body;
use tokio::time::timeout;

use super::{
    request::{Outcome, Request},
    rights::{Asked, Rights},
};

/// An answer that takes longer is given up: whether it was done is not known then.
const PATIENCE: Duration = Duration::from_secs(15);

/// The API server's client; cheap to clone.
#[derive(Clone)]
pub struct Client {
    inner: kube::Client,
    rights: Option<Rights>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Client {
    /// Speaks through this one.
    pub fn new(inner: kube::Client) -> Self {
        Self { inner, rights: None }
    }

    /// The same, which takes note of the rights that it is refused.
    #[must_use]
    pub(super) fn noting(self, rights: Rights) -> Self {
        Self { rights: Some(rights), ..self }
    }

    fn note(&self, asked: &Asked, outcome: &Outcome) {
        if let Some(rights) = &self.rights {
            rights.note(asked, outcome);
        }
    }

    /// Sends a request and waits for its end.
    pub async fn send(&self, request: &Request) -> Outcome {
        let sent = timeout(PATIENCE, self.exchange(request)).await;
        let outcome =
            sent.unwrap_or_else(|_| Outcome::Failed(format!("no answer within {} s", PATIENCE.as_secs())));
        self.note(&Asked::of(request), &outcome);
        outcome
    }

    async fn exchange(&self, request: &Request) -> Outcome {
        let failed = |error: &dyn std::fmt::Display| Outcome::Failed(error.to_string());
        let request = match request.to_http() {
            Ok(request) => request,
            Err(error) => return failed(&error),
        };
        let response = match self.inner.send(request.map(Body::from)).await {
            Ok(response) => response,
            Err(error) => return failed(&chain(&error)),
        };
        let status = response.status().as_u16();
        let retry = response.headers().get(http::header::RETRY_AFTER);
        let retry = retry.and_then(|value| value.to_str().ok()?.parse().ok());
        match response.into_body().collect().await {
            Ok(body) => Outcome::of(status, retry, &body.to_bytes()),
            Err(error) => failed(&error),
        }
    }

    /// Opens a stream of an answer's body, where the answer is good. `asked` is what that takes.
    pub(super) async fn open(&self, asked: &Asked, uri: &str) -> Result<Body, Outcome> {
        let opened = self.stream(uri).await;
        match &opened {
            Ok(_) => self.note(asked, &Outcome::Done(String::new())),
            Err(outcome) => self.note(asked, outcome),
        }
        opened
    }

    async fn stream(&self, uri: &str) -> Result<Body, Outcome> {
        let failed = |error: &dyn std::fmt::Display| Outcome::Failed(error.to_string());
        let request = http::Request::builder()
            .uri(uri)
            .header(http::header::ACCEPT, "application/json")
            // Streams of a compressed member per event cannot be read back by every client library.
            .header(http::header::ACCEPT_ENCODING, "identity")
            .body(Body::empty())
            .map_err(|error| failed(&error))?;
        let opened = timeout(PATIENCE, self.inner.send(request)).await;
        let response = match opened {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(failed(&chain(&error))),
            Err(_) => return Err(Outcome::Failed(format!("no answer within {} s", PATIENCE.as_secs()))),
        };
        let status = response.status().as_u16();
        let retry = response.headers().get(http::header::RETRY_AFTER);
        let retry = retry.and_then(|value| value.to_str().ok()?.parse().ok());
        if (200..300).contains(&status) {
            return Ok(response.into_body());
        }
        let body = response.into_body().collect().await.map_err(|error| failed(&error))?;
        Err(match Outcome::of(status, retry, &body.to_bytes()) {
            Outcome::Failed(_) if status == 410 => Outcome::Gone("the version is too old".to_owned()),
            outcome => outcome,
        })
    }
}

/// An error with all that it came from, each said once.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        source = error.source();
    }
    text
}
