//! SPIFFE IDs: the subject of a certificate is the URI in its subject alternative names, `spiffe://<trust domain>/<subject>`.

use kontrol_core::{code::Code, trust::TrustDomain};
use rustls_pki_types::{CertificateDer, ServerName};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::service::Error;

/// The subject of the hub of a local world.
pub const HUB: &str = "hub";
/// The subject of the operator.
pub const OPERATOR: &str = "operator";

/// The name that TLS is told; nobody checks it, the SPIFFE ID is checked instead.
pub fn server_name() -> ServerName<'static> {
    ServerName::IpAddress(rustls_pki_types::IpAddr::V4(rustls_pki_types::Ipv4Addr::from([127, 0, 0, 1])))
}

/// What a certificate says of its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The SPIFFE ID without its prefix.
    pub subject: String,
    /// When it ends, in seconds since the Unix epoch.
    pub not_after: i64,
}

impl Leaf {
    /// Reads the first certificate of a chain that TLS has already verified. A SPIFFE ID of another trust domain is none.
    pub fn of(chain: Option<&[CertificateDer<'_>]>, trust: &TrustDomain) -> Result<Self, Error> {
        let foreign = |message: &str| Error::new(Code::ForeignCertificate, "", message);
        let leaf =
            chain.and_then(<[_]>::first).ok_or_else(|| foreign("the other side gave no certificate"))?;
        let (_, certificate) = X509Certificate::from_der(leaf)
            .map_err(|error| foreign(&format!("its certificate cannot be read: {error}")))?;
        let names = certificate
            .subject_alternative_name()
            .map_err(|error| foreign(&format!("its certificate's names cannot be read: {error}")))?;
        let subject = names
            .iter()
            .flat_map(|names| &names.value.general_names)
            .find_map(|name| match name {
                GeneralName::URI(uri) => trust.subject(uri),
                _ => None,
            })
            .ok_or_else(|| foreign("its certificate names no SPIFFE ID of this trust domain"))?;
        Ok(Self { subject: subject.to_owned(), not_after: certificate.validity().not_after.timestamp() })
    }

    /// Refuses a certificate of somebody else than `subject`.
    pub fn expect(&self, subject: &str) -> Result<(), Error> {
        if self.subject == subject {
            return Ok(());
        }
        let message = format!("expected {subject}, but the certificate is that of {}", self.subject);
        Err(Error::new(Code::ForeignCertificate, self.subject.as_str(), message))
    }
}
