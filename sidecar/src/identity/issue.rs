//! Getting a certificate from the operator, with a join token.

use std::{path::PathBuf, sync::Arc};

use hyper_util::rt::TokioIo;
use kontrol_core::code::Code;
use kontrol_proto::v1::{self, identity_client::IdentityClient};
use rcgen::{CertificateParams, DnType, KeyPair, SanType};
use rustls::ClientConfig;
use rustls_pki_types::PrivateKeyDer;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

use super::{
    spiffe::{self, Leaf},
    tls::{self, Material, Tls},
};
use crate::service::{Error, causes};

/// What it takes to ask for a certificate.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// The operator, `host:port`.
    pub control: String,
    /// `<namespace>/<group>/<widget>/<ordinal>` or `hub`.
    pub subject: String,
    /// The authority's certificate, PEM.
    pub ca_file: PathBuf,
    /// The token, alone in a file that only the user can read.
    pub join_token_file: PathBuf,
}

fn unreadable(path: &std::path::Path, error: &std::io::Error) -> Error {
    let subject = path.display().to_string();
    let message = format!("{subject} cannot be read: {error}");
    Error::new(Code::AuthorityUnusable, subject, message)
}

impl Issuer {
    /// Asks once. The key is new each time.
    pub async fn issue(&self) -> Result<Tls, Error> {
        let pem = std::fs::read(&self.ca_file).map_err(|error| unreadable(&self.ca_file, &error))?;
        let token = std::fs::read_to_string(&self.join_token_file)
            .map_err(|error| unreadable(&self.join_token_file, &error))?;
        let (key, csr) = request(&self.subject)?;
        let channel = connect_control(&self.control, tls::anonymous(tls::authorities(&pem)?)?).await?;
        let request = v1::IssueRequest {
            subject: self.subject.clone(),
            join_token: token.trim().to_owned(),
            csr: csr.into(),
        };
        let response =
            IdentityClient::new(channel).issue(request).await.map_err(|status| refused(&status))?;
        let v1::IssueResponse { chain, authorities, .. } = response.into_inner();
        let owned = |certificates: Vec<bytes::Bytes>| {
            certificates.into_iter().map(|der| der.to_vec().into()).collect()
        };
        let tls = Tls::new(Material { chain: owned(chain), key, authorities: owned(authorities) })?;
        let leaf = Leaf { subject: tls.subject().to_owned(), not_after: tls.not_after() };
        leaf.expect(&self.subject)?;
        Ok(tls)
    }
}

fn refused(status: &tonic::Status) -> Error {
    let code = match status.code() {
        tonic::Code::Unauthenticated | tonic::Code::PermissionDenied => Code::JoinTokenRefused,
        tonic::Code::InvalidArgument => Code::InvalidSigningRequest,
        tonic::Code::NotFound => Code::UnknownSubject,
        _ => Code::ControlUnavailable,
    };
    Error::new(code, "", format!("the operator gave no certificate: {}", status.message()))
}

fn request(subject: &str) -> Result<(PrivateKeyDer<'static>, Vec<u8>), Error> {
    let invalid = |error: rcgen::Error| Error::new(Code::InvalidSigningRequest, subject, error.to_string());
    let key = KeyPair::generate().map_err(invalid)?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, subject);
    let uri = format!("{}{subject}", spiffe::PREFIX).try_into().map_err(invalid)?;
    params.subject_alt_names.push(SanType::URI(uri));
    let csr = params.serialize_request(&key).map_err(invalid)?;
    Ok((PrivateKeyDer::Pkcs8(key.serialize_der().into()), csr.der().to_vec()))
}

/// Opens an HTTP/2 channel to the operator, whose certificate must say that it is the operator.
pub async fn connect_control(address: &str, tls: Arc<ClientConfig>) -> Result<Channel, Error> {
    let away = |error: String| {
        Error::new(
            Code::ControlUnavailable,
            address,
            format!("the operator at {address} cannot be reached: {error}"),
        )
    };
    let target = address.to_owned();
    let connector = tower::service_fn(move |_: http::Uri| {
        let (target, tls) = (target.clone(), TlsConnector::from(Arc::clone(&tls)));
        async move {
            let tcp = TcpStream::connect(&target).await?;
            tcp.set_nodelay(true)?;
            let stream = tls.connect(spiffe::server_name(), tcp).await?;
            Leaf::of(stream.get_ref().1.peer_certificates())
                .and_then(|leaf| leaf.expect(spiffe::OPERATOR))
                .map_err(std::io::Error::other)?;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    Endpoint::from_static("http://operator.kontrol.local")
        .connect_timeout(std::time::Duration::from_secs(5))
        .http2_keep_alive_interval(std::time::Duration::from_secs(5))
        .keep_alive_timeout(std::time::Duration::from_secs(5))
        .initial_stream_window_size(256 << 10)
        .initial_connection_window_size(512 << 10)
        .connect_with_connector(connector)
        .await
        .map_err(|error| away(causes(&error)))
}
