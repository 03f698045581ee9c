//! A sidecar put together: its listeners, its tasks, and its way out.

use std::{future::Future, io, path::PathBuf, sync::Arc, time::Duration};

use futures::FutureExt;
use kontrol_core::{id::InstanceId, trust::TrustDomain};
use tokio::{
    net::{TcpListener, UnixListener},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    admin,
    bus::Bus,
    clock,
    config::Store,
    consuming::Consuming,
    control::{self, Addresses, Place, SidecarRole},
    grpc,
    health::Health,
    http,
    identity::{self, Identity, Issuer, Token},
    link,
    peers::{PeerDoor, Peers},
    service::{Service, WidgetEndpoint},
    serving::Serving,
    shared::Shared,
    wrapped::Wrapped,
};

/// How often a drain looks whether everything has ended.
const LOOK: Duration = Duration::from_millis(5);

/// What a sidecar is told when it is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// The instance that it belongs to.
    pub instance: InstanceId,
    /// The Unix socket of the gRPC door.
    pub socket: PathBuf,
    /// The gRPC door's loopback address.
    pub grpc: String,
    /// The HTTP door's loopback address.
    pub http: String,
    /// The address for other sidecars.
    pub peer: String,
    /// The address for metrics and health.
    pub admin: String,
    /// The incarnation that it begins with; a configuration never goes below it.
    pub incarnation: u64,
    /// How it comes to an identity and a configuration.
    pub joining: Joining,
    /// The socket of the shim, in a wrapped container.
    pub shim: Option<PathBuf>,
    /// Where the last configuration is kept.
    pub state_dir: PathBuf,
    /// How long a drain may take.
    pub grace: Duration,
}

/// What a sidecar or a hub needs to find the operator and to be known to it.
#[derive(Clone, Debug)]
pub struct Joining {
    /// The operator, `host:port`.
    pub control: String,
    /// The certificates of the authority, PEM.
    pub ca_file: PathBuf,
    /// What proves who this is.
    pub token: Token,
    /// The trust domain.
    pub trust: TrustDomain,
    /// The host that others reach this process at, where it is not the one that it listens on.
    pub advertise: Option<String>,
    /// Where it runs.
    pub place: Place,
}

impl Joining {
    /// What asks for the certificate of `subject`.
    pub fn issuer(&self, subject: &str) -> Issuer {
        Issuer {
            control: self.control.clone(),
            subject: subject.to_owned(),
            trust: self.trust.clone(),
            ca_file: self.ca_file.clone(),
            token: self.token.clone(),
        }
    }

    /// How others write the address of a listener.
    pub fn address(&self, listener: &TcpListener) -> io::Result<String> {
        let bound = listener.local_addr()?;
        Ok(match &self.advertise {
            None => bound.to_string(),
            Some(host) if host.contains(':') && !host.starts_with('[') => {
                format!("[{host}]:{}", bound.port())
            }
            Some(host) => format!("{host}:{}", bound.port()),
        })
    }
}

/// A sidecar whose listeners are bound. Run it.
#[derive(Debug)]
pub struct Sidecar {
    service: Service,
    addresses: Addresses,
    parts: Parts,
    listeners: Listeners,
    options: Options,
    sender: tokio::sync::watch::Sender<Option<Arc<identity::Tls>>>,
}

#[derive(Debug)]
struct Parts {
    shared: Arc<Shared>,
    bus: Arc<Bus>,
    peers: Arc<Peers>,
    serving: Arc<Serving>,
    health: Arc<Health>,
    consuming: Consuming,
    store: Store,
}

#[derive(Debug)]
struct Listeners {
    socket: UnixListener,
    grpc: TcpListener,
    http: TcpListener,
    peer: TcpListener,
    admin: TcpListener,
}

