//! HTTP from a test: a client of a sidecar's door and admin pages, and a plain web service as a widget.

use std::sync::{Arc, Mutex};

use axum::{Router, body::Body, extract::State, http::StatusCode, response::Response};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

use super::{eventually, soon};

/// A response, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

fn client() -> Client<hyper_util::client::legacy::connect::HttpConnector, Full<Bytes>> {
    Client::builder(TokioExecutor::new()).build_http()
}

/// Sends a request with these headers.
pub(crate) async fn send(method: &str, url: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let response = begin(method, url, headers, body).await;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = soon("a body", response.into_body().collect()).await.unwrap().to_bytes();
    Answer { status, headers, body: String::from_utf8(body.to_vec()).unwrap() }
}

/// Reads a page.
pub(crate) async fn get(url: &str) -> Answer {
    send("GET", url, &[], "").await
}

async fn begin(
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> http::Response<hyper::body::Incoming> {
    let mut request = http::Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::from(body.to_owned())).unwrap();
    soon("a response", client().request(request)).await.unwrap()
}

/// A server-sent event.
#[derive(Debug)]
pub(crate) struct SentEvent {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) data: String,
}

/// A stream of server-sent events.
pub(crate) struct Events {
    body: hyper::body::Incoming,
    text: String,
}

impl Events {
    /// Opens the stream.
    pub(crate) async fn open(method: &str, url: &str, body: &str) -> Self {
        let response = begin(method, url, &[("accept", "text/event-stream")], body).await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()["content-type"]),
            (200, &"text/event-stream".parse().unwrap())
        );
        Self { body: response.into_body(), text: String::new() }
    }

    /// The next event; none: the stream has ended.
    pub(crate) async fn next(&mut self) -> Option<SentEvent> {
        loop {
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                let field = |name: &str| {
                    let lines = event.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
                    lines.collect::<Vec<_>>().join("\n")
                };
                let event = SentEvent { name: field("event"), id: field("id"), data: field("data") };
                if !event.name.is_empty() {
                    return Some(event);
                }
            }
            let frame = soon("an event", self.body.frame()).await?.unwrap();
            self.text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
    }
}

/// A request that the web service got.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) path: String,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: String,
}

impl Got {
    /// A header's text; empty: there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

type Answering = Arc<dyn Fn(&Got, usize) -> (u16, &'static str, String) + Send + Sync>;

#[derive(Clone)]
struct Behaviour {
    answer: Answering,
    /// Requests with this body are answered when it is true.
    patience: Option<(&'static str, watch::Receiver<bool>)>,
    got: Arc<Mutex<Vec<Got>>>,
}

/// A plain web service that knows nothing of its sidecar.
pub(crate) struct WebService {
    pub(crate) address: String,
    got: Arc<Mutex<Vec<Got>>>,
    _tasks: JoinSet<()>,
}

impl WebService {
    /// Starts it; `answer` gets each request with the number of those before it on its path, and says status, content type and body.
    pub(crate) async fn start(
        answer: impl Fn(&Got, usize) -> (u16, &'static str, String) + Send + Sync + 'static,
    ) -> Self {
        Self::behave(Arc::new(answer), None).await
    }

    /// Starts one that answers everything with 204, and requests with this body not before it is told to.
    pub(crate) async fn patient(body: &'static str) -> (Self, watch::Sender<bool>) {
        let (release, released) = watch::channel(false);
        let answer = Arc::new(|_: &Got, _| (204, "text/plain", String::new()));
        (Self::behave(answer, Some((body, released))).await, release)
    }

    async fn behave(answer: Answering, patience: Option<(&'static str, watch::Receiver<bool>)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let got: Arc<Mutex<Vec<Got>>> = Arc::default();
        let behaviour = Behaviour { answer, patience, got: Arc::clone(&got) };
        let router = Router::new().fallback(answered).with_state(behaviour);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, got, _tasks: tasks }
    }

    /// Waits until this many requests of a path came.
    pub(crate) async fn got(&self, path: &str, count: usize) -> Vec<Got> {
        eventually("requests at the widget's endpoint", || async {
            let got: Vec<_> =
                self.got.lock().unwrap().iter().filter(|got| got.path == path).cloned().collect();
            (got.len() >= count).then_some(got)
        })
        .await
    }
}

async fn answered(State(behaviour): State<Behaviour>, request: http::Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let got = Got {
        path: head.uri.path().to_owned(),
        headers: head.headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    };
    let before = {
        let mut all = behaviour.got.lock().unwrap();
        let before = all.iter().filter(|other| other.path == got.path).count();
        all.push(got.clone());
        before
    };
    if let Some((_, mut released)) = behaviour.patience.filter(|(body, _)| *body == got.body) {
        released.wait_for(|go| *go).await.unwrap();
    }
    let (status, media_type, text) = (behaviour.answer)(&got, before);
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response.headers_mut().insert("content-type", media_type.parse().unwrap());
    response
}
