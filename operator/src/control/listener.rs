//! TLS for the server: the operator's certificate for everybody, and a client's certificate where it has one.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use kontrol_core::{code::Code, time::Timestamp, trust::TrustDomain};
use kontrol_proto::session;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};
use rustls_pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
    time::{Sleep, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::{
    authority::{self, Authority, POD_UID},
    clock,
    control::{Figures, Reason, session::Sessions},
};

/// A handshake that takes longer is given up.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Handshakes that may be under way; whoever comes then waits in the system's own queue.
const HANDSHAKES: usize = 1024;
/// How many connections without a session may be open, and for how long: to ask for a certificate takes a moment. Whoever comes then waits
/// within its handshake.
pub(super) const STRANGERS: (usize, Duration) = (512, Duration::from_secs(20));

/// Why the server cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No port to listen on.
    #[error("the control server cannot listen: {0}")]
    Listen(#[source] io::Error),
    /// The authority gave no usable certificate.
    #[error("the control server has no certificate: {0}")]
    Certificate(#[from] authority::Error),
    /// The certificate cannot be used for TLS.
    #[error("the control server's certificate cannot be used: {0}")]
    Tls(String),
    /// The server ended.
    #[error("the control server ended: {0}")]
    Serve(#[source] tonic::transport::Error),
}

impl Error {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::Listen(_) | Self::Serve(_) => Code::ListenFailed,
            Self::Certificate(error) => error.code(),
            Self::Tls(_) => Code::AuthorityUnusable,
        }
    }
}

/// Who is at the other end of a connection, as its certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) subject: String,
    /// The pod that the certificate was issued to.
    pub(super) pod_uid: Option<String>,
    pub(super) not_after: Timestamp,
}

/// A connection over which gRPC is spoken: by a stranger, who asks for a certificate. It holds a place, and ends after a while.
pub(super) struct Connection {
    stream: TlsStream<TcpStream>,
    _place: OwnedSemaphorePermit,
    end: Pin<Box<Sleep>>,
}