impl Sidecar {
    /// Binds every address and puts the last configuration in force, if there is one.
    pub async fn bind(options: Options, endpoint: Arc<dyn WidgetEndpoint>) -> io::Result<Self> {
        let (sender, identity) = Identity::new();
        let store = Store::new(options.state_dir.clone())?;
        let shared = Arc::new(Shared::new(options.instance.clone(), identity));
        shared.begin(options.incarnation);
        let bus = Bus::new(Arc::clone(&shared));
        let peers = Peers::new(Arc::clone(&shared));
        let serving = Serving::new(Arc::clone(&shared), Arc::clone(&endpoint));
        let health = Health::new(Arc::clone(&shared), Arc::clone(&endpoint));
        let consuming = Consuming::new(Arc::clone(&shared), Arc::clone(&bus), Arc::clone(&health), endpoint);
        let service = Service::new(
            Arc::clone(&shared),
            Arc::clone(&bus),
            Arc::clone(&peers),
            Arc::clone(&serving),
            Arc::clone(&health),
        );
        let listeners = Listeners {
            socket: grpc::bind_socket(&options.socket)?,
            grpc: TcpListener::bind(&options.grpc).await?,
            http: TcpListener::bind(&options.http).await?,
            peer: TcpListener::bind(&options.peer).await?,
            admin: TcpListener::bind(&options.admin).await?,
        };
        let addresses = Addresses {
            peer: options.joining.address(&listeners.peer)?,
            grpc: listeners.grpc.local_addr()?.to_string(),
            http: listeners.http.local_addr()?.to_string(),
            admin: options.joining.address(&listeners.admin)?,
            socket: options.socket.display().to_string(),
        };
        if let Some(last) = store.load() {
            tracing::info!(version = last.version, "starting with the last configuration");
            shared.apply(last.into());
        }
        let parts = Parts { shared, bus, peers, serving, health, consuming, store };
        Ok(Self { service, addresses, parts, listeners, options, sender })
    }

    /// What the doors of this sidecar use.
    pub fn service(&self) -> Service {
        self.service.clone()
    }

    /// Where it listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Works until `shutdown` resolves, and then drains: no new work is taken, what was not started is given back, what is in flight may
    /// end within the grace.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let Self { service, addresses, parts, listeners, options, sender } = self;
        let Parts { shared, bus, peers, serving, health, consuming, store } = parts;
        let closing = CancellationToken::new();
        let issuer = options.joining.issuer(&shared.subject);
        let Joining { control, place, .. } = options.joining;
        let shim = Wrapped::new(Arc::clone(&shared));
        let role = Arc::new(SidecarRole {
            shared: Arc::clone(&shared),
            health: Arc::clone(&health),
            peers: Arc::clone(&peers),
            store,
            addresses,
            place,
            shim: Arc::clone(&shim),
        });
        let tasks = shared.tasks.clone();
        let until = |future: futures::future::BoxFuture<'static, ()>| {
            let closing = closing.clone();
            tasks.spawn(async move {
                tokio::select! {
                    () = closing.cancelled() => {}
                    () = future => {}
                }
            });
        };
        until(identity::run(issuer, sender).boxed());
        until(control::run(role, control, shared.identity.clone()).boxed());
        if let Some(socket) = options.shim {
            until(shim.run(socket).boxed());
        }
        until(Arc::clone(&peers).run().boxed());
        until(Arc::clone(&serving).run().boxed());
        until(Arc::clone(&health).run().boxed());
        until(consuming.run().boxed());
        until(Arc::clone(&bus).run().boxed());
        let door = PeerDoor::new(Arc::clone(&shared), serving);
        until(link::server::serve(listeners.peer, shared.identity.clone(), tasks.clone(), door).boxed());
        let drained = {
            let closing = closing.clone();
            async move { closing.cancelled().await }.shared()
        };
        let doors = grpc::serve(service.clone(), listeners.socket, listeners.grpc, drained.clone());
        tasks.spawn(
            doors.map(|ended| ended.unwrap_or_else(|error| tracing::error!(%error, "the gRPC door failed"))),
        );
        let http = http::serve(service.clone(), listeners.http, drained.clone());
        tasks.spawn(
            http.map(|ended| ended.unwrap_or_else(|error| tracing::error!(%error, "the HTTP door failed"))),
        );
        let admin = admin::serve(service.clone(), listeners.admin, drained);
        tasks.spawn(admin.map(|ended| {
            ended.unwrap_or_else(|error| tracing::error!(%error, "the admin pages failed"));
        }));
        shutdown.await;
        shared.drain(options.grace);
        drain(&shared, &bus).await;
        bus.flush().await;
        closing.cancel();
        tasks.close();
        // What does not end by now belongs to a connection that nobody closes.
        drop(timeout(Duration::from_secs(1), tasks.wait()).await);
        Ok(())
    }
}

/// Waits until nothing is in flight, or the grace is over.
async fn drain(shared: &Shared, bus: &Bus) {
    let Some(grace) = *shared.draining().borrow() else { return };
    let end = clock::now() + grace;
    let busy = || {
        let stats = &shared.stats;
        stats.calls_in_flight.get()
            + stats.deliveries_in_flight.get()
            + stats.calls_open.get()
            + bus.pending()
    };
    tracing::info!(in_flight = busy(), "draining");
    while busy() > 0 && clock::now() < end {
        sleep(LOOK).await;
    }
    match busy() {
        0 => tracing::info!("drained"),
        left => tracing::warn!(in_flight = left, "the grace is over"),
    }
}
