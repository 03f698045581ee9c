//! TLS 1.3 with client certificates on both sides; chains are verified against our authority, names are SPIFFE IDs.

use std::{sync::Arc, time::Duration};

use kontrol_core::{code::Code, trust::TrustDomain};
use kontrol_proto::session;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use tokio::time::Instant;

use super::spiffe::Leaf;
use crate::{clock, service::Error};

/// A certificate with its key and the authorities to trust.
#[derive(Debug)]
pub struct Material {
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key.
    pub key: PrivateKeyDer<'static>,
    /// The authorities to trust.
    pub authorities: Vec<CertificateDer<'static>>,
}

/// Everything that TLS needs, made once per certificate and set of authorities.
#[derive(Debug)]
pub struct Tls {
    leaf: Leaf,
    trust: TrustDomain,
    client: Arc<ClientConfig>,
    control: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

fn unusable(error: impl std::fmt::Display) -> Error {
    Error::new(Code::AuthorityUnusable, "", format!("the certificate cannot be used: {error}"))
}

impl Tls {
    /// Prepares the configurations of both directions.
    pub fn new(material: &Material, trust: TrustDomain) -> Result<Self, Error> {
        let Material { chain, key, authorities } = material;
        let leaf = Leaf::of(Some(chain), &trust)?;
        let roots = Arc::new(roots(authorities)?);
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
            .build()
            .map_err(unusable)?;
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(unusable)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(unusable)?;
        server.send_tls13_tickets = 0;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        let client = builder(roots, provider)?.with_client_auth_cert(chain.clone(), key.clone_key());
        let mut client = client.map_err(unusable)?;
        client.resumption = Resumption::disabled();
        let mut control = client.clone();
        control.alpn_protocols = vec![session::ALPN.to_vec()];
        Ok(Self { leaf, trust, client: client.into(), control: control.into(), server: server.into() })
    }

    /// The trust domain: certificates of another are refused, whoever signed them.
    pub fn trust(&self) -> &TrustDomain {
        &self.trust
    }

    /// Whose certificate it is.
    pub fn subject(&self) -> &str {
        &self.leaf.subject
    }

    /// When it ends, in seconds since the Unix epoch.
    pub fn not_after(&self) -> i64 {
        self.leaf.not_after
    }

    /// For connecting to peers and the hub.
    pub fn client(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.client)
    }

    /// For sessions with the operator.
    pub fn control(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.control)
    }

    /// For accepting peers.
    pub fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    /// When a connection ends that is made now with the other side's certificate ending at `not_after`.
    pub(crate) fn until(&self, not_after: i64) -> Instant {
        let left = not_after.min(self.leaf.not_after).saturating_sub(clock::unix_micros() / 1_000_000);
        clock::now() + Duration::from_secs(u64::try_from(left).unwrap_or(0))
    }
}

/// For asking for the first certificate: the operator shows its own, this side has none yet.
pub(super) fn anonymous(authorities: &[CertificateDer<'static>]) -> Result<Arc<ClientConfig>, Error> {
    let mut config =
        builder(Arc::new(roots(authorities)?), Arc::new(ring::default_provider()))?.with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config.into())
}

/// The certificates of a PEM file.
pub fn authorities(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(unusable)?;
    if found.is_empty() { Err(unusable("the file holds no certificate")) } else { Ok(found) }
}

fn roots(authorities: &[CertificateDer<'static>]) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.clone()).map_err(unusable)?;
    }
    Ok(roots)
}

fn builder(
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>, Error> {
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
        .build()
        .map_err(unusable)?;
    Ok(ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ChainVerifier { roots, signatures: verifier })))
}

/// Verifies the chain, not the host name: whoever connects compares the SPIFFE ID afterwards.
#[derive(Debug)]
struct ChainVerifier {
    roots: Arc<RootCertStore>,
    signatures: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for ChainVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = rustls::server::ParsedCertificate::try_from(end_entity)?;
        let algorithms = ring::default_provider().signature_verification_algorithms;
        rustls::client::verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &self.roots,
            intermediates,
            now,
            algorithms.all,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signatures.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signatures.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signatures.supported_verify_schemes()
    }
}
