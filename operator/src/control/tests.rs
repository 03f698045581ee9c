use kontrol_proto::v1::{
    Applied, Hello, IssueRequest, IssueResponse, SessionRequest, SidecarConfig,
    control_client::ControlClient, identity_client::IdentityClient, session_request, session_response,
};
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::{task::JoinSet, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::*;
use crate::clock;

mod client;
mod pods;

use client::Identity;

const SUBJECT: &str = "default/rag/llm/0";
const PATIENCE: Duration = Duration::from_secs(10);

struct House {
    authority: Arc<Authority>,
    address: SocketAddr,
    events: mpsc::Receiver<Event>,
    stop: CancellationToken,
    figures: Arc<Figures>,
    tasks: JoinSet<()>,
}

async fn house() -> House {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::open(&folder.path().join("ca"), clock::now()).unwrap();
    house_with(authority, Proof::JoinToken, Arc::new(|subject| subject == SUBJECT)).await
}

async fn house_with(authority: Authority, proof: Proof, known: Known) -> House {
    house_for(authority, proof, known, listener::STRANGERS).await
}

async fn house_for(authority: Authority, proof: Proof, known: Known, strangers: (usize, Duration)) -> House {
    let authority = Arc::new(authority);
    let server = Server { strangers, ..Server::bind("127.0.0.1:0").await.unwrap() };
    let (address, figures) = (server.address(), server.figures());
    let (sender, events) = mpsc::channel(16);
    let stop = CancellationToken::new();
    let run =
        server.run(Serving { authority: Arc::clone(&authority), proof, known, events: sender }, stop.clone());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { run.await.unwrap() });
    House { authority, address, events, stop, figures, tasks }
}

impl House {
    async fn connect(&self, identity: Option<Identity>) -> Channel {
        self.try_connect(identity).await.unwrap()
    }

    async fn try_connect(&self, identity: Option<Identity>) -> Result<Channel, tonic::transport::Error> {
        client::connect(&self.address.to_string(), identity).await
    }

    /// Whether somebody with this identity gets no session.
    async fn refuses(&self, identity: Identity) -> bool {
        match self.try_connect(Some(identity)).await {
            Err(_) => true,
            Ok(channel) => {
                let (up, stream) = mpsc::channel(1);
                up.send(hello(SUBJECT)).await.unwrap();
                ControlClient::new(channel).session(ReceiverStream::new(stream)).await.is_err()
            }
        }
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

fn identity(issued: &IssueResponse, key: &KeyPair) -> Identity {
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
    assert!(house.refuses(identity).await);
}

#[tokio::test]
async fn sessions_end_with_their_server_however_it_ends_and_have_ids_of_their_own() {
    let mut ids = Vec::new();
    for _ in 0..2 {
        let mut house = house().await;
        let (issued, key) = house.issue(SUBJECT, &house.authority.token(SUBJECT)).await.unwrap();
        let channel = house.connect(Some(identity(&issued, &key))).await;
        let (up, stream) = mpsc::channel(4);
        up.send(hello(SUBJECT)).await.unwrap();
        let _down = ControlClient::new(channel).session(ReceiverStream::new(stream)).await.unwrap();
        let Event::Opened { id, .. } = house.event().await else { panic!("not opened") };
        assert!(!ids.contains(&id), "{id:?}");
        ids.push(id);
        // It fails, or is given up: nobody says stop.
        house.tasks.shutdown().await;
        assert!(matches!(house.event().await, Event::Closed { id: closed, .. } if closed == id));
    }
}

/// A house with one place for those without a certificate.
async fn narrow(stays: Duration) -> House {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::open(&folder.path().join("ca"), clock::now()).unwrap();
    house_for(authority, Proof::JoinToken, Arc::new(|subject| subject == SUBJECT), (1, stays)).await
}

#[tokio::test]
async fn only_so_many_without_a_certificate_are_connected() {
    let house = narrow(Duration::from_hours(1)).await;
    let token = house.authority.token(SUBJECT);
    let idle = house.connect(None).await;
    house.issue(SUBJECT, &token).await.unwrap_err();
    drop(idle);
    house.issue(SUBJECT, &token).await.unwrap();
}

#[tokio::test]
async fn who_shows_no_certificate_does_not_stay() {
    let house = narrow(Duration::from_millis(200)).await;
    let _idle = house.connect(None).await;
    house.issue(SUBJECT, &house.authority.token(SUBJECT)).await.unwrap();
}

#[tokio::test]
async fn a_message_above_the_limit_is_not_read_and_ends_its_session() {
    let mut house = house().await;
    let (issued, key) = house.issue(SUBJECT, &house.authority.token(SUBJECT)).await.unwrap();
    let channel = house.connect(Some(identity(&issued, &key))).await;
    let (up, stream) = mpsc::channel(4);
    up.send(hello(SUBJECT)).await.unwrap();
    let _session = ControlClient::new(channel).session(ReceiverStream::new(stream)).await.unwrap();
    let Event::Opened { .. } = house.event().await else { panic!("not opened") };
    let says = |characters: usize| {
        let signals = kontrol_proto::v1::Signals { message: "x".repeat(characters), ..Default::default() };
        request(session_request::Message::Signals(signals))
    };
    up.send(says(SIGNALS - 10)).await.unwrap();
    let Event::Said { message: Upward::Signals(heard), .. } = house.event().await else {
        panic!("not heard")
    };
    assert_eq!(heard.message.len(), SIGNALS - 10);
    up.send(says(SIGNALS)).await.unwrap();
    let Event::Closed { .. } = house.event().await else { panic!("not closed") };
    assert_eq!(house.figures.refusals(Reason::Malformed), 1);
}
