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

/// An answer without a runtime: the code, the seconds of `Retry-After`, and the body.
pub type Answered = (u16, Option<u64>, Vec<u8>);

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
        let outcome = match self.enter(&head, body) {
            Ok((request, fault)) => {
                if let Some(Fault::Slow(time)) = fault {
                    tokio::time::sleep(time).await;
                }
                self.carry_out(&request, fault.as_ref())
            }
            Err(outcome) => *outcome,
        };
        match outcome {
            Outcome::Done(Answer::Json(code, value)) => {
                Ok(plain(code, "application/json", value.to_string()))
            }
            Outcome::Done(Answer::Text(code, text)) => Ok(plain(code, "text/plain", text)),
            Outcome::Done(Answer::Watch(watch)) => Ok(self.stream(*watch)),
            Outcome::Refused(failure, after) => Ok(refused(&failure, after)),
            Outcome::Lost => Err(lost()),
        }
    }

    /// Answers one request at once, without a runtime: the code, the seconds of `Retry-After`, and the body. `None`: the connection broke.
    /// A call that is slow is not, here.
    pub fn ask(&self, request: HttpRequest<Vec<u8>>) -> Option<Answered> {
        match self.outcome(request) {
            Outcome::Done(Answer::Json(code, value)) => {
                Some((code.as_u16(), None, value.to_string().into_bytes()))
            }
            Outcome::Done(Answer::Text(code, text)) => Some((code.as_u16(), None, text.into_bytes())),
            Outcome::Refused(failure, after) => {
                Some((failure.code, after, failure.status().to_string().into_bytes()))
            }
            Outcome::Done(Answer::Watch(_)) | Outcome::Lost => None,
        }
    }

    /// Opens a watch without a runtime. The error is as [`Self::ask`] answers.
    pub fn follow(&self, request: HttpRequest<Vec<u8>>) -> Result<Following, Option<Answered>> {
        match self.outcome(request) {
            Outcome::Done(Answer::Watch(watch)) => Ok(Following { open: self.open(*watch) }),
            Outcome::Refused(failure, after) => {
                Err(Some((failure.code, after, failure.status().to_string().into_bytes())))
            }
            Outcome::Done(_) | Outcome::Lost => Err(None),
        }
    }

    fn outcome(&self, request: HttpRequest<Vec<u8>>) -> Outcome {
        let (head, body) = request.into_parts();
        match self.enter(&head, body.into()) {
            Ok((request, fault)) => self.carry_out(&request, fault.as_ref()),
            Err(outcome) => *outcome,
        }
    }

    /// Reads and counts a call, and says what becomes of it.
    fn enter(
        &self,
        head: &http::request::Parts,
        body: Bytes,
    ) -> Result<(Request, Option<Fault>), Box<Outcome>> {
        let token = head.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let user = match token.and_then(|value| value.strip_prefix("Bearer ")) {
            Some(token) => {
                let now = self.server.now();
                let user = self.server.lock().user_of(token, now);
                user.map_err(|failure| Box::new(Outcome::Refused(failure, None)))?
            }
            None => self.user.to_string(),
        };
        let mut request = Request::read(head, &user, body);
        let fault = self.note(&mut request).map_err(|_| Box::new(Outcome::Lost))?;
        Ok((request, fault))
    }

    fn carry_out(&self, request: &Request, fault: Option<&Fault>) -> Outcome {
        let injected = || {
            let why = "Internal error occurred: injected";
            Outcome::Refused(Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", why), None)
        };
        match fault {
            Some(Fault::Conflict) => {
                let name = request.path.last().cloned().unwrap_or_default();
                return Outcome::Refused(Failure::modified("object", &name), None);
            }
            Some(Fault::TooMany(seconds)) => {
                let why = "the server has received too many requests and has asked us to try again later";
                let failure = Failure::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", why)
                    .with(json!({"retryAfterSeconds": seconds}));
                return Outcome::Refused(failure, Some(*seconds));
            }
            Some(Fault::ErrorBefore) => return injected(),
            Some(Fault::LostBefore) => return Outcome::Lost,
            _ => {}
        }
        if self.is_cut() {
            return Outcome::Lost;
        }
        let answer = {
            let now = self.server.now();
            self.server.lock().handle(request, now)
        };
        self.server.wake();
        match fault {
            Some(Fault::ErrorAfter) => return injected(),
            Some(Fault::LostAfter) => return Outcome::Lost,
            Some(Fault::Crash) => {
                self.cut();
                return Outcome::Lost;
            }
            _ => {}
        }
        match answer {
            Ok(answer) => Outcome::Done(answer),
            Err(failure) => Outcome::Refused(failure, None),
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
            target.sub().clone_into(&mut call.subresource);
            call.namespace = target.namespace;
            call.name = target.name.unwrap_or_default();
            if call.verb == "create" && call.name.is_empty() {
                let body = request.json().unwrap_or_default();
                body["metadata"]["name"].as_str().unwrap_or_default().clone_into(&mut call.name);
            }
        }
        let fault = (inner.faults)(&call);
        inner.writes += usize::from(call.is_write());
        inner.calls.push(call);
        Ok(fault)
    }

    fn open(&self, watch: Watch) -> Open {
        let mut inner = self.lock();
        inner.watching += 1;
        Open { session: self.clone(), watch, drops: inner.drops, over: false }
    }

    fn stream(&self, watch: Watch) -> Response<Body> {
        #[allow(clippy::disallowed_methods, reason = "tokio's time, which a test may pause")]
        let end = Instant::now() + Duration::from_secs(watch.timeout);
        let open = Live { open: self.open(watch), end, bookmark: None };
        let frames = stream::unfold(open, |mut open| async move {
            let next = open.next().await?;
            Some((next.map(Frame::data), open))
        });
        let body = BodyExt::boxed_unsync(StreamBody::new(frames));
        let mut response = Response::new(body);
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
        response
    }
}

