//! One replica of a target: its breaker, its load, and the link to its sidecar.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use kontrol_core::{
    breaker::{Breaker, Class, Permit},
    code::Code,
    spec::BreakerPolicy,
    time::Timestamp,
};
use kontrol_proto::v1;
use tokio::{sync::mpsc, time::Instant};

use super::{
    State,
    reply::{Replying, Waiters},
};
use crate::{
    bus::announce,
    clock,
    config::{Config, Endpoint},
    link::{self, Ended, Frame, Inbound, Link, SendError},
    service::{Chunk, Error},
    shared::Shared,
};

/// How long a replica that could not be reached comes after those that can. Its breaker decides whether it is called at all.
const SUSPECT: Duration = Duration::from_secs(1);

/// See the module. Shared by `Arc`.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) instance: String,
    pub(super) address: String,
    in_flight: AtomicU32,
    was_ready: AtomicBool,
    /// The number of the last call to it; 0: none yet.
    last_call: AtomicU64,
    /// Until when the others come first: it could not be reached.
    suspect: Mutex<Timestamp>,
    breaker: Mutex<(BreakerPolicy, Breaker)>,
    link: tokio::sync::Mutex<()>,
    present: Mutex<Option<PeerLink>>,
}

#[derive(Clone, Debug)]
struct PeerLink {
    link: Link,
    waiters: Arc<Waiters>,
}

/// What arrives for a call.
pub(super) type Answer = Result<Chunk, Error>;

