//! A client of the control server, for tests and examples that started it themselves.

use std::{io, sync::Arc};

use kontrol_core::limits::SIGNALS;
use kontrol_proto::{
    session::{self, ALPN, RESPONSE},
    v1::{Hello, Ping, SessionRequest, SessionResponse, session_request, session_response},
};
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::ring,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// A chain, leaf first, and its key.
pub(crate) type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Connects. The server is taken for who it is: what is looked at is who may do what.
pub(crate) async fn connect(
    address: &str,
    identity: Option<Identity>,
    alpn: &[u8],
) -> io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from("operator.kontrol.local").map_err(io::Error::other)?;
    TlsConnector::from(Arc::new(config(identity, alpn))).connect(name, tcp).await
}

/// A session that has said hello.
pub(crate) struct Session(pub(crate) TlsStream<TcpStream>);

impl Session {
    pub(crate) async fn open(address: &str, identity: Option<Identity>, hello: Hello) -> io::Result<Self> {
        let mut this = Self(connect(address, identity, ALPN).await?);
        this.say(session_request::Message::Hello(hello)).await?;
        Ok(this)
    }

    /// Says something, however long it is.
    pub(crate) async fn say(&mut self, message: session_request::Message) -> io::Result<()> {
        let request = SessionRequest { message: Some(message) };
        session::write(&mut self.0, &request, 2 * SIGNALS).await.map_err(io::Error::other)
    }

    /// What it is told next; none: the session has ended.
    pub(crate) async fn hear(&mut self) -> io::Result<Option<session_response::Message>> {
        let response = session::read::<SessionResponse>(&mut self.0, RESPONSE).await;
        Ok(response.map_err(io::Error::other)?.and_then(|response| response.message))
    }

    /// Waits until the server has taken it.
    pub(crate) async fn taken(&mut self) -> io::Result<()> {
        self.say(session_request::Message::Ping(Ping { nonce: 7 })).await?;
        match self.hear().await? {
            Some(session_response::Message::Pong(Ping { nonce: 7 })) => Ok(()),
            other => Err(io::Error::other(format!("{other:?}"))),
        }
    }
}

fn config(identity: Option<Identity>, alpn: &[u8]) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting));
    let mut config = match identity {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    config
}

#[derive(Debug)]
struct Trusting;

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
