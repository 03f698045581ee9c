use hyper_util::rt::TokioIo;
use kontrol_core::limits::SIGNALS;
use kontrol_proto::{
    session::Configuration,
    v1::{
        Applied, Hello, IssueRequest, IssueResponse, Problem, SidecarConfig, identity_client::IdentityClient,
        session_request, session_response,
    },
};
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::{task::JoinSet, time::timeout};
use tonic::transport::{Channel, Endpoint};

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
    /// A channel of whoever has no certificate yet.
    async fn connect(&self) -> Channel {
        let address = self.address.to_string();
        let connect = tower::service_fn(move |_: http::Uri| {
            let address = address.clone();
            async move { client::connect(&address, None, b"h2").await.map(TokioIo::new) }
        });
        Endpoint::from_static("http://operator").connect_with_connector(connect).await.unwrap()
    }

    /// A session that has said hello, which may be refused yet.
    async fn says(&self, identity: Option<Identity>, hello: Hello) -> std::io::Result<client::Session> {
        client::Session::open(&self.address.to_string(), identity, hello).await
    }

    /// A session of the one subject, and what the world is told of it.
    async fn open(&mut self) -> (client::Session, SessionId, Hello, Session) {
        let (issued, key) = self.issue(SUBJECT, &self.authority.token(SUBJECT)).await.unwrap();
        let mut client = self.says(Some(identity(&issued, &key)), hello(SUBJECT)).await.unwrap();
        client.taken().await.unwrap();
        let Event::Opened { id, hello, session } = self.event().await else { panic!("not opened") };
        (client, id, hello, session)
    }

    /// Whether somebody with this identity gets no session.
    async fn refuses(&self, identity: Identity) -> bool {
        match self.says(Some(identity), hello(SUBJECT)).await {
            Err(_) => true,
            Ok(mut session) => session.taken().await.is_err(),
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
        let issued = IdentityClient::new(self.connect().await).issue(request).await?;
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

fn hello(subject: &str) -> Hello {
    Hello { subject: subject.into(), pid: 7, ..Hello::default() }
}

/// Why a session was refused, or has ended.
async fn goodbye(session: &mut client::Session) -> (i32, Problem) {
    match timeout(PATIENCE, session.hear()).await.unwrap().unwrap() {
        Some(session_response::Message::GoAway(goodbye)) => (goodbye.status, goodbye.problem.unwrap()),
        other => panic!("no goodbye: {other:?}"),
    }
}

#[tokio::test]
async fn a_token_buys_a_certificate_and_a_certificate_a_session() {
    let mut house = house().await;
    let (mut client, id, hello, session) = house.open().await;
    assert_eq!((hello.subject.as_str(), hello.pid), (SUBJECT, 7));

    let config = SidecarConfig { version: 1, incarnation: 5, ..SidecarConfig::default() };
    session.tell(Configuration::Sidecar(config.into()));
    let received = timeout(PATIENCE, client.hear()).await.unwrap().unwrap();
    assert!(matches!(received, Some(session_response::Message::Sidecar(config)) if config.incarnation == 5));
    client.say(session_request::Message::Applied(Applied { version: 1, incarnation: 5 })).await.unwrap();
    let Event::Said { message: Upward::Applied(applied), .. } = house.event().await else {
        panic!("not applied")
    };
    assert_eq!(applied.incarnation, 5);
    drop(client);
    let Event::Closed { id: closed, subject } = house.event().await else { panic!("not closed") };
    assert_eq!((closed, subject.as_str()), (id, SUBJECT));
    house.stop.cancel();
}

#[tokio::test]
async fn a_session_that_is_ended_first_gets_what_it_was_told() {
    let mut house = house().await;
    let (mut client, id, _, session) = house.open().await;
    for version in 1..=3 {
        let config = SidecarConfig { version, ..SidecarConfig::default() };
        session.tell(Configuration::Sidecar(config.into()));
    }
    session.end();
    for wanted in 1..=3 {
        let received = timeout(PATIENCE, client.hear()).await.unwrap().unwrap();
        assert!(
            matches!(received, Some(session_response::Message::Sidecar(config)) if config.version == wanted)
        );
    }
    assert_eq!(client.hear().await.unwrap(), None);
    assert!(matches!(house.event().await, Event::Closed { id: closed, .. } if closed == id));
}

#[tokio::test]
async fn a_session_that_does_not_read_is_ended_and_the_world_waits_for_nothing() {
    let mut house = house().await;
    let (client, id, _, session) = house.open().await;
    let config = SidecarConfig { produces: vec!["x".repeat(1 << 20)], ..SidecarConfig::default() };
    for _ in 0..200 {
        session.tell(Configuration::Sidecar(config.clone().into()));
    }
    assert!(matches!(house.event().await, Event::Closed { id: closed, .. } if closed == id));
    drop(client);
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
async fn a_session_takes_a_certificate_and_only_its_own_subject() {
    let house = house().await;
    let mut anonymous = house.says(None, hello(SUBJECT)).await.unwrap();
    let (status, problem) = goodbye(&mut anonymous).await;
    assert_eq!(status, tonic::Code::Unauthenticated as i32);
    assert!(problem.message.contains("certificates"), "{problem:?}");

    let (issued, key) = house.issue(SUBJECT, &house.authority.token(SUBJECT)).await.unwrap();
    let mut other = house.says(Some(identity(&issued, &key)), hello("hub")).await.unwrap();
    let (status, problem) = goodbye(&mut other).await;
    assert_eq!(status, tonic::Code::PermissionDenied as i32);
    assert!(problem.message.contains(SUBJECT), "{problem:?}");
    assert_eq!(house.figures.refusals(Reason::ForeignSubject), 1);
}

#[tokio::test]
async fn a_session_begins_with_hello() {
    let (mut pipe, _events, figures) = piped(DAY, session::Patience::default());
    said(&mut pipe, session_request::Message::Applied(Applied::default())).await;
    let (code, message) = why(&mut pipe).await.unwrap();
    assert_eq!(code, kontrol_core::code::Code::InvalidRequest.as_str());
    assert!(message.contains("Hello"), "{message}");
    assert_eq!(figures.refusals(Reason::Malformed), 1);
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
        let (_client, id, _, _) = house.open().await;
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
    let idle = house.connect().await;
    house.issue(SUBJECT, &token).await.unwrap_err();
    drop(idle);
    house.issue(SUBJECT, &token).await.unwrap();
}

#[tokio::test]
async fn who_shows_no_certificate_does_not_stay() {
    let house = narrow(Duration::from_millis(200)).await;
    let _idle = house.connect().await;
    house.issue(SUBJECT, &house.authority.token(SUBJECT)).await.unwrap();
}

#[tokio::test]
async fn a_message_above_the_limit_is_not_read_and_ends_its_session() {
    let mut house = house().await;
    let (mut client, ..) = house.open().await;
    let says = |characters: usize| {
        let signals = kontrol_proto::v1::Signals { message: "x".repeat(characters), ..Default::default() };
        session_request::Message::Signals(signals)
    };
    client.say(says(SIGNALS - 10)).await.unwrap();
    let Event::Said { message: Upward::Signals(heard), .. } = house.event().await else {
        panic!("not heard")
    };
    assert_eq!(heard.message.len(), SIGNALS - 10);
    client.say(says(SIGNALS)).await.unwrap();
    let (status, problem) = goodbye(&mut client).await;
    assert_eq!(status, tonic::Code::ResourceExhausted as i32);
    assert!(problem.message.contains(&SIGNALS.to_string()), "{problem:?}");
    let Event::Closed { .. } = house.event().await else { panic!("not closed") };
    assert_eq!(house.figures.refusals(Reason::Malformed), 1);
}

/// A session over a pipe in memory, with a peer whose certificate lasts for so long.
fn piped(
    life: Duration,
    patience: session::Patience,
) -> (tokio::io::DuplexStream, mpsc::Receiver<Event>, Arc<Figures>) {
    let (here, there) = tokio::io::duplex(64 << 10);
    let (sender, events) = mpsc::channel(16);
    let figures = Arc::<Figures>::default();
    let mut sessions = session::Sessions::new(sender, Arc::clone(&figures), CancellationToken::new());
    sessions.patience = patience;
    let not_after = clock::now().plus(life);
    Arc::new(sessions).begin(there, listener::Peer { subject: SUBJECT.to_owned(), pod_uid: None, not_after });
    (here, events, figures)
}

async fn said(pipe: &mut tokio::io::DuplexStream, message: session_request::Message) {
    let request = kontrol_proto::v1::SessionRequest { message: Some(message) };
    kontrol_proto::session::write(pipe, &request, SIGNALS).await.unwrap();
}

/// Why it ends; none: it is not said.
async fn why(pipe: &mut tokio::io::DuplexStream) -> Option<(String, String)> {
    let last = kontrol_proto::session::read::<kontrol_proto::v1::SessionResponse>(pipe, 1 << 20).await;
    match last.unwrap()?.message.unwrap() {
        session_response::Message::GoAway(goodbye) => goodbye.problem.map(|why| (why.code, why.message)),
        other => panic!("no goodbye: {other:?}"),
    }
}

const DAY: Duration = Duration::from_hours(24);

#[tokio::test]
async fn whoever_says_nothing_is_gone() {
    let (greeting, silence) = (Duration::from_millis(50), Duration::from_millis(50));
    let hasty = session::Patience { greeting, ..session::Patience::default() };
    let (mut silent, _events, _) = piped(DAY, hasty);
    assert_eq!(why(&mut silent).await, None, "it never said hello");

    let hasty = session::Patience { silence, ..session::Patience::default() };
    let (mut pipe, mut events, figures) = piped(DAY, hasty);
    said(&mut pipe, session_request::Message::Hello(hello(SUBJECT))).await;
    assert!(matches!(events.recv().await, Some(Event::Opened { .. })));
    let (_, message) = why(&mut pipe).await.unwrap();
    assert!(message.contains("has said nothing for 50ms"), "{message}");
    drop(pipe);
    assert!(matches!(events.recv().await, Some(Event::Closed { .. })));
    assert_eq!(figures.sessions(), 0);
}

#[tokio::test]
async fn a_session_ends_with_its_certificate_and_says_so() {
    let (mut pipe, mut events, _) = piped(Duration::from_millis(50), session::Patience::default());
    said(&mut pipe, session_request::Message::Hello(hello(SUBJECT))).await;
    assert!(matches!(events.recv().await, Some(Event::Opened { .. })));
    let (code, message) = why(&mut pipe).await.unwrap();
    assert_eq!(code, kontrol_core::code::Code::CertificateExpired.as_str(), "{message}");
}

#[tokio::test]
async fn what_is_no_message_ends_a_session() {
    let (mut pipe, mut events, figures) = piped(DAY, session::Patience::default());
    said(&mut pipe, session_request::Message::Hello(hello(SUBJECT))).await;
    assert!(matches!(events.recv().await, Some(Event::Opened { .. })));
    tokio::io::AsyncWriteExt::write_all(&mut pipe, &[0, 0, 0, 2, 0xff, 0xff]).await.unwrap();
    let (code, _) = why(&mut pipe).await.unwrap();
    assert_eq!(code, kontrol_core::code::Code::InvalidRequest.as_str());
    assert_eq!(figures.refusals(Reason::Malformed), 1);
}

#[tokio::test]
async fn a_configuration_that_is_too_large_is_not_told_and_why_is() {
    let mut house = house().await;
    let (mut client, _, _, session) = house.open().await;
    let produces = vec!["x".repeat(kontrol_proto::session::RESPONSE)];
    session.tell(Configuration::Sidecar(Box::new(SidecarConfig { produces, ..SidecarConfig::default() })));
    let (status, problem) = goodbye(&mut client).await;
    assert_eq!(status, tonic::Code::ResourceExhausted as i32);
    assert!(problem.message.contains("over the limit"), "{problem:?}");
}

#[tokio::test]
async fn whoever_wants_a_session_without_a_certificate_takes_a_place_for_it() {
    let house = narrow(Duration::from_hours(1)).await;
    let idle = house.connect().await;
    let mut anonymous = house.says(None, hello(SUBJECT)).await.unwrap();
    assert!(anonymous.hear().await.is_err(), "there is no place");
    drop(idle);
    let mut anonymous = house.says(None, hello(SUBJECT)).await.unwrap();
    assert!(goodbye(&mut anonymous).await.1.message.contains("certificates"));
}
