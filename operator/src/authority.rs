//! The certificate authority of a world, and what stands at the beginning of each identity.
//!
//! ```text
//!   local     .kontrol/ca/{ca.pem, ca.key, join.secret}   all 0600     token(subject) = HMAC-SHA256(join secret, subject)
//!   cluster   Secret kontrol-authority ──► Keys ──rotate (pure)──► Keys ──► Authority ──bundle──► ConfigMap kontrol-trust
//!        └── issue(subject, CSR) ──► 24 h certificate of spiffe://<trust domain>/<subject>
//! ```
//!
//! Invariants: of a signing request only the public key is taken, never a name; a key that others can read is refused, not repaired;
//! what signs is trusted by everybody long before it signs and for as long as anything that it signed is valid.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use hmac::{Hmac, Mac};
use kontrol_core::{code::Code, time::Timestamp, trust::TrustDomain};
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, pem::PemObject};
use sha2::Sha256;

use crate::clock;

mod folder;
mod keys;
mod rotation;
#[cfg(test)]
mod tests;

pub(crate) use folder::write_secret;
pub use keys::{Keys, Previous, Signer};
pub use rotation::{Due, Policy, Step, due, take};

/// The subject of the operator itself.
pub const OPERATOR: &str = "operator";
/// The subject of the hub of a local world.
pub const HUB: &str = "hub";
/// How long a certificate is valid. It is renewed two thirds through its life.
pub const LEAF_LIFE: Duration = Duration::from_hours(24);

/// Clocks of one machine agree; certificates begin a little earlier all the same, for those that were set back.
pub(crate) const SKEW: Duration = Duration::from_mins(5);
const SECRET_BYTES: usize = 32;
/// `serialNumber` of a name (RFC 4519): it carries the UID of the pod that a certificate was issued to.
pub(crate) const POD_UID: [u64; 4] = [2, 5, 4, 5];

/// What is wrong with the authority or with what is asked of it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be made, read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Others than the user can read a secret.
    #[error("{} can be read by others; restore its permissions (chmod 600), or remove its folder to have a new authority made", .0.display())]
    Exposed(PathBuf),
    /// The stored key or certificate is no such thing.
    #[error("{} cannot be used: {reason}; remove its folder to have a new authority made", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Stored key material is no such thing.
    #[error("{what} cannot be used: {reason}")]
    Material {
        /// Which part, as the Secret names it.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The signing request cannot be read.
    #[error("the signing request cannot be read: {0}")]
    Request(rcgen::Error),
    /// A certificate could not be made.
    #[error("no certificate for {subject}: {source}")]
    Issue {
        /// Whose.
        subject: String,
        /// The reason.
        source: rcgen::Error,
    },
    /// The token is not that of the subject.
    #[error("the join token does not prove {0}")]
    Token(String),
}

impl Error {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::File { .. } | Self::Exposed(_) | Self::Unusable { .. } | Self::Material { .. } => {
                Code::AuthorityUnusable
            }
            Self::Request(_) | Self::Issue { .. } => Code::InvalidSigningRequest,
            Self::Token(_) => Code::JoinTokenRefused,
        }
    }
}

/// A certificate that was issued.
#[derive(Clone, Debug)]
pub struct Issued {
    /// Leaf first, the authority last.
    pub chain: Vec<CertificateDer<'static>>,
    /// When it ends.
    pub not_after: Timestamp,
}

/// The authority. What it signs with can be replaced while it serves.
pub struct Authority {
    trust: TrustDomain,
    policy: Policy,
    inner: RwLock<Arc<Inner>>,
    secret: Vec<u8>,
    ca_file: PathBuf,
}

/// What one state of the keys amounts to.
struct Inner {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    bundle: Vec<CertificateDer<'static>>,
    generation: u64,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("trust", &self.trust)
            .field("ca_file", &self.ca_file)
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// Opens the authority of a local world's folder; one that is not there yet is made.
    pub fn open(folder: &Path, now: Timestamp) -> Result<Self, Error> {
        let folder::Opened { keys, secret, ca_file } = folder::open(folder, now)?;
        let inner = Inner::new(&keys, 0)
            .map_err(|error| Error::Unusable { path: ca_file.clone(), reason: error.to_string() })?;
        let trust = TrustDomain::default();
        Ok(Self { trust, policy: Policy::default(), inner: RwLock::new(inner.into()), secret, ca_file })
    }

    /// The authority of a cluster, from key material. It knows no join tokens: its secret for them is made here and told to nobody.
    pub fn from_keys(keys: &Keys, trust: TrustDomain, policy: Policy) -> Result<Self, Error> {
        let inner = RwLock::new(Inner::new(keys, 0)?.into());
        Ok(Self { trust, policy, inner, secret: folder::random()?, ca_file: PathBuf::new() })
    }

