use std::time::Duration;

use hyper_util::rt::TokioIo;
use kontrol_proto::v1::{
    Applied, Hello, IssueRequest, IssueResponse, SessionRequest, SidecarConfig,
    control_client::ControlClient, identity_client::IdentityClient, session_request, session_response,
};
use rcgen::{CertificateParams, KeyPair};
use rustls::{ClientConfig, crypto::ring};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::{net::TcpStream, task::JoinSet, time::timeout};
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

use super::*;
use crate::clock;

mod pods;

const SUBJECT: &str = "default/rag/llm/0";
const PATIENCE: Duration = Duration::from_secs(10);

struct House {
    authority: Arc<Authority>,
    address: SocketAddr,
    events: mpsc::Receiver<Event>,
    stop: CancellationToken,
    figures: Arc<Figures>,
    _tasks: JoinSet<()>,
}

async fn house() -> House {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::open(&folder.path().join("ca"), clock::now()).unwrap();
    house_with(authority, Proof::JoinToken, Arc::new(|subject| subject == SUBJECT)).await
}

async fn house_with(authority: Authority, proof: Proof, known: Known) -> House {
    let authority = Arc::new(authority);
    let server = Server::bind("127.0.0.1:0").await.unwrap();
    let (address, figures) = (server.address(), server.figures());
    let (sender, events) = mpsc::channel(16);
    let stop = CancellationToken::new();
    let run =
        server.run(Serving { authority: Arc::clone(&authority), proof, known, events: sender }, stop.clone());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { run.await.unwrap() });
    House { authority, address, figures, events, stop, _tasks: tasks }
}

impl House {
    /// A client; the server's chain is verified against its authority under the operator's own certificate alone, which has no host
    /// name: the test trusts the connection and looks at who may do what.
    async fn connect(
        &self,
        identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    ) -> Channel {
        self.try_connect(identity).await.unwrap()
    }

    async fn try_connect(
        &self,
        identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    ) -> Result<Channel, tonic::transport::Error> {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Trusting));
        let mut config = match identity {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let (address, connector) = (self.address, TlsConnector::from(Arc::new(config)));
        let connect = tower::service_fn(move |_: http::Uri| {
            let connector = connector.clone();
            async move {
                let tcp = TcpStream::connect(address).await?;
                let name = rustls_pki_types::ServerName::try_from("operator.kontrol.local").unwrap();
                Ok::<_, std::io::Error>(TokioIo::new(connector.connect(name, tcp).await?))
            }
        });
        Endpoint::from_static("http://operator").connect_with_connector(connect).await
    }

    async fn issue(&self, subject: &str, token: &str) -> Result<(IssueResponse, KeyPair), tonic::Status> {
        let key = KeyPair::generate().unwrap();
        let csr = CertificateParams::default().serialize_request(&key).unwrap().der().to_vec();
        let request = IssueRequest {
            subject: subject.into(),
            join_token: token.into(),
            csr: csr.into(),
            ..IssueRequest::default()
        };
        let issued = IdentityClient::new(self.connect(None).await).issue(request).await?;
        Ok((issued.into_inner(), key))
    }

    async fn event(&mut self) -> Event {
        timeout(PATIENCE, self.events.recv()).await.unwrap().unwrap()
    }
}

fn identity(issued: &IssueResponse, key: &KeyPair) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = issued.chain.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
    (chain, PrivateKeyDer::Pkcs8(key.serialize_der().into()))
}

fn request(message: session_request::Message) -> SessionRequest {
    SessionRequest { message: Some(message) }
}

fn hello(subject: &str) -> SessionRequest {
    request(session_request::Message::Hello(Hello { subject: subject.into(), pid: 7, ..Hello::default() }))
}

#[tokio::test]
async fn a_token_buys_a_certificate_and_a_certificate_a_session() {
    let mut house = house().await;
    let (issued, key) = house.issue(SUBJECT, &house.authority.token(SUBJECT)).await.unwrap();
    let channel = house.connect(Some(identity(&issued, &key))).await;
    let (up, stream) = mpsc::channel(4);
    up.send(hello(SUBJECT)).await.unwrap();
    let session = ControlClient::new(channel).session(ReceiverStream::new(stream)).await.unwrap();
    let mut down = session.into_inner();
    let Event::Opened { hello, session, id } = house.event().await else { panic!("not opened") };
    assert_eq!((hello.subject.as_str(), hello.pid), (SUBJECT, 7));

    let config = SidecarConfig { version: 1, incarnation: 5, ..SidecarConfig::default() };
    session.tell(session_response::Message::Sidecar(config));
    let received = timeout(PATIENCE, down.message()).await.unwrap().unwrap().unwrap();
    assert!(
        matches!(received.message, Some(session_response::Message::Sidecar(config)) if config.incarnation == 5)
    );
    up.send(request(session_request::Message::Applied(Applied { version: 1, incarnation: 5 })))
        .await
        .unwrap();
    let Event::Said { message: Upward::Applied(applied), .. } = house.event().await else {
        panic!("not applied")
    };
    assert_eq!(applied.incarnation, 5);
    drop(up);
    let Event::Closed { id: closed, subject } = house.event().await else { panic!("not closed") };
    assert_eq!((closed, subject.as_str()), (id, SUBJECT));
    house.stop.cancel();
}

#[tokio::test]
async fn a_wrong_token_and_an_unknown_subject_get_nothing() {
    let house = house().await;
    let wrong = house.issue(SUBJECT, &house.authority.token("hub")).await.unwrap_err();
    assert_eq!(wrong.code(), tonic::Code::Unauthenticated);
    let stranger = "default/rag/gone/0";
    let unknown = house.issue(stranger, &house.authority.token(stranger)).await.unwrap_err();
    assert_eq!(unknown.code(), tonic::Code::NotFound);
}

#[tokio::test]
async fn control_takes_a_certificate_and_only_its_own_subject() {
    let house = house().await;
    let (_up, stream) = mpsc::channel(1);
    let anonymous =
        ControlClient::new(house.connect(None).await).session(ReceiverStream::new(stream)).await.unwrap_err();
    assert!(anonymous.message().contains("certificates"), "{anonymous}");

    let (issued, key) = house.issue(SUBJECT, &house.authority.token(SUBJECT)).await.unwrap();
    let (up, stream) = mpsc::channel(1);
    up.send(hello("hub")).await.unwrap();
    let channel = house.connect(Some(identity(&issued, &key))).await;
    let other = ControlClient::new(channel).session(ReceiverStream::new(stream)).await.unwrap_err();
    assert_eq!(other.code(), tonic::Code::PermissionDenied);
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let house = house().await;
    let folder = tempfile::tempdir().unwrap();
    let foreign = Authority::open(&folder.path().join("ca"), clock::now()).unwrap();
    let key = KeyPair::generate().unwrap();
    let csr = CertificateParams::default().serialize_request(&key).unwrap().der().to_vec();
    let issued = foreign.issue(SUBJECT, &csr, clock::now()).unwrap();
    let identity = (issued.chain, PrivateKeyDer::Pkcs8(key.serialize_der().into()));
    let refused = match house.try_connect(Some(identity)).await {
        Err(_) => true,
        Ok(channel) => {
            let (up, stream) = mpsc::channel(1);
            up.send(hello(SUBJECT)).await.unwrap();
            ControlClient::new(channel).session(ReceiverStream::new(stream)).await.is_err()
        }
    };
    assert!(refused);
}

#[derive(Debug)]
struct Trusting;

impl rustls::client::danger::ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &rustls_pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
