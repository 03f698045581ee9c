//! One session for each sidecar and for the hub: a connection, and a task that listens to it and tells it what there is.

use std::{
    ops::ControlFlow,
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
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, sink, split},
    sync::mpsc::{self, error::TrySendError},
    time::{error::Elapsed, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Figures, Reason, listener::Peer, status::problem};
use crate::clock;

/// Configurations that may wait for one session.
const BACKLOG: usize = 64;
/// What is waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// The time that the first message may take.
    pub(super) greeting: Duration,
    /// A sidecar says something each second: one that says nothing for this long is gone, or hangs.
    pub(super) silence: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { greeting: Duration::from_secs(5), silence: Duration::from_secs(20) }
    }
}

/// What waits for a session that ends is still written, for this long.
const FAREWELL: Duration = Duration::from_secs(1);

/// Bytes that are still read of one that was told goodbye.
const UNREAD: u64 = 4 * SIGNALS as u64;

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

/// What a session is carried by: TLS, and in tests anything else.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for S {}

/// What every session shares.
pub(super) struct Sessions {
    events: mpsc::Sender<Event>,
    figures: Arc<Figures>,
    stop: CancellationToken,
    tasks: TaskTracker,
    pub(super) patience: Patience,
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
        Self { events, figures, stop, tasks: TaskTracker::new(), patience: Patience::default() }
    }

    /// Begins to serve a connection. What a session needs only once is boxed: there are thousands of these tasks.
    pub(super) fn begin<S: Stream>(self: &Arc<Self>, stream: S, peer: Peer) {
        let this = Arc::clone(self);
        let (mut from, mut into) = split(stream);
        self.tasks.spawn(async move {
            match Box::pin(this.greet(&mut from, peer)).await {
                Ok((hello, life)) => this.serve(from, into, hello, life).await,
                Err(Some(refused)) => Box::pin(this.turn_away((&mut from, &mut into), *refused)).await,
                Err(None) => {}
            }
        });
    }

    /// Says no to whoever showed no certificate.
    pub(super) async fn refuse<S: Stream>(&self, stream: S) {
        let (mut from, mut into) = split(stream);
        let refused = Refused {
            reason: Reason::ForeignCertificate,
            code: Code::ForeignCertificate,
            subject: String::new(),
            message: "a session is for certificates of this world's authority alone".to_owned(),
        };
        self.turn_away((&mut from, &mut into), refused).await;
    }

    async fn turn_away<S: Stream>(
        &self,
        halves: (&mut ReadHalf<S>, &mut WriteHalf<S>),
        Refused { reason, code, subject, message }: Refused,
    ) {
        if self.figures.refused(reason) {
            tracing::warn!(reason = reason.as_str(), subject, refusal = message, "session refused");
        }
        say_goodbye(halves, code, &subject, message).await;
    }

    /// Waits until no session is left that was begun, for as long as they may take to end.
    pub(super) async fn ended(&self) {
        self.tasks.close();
        drop(timeout(3 * FAREWELL, self.tasks.wait()).await);
    }

    /// Hears the first message, which must be what the certificate says; with it how long the certificate lasts. No refusal: nothing was said.
    async fn greet<S: Stream>(
        &self,
        from: &mut ReadHalf<S>,
        peer: Peer,
    ) -> Result<(Box<Hello>, Duration), Option<Box<Refused>>> {
        let said = tokio::select! {
            said = timeout(self.patience.greeting, session::read::<SessionRequest>(from, SIGNALS)) => said,
            () = self.stop.cancelled() => return Err(None),
        };
        let refused = |reason, code, message| {
            Some(Box::new(Refused { reason, code, subject: peer.subject.clone(), message }))
        };
        let hello = match said {
            Ok(Ok(Some(SessionRequest { message: Some(session_request::Message::Hello(hello)) }))) => hello,
            Ok(Ok(Some(_))) => {
                let message = "a session starts with Hello".to_owned();
                return Err(refused(Reason::Malformed, Code::InvalidRequest, message));
            }
            Ok(Ok(None)) | Err(_) => return Err(None),
            Ok(Err(error)) => {
                let code = unread(&error).ok_or(None)?;
                return Err(refused(Reason::Malformed, code, error.to_string()));
            }
        };
        if hello.subject != peer.subject {
            let message = format!("the certificate is that of {}, not of {}", peer.subject, hello.subject);
            return Err(refused(Reason::ForeignSubject, Code::SubjectMismatch, message));
        }
        if let Some(uid) = &peer.pod_uid
            && *uid != hello.pod_uid
        {
            let message = format!("the certificate is that of the pod {uid}, not of {:?}", hello.pod_uid);
            return Err(refused(Reason::ForeignSubject, Code::SubjectMismatch, message));
        }
        Ok((Box::new(hello), peer.not_after.since(clock::now())))
    }

    async fn serve<S: Stream>(
        &self,
        mut from: ReadHalf<S>,
        mut into: WriteHalf<S>,
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
                failed = &mut telling => (failed, true),
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
                if self.figures.may_say() {
                    tracing::warn!(subject, code = code.as_str(), reason = message, "a session ends");
                }
                Box::pin(say_goodbye((&mut from, &mut into), code, &subject, message)).await;
            }
            None => drop(timeout(FAREWELL, into.shutdown()).await),
        }
        self.figures.closed();
        drop(Box::pin(self.events.send(Event::Closed { id, subject })).await);
    }

    /// Hears what it says, until it is done; then why it is over where it should be told.
    async fn listen<S: Stream>(
        &self,
        from: &mut ReadHalf<S>,
        id: SessionId,
        subject: &str,
        session: &Session,
    ) -> Option<(Code, String)> {
        loop {
            let said = timeout(self.patience.silence, session::read::<SessionRequest>(from, SIGNALS)).await;
            match self.heard(said, id, subject, session) {
                ControlFlow::Continue(None) => {}
                // The world is busy.
                ControlFlow::Continue(Some(waits)) => Box::pin(self.events.send(*waits)).await.ok()?,
                ControlFlow::Break(over) => return over,
            }
        }
    }

    /// Passes on what was said, and gives what has to wait for that. A session waits for its next message nearly always: what it does with
    /// one takes no room in its task.
    fn heard(
        &self,
        said: Result<Result<Option<SessionRequest>, session::Error>, Elapsed>,
        id: SessionId,
        subject: &str,
        session: &Session,
    ) -> ControlFlow<Option<(Code, String)>, Option<Box<Event>>> {
        let request = match said {
            Ok(Ok(Some(request))) => request,
            Ok(Ok(None)) => return ControlFlow::Break(None),
            Ok(Err(error)) => {
                let over = unread(&error).map(|code| (code, error.to_string()));
                if over.is_some() {
                    self.figures.refused(Reason::Malformed);
                }
                return ControlFlow::Break(over);
            }
            Err(_) => {
                let message = format!("{subject} has said nothing for {:?}", self.patience.silence);
                return ControlFlow::Break(Some((Code::ControlUnavailable, message)));
            }
        };
        let message = match request.message {
            Some(session_request::Message::Applied(applied)) => Upward::Applied(applied),
            Some(session_request::Message::Signals(signals)) => Upward::Signals(signals),
            Some(session_request::Message::HubSignals(signals)) => Upward::Hub(signals),
            Some(session_request::Message::Ping(ping)) => {
                session.send(session_response::Message::Pong(ping));
                return ControlFlow::Continue(None);
            }
            Some(session_request::Message::Hello(_)) | None => return ControlFlow::Continue(None),
        };
        self.figures.heard();
        match self.events.try_send(Event::Said { id, subject: subject.to_owned(), message }) {
            Ok(()) => ControlFlow::Continue(None),
            Err(TrySendError::Full(waits)) => ControlFlow::Continue(Some(Box::new(waits))),
            Err(TrySendError::Closed(_)) => ControlFlow::Break(None),
        }
    }
}

