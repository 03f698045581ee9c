//! The operator's side of identity and control.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    thread::JoinHandle,
};

use futures::{FutureExt, StreamExt, future::BoxFuture};
use kontrol_core::limits::SIGNALS;
use kontrol_proto::{
    session::{self, ALPN, RESPONSE},
    v1::{self, identity_server, session_request, session_response},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, transport::server::Connected};

use super::{authority::Authority, eventually};

pub(crate) const TOKEN: &str = "the token of this test";
/// What the tokens of service accounts begin with that are accepted.
pub(crate) const POD_TOKEN: &str = "token of a pod, ";

/// What the operator knows of one subject.
#[derive(Default)]
struct Seen {
    hello: Option<v1::Hello>,
    config: Option<session_response::Message>,
    applied: Vec<v1::Applied>,
    signals: Option<v1::Signals>,
    hub_signals: Option<v1::HubSignals>,
    session: Option<mpsc::UnboundedSender<session_response::Message>>,
    sessions: u32,
    open: u32,
    without: bool,
}

#[derive(Clone)]
struct Handler {
    authority: Arc<Authority>,
    seen: Arc<Mutex<HashMap<String, Seen>>>,
    tokens: Arc<Mutex<Vec<String>>>,
}

/// An operator that is listening.
pub(crate) struct Operator {
    pub(crate) authority: Arc<Authority>,
    pub(crate) address: String,
    tokens: Arc<Mutex<Vec<String>>>,
    seen: Arc<Mutex<HashMap<String, Seen>>>,
    stop: CancellationToken,
    /// It has a runtime of its own, so that its connections end with it.
    thread: Option<JoinHandle<()>>,
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Operator {
    pub(crate) async fn start() -> Self {
        let authority = Arc::new(Authority::new());
        let (bound, listening) = tokio::sync::oneshot::channel();
        let (work, begin) = tokio::sync::oneshot::channel::<BoxFuture<'static, ()>>();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                bound.send(TcpListener::bind("127.0.0.1:0").await.unwrap()).unwrap();
                let work = begin.await.unwrap();
                stopped.run_until_cancelled(work).await;
            });
        });
        let listener = listening.await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (chain, key) = authority.issue("operator");
        let mut tls =
            rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_protocol_versions(&[&rustls::version::TLS13])
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(chain, key)
                .unwrap();
        tls.alpn_protocols = vec![ALPN.to_vec(), b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let (seen, tokens) = (Arc::default(), Arc::default());
        let handler = Handler {
            authority: Arc::clone(&authority),
            seen: Arc::clone(&seen),
            tokens: Arc::clone(&tokens),
        };
        let sessions = handler.clone();
        let incoming = TcpListenerStream::new(listener).filter_map(move |tcp| {
            let (acceptor, sessions) = (acceptor.clone(), sessions.clone());
            async move {
                let stream = match async { acceptor.accept(tcp?).await }.await {
                    Ok(stream) => stream,
                    Err(error) => return Some(Err(error)),
                };
                if stream.get_ref().1.alpn_protocol() != Some(ALPN) {
                    return Some(Ok(Tls(stream)));
                }
                #[allow(clippy::disallowed_methods, reason = "a test's operator ends with its runtime")]
                tokio::spawn(sessions.serve(stream));
                None
            }
        });
        let server =
            tonic::transport::Server::builder().add_service(identity_server::IdentityServer::new(handler));
        let serving = async move { server.serve_with_incoming(incoming).await.unwrap() };
        assert!(work.send(serving.boxed()).is_ok());
        Self { authority, address, tokens, seen, stop, thread: Some(thread) }
    }

    /// The tokens of service accounts that were shown.
    pub(crate) fn tokens(&self) -> Vec<String> {
        self.tokens.lock().unwrap().clone()
    }

    /// How many sessions a subject has opened.
    pub(crate) fn sessions(&self, subject: &str) -> u32 {
        self.seen.lock().unwrap().get(subject).map_or(0, |seen| seen.sessions)
    }

    /// Whether a subject was ever without a session since its first.
    pub(crate) fn was_without(&self, subject: &str) -> bool {
        self.seen.lock().unwrap().get(subject).is_some_and(|seen| seen.without)
    }

    /// Goes away, with every connection.
    pub(crate) fn stop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }

    /// Gives a subject its configuration, now and in each later session.
    pub(crate) fn configure(&self, subject: &str, config: session_response::Message) {
        let mut seen = self.seen.lock().unwrap();
        let seen = seen.entry(subject.to_owned()).or_default();
        seen.config = Some(config.clone());
        if let Some(session) = &seen.session {
            drop(session.send(config));
        }
    }

    /// Waits until a subject has said hello with this process id.
    pub(crate) async fn hello(&self, subject: &str, pid: u32) -> v1::Hello {
        eventually("hello", || async {
            self.seen.lock().unwrap().get(subject)?.hello.clone().filter(|hello| hello.pid == pid)
        })
        .await
    }

    /// Waits until a configuration is in force.
    pub(crate) async fn applied(&self, subject: &str, version: u64) {
        eventually("applied", || async {
            let seen = self.seen.lock().unwrap();
            seen.get(subject)?.applied.iter().any(|applied| applied.version == version).then_some(())
        })
        .await;
    }

    /// Waits for signals that satisfy a condition.
    pub(crate) async fn signals(&self, subject: &str, matches: impl Fn(&v1::Signals) -> bool) -> v1::Signals {
        eventually("signals", || async {
            self.seen.lock().unwrap().get(subject)?.signals.clone().filter(|signals| matches(signals))
        })
        .await
    }

    /// Waits for the hub's signals that satisfy a condition.
    pub(crate) async fn hub_signals(&self, matches: impl Fn(&v1::HubSignals) -> bool) -> v1::HubSignals {
        eventually("signals of the hub", || async {
            self.seen.lock().unwrap().get("hub")?.hub_signals.clone().filter(|signals| matches(signals))
        })
        .await
    }
}

