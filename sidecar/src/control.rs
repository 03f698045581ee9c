//! The session with the operator: configuration down, signals up. It comes back by itself; meanwhile the last configuration holds.

mod signals;
mod taking;
mod wire;

use std::{convert::Infallible, future::Future, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use kontrol_core::code::Code;
use kontrol_proto::{
    session::Configuration,
    v1::{self, session_request},
};
use taking::Taking;
use tokio::time::{Instant, sleep, sleep_until};
pub use wire::Wire;

use crate::{
    clock,
    config::Store,
    health::Health,
    identity::{Identity, Tls},
    peers::Peers,
    service::Error,
    shared::{Count, Shared},
    wrapped::Wrapped,
};

/// The least time between two signals, and the longest.
const PACE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// The least time before a signal that the operator waits for: a start in order waits for each verdict on health.
const URGENT: Duration = Duration::from_millis(2);
/// The first and the longest pause between sessions. Each is drawn anew below its bound (full jitter): where an operator ends, all its sidecars
/// come back to the next one, and not at the same moment.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// One side of the control session: a sidecar, or the hub.
pub trait Role: Send + Sync + 'static {
    /// The first message.
    fn hello(&self) -> v1::Hello;

    /// Takes what the operator sends; the answer, if there is one. It may be given up in the middle when the session ends.
    fn take(
        &self,
        configuration: Configuration,
    ) -> impl Future<Output = Option<session_request::Message>> + Send;

    /// What is seen now; in several messages where it is more than one may hold.
    fn signals(&self) -> Vec<session_request::Message>;

    /// Waits until signals are worth sending at once.
    fn touched(&self) -> impl Future<Output = ()> + Send;

    /// Waits until there is something in the signals that the operator waits for.
    fn alarmed(&self) -> impl Future<Output = ()> + Send;

    /// A session began (true) or ended.
    fn connected(&self, connected: bool);
}

/// Keeps a session for as long as it is polled.
pub async fn run<R: Role>(role: Arc<R>, address: String, mut identity: Identity) {
    let mut pause = PAUSE.0;
    loop {
        let Some(tls) = identity.ready().await else { return };
        let began = clock::now();
        let Err(error) = keep(&*role, &address, &tls, &mut identity).await;
        if began.elapsed() > PAUSE.1 {
            pause = PAUSE.0;
        }
        if pause == PAUSE.0 {
            tracing::warn!(operator = address, code = %error.code, %error, "no session with the operator");
        }
        sleep(clock::jitter(Duration::ZERO, pause)).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// Keeps a session until it is lost. With a new certificate another one is opened beside it, which then takes its place: the operator
/// is never without one.
async fn keep<R: Role>(
    role: &R,
    address: &str,
    tls: &Tls,
    identity: &mut Identity,
) -> Result<Infallible, Error> {
    let mut session = Wire::open(address, tls.control(), tls.trust(), role.hello()).await?;
    role.connected(true);
    let _connected = Connected(role);
    tracing::info!(operator = address, "session with the operator");
    // What is seen at the start is worth telling at once.
    let (mut last, mut pace) = (None::<Instant>, PACE.0);
    let mut taking = Taking::new(role);
    let mut successor: Option<BoxFuture<'_, Result<Wire, Error>>> = None;
    loop {
        let silent_at = session.silent_at();
        let due = last.map_or_else(clock::now, |last| last + pace);
        tokio::select! {
            // What was said before a silence ended counts.
            biased;
            answer = taking.answer() => session.say(answer).await?,
            configuration = session.hear() => taking.begin(configuration?),
            () = sleep_until(silent_at) => session.ask().await?,
            () = role.alarmed(), if pace > URGENT => pace = URGENT,
            () = role.touched(), if pace > PACE.0 => pace = PACE.0,
            () = sleep_until(due) => {
                (last, pace) = (Some(clock::now()), PACE.1);
                for seen in role.signals() {
                    session.say(seen).await?;
                }
            }
            () = identity.renewed() => {
                let Some(tls) = identity.current() else { continue };
                successor = Some(async move { Wire::open(address, tls.control(), tls.trust(), role.hello()).await }.boxed());
            }
            opened = async {
                match &mut successor {
                    Some(opening) => opening.await,
                    None => std::future::pending().await,
                }
            } => {
                successor = None;
                match opened {
                    Ok(opened) => {
                        (session, last, pace) = (opened, None, PACE.0);
                        tracing::info!(operator = address, "session with the operator, with the new certificate");
                    }
                    // The old session goes on until its certificate ends; the next one is made with the new one then.
                    Err(error) => tracing::warn!(operator = address, code = %error.code, %error, "no session with the new certificate yet"),
                }
            }
        }
    }
}

struct Connected<'a, R: Role>(&'a R);

impl<R: Role> Drop for Connected<'_, R> {
    fn drop(&mut self) {
        self.0.connected(false);
    }
}

