//! One session for each sidecar and for the hub: a connection, and a task that listens to it and tells it what there is.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use kontrol_core::{code::Code, limits::SIGNALS};
use kontrol_proto::{
    session::{self, Configuration, RESPONSE},
    v1::{self, GoAway, Hello, SessionRequest, SessionResponse, session_request, session_response},
};
use tokio::{
    io::{AsyncWriteExt, ReadHalf, WriteHalf, sink, split},
    net::TcpStream,
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_rustls::server::TlsStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Figures, Reason, listener::Peer, status::problem};
use crate::clock;

/// Configurations that may wait for one session.
const BACKLOG: usize = 64;
/// A sidecar says something each second: one that says nothing for this long is gone, or hangs.
const SILENCE: Duration = Duration::from_secs(20);
/// The time that the first message may take.
const GREETING: Duration = Duration::from_secs(5);
/// What waits for a session that ends is still written, for this long.
const FAREWELL: Duration = Duration::from_secs(1);

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
type Downward = Box<session_response::Message>;

/// The way to a sidecar. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Session {
    outbound: mpsc::Sender<Downward>,
    ended: CancellationToken,
}

impl Session {
    /// Tells it something, without waiting. A session that cannot keep up is ended: when it comes back it gets what is newest.
    pub fn tell(&self, configuration: Configuration) {
        self.send(configuration.into());
    }

