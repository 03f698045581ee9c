//! Getting a certificate from the operator, with a join token or the token of a pod's service account.

use std::{path::PathBuf, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use kontrol_core::{code::Code, trust::TrustDomain};
use kontrol_proto::v1::{self, identity_client::IdentityClient};
use rcgen::{CertificateParams, DnType, KeyPair, SanType};
use rustls::ClientConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tonic::transport::{Channel, Endpoint};

use super::{
    dial::{away, dial},
    spiffe::Leaf,
    tls::{self, Material},
};
use crate::service::{Error, causes};

/// An operator that has not answered yet is asked for a sign of life after this time, and given up after as much again.
const ALIVE: Duration = Duration::from_secs(5);

/// What it takes to ask for a certificate.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// The operator, `host:port`.
    pub control: String,
    /// `<namespace>/<group>/<widget>/<ordinal>`, or that of a hub.
    pub subject: String,
    /// The trust domain.
    pub trust: TrustDomain,
    /// The certificates of the authority, PEM. Read again for each request, and looked at in between: they are rotated.
    pub ca_file: PathBuf,
    /// What proves the subject.
    pub token: Token,
}

/// A token, alone in a file. It is read again for each request: the kubelet renews a service account's.
#[derive(Clone, Debug)]
pub enum Token {
    /// The join token of a local world.
    Join(PathBuf),
    /// The token of the pod's service account, with the audience `kontrol.dev`.
    ServiceAccount(PathBuf),
}

impl Token {
    fn read(&self) -> Result<String, Error> {
        let (Self::Join(path) | Self::ServiceAccount(path)) = self;
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
        Ok(text.trim().to_owned())
    }
}

fn unreadable(path: &std::path::Path, error: &std::io::Error) -> Error {
    let subject = path.display().to_string();
    let message = format!("{subject} cannot be read: {error}");
    Error::new(Code::AuthorityUnusable, subject, message)
}

impl Issuer {
    /// The authorities that the file names.
    pub fn authorities(&self) -> Result<Vec<CertificateDer<'static>>, Error> {
        let pem = std::fs::read(&self.ca_file).map_err(|error| unreadable(&self.ca_file, &error))?;
        tls::authorities(&pem)
    }

    /// Asks once. The key is new each time.
    pub async fn issue(&self) -> Result<Material, Error> {
        let (authorities, token) = (self.authorities()?, self.token.read()?);
        let (key, csr) = request(&self.trust, &self.subject)?;
        let channel = channel(&self.control, tls::anonymous(&authorities)?, &self.trust).await?;
        let (join_token, service_account_token) = match &self.token {
            Token::Join(_) => (token, String::new()),
            Token::ServiceAccount(_) => (String::new(), token),
        };
        let request = v1::IssueRequest {
            subject: self.subject.clone(),
            join_token,
            service_account_token,
            csr: csr.into(),
        };
        let response =
            IdentityClient::new(channel).issue(request).await.map_err(|status| refused(&status))?;
        let v1::IssueResponse { chain, authorities, .. } = response.into_inner();
        let owned = |certificates: Vec<bytes::Bytes>| {
            certificates.into_iter().map(|der| der.to_vec().into()).collect()
        };
        let material = Material { chain: owned(chain), key, authorities: owned(authorities) };
        Leaf::of(Some(&material.chain), &self.trust)?.expect(&self.subject)?;
        Ok(material)
    }
}

fn refused(status: &tonic::Status) -> Error {
    let told = kontrol_proto::status::problem_of(status).and_then(|problem| problem.code.parse().ok());
    let code = told.unwrap_or_else(|| match status.code() {
        tonic::Code::Unauthenticated | tonic::Code::PermissionDenied => Code::JoinTokenRefused,
        tonic::Code::InvalidArgument => Code::InvalidSigningRequest,
        tonic::Code::NotFound => Code::UnknownSubject,
        _ => Code::ControlUnavailable,
    });
    Error::new(code, "", format!("the operator gave no certificate: {}", status.message()))
}

fn request(trust: &TrustDomain, subject: &str) -> Result<(PrivateKeyDer<'static>, Vec<u8>), Error> {
    let invalid = |error: rcgen::Error| Error::new(Code::InvalidSigningRequest, subject, error.to_string());
    let key = KeyPair::generate().map_err(invalid)?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, subject);
    let uri = trust.id(subject).try_into().map_err(invalid)?;
    params.subject_alt_names.push(SanType::URI(uri));
    let csr = params.serialize_request(&key).map_err(invalid)?;
    Ok((PrivateKeyDer::Pkcs8(key.serialize_der().into()), csr.der().to_vec()))
}

/// Opens an HTTP/2 channel to the operator.
async fn channel(address: &str, tls: Arc<ClientConfig>, trust: &TrustDomain) -> Result<Channel, Error> {
    let (target, trust) = (address.to_owned(), trust.clone());
    let connector = tower::service_fn(move |_: http::Uri| {
        let (target, tls, trust) = (target.clone(), Arc::clone(&tls), trust.clone());
        async move { dial(&target, tls, &trust).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://operator.kontrol.local")
        .http2_keep_alive_interval(ALIVE)
        .keep_alive_timeout(ALIVE)
        .connect_with_connector(connector)
        .await
        .map_err(|error| away(address, &causes(&error)))
}
