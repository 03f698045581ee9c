//! The operator's gRPC server: `Control` for sidecars and the hub, `Identity` for those that have no certificate yet.
//!
//! ```text
//!   sidecar ── Identity.Issue, TLS of one side, join token ──► Authority
//!   sidecar ══ Control.Session, mTLS ══► Event ──► the world
//!           ◄═ configuration, drain ═══ Session
//! ```
//!
//! Invariants: one listener on loopback; `Control` is served only to a verified certificate, and only to the subject that it names; a
//! session ends when its certificate does. What a session is told is the newest configuration: one that cannot keep up is ended and
//! gets it when it comes back.

mod identity;
mod listener;
mod session;
mod status;

#[cfg(test)]
mod tests;

use std::{net::SocketAddr, sync::Arc};

use kontrol_proto::v1::{control_server::ControlServer, identity_server::IdentityServer};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_util::sync::CancellationToken;

use crate::authority::Authority;
pub use listener::Error;
pub use session::{Event, Session, SessionId, Upward};
pub(crate) use status::status;

/// Decides whether a subject may have a certificate: the world knows its instances.
pub type Known = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// The server, listening.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Listens on a free port of the loopback.
    pub async fn bind() -> Result<Self, Error> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(Error::Listen)?;
        let address = listener.local_addr().map_err(Error::Listen)?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`; what sessions say goes to `events`.
    pub async fn run(
        self,
        authority: Arc<Authority>,
        known: Known,
        events: mpsc::Sender<Event>,
        stop: CancellationToken,
    ) -> Result<(), Error> {
        let (accepted, incoming) = mpsc::channel(16);
        let handshakes = listener::accept(self.listener, Arc::clone(&authority), accepted, stop.clone());
        let sessions = session::Sessions::new(events, stop.clone());
        let server = tonic::transport::Server::builder()
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(1 << 20)
            .http2_keepalive_interval(Some(std::time::Duration::from_secs(10)))
            .add_service(ControlServer::new(sessions))
            .add_service(IdentityServer::new(identity::Issuing::new(authority, known)))
            .serve_with_incoming_shutdown(
                tokio_stream::wrappers::ReceiverStream::new(incoming),
                stop.cancelled_owned(),
            );
        let (handshakes, server) = tokio::join!(handshakes, server);
        handshakes?;
        server.map_err(Error::Serve)
    }
}
