//! The certificate authority of one local world, and the join tokens that stand at the beginning of each identity.
//!
//! ```text
//!   .kontrol/ca/{ca.pem, ca.key, join.secret}      all 0600
//!        │ token(subject) = HMAC-SHA256(join secret, subject) ──► a file only that sidecar is told of
//!        └ issue(subject, CSR) ──► 24 h certificate of spiffe://kontrol.local/<subject>
//! ```
//!
//! Invariants: of a signing request only the public key is taken, never a name; a key that others can read is refused, not repaired.

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use hmac::{Hmac, Mac};
use kontrol_core::{code::Code, time::Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, pem::PemObject};
use sha2::Sha256;

use crate::clock;

#[cfg(test)]
mod tests;

/// The trust domain, with the scheme.
pub const SPIFFE_PREFIX: &str = "spiffe://kontrol.local/";
/// The subject of the operator itself.
pub const OPERATOR: &str = "operator";
/// The subject of the hub.
pub const HUB: &str = "hub";
/// How long a certificate is valid. It is renewed two thirds through its life.
pub const LEAF_LIFE: Duration = Duration::from_hours(24);

const AUTHORITY_LIFE: Duration = Duration::from_hours(24 * 3650);
/// Clocks of one machine agree; certificates begin a little earlier all the same, for those that were set back.
const SKEW: Duration = Duration::from_mins(5);
const SECRET_BYTES: usize = 32;

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
            Self::File { .. } | Self::Exposed(_) | Self::Unusable { .. } => Code::AuthorityUnusable,
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

/// The authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    secret: Vec<u8>,
    ca_file: PathBuf,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("ca_file", &self.ca_file).finish_non_exhaustive()
    }
}

impl Authority {
    /// Opens the authority of a folder; one that is not there yet is made.
    pub fn open(folder: &Path, now: Timestamp) -> Result<Self, Error> {
        let (ca_file, key_file, secret_file) =
            (folder.join("ca.pem"), folder.join("ca.key"), folder.join("join.secret"));
        if !ca_file.exists() {
            create(folder, &ca_file, &key_file, &secret_file, now)?;
        }
        let unusable = |path: &Path| {
            let path = path.to_owned();
            move |error: &dyn std::fmt::Display| Error::Unusable { path, reason: error.to_string() }
        };
        let pem = String::from_utf8(read_secret(&ca_file)?).map_err(|error| unusable(&ca_file)(&error))?;
        let key = String::from_utf8(read_secret(&key_file)?).map_err(|error| unusable(&key_file)(&error))?;
        let key = KeyPair::from_pem(&key).map_err(|error| unusable(&key_file)(&error))?;
        let issuer = Issuer::from_ca_cert_pem(&pem, key).map_err(|error| unusable(&ca_file)(&error))?;
        let certificate =
            CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| unusable(&ca_file)(&error))?;
        let secret = read_secret(&secret_file)?;
        if secret.len() < SECRET_BYTES {
            return Err(unusable(&secret_file)(&"it is too short"));
        }
        Ok(Self { issuer, certificate, secret, ca_file })
    }

    /// The file with the authority's certificate, for those that trust it.
    pub fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    /// The authority's certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
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
        let request = CertificateSigningRequestDer::from(request);
        let request = CertificateSigningRequestParams::from_der(&request).map_err(Error::Request)?;
        self.sign(subject, &request.public_key, now)
    }

    /// A new key with its certificate, for the operator itself.
    pub fn own(&self, now: Timestamp) -> Result<(Issued, PrivateKeyDer<'static>), Error> {
        let key = KeyPair::generate().map_err(issuing(OPERATOR))?;
        let issued = self.sign(OPERATOR, &key, now)?;
        Ok((issued, PrivateKeyDer::Pkcs8(key.serialize_der().into())))
    }

    fn sign(&self, subject: &str, key: &impl PublicKeyData, now: Timestamp) -> Result<Issued, Error> {
        let not_after = now.plus(LEAF_LIFE);
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, subject);
        let uri = format!("{SPIFFE_PREFIX}{subject}").try_into().map_err(issuing(subject))?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = clock::system_time(now.minus(SKEW)).into();
        params.not_after = clock::system_time(not_after).into();
        let leaf = params.signed_by(key, &self.issuer).map_err(issuing(subject))?;
        Ok(Issued { chain: vec![leaf.der().clone(), self.certificate.clone()], not_after })
    }

    #[allow(clippy::expect_used, reason = "HMAC takes keys of any length")]
    fn mac(&self, subject: &str) -> Hmac<Sha256> {
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&self.secret).expect("any length is a key");
        mac.update(subject.as_bytes());
        mac
    }
}

fn issuing(subject: &str) -> impl Fn(rcgen::Error) -> Error {
    let subject = subject.to_owned();
    move |source| Error::Issue { subject: subject.clone(), source }
}

/// The certificate comes last: an authority that was half made when the machine went down is made again.
fn create(
    folder: &Path,
    ca_file: &Path,
    key_file: &Path,
    secret_file: &Path,
    now: Timestamp,
) -> Result<(), Error> {
    let file = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::File { path, source }
    };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(file(folder))?;
    let key = KeyPair::generate().map_err(issuing("the authority"))?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Kontrol local authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = clock::system_time(now.minus(SKEW)).into();
    params.not_after = clock::system_time(now.plus(AUTHORITY_LIFE)).into();
    let certificate = params.self_signed(&key).map_err(issuing("the authority"))?;
    let mut secret = [0; SECRET_BYTES];
    let random = Path::new("/dev/urandom");
    fs::File::open(random).and_then(|mut source| source.read_exact(&mut secret)).map_err(file(random))?;
    write_secret(key_file, key.serialize_pem().as_bytes()).map_err(file(key_file))?;
    write_secret(secret_file, &secret).map_err(file(secret_file))?;
    write_secret(ca_file, certificate.pem().as_bytes()).map_err(file(ca_file))
}

/// Writes a file that only the user can read, whole or not at all.
pub(crate) fn write_secret(path: &Path, content: &[u8]) -> io::Result<()> {
    let partial = path.with_extension("partial");
    match fs::remove_file(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&partial, path)
}

fn read_secret(path: &Path) -> Result<Vec<u8>, Error> {
    let file = |source| Error::File { path: path.to_owned(), source };
    if fs::metadata(path).map_err(file)?.mode() & 0o077 != 0 {
        return Err(Error::Exposed(path.to_owned()));
    }
    fs::read(path).map_err(file)
}