impl Connected for Connection {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.end.as_mut().poll(cx).is_ready() {
            // As if the other side had said that it is done.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Who may come in.
pub(super) struct Door {
    authority: Arc<Authority>,
    figures: Arc<Figures>,
    strangers: Arc<Semaphore>,
    stays: Duration,
    sessions: Arc<Sessions>,
}

impl Door {
    /// A door for everybody who has a certificate of this authority and wants a session, and so many others as [`STRANGERS`] says.
    pub(super) fn new(
        authority: Arc<Authority>,
        figures: Arc<Figures>,
        strangers: (usize, Duration),
        sessions: Arc<Sessions>,
    ) -> Self {
        let (places, stays) = strangers;
        Self { authority, figures, strangers: Arc::new(Semaphore::new(places)), stays, sessions }
    }
}

/// Accepts until `stop`. Each handshake is a task of its own, so that one that hangs holds up nobody.
pub(super) async fn accept(
    listener: TcpListener,
    door: Door,
    accepted: mpsc::Sender<io::Result<Connection>>,
    stop: CancellationToken,
) -> Result<(), Error> {
    let door = Arc::new(door);
    let mut own = Own::new(Arc::clone(&door.authority))?;
    let mut handshakes = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            Some(_) = handshakes.join_next() => {}
            result = listener.accept(), if handshakes.len() < HANDSHAKES => match result {
                Ok((stream, _)) => {
                    let acceptor = TlsAcceptor::from(own.config()?);
                    handshakes.spawn(handshake(Arc::clone(&door), acceptor, stream, accepted.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
        }
    }
}

async fn handshake(
    door: Arc<Door>,
    acceptor: TlsAcceptor,
    stream: TcpStream,
    accepted: mpsc::Sender<io::Result<Connection>>,
) {
    let trust = door.authority.trust_domain();
    let shaken = async {
        stream.set_nodelay(true)?;
        let stream = acceptor.accept(stream).await?;
        let peer = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let peer = peer.map(|certificate| self::peer(certificate, trust)).transpose()?;
        Ok::<_, io::Error>((stream, peer))
    };
    match timeout(HANDSHAKE, shaken).await {
        Ok(Ok((stream, Some(peer)))) if wants_session(&stream) => door.sessions.begin(stream, peer),
        Ok(Ok((stream, _))) => {
            let place = timeout(HANDSHAKE, Arc::clone(&door.strangers).acquire_owned()).await;
            let Ok(Ok(place)) = place else {
                if door.figures.refused(Reason::Overloaded) {
                    tracing::warn!("too many without a session are connected");
                }
                return;
            };
            if wants_session(&stream) {
                return door.sessions.refuse(stream).await;
            }
            let connection = Connection { stream, _place: place, end: Box::pin(sleep(door.stays)) };
            drop(accepted.send(Ok(connection)).await);
        }
        Ok(Err(error)) if foreign(&error) => {
            if door.figures.refused(Reason::ForeignCertificate) {
                tracing::warn!(code = Code::ForeignCertificate.as_str(), %error, "a certificate was refused");
            }
        }
        // A client that goes away in the middle, a health check, a port scan.
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => {
            if door.figures.may_say() {
                tracing::warn!("a TLS handshake took too long");
            }
        }
    }
}

/// Whether the other side has asked for a session; it speaks gRPC otherwise.
fn wants_session(stream: &TlsStream<TcpStream>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(session::ALPN)
}

/// Whether a handshake failed for the other side's certificate.
fn foreign(error: &io::Error) -> bool {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    error.kind() == io::ErrorKind::PermissionDenied
        || matches!(tls, Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented))
}

fn peer(certificate: &CertificateDer<'_>, trust: &TrustDomain) -> io::Result<Peer> {
    let foreign = |reason: &str| io::Error::new(io::ErrorKind::PermissionDenied, reason.to_owned());
    let (_, certificate) =
        X509Certificate::from_der(certificate).map_err(|_| foreign("the certificate cannot be read"))?;
    let names = certificate.subject_alternative_name().ok().flatten();
    let subject = names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .find_map(|name| match name {
            GeneralName::URI(uri) => trust.subject(uri),
            _ => None,
        })
        .ok_or_else(|| foreign("the certificate names no SPIFFE ID of this trust domain"))?;
    let pod_uid = certificate
        .subject()
        .iter_attributes()
        .find(|attribute| attribute.attr_type().iter().is_some_and(|parts| parts.eq(POD_UID)))
        .and_then(|attribute| attribute.as_str().ok());
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
    Ok(Peer {
        subject: subject.to_owned(),
        pod_uid: pod_uid.map(str::to_owned),
        not_after: Timestamp::from_micros(seconds.saturating_mul(1_000_000)),
    })
}

/// The operator's own certificate, renewed two thirds through its life, and when the authority's keys are others, by whoever connects next.
struct Own {
    authority: Arc<Authority>,
    config: Arc<ServerConfig>,
    renew_at: Timestamp,
    generation: u64,
}

impl Own {
    fn new(authority: Arc<Authority>) -> Result<Self, Error> {
        let (now, generation) = (clock::now(), authority.generation());
        let config = server_config(&authority, now)?;
        let renew_at = now.plus(authority.leaf_life() * 2 / 3);
        Ok(Self { authority, config, renew_at, generation })
    }

    fn config(&mut self) -> Result<Arc<ServerConfig>, Error> {
        let (now, generation) = (clock::now(), self.authority.generation());
        if now >= self.renew_at || generation != self.generation {
            self.config = server_config(&self.authority, now)?;
            self.renew_at = now.plus(self.authority.leaf_life() * 2 / 3);
            self.generation = generation;
        }
        Ok(Arc::clone(&self.config))
    }
}

fn server_config(authority: &Authority, now: Timestamp) -> Result<Arc<ServerConfig>, Error> {
    let unusable = |error: &dyn std::fmt::Display| Error::Tls(error.to_string());
    let (issued, key) = authority.own(now)?;
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in authority.bundle() {
        roots.add(certificate).map_err(|error| unusable(&error))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()
        .map_err(|error| unusable(&error))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| unusable(&error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(issued.chain, key)
        .map_err(|error| unusable(&error))?;
    config.alpn_protocols = vec![session::ALPN.to_vec(), b"h2".to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}