/// A sidecar's side of the session.
#[derive(Debug)]
pub struct SidecarRole {
    /// What it shares.
    pub shared: Arc<Shared>,
    /// The widget's health.
    pub health: Arc<Health>,
    /// The breakers.
    pub peers: Arc<Peers>,
    /// Where configurations are kept.
    pub store: Store,
    /// Where it listens.
    pub addresses: Addresses,
    /// Where it runs.
    pub place: Place,
    /// The shim of a wrapped container.
    pub shim: Arc<Wrapped>,
}

/// The pod and the node that a process runs in; empty in a local world.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// The node.
    pub node: String,
    /// The pod's name.
    pub pod: String,
    /// The pod's UID.
    pub pod_uid: String,
}

impl Place {
    /// A first message with all that the place says.
    pub fn hello(&self, subject: String) -> v1::Hello {
        let Self { node, pod, pod_uid } = self.clone();
        let version = env!("CARGO_PKG_VERSION").to_owned();
        v1::Hello { subject, pid: std::process::id(), node, pod, pod_uid, version, ..v1::Hello::default() }
    }
}

/// Where a sidecar listens.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    /// For other sidecars, `host:port`.
    pub peer: String,
    /// The gRPC door.
    pub grpc: String,
    /// The HTTP door.
    pub http: String,
    /// Metrics and health.
    pub admin: String,
    /// The Unix socket.
    pub socket: String,
}

impl SidecarRole {
    async fn configure(&self, wire: v1::SidecarConfig) -> Option<session_request::Message> {
        let (version, incarnation) = (wire.version, wire.incarnation);
        if !self.shared.apply(wire.clone().into()) {
            tracing::warn!(version, incarnation, code = %Code::StaleIncarnation, "a configuration of an older incarnation is ignored");
            return None;
        }
        // Only what is in force: a restart never goes back to an older incarnation.
        if let Err(error) = self.store.save(&wire) {
            tracing::warn!(%error, "the configuration could not be kept on disk");
        }
        tracing::info!(version, incarnation, "configuration in force");
        // Links announce a new incarnation before the operator raises the fence on the word that it is applied.
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
        Some(session_request::Message::Applied(v1::Applied { version, incarnation }))
    }
}

impl Role for SidecarRole {
    fn hello(&self) -> v1::Hello {
        let Addresses { peer, grpc, http, admin, socket } = self.addresses.clone();
        let incarnation = *self.shared.incarnation().borrow();
        let hello = self.place.hello(self.shared.subject.clone());
        v1::Hello { incarnation, peer, grpc, http, admin, socket, ..hello }
    }

    async fn take(&self, configuration: Configuration) -> Option<session_request::Message> {
        match configuration {
            Configuration::Sidecar(config) => self.configure(*config).await,
            Configuration::Hub(_) => {
                tracing::warn!("a configuration for a hub came to a sidecar");
                None
            }
        }
    }

    fn signals(&self) -> Vec<session_request::Message> {
        let seen = signals::of(&self.shared, &self.health, &self.peers, &self.shim);
        vec![session_request::Message::Signals(seen)]
    }

    async fn touched(&self) {
        self.shared.touched().await;
    }

    async fn alarmed(&self) {
        self.shared.alarmed().await;
    }

    fn connected(&self, connected: bool) {
        let stats = &self.shared.stats;
        stats.control_connected.set(connected.into());
        if connected {
            Count::inc(&stats.control_connects);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::NoEndpoint;

    #[tokio::test]
    async fn a_configuration_of_an_older_incarnation_is_not_kept_for_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let (_certificates, identity) = Identity::new();
        let shared = Arc::new(Shared::new("default/shop/shop/0".parse().unwrap(), identity));
        let role = SidecarRole {
            health: Health::new(Arc::clone(&shared), Arc::new(NoEndpoint)),
            peers: Peers::new(Arc::clone(&shared)),
            store: Store::new(folder.path().to_owned()).unwrap(),
            addresses: Addresses::default(),
            place: Place::default(),
            shim: Wrapped::new(Arc::clone(&shared)),
            shared,
        };
        let config = |version, incarnation| {
            let config = v1::SidecarConfig { version, incarnation, ..Default::default() };
            Configuration::Sidecar(config.into())
        };
        let applied = session_request::Message::Applied(v1::Applied { version: 1, incarnation: 2 });
        assert_eq!(role.take(config(1, 2)).await, Some(applied));
        assert_eq!(role.take(config(2, 1)).await, None);
        let kept = role.store.load().unwrap();
        assert_eq!((kept.version, kept.incarnation), (1, 2));
    }
}
