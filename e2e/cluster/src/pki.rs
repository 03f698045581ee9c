//! The run's certificate authority, the components' certificates and their kubeconfigs.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde_json::{Value, json};

use crate::{Addresses, Result, Run, error::at};

/// A certificate authority with its folder.
pub(crate) struct Authority {
    folder: PathBuf,
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// Whom a certificate is for.
pub(crate) struct Subject<'a> {
    /// The file's name, without its ending.
    pub(crate) file: &'a str,
    /// The user's name, to the API server.
    pub(crate) user: &'a str,
    /// The user's group, to the API server.
    pub(crate) group: Option<&'a str>,
    /// The names and addresses it serves under.
    pub(crate) serves: Vec<String>,
}

impl<'a> Subject<'a> {
    /// One that is only a client.
    pub(crate) fn client(file: &'a str, user: &'a str, group: Option<&'a str>) -> Self {
        Self { file, user, group, serves: Vec::new() }
    }
}

/// Writes a file that only its owner may read.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(path).map_err(at(path))?;
    file.write_all(bytes).map_err(at(path))
}

impl Authority {
    /// Makes a new authority, and the key that service account tokens are signed with, in the run's folder.
    pub(crate) fn make(run: &Run) -> Result<Self> {
        let folder = run.pki();
        fs::create_dir_all(&folder).map_err(at(&folder))?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, format!("kontrol-cluster {}", run.name()));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.pem();
        let path = folder.join("ca.crt");
        fs::write(&path, &certificate).map_err(at(path))?;
        let signing = KeyPair::generate()?;
        write_private(&folder.join("sa.key"), signing.serialize_pem().as_bytes())?;
        let path = folder.join("sa.pub");
        fs::write(&path, signing.public_key_pem()).map_err(at(path))?;
        Ok(Self { folder, certificate, issuer: Issuer::new(params, key) })
    }

    /// Issues a certificate into `<file>.crt` with its key in `<file>.key`; gives both as PEM.
    pub(crate) fn issue(&self, subject: &Subject<'_>) -> Result<(String, String)> {
        let mut params = CertificateParams::new(subject.serves.clone())?;
        params.distinguished_name.push(DnType::CommonName, subject.user);
        if let Some(group) = subject.group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if !subject.serves.is_empty() {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        let (path, key) = (self.folder.join(format!("{}.crt", subject.file)), key.serialize_pem());
        fs::write(&path, &certificate).map_err(at(path))?;
        write_private(&self.folder.join(format!("{}.key", subject.file)), key.as_bytes())?;
        Ok((certificate, key))
    }

    /// Issues a certificate and writes a kubeconfig with it to `path`.
    pub(crate) fn kubeconfig(&self, subject: &Subject<'_>, addresses: Addresses, path: &Path) -> Result<()> {
        let (certificate, key) = self.issue(subject)?;
        let config = self.config(addresses, &certificate, &key);
        write_private(path, format!("{config:#}\n").as_bytes())
    }

    fn config(&self, addresses: Addresses, certificate: &str, key: &str) -> Value {
        let encoded = |text: &str| BASE64_STANDARD.encode(text);
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "kontrol", "cluster": {
                "server": addresses.server(),
                "certificate-authority-data": encoded(&self.certificate),
            }}],
            "users": [{"name": "user", "user": {
                "client-certificate-data": encoded(certificate),
                "client-key-data": encoded(key),
            }}],
            "contexts": [{"name": "kontrol", "context": {"cluster": "kontrol", "user": "user"}}],
            "current-context": "kontrol",
        })
    }
}
