//! The way to the API server.

use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper_util::{
    client::legacy::{Client as Http, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use kube::client::{Body, ClientBuilder, ConfigExt as _};
use tokio::time::timeout;
use tower::{BoxError, ServiceExt as _};

use super::{
    request::{Outcome, Request},
    rights::{Asked, Rights},
};

/// An answer that takes longer is given up: whether it was done is not known then.
const PATIENCE: Duration = Duration::from_secs(15);

/// A connection that nobody has used for so long is closed. Each takes some 25 KiB, and a moment in which much is asked leaves many of them.
const IDLE: Duration = Duration::from_secs(15);

/// How an answer is wanted: whole, or of each object the metadata alone.
pub(super) const WHOLE: &str = "application/json";
/// A page of a list of metadata.
pub(super) const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
/// A watch of metadata.
pub(super) const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/// A client much as kube makes it, but that connections which nobody uses are closed: kube's keeps as many as there ever were, and so does
/// this one through a proxy. It tries nothing again, has no limit on the time of a write ([`Client::send`] has one on all of it), and
/// traces nothing.
pub fn connect(config: kube::Config) -> Result<kube::Client, kube::Error> {
    closing(config, IDLE)
}

fn closing(config: kube::Config, idle: Duration) -> Result<kube::Client, kube::Error> {
    if config.proxy_url.is_some() {
        return kube::Client::try_from(config);
    }
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    let within = config.connect_timeout.map_or(PATIENCE, |within| within.min(PATIENCE));
    // Shared by the addresses of a name.
    tcp.set_connect_timeout(Some(within));
    let connector = config.rustls_https_connector_with_connector(tcp)?.map_future(move |connecting| {
        // Whoever takes a connection and never shakes hands is given up too.
        Box::pin(async move { timeout(within, connecting).await.map_err(BoxError::from)? })
    });
    let http = Http::builder(TokioExecutor::new())
        .pool_idle_timeout(idle)
        .pool_timer(TokioTimer::new())
        .build::<_, Body>(connector);
    let service = tower::ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(ClientBuilder::new(service, config.default_namespace).build())
}

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

    /// Opens a stream of an answer's body, where the answer is good. `asked` is what that takes, `accept` how the answer is wanted.
    pub(super) async fn open(&self, asked: &Asked, uri: &str, accept: &'static str) -> Result<Body, Outcome> {
        let opened = self.stream(uri, accept).await;
        match &opened {
            Ok(_) => self.note(asked, &Outcome::Done(String::new())),
            Err(outcome) => self.note(asked, outcome),
        }
        opened
    }

    async fn stream(&self, uri: &str, accept: &'static str) -> Result<Body, Outcome> {
        let failed = |error: &dyn std::fmt::Display| Outcome::Failed(error.to_string());
        let request = http::Request::builder()
            .uri(uri)
            .header(http::header::ACCEPT, accept)
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

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    #[tokio::test]
    async fn a_server_that_never_shakes_hands_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let mut config = kube::Config::new(url.parse().unwrap());
        config.connect_timeout = Some(Duration::from_millis(50));
        let client = closing(config, IDLE).unwrap();
        let refused = client.request_text(http::Request::get("/version").body(Vec::new()).unwrap()).await;
        assert!(chain(&refused.unwrap_err()).contains("deadline has elapsed"));
    }

    #[tokio::test]
    async fn connections_that_nobody_uses_are_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let client = closing(kube::Config::new(url.parse().unwrap()), Duration::from_millis(50)).unwrap();
        let ask = || client.request_text(http::Request::get("/version").body(Vec::new()).unwrap());
        let serve = async {
            let mut open = [listener.accept().await.unwrap().0, listener.accept().await.unwrap().0];
            for stream in &mut open {
                assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
            }
            // Both are asked for before either is answered: the second is not the first once more.
            for stream in &mut open {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
            }
            for stream in &mut open {
                assert_eq!(stream.read(&mut [0; 4096]).await.unwrap(), 0, "it stays open");
            }
        };
        let (one, other, ()) = tokio::join!(ask(), ask(), serve);
        assert_eq!((one.unwrap(), other.unwrap()), ("{}".to_owned(), "{}".to_owned()));
    }
}
