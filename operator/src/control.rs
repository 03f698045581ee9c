//! The operator's side of control: sessions with sidecars and hubs, and over gRPC `Identity` for those that have no certificate yet. Both at one
//! port: whoever connects says by ALPN which.
//!
//! ```text
//!   sidecar ── Identity.Issue, TLS of one side, token ──► Proof ──► Authority
//!   sidecar ══ session, mTLS ══► Event ──► the world
//!           ◄═ configuration ═══ Session
//! ```
//!
//! Invariants: a session is had only with a verified certificate, and only for the subject that it names; a
//! session ends when its certificate does. What a session is told is the newest configuration: one that cannot keep up is ended and
//! gets it when it comes back. A message above [`SIGNALS`](kontrol_core::limits::SIGNALS) ends its session: it is not read.

mod figures;
mod held;
mod identity;
mod listener;
mod proof;
mod session;
mod status;

#[cfg(test)]
mod tests;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use kontrol_proto::v1::identity_server::IdentityServer;
use tokio::{net::TcpListener, sync::mpsc};
use tokio_util::sync::CancellationToken;

use crate::authority::Authority;
pub use figures::Figures;
pub use held::{Closed, Held};
pub use listener::Error;
pub use proof::{AUDIENCE, Pod, Pods, Proof, Reason, Refusal, Review, judge};
pub use session::{Event, Session, SessionId, Upward};
pub(crate) use status::status;

/// Bytes of a request for a certificate: a token and a signing request. So much may be sent ahead of what was read.
const REQUEST: u32 = 64 << 10;

/// Decides whether a subject may have a certificate: the world knows its instances.
pub type Known = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// What a server serves with.
pub struct Serving {
    /// Signs, and says who is trusted.
    pub authority: Arc<Authority>,
    /// How a process proves who it is.
    pub proof: Proof,
    /// Which subjects may have a certificate now.
    pub known: Known,
    /// What sessions say goes here.
    pub events: mpsc::Sender<Event>,
}

impl std::fmt::Debug for Serving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Serving").field("proof", &self.proof).finish_non_exhaustive()
    }
}

/// The server, listening.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    figures: Arc<Figures>,
    /// How many without a certificate may be connected, and for how long.
    strangers: (usize, Duration),
}

impl Server {
    /// Listens on `address`, such as a free port of the loopback, `127.0.0.1:0`.
    pub async fn bind(address: impl tokio::net::ToSocketAddrs) -> Result<Self, Error> {
        let listener = TcpListener::bind(address).await.map_err(Error::Listen)?;
        let address = listener.local_addr().map_err(Error::Listen)?;
        Ok(Self { listener, address, figures: Arc::default(), strangers: listener::STRANGERS })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it counts.
    pub fn figures(&self) -> Arc<Figures> {
        Arc::clone(&self.figures)
    }

    /// Serves until `stop`. However it ends, every session ends with it, also where this future is dropped.
    pub async fn run(self, serving: Serving, stop: CancellationToken) -> Result<(), Error> {
        let stop = stop.child_token();
        let _ended = stop.clone().drop_guard();
        let Serving { authority, proof, known, events } = serving;
        let Self { listener, figures, strangers, .. } = self;
        let (accepted, incoming) = mpsc::channel(16);
        let sessions = Arc::new(session::Sessions::new(events, Arc::clone(&figures), stop.clone()));
        let door = listener::Door::new(
            Arc::clone(&authority),
            Arc::clone(&figures),
            strangers,
            Arc::clone(&sessions),
        );
        let handshakes = listener::accept(listener, door, accepted, stop.clone());
        let limits = identity::Limits::default();
        let issuing = identity::Issuing { authority, known, proof, figures, limits };
        let server = tonic::transport::Server::builder()
            .initial_stream_window_size(REQUEST)
            .initial_connection_window_size(2 * REQUEST)
            .http2_keepalive_interval(Some(Duration::from_secs(10)))
            // Whoever asks has one request.
            .concurrency_limit_per_connection(8)
            .max_concurrent_streams(Some(8))
            .add_service(IdentityServer::new(issuing).max_decoding_message_size(REQUEST as usize))
            .serve_with_incoming_shutdown(
                tokio_stream::wrappers::ReceiverStream::new(incoming),
                stop.cancelled_owned(),
            );
        let (handshakes, server) = tokio::join!(handshakes, server);
        sessions.ended().await;
        handshakes?;
        server.map_err(Error::Serve)
    }
}
