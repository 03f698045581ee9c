//! One session for each sidecar and for the hub.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use kontrol_core::code::Code;
use kontrol_proto::v1::{
    self, Hello, SessionRequest, SessionResponse, control_server::Control, session_request::Message,
};
use tokio::{sync::mpsc, time::sleep};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Response, Status, Streaming};

use super::{Figures, Reason, listener::Peer, status};
use crate::clock;

/// Configurations that may wait for one session.
const BACKLOG: usize = 64;

/// Sessions of this process so far. One counter for every server: what one has begun may outlive it for a moment, beside what the next begins.
static SESSIONS: AtomicU64 = AtomicU64::new(0);

/// Tells one session of this process from every other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u64);

/// What sessions tell the world.
#[derive(Clone, Debug)]
pub enum Event {
    /// A sidecar, or a hub, has come. Its subject is proven, and in a cluster the UID of its pod; all else is its own word.
    Opened {
        /// Which session.
        id: SessionId,
        /// Who it is and where it listens.
        hello: Hello,
        /// The way back.
        session: Session,
    },
    /// It said something.
    Said {
        /// Which session.
        id: SessionId,
        /// `<namespace>/<group>/<widget>/<ordinal>` or `hub`.
        subject: String,
        /// What.
        message: Upward,
    },
    /// The session has ended.
    Closed {
        /// Which session.
        id: SessionId,
        /// Whose it was.
        subject: String,
    },
}

/// What a session says after its first message.
#[derive(Clone, Debug)]
pub enum Upward {
    /// A configuration is in force.
    Applied(v1::Applied),
    /// What a sidecar sees of its widget.
    Signals(v1::Signals),
    /// What the hub sees of its subscriptions.
    Hub(v1::HubSignals),
}

/// What is on its way down. Boxed: a channel makes room for 32 of them, which would be most of what a session takes.
type Downward = Box<Result<SessionResponse, Status>>;

/// The way to a sidecar. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Session {
    outbound: mpsc::Sender<Downward>,
    ended: CancellationToken,
}

impl Session {
    /// Tells it something, without waiting. A session that cannot keep up is ended: when it comes back it gets what is newest.
    pub fn tell(&self, message: v1::session_response::Message) {
        if self.outbound.try_send(Box::new(Ok(SessionResponse { message: Some(message) }))).is_err() {
            self.ended.cancel();
        }
    }

    /// Ends it. Its sidecar comes back with a new one after a pause.
    pub fn end(&self) {
        self.ended.cancel();
    }
}

impl Session {
    /// A session with nobody at the other end, for a world without a network: what it is told is lost.
    pub fn unheard(number: u64) -> (SessionId, Self) {
        let (outbound, _) = mpsc::channel(BACKLOG);
        (SessionId(number), Self { outbound, ended: CancellationToken::new() })
    }
}

pub(super) struct Sessions {
    events: mpsc::Sender<Event>,
    figures: Arc<Figures>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Sessions {
    pub(super) fn new(events: mpsc::Sender<Event>, figures: Arc<Figures>, stop: CancellationToken) -> Self {
        Self { events, figures, stop, tasks: TaskTracker::new() }
    }

    fn refused(&self, reason: Reason, refusal: Status) -> Status {
        if self.figures.refused(reason) {
            tracing::warn!(reason = reason.as_str(), refusal = refusal.message(), "session refused");
        }
        refusal
    }
}

#[tonic::async_trait]
impl Control for Sessions {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<SessionResponse, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let peer = request.extensions().get::<Option<Peer>>().cloned().flatten().ok_or_else(|| {
            let message = "Control is served to certificates of this world's authority alone";
            self.refused(Reason::ForeignCertificate, status(Code::ForeignCertificate, "", message.to_owned()))
        })?;
        let mut inbound = request.into_inner();
        let Some(Message::Hello(hello)) = inbound.message().await?.and_then(|first| first.message) else {
            return Err(status(Code::SubjectMismatch, &peer.subject, "a session starts with Hello".into()));
        };
        if hello.subject != peer.subject {
            let message = format!("the certificate is that of {}, not of {}", peer.subject, hello.subject);
            let refusal = status(Code::SubjectMismatch, &peer.subject, message);
            return Err(self.refused(Reason::ForeignSubject, refusal));
        }
        if let Some(uid) = &peer.pod_uid
            && *uid != hello.pod_uid
        {
            let message = format!("the certificate is that of the pod {uid}, not of {:?}", hello.pod_uid);
            let refusal = status(Code::SubjectMismatch, &peer.subject, message);
            return Err(self.refused(Reason::ForeignSubject, refusal));
        }
        let id = SessionId(SESSIONS.fetch_add(1, Ordering::Relaxed));
        let (outbound, responses) = mpsc::channel::<Downward>(BACKLOG);
        let ended = self.stop.child_token();
        let session = Session { outbound: outbound.clone(), ended: ended.clone() };
        let subject = hello.subject.clone();
        let opened = Event::Opened { id, hello, session };
        self.events.send(opened).await.map_err(|_| Status::unavailable("the operator ends"))?;
        self.figures.opened();
        let (events, figures) = (self.events.clone(), Arc::clone(&self.figures));
        let life = peer.not_after.since(clock::now());
        self.tasks.spawn(async move {
            tokio::select! {
                () = listen(id, &subject, &mut inbound, &events, &figures) => {}
                () = ended.cancelled() => {}
                () = sleep(life) => {
                    let message = format!("the certificate of {subject} has expired");
                    drop(outbound.try_send(Box::new(Err(status(Code::CertificateExpired, &subject, message)))));
                }
            }
            figures.closed();
            drop(events.send(Event::Closed { id, subject }).await);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(responses).map(|response| *response))))
    }
}

async fn listen(
    id: SessionId,
    subject: &str,
    inbound: &mut Streaming<SessionRequest>,
    events: &mpsc::Sender<Event>,
    figures: &Figures,
) {
    while let Some(request) = inbound.next().await {
        let request = match request {
            Ok(request) => request,
            // The one refusal that is made while reading: the message is above the limit.
            Err(refusal) if refusal.code() == tonic::Code::OutOfRange => {
                if figures.refused(Reason::Malformed) {
                    tracing::warn!(subject, refusal = refusal.message(), "a message was not read");
                }
                return;
            }
            Err(_) => return,
        };
        let message = match request.message {
            Some(Message::Applied(applied)) => Upward::Applied(applied),
            Some(Message::Signals(signals)) => Upward::Signals(signals),
            Some(Message::HubSignals(signals)) => Upward::Hub(signals),
            Some(Message::Hello(_)) | None => continue,
        };
        figures.heard();
        if events.send(Event::Said { id, subject: subject.to_owned(), message }).await.is_err() {
            return;
        }
    }
}
