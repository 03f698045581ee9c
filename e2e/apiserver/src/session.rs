//! One process that speaks to the server, with its faults, its calls and its watches.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::stream;
use http::{Request as HttpRequest, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use kube::client::{ClientBuilder, retry::RetryPolicy};
use serde_json::json;
use tokio::time::Instant;
use tower::{BoxError, retry::RetryLayer};

use crate::{
    failure::Failure,
    fault::{Call, Fault, Faults, none},
    request::{Request, bound},
    server::ApiServer,
    state::Answer,
    watch::Watch,
};

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// One process that speaks to the server. Clones are the same process.
#[derive(Clone)]
pub struct Session {
    server: ApiServer,
    user: Arc<str>,
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    faults: Faults,
    calls: Vec<Call>,
    writes: usize,
    cut: bool,
    /// Up to which version it sees a resource, or all (`*`).
    holds: BTreeMap<String, u64>,
    /// How often its watches were ended, and whether the last time in the middle of a line.
    drops: u64,
    broken: bool,
    watching: usize,
}

impl Session {
    pub(crate) fn new(server: ApiServer, user: &str) -> Self {
        let inner = Inner {
            faults: none(),
            calls: Vec::new(),
            writes: 0,
            cut: false,
            holds: BTreeMap::new(),
            drops: 0,
            broken: false,
            watching: 0,
        };
        Self { server, user: user.into(), inner: Arc::new(Mutex::new(inner)) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client with the retries that kube's own clients have.
    pub fn client(&self) -> kube::Client {
        let session = self.clone();
        let service = tower::service_fn(move |request: HttpRequest<kube::client::Body>| {
            let session = session.clone();
            async move { session.serve(request.map(BodyExt::boxed_unsync)).await.map_err(BoxError::from) }
        });
        ClientBuilder::new(service, "default").with_layer(&RetryLayer::new(RetryPolicy::default())).build()
    }

    /// A client that never tries again by itself.
    pub fn plain_client(&self) -> kube::Client {
        let session = self.clone();
        let service = tower::service_fn(move |request: HttpRequest<kube::client::Body>| {
            let session = session.clone();
            async move { session.serve(request.map(BodyExt::boxed_unsync)).await.map_err(BoxError::from) }
        });
        kube::Client::new(service, "default")
    }

    /// Decides from here on what becomes of each call.
    pub fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// Every call so far.
    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    /// How many of them were writes.
    pub fn writes(&self) -> usize {
        self.lock().writes
    }

    /// How many watches are open.
    pub fn watching(&self) -> usize {
        self.lock().watching
    }

    /// Ends the process, as far as the server can tell: its watches break, and no call reaches the server again.
    pub fn cut(&self) {
        self.lock().cut = true;
        self.server.wake();
    }

    /// Whether it was cut, by the test or by [`Fault::Crash`].
    pub fn is_cut(&self) -> bool {
        self.lock().cut
    }

    /// Waits until it is cut, for at most `limit` of tokio's time. `false`: it was not.
    pub async fn until_cut(&self, limit: Duration) -> bool {
        self.server.until(limit, |_| self.is_cut()).await
    }

    /// Stops the clock of its watches, and of lists that may be old, for a resource or for all (`*`).
    pub fn hold(&self, resource: &str) {
        let version = self.server.version();
        self.hold_at(resource, version);
    }

    /// As [`Self::hold`], at a version of the past: a process that starts so reads from a server that lags behind.
    pub fn hold_at(&self, resource: &str, version: u64) {
        self.lock().holds.insert(resource.to_owned(), version);
    }

    /// Lets it see everything again.
    pub fn release(&self) {
        self.lock().holds.clear();
        self.server.wake();
    }

    /// Ends all its watches: between two events, or with `broken` in the middle of a line.
    pub fn drop_watches(&self, broken: bool) {
        let mut inner = self.lock();
        inner.drops += 1;
        inner.broken = broken;
        drop(inner);
        self.server.wake();
    }

    /// Answers one request.
    pub(crate) async fn serve(
        &self,
        request: HttpRequest<UnsyncBoxBody<Bytes, impl std::fmt::Display>>,
    ) -> io::Result<Response<Body>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(|error| io::Error::other(error.to_string()))?.to_bytes();
        let token = head.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = token.and_then(|value| value.strip_prefix("Bearer ")).map(str::to_owned);
        let user = match token {
            Some(token) => match self.server.lock().user_of(&token, self.server.now()) {
                Ok(user) => user,
                Err(failure) => return Ok(refused(&failure, None)),
            },
            None => self.user.to_string(),
        };
        let mut request = Request::read(&head, &user, body);
        let fault = self.note(&mut request)?;
        let injected = || Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", "Internal error occurred: injected");
        match &fault {
            Some(Fault::Conflict) => {
                let name = request.path.last().cloned().unwrap_or_default();
                return Ok(refused(&Failure::modified("object", &name), None));
            }
            Some(Fault::TooMany(seconds)) => {
                let why = "the server has received too many requests and has asked us to try again later";
                let failure = Failure::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", why)
                    .with(json!({"retryAfterSeconds": seconds}));
                return Ok(refused(&failure, Some(*seconds)));
            }
            Some(Fault::ErrorBefore) => return Ok(refused(&injected(), None)),
            Some(Fault::LostBefore) => return Err(lost()),
            Some(Fault::Slow(time)) => tokio::time::sleep(*time).await,
            _ => {}
        }
        if self.is_cut() {
            return Err(lost());
        }
        let answer = {
            let now = self.server.now();
            self.server.lock().handle(&request, now)
        };
        self.server.wake();
        match fault {
            Some(Fault::ErrorAfter) => return Ok(refused(&injected(), None)),
            Some(Fault::LostAfter) => return Err(lost()),
            Some(Fault::Crash) => {
                self.cut();
                return Err(lost());
            }
            _ => {}
        }
        match answer {
            Ok(Answer::Json(code, value)) => Ok(plain(code, "application/json", value.to_string())),
            Ok(Answer::Text(code, text)) => Ok(plain(code, "text/plain", text)),
            Ok(Answer::Watch(watch)) => Ok(self.stream(*watch)),
            Err(failure) => Ok(refused(&failure, None)),
        }
    }

    /// Counts a call, and says what becomes of it.
    fn note(&self, request: &mut Request) -> io::Result<Option<Fault>> {
        let target = self.server.lock().target(request).ok().flatten();
        let mut inner = self.lock();
        if inner.cut {
            return Err(lost());
        }
        request.holds = inner.holds.clone();
        let mut call = Call {
            index: inner.calls.len(),
            writes: inner.writes,
            verb: "get",
            resource: format!("/{}", request.path.join("/")),
            subresource: String::new(),
            namespace: String::new(),
            name: String::new(),
        };
        if let Some(target) = target {
            call.verb = target.verb(request);
            call.resource = target.resource.id();
            call.subresource = target.sub().to_owned();
            call.namespace = target.namespace;
            call.name = target.name.unwrap_or_default();
            if call.verb == "create" && call.name.is_empty() {
                let body = request.json().unwrap_or_default();
                call.name = body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            }
        }
        let fault = (inner.faults)(&call);
        inner.writes += usize::from(call.is_write());
        inner.calls.push(call);
        Ok(fault)
    }

    fn stream(&self, watch: Watch) -> Response<Body> {
        let drops = {
            let mut inner = self.lock();
            inner.watching += 1;
            inner.drops
        };
        #[allow(clippy::disallowed_methods, reason = "tokio's time, which a test may pause")]
        let end = Instant::now() + Duration::from_secs(watch.timeout);
        let open = Open { session: self.clone(), watch, drops, end, over: false, bookmark: None };
        let frames = stream::unfold(open, |mut open| async move {
            let next = open.next().await?;
            Some((next.map(Frame::data), open))
        });
        let body = BodyExt::boxed_unsync(StreamBody::new(frames));
        let mut response = Response::new(body);
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
        response
    }
}

/// A watch on its way to a client.
struct Open {
    session: Session,
    watch: Watch,
    drops: u64,
    end: Instant,
    over: bool,
    bookmark: Option<Instant>,
}

/// How often a quiet watch says where it stands.
const BOOKMARK: Duration = Duration::from_secs(60);

impl Open {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        let mut pulse = self.session.server.pulse();
        loop {
            if self.over {
                return None;
            }
            if let Some(failure) = self.watch.expired.take() {
                self.over = true;
                return Some(Ok(Watch::error(&failure).into()));
            }
            pulse.mark_unchanged();
            let (holds, cut, dropped, broken) = {
                let inner = self.session.lock();
                (inner.holds.clone(), inner.cut, inner.drops != self.drops, inner.broken)
            };
            if cut || (dropped && broken) {
                self.over = true;
                return Some(Err(io::Error::from(io::ErrorKind::ConnectionReset)));
            }
            if dropped {
                return None;
            }
            let lines = {
                let state = self.session.server.lock();
                let seen = bound(&holds, &self.watch.resource.id(), state.version);
                self.watch.due(&state, seen)
            };
            if !lines.is_empty() {
                return Some(Ok(lines.concat().into()));
            }
            #[allow(clippy::disallowed_methods, reason = "tokio's time, which a test may pause")]
            let told = *self.bookmark.get_or_insert_with(|| Instant::now() + BOOKMARK);
            tokio::select! {
                biased;
                changed = pulse.changed() => if changed.is_err() { return None },
                () = tokio::time::sleep_until(self.end) => return None,
                () = tokio::time::sleep_until(told), if self.watch.bookmarks => {
                    self.bookmark = None;
                    if !self.watch.snapshot {
                        return Some(Ok(self.watch.bookmark(&json!({})).into()));
                    }
                }
            }
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut inner = self.session.lock();
        inner.watching = inner.watching.saturating_sub(1);
    }
}

fn lost() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "connection closed before message completed")
}

fn plain(code: StatusCode, kind: &'static str, text: String) -> Response<Body> {
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

fn refused(failure: &Failure, retry_after: Option<u64>) -> Response<Body> {
    let code = StatusCode::from_u16(failure.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = plain(code, "application/json", failure.status().to_string());
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from(seconds));
    }
    response
}