    fn send(&self, message: session_response::Message) {
        if self.outbound.try_send(Box::new(message)).is_err() {
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

/// What every session shares.
#[derive(Clone)]
pub(super) struct Sessions {
    events: mpsc::Sender<Event>,
    figures: Arc<Figures>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// Why a session is refused.
struct Refused {
    reason: Reason,
    code: Code,
    subject: String,
    message: String,
}

impl Sessions {
    pub(super) fn new(events: mpsc::Sender<Event>, figures: Arc<Figures>, stop: CancellationToken) -> Self {
        Self { events, figures, stop, tasks: TaskTracker::new() }
    }

    /// Begins to serve a connection; none: whoever is there showed no certificate. What a session needs only once is boxed: there are thousands
    /// of these tasks.
    pub(super) fn begin(&self, stream: TlsStream<TcpStream>, peer: Option<Peer>) {
        let this = self.clone();
        let (mut from, mut into) = split(stream);
        self.tasks.spawn(async move {
            match Box::pin(this.greet(&mut from, peer)).await {
                Ok((hello, life)) => this.serve(from, into, hello, life).await,
                Err(Some(refused)) => {
                    let Refused { reason, code, subject, message } = *refused;
                    if this.figures.refused(reason) {
                        tracing::warn!(reason = reason.as_str(), refusal = message, "session refused");
                    }
                    Box::pin(say_goodbye((&mut from, &mut into), code, &subject, message)).await;
                }
                Err(None) => {}
            }
        });
    }

    /// Hears the first message, which must be what the certificate says; with it how long the certificate lasts. No refusal: nothing was said.
    async fn greet(
        &self,
        from: &mut ReadHalf<TlsStream<TcpStream>>,
        peer: Option<Peer>,
    ) -> Result<(Box<Hello>, Duration), Option<Box<Refused>>> {
        let Some(peer) = peer else {
            return Err(Some(Box::new(Refused {
                reason: Reason::ForeignCertificate,
                code: Code::ForeignCertificate,
                subject: String::new(),
                message: "a session is for certificates of this world's authority alone".to_owned(),
            })));
        };
        let said = tokio::select! {
            said = timeout(GREETING, session::read::<SessionRequest>(from, SIGNALS)) => said,
            () = self.stop.cancelled() => return Err(None),
        };
        let refused = |reason, message| {
            let subject = peer.subject.clone();
            Some(Box::new(Refused { reason, code: Code::SubjectMismatch, subject, message }))
        };
        let hello = match said {
            Ok(Ok(Some(SessionRequest { message: Some(session_request::Message::Hello(hello)) }))) => hello,
            Ok(Ok(Some(_)) | Err(session::Error::TooLong { .. } | session::Error::Malformed(_))) => {
                return Err(refused(Reason::Malformed, "a session starts with Hello".to_owned()));
            }
            Ok(Ok(None) | Err(session::Error::Io(_))) | Err(_) => return Err(None),
        };
        if hello.subject != peer.subject {
            let message = format!("the certificate is that of {}, not of {}", peer.subject, hello.subject);
            return Err(refused(Reason::ForeignSubject, message));
        }
        if let Some(uid) = &peer.pod_uid
            && *uid != hello.pod_uid
        {
            let message = format!("the certificate is that of the pod {uid}, not of {:?}", hello.pod_uid);
            return Err(refused(Reason::ForeignSubject, message));
        }
        Ok((Box::new(hello), peer.not_after.since(clock::now())))
    }

    async fn serve(
        self,
        mut from: ReadHalf<TlsStream<TcpStream>>,
        mut into: WriteHalf<TlsStream<TcpStream>>,
        hello: Box<Hello>,
        life: Duration,
    ) {
        let id = SessionId(SESSIONS.fetch_add(1, Ordering::Relaxed));
        let (outbound, mut responses) = mpsc::channel::<Downward>(BACKLOG);
        let ended = self.stop.child_token();
        let session = Session { outbound, ended: ended.clone() };
        let subject = hello.subject.clone();
        let opened = Event::Opened { id, hello: *hello, session: session.clone() };
        if Box::pin(self.events.send(opened)).await.is_err() {
            return;
        }
        self.figures.opened();
        let over = {
            let mut telling = std::pin::pin!(tell(&mut into, &mut responses, &ended));
            let (over, told) = tokio::select! {
                over = self.listen(&mut from, id, &subject, &session) => (over, false),
                () = &mut telling => (None, true),
                () = ended.cancelled() => (None, false),
                () = sleep(life) => {
                    let message = format!("the certificate of {subject} has expired");
                    (Some((Code::CertificateExpired, message)), false)
                }
            };
            ended.cancel();
            // Nothing is written after a message that was left in the middle.
            let whole = told || timeout(FAREWELL, telling).await.is_ok();
            over.filter(|_| whole)
        };
        match over {
            Some((code, message)) => {
                Box::pin(say_goodbye((&mut from, &mut into), code, &subject, message)).await;
            }
            None => drop(timeout(FAREWELL, into.shutdown()).await),
        }
        self.figures.closed();
        drop(self.events.send(Event::Closed { id, subject }).await);
    }

    /// Hears what it says, until it is done; then why it is over where it should be told.
    async fn listen(
        &self,
        from: &mut ReadHalf<TlsStream<TcpStream>>,
        id: SessionId,
        subject: &str,
        session: &Session,
    ) -> Option<(Code, String)> {
        loop {
            let request = match timeout(SILENCE, session::read::<SessionRequest>(from, SIGNALS)).await {
                Ok(Ok(Some(request))) => request,
                Ok(Ok(None) | Err(session::Error::Io(_))) | Err(_) => return None,
                Ok(Err(error @ session::Error::TooLong { .. })) => {
                    return Some(self.unread(Code::RequestTooLarge, subject, &error));
                }
                Ok(Err(error @ session::Error::Malformed(_))) => {
                    return Some(self.unread(Code::InvalidRequest, subject, &error));
                }
            };
            let message = match request.message {
                Some(session_request::Message::Applied(applied)) => Upward::Applied(applied),
                Some(session_request::Message::Signals(signals)) => Upward::Signals(signals),
                Some(session_request::Message::HubSignals(signals)) => Upward::Hub(signals),
                Some(session_request::Message::Ping(ping)) => {
                    session.send(session_response::Message::Pong(ping));
                    continue;
                }
                Some(session_request::Message::Hello(_)) | None => continue,
            };
            self.figures.heard();
            if self.events.send(Event::Said { id, subject: subject.to_owned(), message }).await.is_err() {
                return None;
            }
        }
    }

    fn unread(&self, code: Code, subject: &str, error: &session::Error) -> (Code, String) {
        if self.figures.refused(Reason::Malformed) {
            tracing::warn!(subject, %error, "a message was not read");
        }
        (code, error.to_string())
    }
}

/// Writes what there is to be told, until it fails or the session has ended and nothing waits.
async fn tell(
    into: &mut WriteHalf<TlsStream<TcpStream>>,
    responses: &mut mpsc::Receiver<Downward>,
    ended: &CancellationToken,
) {
    loop {
        let message = tokio::select! {
            biased;
            message = responses.recv() => message,
            () = ended.cancelled() => None,
        };
        let Some(message) = message else { return };
        let response = SessionResponse { message: Some(*message) };
        if let Err(error) = session::write(into, &response, RESPONSE).await {
            if let session::Error::TooLong { .. } = error {
                tracing::error!(%error, "a configuration cannot be told");
            }
            return;
        }
    }
}

/// Says why it is over, and ends the connection. What comes meanwhile is read and forgotten: where a connection is closed over what was not
/// read, the other side may never see the last that was written.
async fn say_goodbye(
    (from, into): (&mut ReadHalf<TlsStream<TcpStream>>, &mut WriteHalf<TlsStream<TcpStream>>),
    code: Code,
    subject: &str,
    message: String,
) {
    let go_away = GoAway { status: code.status().number(), problem: Some(problem(code, subject, message)) };
    let goodbye = SessionResponse { message: Some(session_response::Message::GoAway(go_away)) };
    let said = async {
        session::write(into, &goodbye, RESPONSE).await?;
        into.shutdown().await?;
        tokio::io::copy(from, &mut sink()).await?;
        Ok::<_, session::Error>(())
    };
    // Whoever is gone needs no goodbye.
    drop(timeout(FAREWELL, said).await);
}
