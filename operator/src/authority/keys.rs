//! The key material of an authority, as a Secret holds it.
//!
//! | key | holds |
//! | --- | --- |
//! | `ca.crt`, `ca.key` | what signs now |
//! | `next.crt`, `next.key` | what will sign: trusted already, during a rotation |
//! | `previous.crt`, `previous.until` | what signed before: trusted until then (Unix time in microseconds) |

use std::{collections::BTreeMap, time::Duration};

use kontrol_core::time::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose, PublicKeyData};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Error, SKEW, issuing, unusable};
use crate::clock;

/// What can sign: a certificate of an authority and its key, PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Signer {
    /// The certificate.
    pub certificate: String,
    /// The key.
    pub key: String,
}

/// What signed before, and is trusted for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Previous {
    /// The certificate, PEM. Its key is gone.
    pub certificate: String,
    /// From when on nothing that it signed is valid.
    pub until: Timestamp,
}

/// All key material of an authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// What signs.
    pub current: Signer,
    /// What will sign.
    pub next: Option<Signer>,
    /// What signed.
    pub previous: Option<Previous>,
}

/// The key is left out.
impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl Signer {
    /// A new key with a certificate of its own that is valid for `life`.
    pub(super) fn generate(name: &str, life: Duration, now: Timestamp) -> Result<Self, Error> {
        let key = KeyPair::generate().map_err(issuing("the authority"))?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = clock::system_time(now.minus(SKEW)).into();
        params.not_after = clock::system_time(now.plus(life)).into();
        let certificate = params.self_signed(&key).map_err(issuing("the authority"))?;
        Ok(Self { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// Refuses a key that is not the certificate's: what it signs, nobody would trust.
    fn check(&self, certificate: &'static str, key: &'static str) -> Result<(), Error> {
        let pair = KeyPair::from_pem(&self.key).map_err(unusable(key))?;
        let der =
            CertificateDer::from_pem_slice(self.certificate.as_bytes()).map_err(unusable(certificate))?;
        let (_, parsed) = X509Certificate::from_der(&der).map_err(unusable(certificate))?;
        if parsed.public_key().raw == pair.subject_public_key_info() {
            Ok(())
        } else {
            Err(unusable(key)("it is not the key of the certificate"))
        }
    }

    /// When the certificate was made and when it ends.
    pub(super) fn life(&self) -> Result<(Timestamp, Timestamp), Error> {
        let der = CertificateDer::from_pem_slice(self.certificate.as_bytes()).map_err(unusable("ca.crt"))?;
        let (_, certificate) = X509Certificate::from_der(&der).map_err(unusable("ca.crt"))?;
        let at = |seconds: i64| {
            Timestamp::from_micros(u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000_000))
        };
        let validity = certificate.validity();
        Ok((at(validity.not_before.timestamp()).plus(SKEW), at(validity.not_after.timestamp())))
    }
}

impl Keys {
    /// The keys of a new authority, as `policy` says.
    pub fn generate(policy: super::Policy, now: Timestamp) -> Result<Self, Error> {
        let current = Signer::generate("Kontrol authority", policy.authority, now)?;
        Ok(Self { current, next: None, previous: None })
    }

    /// Reads the data of a Secret.
    pub fn from_data(data: &BTreeMap<String, Vec<u8>>) -> Result<Self, Error> {
        let text = |what: &'static str| {
            data.get(what).map(|bytes| String::from_utf8(bytes.clone()).map_err(unusable(what))).transpose()
        };
        let part = |what: &'static str| text(what)?.ok_or_else(|| unusable(what)("it is missing"));
        let current = Signer { certificate: part("ca.crt")?, key: part("ca.key")? };
        let next = match (text("next.crt")?, text("next.key")?) {
            (Some(certificate), Some(key)) => Some(Signer { certificate, key }),
            _ => None,
        };
        let previous = match (text("previous.crt")?, text("previous.until")?) {
            (Some(certificate), Some(until)) => {
                let until = until.trim().parse().map_err(unusable("previous.until"))?;
                Some(Previous { certificate, until: Timestamp::from_micros(until) })
            }
            _ => None,
        };
        current.check("ca.crt", "ca.key")?;
        if let Some(next) = &next {
            next.check("next.crt", "next.key")?;
        }
        let keys = Self { current, next, previous };
        super::Inner::new(&keys, 0)?;
        Ok(keys)
    }

    /// The data of a Secret that [`Keys::from_data`] reads back.
    pub fn to_data(&self) -> BTreeMap<String, Vec<u8>> {
        let mut data = BTreeMap::new();
        let mut put = |key: &str, text: &str| data.insert(key.to_owned(), text.as_bytes().to_vec());
        put("ca.crt", &self.current.certificate);
        put("ca.key", &self.current.key);
        if let Some(next) = &self.next {
            put("next.crt", &next.certificate);
            put("next.key", &next.key);
        }
        if let Some(previous) = &self.previous {
            put("previous.crt", &previous.certificate);
            put("previous.until", &previous.until.as_micros().to_string());
        }
        data
    }

    /// Every certificate that is to be trusted, the one that signs first: what the `ConfigMap` `kontrol-trust` says in `ca.crt`. PEM.
    pub fn bundle(&self) -> String {
        let next = self.next.as_ref().map(|next| &next.certificate);
        let previous = self.previous.as_ref().map(|previous| &previous.certificate);
        [Some(&self.current.certificate), next, previous].into_iter().flatten().fold(
            String::new(),
            |mut bundle, pem| {
                bundle.push_str(pem.trim_end());
                bundle.push('\n');
                bundle
            },
        )
    }
}