/// What becomes of a call.
enum Outcome {
    Done(Answer),
    Refused(Failure, Option<u64>),
    /// The connection broke.
    Lost,
}

/// A watch on its way to a client.
struct Open {
    session: Session,
    watch: Watch,
    drops: u64,
    over: bool,
}

/// What a watch says at a moment.
enum Says {
    Lines(String),
    Nothing,
    /// It has ended, between two lines or in the middle of one.
    Ended {
        broken: bool,
    },
}

impl Open {
    fn says(&mut self) -> Says {
        if self.over {
            return Says::Ended { broken: false };
        }
        if let Some(failure) = self.watch.expired.take() {
            self.over = true;
            return Says::Lines(Watch::error(&failure));
        }
        let (holds, broken, dropped) = {
            let inner = self.session.lock();
            let dropped = inner.drops != self.drops;
            (inner.holds.clone(), inner.cut || (dropped && inner.broken), dropped)
        };
        if broken || dropped {
            self.over = true;
            return Says::Ended { broken };
        }
        let state = self.session.server.lock();
        let seen = bound(&holds, &self.watch.resource.id(), state.version);
        let lines = self.watch.due(&state, seen);
        if lines.is_empty() { Says::Nothing } else { Says::Lines(lines.concat()) }
    }
}

/// A watch that is asked for what it has to say.
pub struct Following {
    open: Open,
}

impl Following {
    /// The lines that came since. `None`: it has ended.
    pub fn lines(&mut self) -> Option<Vec<String>> {
        match self.open.says() {
            Says::Lines(text) => Some(text.lines().map(str::to_owned).collect()),
            Says::Nothing => Some(Vec::new()),
            Says::Ended { .. } => None,
        }
    }
}

/// A watch that goes on by itself.
struct Live {
    open: Open,
    end: Instant,
    bookmark: Option<Instant>,
}

/// How often a quiet watch says where it stands.
const BOOKMARK: Duration = Duration::from_mins(1);

impl Live {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        let mut pulse = self.open.session.server.pulse();
        loop {
            pulse.mark_unchanged();
            match self.open.says() {
                Says::Lines(text) => return Some(Ok(text.into())),
                Says::Ended { broken: true } => {
                    return Some(Err(io::Error::from(io::ErrorKind::ConnectionReset)));
                }
                Says::Ended { broken: false } => return None,
                Says::Nothing => {}
            }
            #[allow(clippy::disallowed_methods, reason = "tokio's time, which a test may pause")]
            let told = *self.bookmark.get_or_insert_with(|| Instant::now() + BOOKMARK);
            tokio::select! {
                biased;
                changed = pulse.changed() => if changed.is_err() { return None },
                () = tokio::time::sleep_until(self.end) => return None,
                () = tokio::time::sleep_until(told), if self.open.watch.bookmarks => {
                    self.bookmark = None;
                    if !self.open.watch.snapshot {
                        return Some(Ok(self.open.watch.bookmark(&json!({})).into()));
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
