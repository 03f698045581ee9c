//! The hub process: its listeners, its tasks, and its way out.

use std::{future::Future, io, path::PathBuf, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{HubDoor, HubRole};
use crate::{
    admin, control,
    identity::{self, Identity},
    link,
    service::Error,
    sidecar::Joining,
};

/// How long sidecars wait for a hub that has no configuration yet.
const UNCONFIGURED: Duration = Duration::from_secs(2);

/// What a hub is told when it is started.
#[derive(Clone, Debug)]
pub struct HubOptions {
    /// Where its log and its last configuration are.
    pub folder: PathBuf,
    /// The address for sidecars.
    pub peer: String,
    /// The address for metrics and health.
    pub admin: String,
    /// The subject of its certificate, such as `hub`.
    pub subject: String,
    /// How it comes to an identity and a configuration.
    pub joining: Joining,
}

/// A hub whose listeners are bound. Run it.
#[derive(Debug)]
pub struct HubProcess {
    options: HubOptions,
    door: Arc<HubDoor>,
    fatal: mpsc::Receiver<Error>,
    peer: TcpListener,
    admin: TcpListener,
}

impl HubProcess {
    /// Binds both addresses.
    pub async fn bind(options: HubOptions) -> io::Result<Self> {
        std::fs::create_dir_all(&options.folder)?;
        let (sender, fatal) = mpsc::channel(1);
        let door = HubDoor::new(options.folder.clone(), options.subject.clone(), sender);
        let (peer, admin) =
            (TcpListener::bind(&options.peer).await?, TcpListener::bind(&options.admin).await?);
        Ok(Self { options, door, fatal, peer, admin })
    }

    /// The address for sidecars.
    pub fn peer_address(&self) -> io::Result<String> {
        self.peer.local_addr().map(|address| address.to_string())
    }

    /// What its connections share.
    pub fn door(&self) -> Arc<HubDoor> {
        Arc::clone(&self.door)
    }

    /// Works until `shutdown` resolves, and then drains: what was accepted becomes durable and is answered. An error ends the process: the
    /// disk has refused, or the log cannot be opened.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        let Self { options, door, mut fatal, peer, admin } = self;
        let (sender, identity) = Identity::new();
        let closing = CancellationToken::new();
        let joining = options.joining;
        let address = |listener: &TcpListener| joining.address(listener).unwrap_or_default();
        let issuer = joining.issuer(&options.subject);
        let place = joining.place.clone();
        let role = HubRole::new(Arc::clone(&door), address(&peer), address(&admin), place);
        door.resume().await?;
        let tasks = door.tasks.clone();
        let until = |future: BoxFuture<'static, ()>| {
            let closing = closing.clone();
            tasks.spawn(async move {
                tokio::select! {
                    () = closing.cancelled() => {}
                    () = future => {}
                }
            });
        };
        let pages = admin::serve(Arc::clone(&door), admin, std::future::pending());
        until(
            pages
                .map(|ended| ended.unwrap_or_else(|error| tracing::error!(%error, "the admin pages failed")))
                .boxed(),
        );
        until(identity::run(issuer, sender).boxed());
        until(control::run(role, joining.control, identity.clone()).boxed());
        let (serving, configured) = (tasks.clone(), Arc::clone(&door));
        let sidecars = async move {
            // Who comes before waits to be accepted; after this time the refusal says what is missing.
            drop(timeout(UNCONFIGURED, configured.configured()).await);
            link::server::serve(peer, identity, serving, configured).await;
        };
        until(sidecars.boxed());
        tokio::select! {
            () = shutdown => {}
            Some(error) = fatal.recv() => return Err(error),
        }
        tracing::info!("draining");
        door.drain(Duration::from_secs(5));
        let closed = match door.hub() {
            // Everything that was accepted is written; its answers leave while the connections are still open.
            Some(hub) => hub.close().map_err(|error| super::refused("", &error)),
            None => Ok(()),
        };
        tokio::time::sleep(Duration::from_millis(20)).await;
        closing.cancel();
        tasks.close();
        drop(timeout(Duration::from_millis(500), tasks.wait()).await);
        closed
    }
}