impl State {
    /// The replica of an endpoint; a new address is a new replica.
    pub(super) fn replica(&mut self, endpoint: &Endpoint, config: &Config, shared: &Shared) -> Arc<Replica> {
        let policy = config.resilience.breaker;
        if let Some(replica) = self.replicas.get(&endpoint.instance)
            && replica.address == endpoint.address
        {
            replica.obey(policy);
            return Arc::clone(replica);
        }
        tracing::debug!(
            instance = endpoint.instance,
            address = endpoint.address,
            of = shared.subject,
            "new replica"
        );
        let replica = Arc::new(Replica {
            instance: endpoint.instance.clone(),
            address: endpoint.address.clone(),
            in_flight: AtomicU32::new(0),
            was_ready: AtomicBool::new(endpoint.ready),
            last_call: AtomicU64::new(0),
            suspect: Mutex::new(Timestamp::ZERO),
            breaker: Mutex::new((policy, Breaker::new(policy))),
            link: tokio::sync::Mutex::default(),
            present: Mutex::default(),
        });
        self.replicas.insert(endpoint.instance.clone(), Arc::clone(&replica));
        replica
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Replica {
    fn obey(&self, policy: BreakerPolicy) {
        let mut breaker = lock(&self.breaker);
        if breaker.0 != policy {
            *breaker = (policy, Breaker::new(policy));
        }
    }

    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Whether it could not be reached just now.
    pub(super) fn is_suspect(&self, now: Timestamp) -> bool {
        *lock(&self.suspect) > now
    }

    /// The number that was last given to [`Replica::chosen`].
    pub(super) fn last_call(&self) -> u64 {
        self.last_call.load(Ordering::Relaxed)
    }

    /// It is about to be called; numbers ascend.
    pub(super) fn chosen(&self, number: u64) {
        self.last_call.store(number, Ordering::Relaxed);
    }

    /// Whether its breaker lets a call through; if not, when.
    pub(super) fn allowed(&self, now: Timestamp) -> Result<(), Duration> {
        let breaker = &mut lock(&self.breaker).1;
        if breaker.would_admit(now) {
            return Ok(());
        }
        breaker.admit(now).map_or_else(|refused| Err(refused.retry_after), |_| Ok(()))
    }

    /// What the operator says of its readiness. One that is ready anew starts with a clean record.
    pub(super) fn ready(&self, ready: bool) {
        if !self.was_ready.swap(ready, Ordering::Relaxed) && ready {
            let mut breaker = lock(&self.breaker);
            breaker.1 = Breaker::new(breaker.0);
            *lock(&self.suspect) = Timestamp::ZERO;
        }
    }

    /// Uses the present link for no further calls.
    pub(super) fn renew(&self) {
        lock(&self.present).take();
    }

    pub(super) fn state(&self, ready: bool, now: Timestamp) -> v1::EndpointState {
        let breaker = &lock(&self.breaker).1;
        v1::EndpointState {
            instance: self.instance.clone(),
            address: self.address.clone(),
            breaker: breaker.state(now).as_str().to_owned(),
            reason: breaker.reason().map(|reason| reason.to_string()).unwrap_or_default(),
            in_flight: self.in_flight(),
            ready,
        }
    }

    fn record(&self, permit: Permit, class: Class, now: Timestamp) {
        let change = lock(&self.breaker).1.record(permit, class, now);
        if let Some(change) = change {
            let reason = change.reason.map(|reason| reason.to_string());
            tracing::info!(
                instance = self.instance,
                from = change.from.as_str(),
                to = change.to.as_str(),
                reason,
                "breaker"
            );
        }
    }

    /// Sends the call and waits for its first chunk.
    pub(super) async fn call(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        frame: &mut Frame,
        deadline: Instant,
    ) -> Result<Replying, Error> {
        let admitted = lock(&self.breaker).1.admit(shared.origin.now());
        let (permit, _) = admitted.map_err(|refused| {
            let message = format!("{}: {refused}", self.instance);
            Error::new(Code::BreakerOpen, self.instance.as_str(), message).retry_after(refused.retry_after)
        })?;
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        shared.stats.calls_open.inc();
        let mut attempt =
            Attempt { replica: Arc::clone(self), permit: Some(permit), shared: Arc::clone(shared), deadline };
        let result = self.first(shared, frame, deadline).await;
        match &result {
            Ok(_) => attempt.record(Class::Success),
            Err(error) => {
                if error.code == Code::PeerUnreachable {
                    *lock(&self.suspect) = shared.origin.now().plus(SUSPECT);
                }
                attempt.record(class(error));
            }
        }
        result.map(|reply| reply.holding(attempt))
    }

    async fn first(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        frame: &mut Frame,
        deadline: Instant,
    ) -> Result<Replying, Error> {
        let PeerLink { link, waiters } = self.connected(shared).await?;
        link.room().await;
        let stream = shared.next_id();
        if let Frame::Call(call) = frame {
            let left = deadline.saturating_duration_since(clock::now()).as_millis();
            call.deadline_ms = u64::try_from(left).unwrap_or(u64::MAX).max(1);
        }
        let answers = waiters.register(stream);
        let mut reply =
            Replying::new(link.clone(), stream, answers, waiters, deadline, self.instance.clone());
        link.push(stream, frame).map_err(|error| match error {
            SendError::Closed => self.unreachable("the connection has ended"),
            SendError::Frame(error) => {
                Error::new(Code::RequestTooLarge, self.instance.as_str(), error.to_string())
            }
        })?;
        reply.first().await?;
        Ok(reply)
    }

    fn unreachable(&self, why: impl std::fmt::Display) -> Error {
        let message =
            format!("the sidecar of {} at {} cannot be reached: {why}", self.instance, self.address);
        Error::new(Code::PeerUnreachable, self.instance.as_str(), message)
    }

    async fn connected(self: &Arc<Self>, shared: &Arc<Shared>) -> Result<PeerLink, Error> {
        let present = || lock(&self.present).clone().filter(|present| !present.link.is_closed());
        if let Some(present) = present() {
            return Ok(present);
        }
        // One connects, the others wait for it.
        let _connecting = self.link.lock().await;
        if let Some(present) = present() {
            return Ok(present);
        }
        let Some(tls) = shared.identity.current() else {
            return Err(self.unreachable("this sidecar has no certificate yet"));
        };
        let handshake = link::connect(&self.address, &self.instance, &tls, shared.hello()).await.map_err(|ended| {
            match ended {
                Ended::Refused(error) if error.code == Code::ForeignCertificate => {
                    shared.stats.foreign_certificates.inc();
                    tracing::warn!(instance = self.instance, address = self.address, %error, "a foreign certificate");
                    error
                }
                Ended::RefusedByPeer(error) => error,
                Ended::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                    shared.stats.foreign_certificates.inc();
                    tracing::warn!(instance = self.instance, address = self.address, code = %Code::ForeignCertificate, %error, "the certificate is not one of this authority");
                    self.unreachable(error)
                }
                ended => self.unreachable(ended),
            }
        })?;
        let fence = shared.peek().fence(&self.instance);
        if handshake.peer.incarnation < fence {
            let message = format!(
                "{} is still incarnation {}, below {fence}",
                self.instance, handshake.peer.incarnation
            );
            return Err(self.unreachable(message));
        }
        let made = PeerLink { link: handshake.link.clone(), waiters: Arc::default() };
        *lock(&self.present) = Some(made.clone());
        let (link, mut inbound) =
            (made.link.clone(), FromPeer { waiters: Arc::clone(&made.waiters), replica: Arc::clone(self) });
        let shared_too = Arc::clone(shared);
        shared.tasks.spawn(async move {
            let ended = tokio::select! {
                ended = handshake.run(&mut inbound) => ended,
                () = announce(&link, shared_too.incarnation(), &shared_too) => Ended::Closed,
            };
            let error = match ended {
                Ended::RefusedByPeer(error) => error,
                ended => inbound.replica.unreachable(ended),
            };
            inbound.waiters.end(&error);
        });
        Ok(made)
    }
}

/// What an error says of the replica: one that says that it takes no calls at the moment has not failed.
fn class(error: &Error) -> Class {
    match error.code {
        Code::NoReadyReplica | Code::SidecarDraining | Code::StaleIncarnation => Class::Neutral,
        _ => Class::of(error.status),
    }
}

/// One attempt in flight: counts as load until the reply has ended, and gives the breaker its outcome.
#[derive(Debug)]
pub(super) struct Attempt {
    replica: Arc<Replica>,
    permit: Option<Permit>,
    shared: Arc<Shared>,
    deadline: Instant,
}

impl Attempt {
    fn record(&mut self, class: Class) {
        if let Some(permit) = self.permit.take() {
            self.replica.record(permit, class, self.shared.origin.now());
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        // Given up without an outcome: at the deadline the replica is to blame, before it the caller has changed its mind.
        let class = if clock::now() >= self.deadline { Class::Failure } else { Class::Neutral };
        self.record(class);
        self.replica.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.shared.stats.calls_open.dec();
    }
}

struct FromPeer {
    waiters: Arc<Waiters>,
    replica: Arc<Replica>,
}

impl Inbound for FromPeer {
    fn frame(&mut self, stream: u64, frame: Frame) -> Result<(), Error> {
        match frame {
            Frame::Chunk(v1::LinkChunk { sequence, r#final, datacontenttype, data }) => self.waiters.tell(
                stream,
                Ok(Chunk { sequence, last: r#final, datacontenttype, data }),
                r#final,
            ),
            Frame::Failure(v1::LinkFailure { status, problem }) => {
                self.waiters.tell(stream, Err(Error::from_wire(status, problem)), true)
            }
            other => {
                let message = format!("a frame of kind {} makes no sense to a caller", other.kind());
                Err(Error::new(Code::OutOfOrder, self.replica.instance.as_str(), message))
            }
        }
    }

    fn going_away(&mut self) {
        self.replica.renew();
    }
}

/// The calls of a link that wait for answers, by stream.
pub(super) type Answers = HashMap<u64, (mpsc::UnboundedSender<Answer>, u32)>;