    /// Signs and trusts as `keys` say from now on. What was signed before stays what it is.
    pub fn replace(&self, keys: &Keys) -> Result<(), Error> {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        *inner = Inner::new(keys, inner.generation + 1)?.into();
        Ok(())
    }

    fn inner(&self) -> Arc<Inner> {
        Arc::clone(&self.inner.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts the times that the keys were replaced.
    pub fn generation(&self) -> u64 {
        self.inner().generation
    }

    /// The file with the authority's certificate, for those that trust it; empty for the authority of a cluster.
    pub fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    /// The certificate that signs now.
    pub fn certificate(&self) -> CertificateDer<'static> {
        self.inner().certificate.clone()
    }

    /// Every certificate that is to be trusted now, the one that signs first.
    pub fn bundle(&self) -> Vec<CertificateDer<'static>> {
        self.inner().bundle.clone()
    }

    /// The trust domain of what it issues.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust
    }

    /// How long what it signs is valid.
    pub fn leaf_life(&self) -> Duration {
        self.policy.leaf
    }

    /// The token that proves a subject.
    pub fn token(&self, subject: &str) -> String {
        let mac = self.mac(subject).finalize().into_bytes();
        mac.iter().fold(String::with_capacity(64), |mut hex, byte| {
            for digit in [byte >> 4, byte & 0xf] {
                hex.extend(char::from_digit(digit.into(), 16));
            }
            hex
        })
    }

    /// Checks a token, in constant time.
    pub fn verify(&self, subject: &str, token: &str) -> Result<(), Error> {
        let refused = || Error::Token(subject.to_owned());
        let bytes = (0..token.len())
            .step_by(2)
            .map(|at| token.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(refused)?;
        self.mac(subject).verify_slice(&bytes).map_err(|_| refused())
    }

    /// Issues a certificate for the key of a PKCS#10 request.
    pub fn issue(&self, subject: &str, request: &[u8], now: Timestamp) -> Result<Issued, Error> {
        self.issue_to_pod(subject, None, request, now)
    }

    /// The same, for a pod, whose UID the certificate then names.
    pub fn issue_to_pod(
        &self,
        subject: &str,
        pod_uid: Option<&str>,
        request: &[u8],
        now: Timestamp,
    ) -> Result<Issued, Error> {
        let request = CertificateSigningRequestDer::from(request);
        let request = CertificateSigningRequestParams::from_der(&request).map_err(Error::Request)?;
        self.sign(subject, pod_uid, &request.public_key, now)
    }

    /// A new key with its certificate, for the operator itself.
    pub fn own(&self, now: Timestamp) -> Result<(Issued, PrivateKeyDer<'static>), Error> {
        let key = KeyPair::generate().map_err(issuing(OPERATOR))?;
        let issued = self.sign(OPERATOR, None, &key, now)?;
        Ok((issued, PrivateKeyDer::Pkcs8(key.serialize_der().into())))
    }

    fn sign(
        &self,
        subject: &str,
        pod_uid: Option<&str>,
        key: &impl PublicKeyData,
        now: Timestamp,
    ) -> Result<Issued, Error> {
        let inner = self.inner();
        let not_after = now.plus(self.policy.leaf);
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, subject);
        if let Some(uid) = pod_uid {
            params.distinguished_name.push(DnType::CustomDnType(POD_UID.to_vec()), uid);
        }
        let uri = self.trust.id(subject).try_into().map_err(issuing(subject))?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = clock::system_time(now.minus(SKEW)).into();
        params.not_after = clock::system_time(not_after).into();
        let leaf = params.signed_by(key, &inner.issuer).map_err(issuing(subject))?;
        Ok(Issued { chain: vec![leaf.der().clone(), inner.certificate.clone()], not_after })
    }

    #[allow(clippy::expect_used, reason = "HMAC takes keys of any length")]
    fn mac(&self, subject: &str) -> Hmac<Sha256> {
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&self.secret).expect("any length is a key");
        mac.update(subject.as_bytes());
        mac
    }
}

impl Inner {
    fn new(keys: &Keys, generation: u64) -> Result<Self, Error> {
        let key = KeyPair::from_pem(&keys.current.key).map_err(unusable("ca.key"))?;
        let pem = &keys.current.certificate;
        let issuer = Issuer::from_ca_cert_pem(pem, key).map_err(unusable("ca.crt"))?;
        let bundle = CertificateDer::pem_slice_iter(keys.bundle().as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(unusable("ca.crt"))?;
        let certificate = bundle.first().cloned().ok_or_else(|| unusable("ca.crt")("there is none"))?;
        Ok(Self { issuer, certificate, bundle, generation })
    }
}

fn unusable<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> Error {
    move |error| Error::Material { what, reason: error.to_string() }
}

fn issuing(subject: &str) -> impl Fn(rcgen::Error) -> Error {
    let subject = subject.to_owned();
    move |source| Error::Issue { subject: subject.clone(), source }
}