/// What a message that was not read is refused with; none: the connection has failed.
fn unread(error: &session::Error) -> Option<Code> {
    match error {
        session::Error::TooLong { .. } => Some(Code::RequestTooLarge),
        session::Error::Malformed(_) => Some(Code::InvalidRequest),
        session::Error::Io(_) => None,
    }
}

/// Writes what there is to be told, until the session has ended and nothing waits, or it fails; then why, where it should be told.
async fn tell<S: Stream>(
    into: &mut WriteHalf<S>,
    responses: &mut mpsc::Receiver<Downward>,
    ended: &CancellationToken,
) -> Option<(Code, String)> {
    loop {
        let message = tokio::select! {
            biased;
            message = responses.recv() => message,
            () = ended.cancelled() => None,
        };
        let frame = session::frame(&SessionResponse { message: Some(*message?) }, RESPONSE);
        match frame {
            Ok(frame) => session::write_frame(into, frame).await.ok()?,
            Err(error) => return Some((Code::MessageTooLarge, format!("its configuration: {error}"))),
        }
    }
}

/// Says why it is over, and ends the connection. What comes meanwhile is read and forgotten: where a connection is closed over what was not
/// read, the other side may never see the last that was written.
async fn say_goodbye<S: Stream>(
    (from, into): (&mut ReadHalf<S>, &mut WriteHalf<S>),
    code: Code,
    subject: &str,
    message: String,
) {
    let go_away = GoAway { status: code.status().number(), problem: Some(problem(code, subject, message)) };
    let goodbye = SessionResponse { message: Some(session_response::Message::GoAway(go_away)) };
    let said = async {
        session::write(into, &goodbye, RESPONSE).await?;
        into.shutdown().await?;
        tokio::io::copy(&mut from.take(UNREAD), &mut sink()).await?;
        Ok::<_, session::Error>(())
    };
    // Whoever is gone needs no goodbye.
    drop(timeout(FAREWELL, said).await);
}