#[tonic::async_trait]
impl identity_server::Identity for Handler {
    async fn issue(&self, request: Request<v1::IssueRequest>) -> Result<Response<v1::IssueResponse>, Status> {
        let request = request.into_inner();
        let pod = request.service_account_token.strip_prefix(POD_TOKEN);
        self.tokens.lock().unwrap().extend(pod.map(str::to_owned));
        if request.join_token != TOKEN && pod.is_none() {
            return Err(Status::unauthenticated("the token proves nothing"));
        }
        let leaf = self.authority.sign(&request.csr, &request.subject);
        let authorities = vec![self.authority.certificate.to_vec().into()];
        Ok(Response::new(v1::IssueResponse { chain: vec![leaf.into()], authorities, not_after: 0 }))
    }
}

impl Handler {
    /// A session, until its sidecar ends it.
    async fn serve(self, stream: TlsStream<TcpStream>) {
        let (mut from, mut into) = tokio::io::split(stream);
        let (sender, mut responses) = mpsc::unbounded_channel();
        let mut subject = String::new();
        let hears = async {
            while let Ok(Some(v1::SessionRequest { message: Some(message) })) =
                session::read(&mut from, SIGNALS).await
            {
                self.hears(&mut subject, message, &sender);
            }
        };
        let tells = async {
            while let Some(message) = responses.recv().await {
                let response = v1::SessionResponse { message: Some(message) };
                if session::write(&mut into, &response, RESPONSE).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = hears => {}
            () = tells => {}
        }
        if let Some(seen) = self.seen.lock().unwrap().get_mut(&subject) {
            seen.open -= 1;
            seen.without |= seen.open == 0;
        }
    }

    fn hears(
        &self,
        subject: &mut String,
        message: session_request::Message,
        sender: &mpsc::UnboundedSender<session_response::Message>,
    ) {
        let mut seen = self.seen.lock().unwrap();
        match message {
            session_request::Message::Hello(hello) => {
                subject.clone_from(&hello.subject);
                let seen = seen.entry(subject.clone()).or_default();
                if let Some(config) = &seen.config {
                    drop(sender.send(config.clone()));
                }
                seen.hello = Some(hello);
                seen.sessions += 1;
                seen.open += 1;
                seen.session = Some(sender.clone());
            }
            session_request::Message::Applied(applied) => {
                seen.get_mut(subject).unwrap().applied.push(applied);
            }
            session_request::Message::Signals(signals) => {
                seen.get_mut(subject).unwrap().signals = Some(signals);
            }
            session_request::Message::HubSignals(signals) => {
                seen.get_mut(subject).unwrap().hub_signals = Some(signals);
            }
            session_request::Message::Ping(ping) => {
                drop(sender.send(session_response::Message::Pong(ping)));
            }
        }
    }
}

/// A TLS connection, as tonic wants it.
struct Tls(TlsStream<TcpStream>);

impl Connected for Tls {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl AsyncRead for Tls {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Tls {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
