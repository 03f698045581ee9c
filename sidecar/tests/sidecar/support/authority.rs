//! A certificate authority.

use std::sync::atomic::{AtomicI64, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair, SanType,
    date_time_ymd,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer};

/// See the module.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) pem: String,
    /// How long the certificates live that it signs, in seconds.
    life: AtomicI64,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let (pem, der) = (certificate.pem(), certificate.der().clone());
        Self { issuer: Issuer::new(params, key), certificate: der, pem, life: AtomicI64::new(24 * 3600) }
    }

    /// A certificate for a subject of ours.
    pub(crate) fn issue(&self, subject: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names.push(uri(subject));
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
    }

    /// Lets the certificates that it signs from now on live so many seconds.
    pub(crate) fn live(&self, seconds: i64) {
        self.life.store(seconds, Ordering::Relaxed);
    }

    /// Signs a request for the subject that it names.
    pub(crate) fn sign(&self, request: &[u8], subject: &str) -> Vec<u8> {
        let request = CertificateSigningRequestDer::from(request.to_vec());
        let mut request = CertificateSigningRequestParams::from_der(&request).unwrap();
        request.params.subject_alt_names = vec![uri(subject)];
        let end = jiff::Timestamp::now().as_second() + self.life.load(Ordering::Relaxed);
        let day = date_time_ymd(1970, 1, 1);
        request.params.not_after = day + std::time::Duration::from_secs(u64::try_from(end).unwrap());
        request.signed_by(&self.issuer).unwrap().der().to_vec()
    }
}

fn uri(subject: &str) -> SanType {
    SanType::URI(format!("spiffe://kontrol.local/{subject}").try_into().unwrap())
}
