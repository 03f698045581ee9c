//! What the command line asks, over gRPC on a Unix socket that only its user can open.

mod answer;
#[cfg(test)]
mod tests;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use hyper_util::rt::TokioIo;
use kontrol_core::{code::Code, id::WidgetId};
use kontrol_proto::v1::{
    DownRequest, DownResponse, LogLine, LogsRequest, RestartRequest, RestartResponse, ScaleRequest,
    ScaleResponse, TreeRequest, TreeResponse, WhyRequest, WhyResponse,
    admin_client::AdminClient,
    admin_server::{Admin, AdminServer},
};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{broadcast, mpsc, oneshot, watch},
    time::sleep,
};
use tokio_stream::{Stream, StreamExt, wrappers::UnixListenerStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{
    Request, Response, Status,
    transport::{Channel, Endpoint, Server},
};

use super::{
    logs::{self, Level, Line, Logs},
    user::{CONTROL_SOCKET, Place, private_parent},
    world::{Error, Message},
};
use crate::{clock, control::status};
pub(super) use answer::{one, scalable, sources};

/// Between two trees of a `Watch`.
const WATCH_EVERY: Duration = Duration::from_millis(100);
type Answer<T> = oneshot::Sender<Result<T, Status>>;

/// A question to the world.
pub(super) enum Ask {
    Tree(oneshot::Sender<TreeResponse>),
    Why(String, Answer<WhyResponse>),
    Sources(String, Answer<Vec<String>>),
    Restart(String, Answer<String>),
    Scale(String, u32, Answer<(WidgetId, u32)>),
    Down(bool, oneshot::Sender<()>),
}

/// Listens on the socket; one that a crash left is replaced, for the folder's lock is held.
pub(super) fn listen(path: &Path) -> Result<UnixListener, Error> {
    let failed = |source| Error::Socket { path: path.to_owned(), source };
    private_parent(path).map_err(failed)?;
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let place = Place::of(path).map_err(failed)?;
    let listener = UnixListener::bind(place.path()).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

/// Answers until `stop`.
pub(super) async fn serve(
    listener: UnixListener,
    mailbox: mpsc::Sender<Message>,
    logs: Arc<Logs>,
    changes: watch::Receiver<u64>,
    stop: CancellationToken,
) {
    let service = Service { mailbox, logs, changes, stop: stop.clone(), tasks: TaskTracker::new() };
    let served = Server::builder()
        .add_service(AdminServer::new(service))
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop.cancelled_owned());
    if let Err(error) = served.await {
        tracing::warn!(%error, "the command line is no longer served");
    }
}

/// Connects to the world of a state folder; none: there is none.
pub async fn connect(state: &Path) -> Option<AdminClient<Channel>> {
    let path: PathBuf = state.canonicalize().ok()?.join(CONTROL_SOCKET);
    let connector = tower::service_fn(move |_: http::Uri| {
        let path = path.clone();
        async move {
            let place = Place::of(&path)?;
            Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(place.path()).await?))
        }
    });
    let channel = Endpoint::from_static("http://kontrol").connect_with_connector(connector).await.ok()?;
    Some(AdminClient::new(channel))
}

struct Service {
    mailbox: mpsc::Sender<Message>,
    logs: Arc<Logs>,
    changes: watch::Receiver<u64>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

fn ending<E>(_: E) -> Status {
    status(Code::NotRunning, "", "this kontrol is ending".to_owned())
}

impl Service {
    async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, Status> {
        let (reply, answer) = oneshot::channel();
        self.mailbox.send(Message::Ask(ask(reply))).await.map_err(ending)?;
        answer.await.map_err(ending)
    }
}

type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Admin for Service {
    type WatchStream = Streamed<TreeResponse>;
    type LogsStream = Streamed<LogLine>;

    async fn tree(&self, _: Request<TreeRequest>) -> Result<Response<TreeResponse>, Status> {
        Ok(Response::new(self.ask(Ask::Tree).await?))
    }

    async fn watch(&self, _: Request<TreeRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let (sender, receiver) = mpsc::channel(1);
        let (mailbox, mut changes, stop) = (self.mailbox.clone(), self.changes.clone(), self.stop.clone());
        let watching = async move {
            let mut told = None;
            loop {
                let (reply, answer) = oneshot::channel();
                if mailbox.send(Message::Ask(Ask::Tree(reply))).await.is_err() {
                    return;
                }
                let Ok(tree) = answer.await else { return };
                if told.as_ref() != Some(&tree) {
                    told = Some(tree.clone());
                    if sender.send(Ok(tree)).await.is_err() {
                        return;
                    }
                }
                sleep(WATCH_EVERY).await;
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        self.tasks.spawn(async move { stop.run_until_cancelled(watching).await });
        Ok(Response::new(Box::pin(tokio_stream::wrappers::ReceiverStream::new(receiver))))
    }

    async fn why(&self, request: Request<WhyRequest>) -> Result<Response<WhyResponse>, Status> {
        let name = request.into_inner().name;
        Ok(Response::new(self.ask(|reply| Ask::Why(name, reply)).await??))
    }

    async fn logs(&self, request: Request<LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        let LogsRequest { name, follow, tail } = request.into_inner();
        let followed = follow.then(|| self.logs.follow());
        let everything = name.is_empty();
        let sources = self.ask(|reply| Ask::Sources(name, reply)).await??;
        let tail = usize::try_from(tail).unwrap_or(usize::MAX);
        let (logs, wanted) = (Arc::clone(&self.logs), sources.clone());
        let read = move || wanted.iter().flat_map(|source| logs.tail(source, tail)).collect::<Vec<_>>();
        let mut past = tokio::task::spawn_blocking(read).await.map_err(ending)?;
        past.sort_by_key(|line| line.at);
        let mut last = past.last().map(|line| line.at);
        let past = tokio_stream::iter(past.into_iter().map(|line| Ok(line.into())));
        let Some(followed) = followed else { return Ok(Response::new(Box::pin(past))) };
        let (sender, receiver) = mpsc::channel(64);
        let stop = self.stop.clone();
        let following = async move {
            let mut followed = followed;
            loop {
                let line = match followed.recv().await {
                    Ok(line) => line,
                    Err(broadcast::error::RecvError::Lagged(missed)) => {
                        if sender.send(Ok(gap(missed))).await.is_err() {
                            return;
                        }
                        continue;
                    }
                    Err(broadcast::error::RecvError::Closed) => return,
                };
                let seen = last.is_some_and(|last| line.at <= last);
                if seen || !(everything || sources.contains(&line.source)) {
                    continue;
                }
                last = None;
                if sender.send(Ok(line.into())).await.is_err() {
                    return;
                }
            }
        };
        self.tasks.spawn(async move { stop.run_until_cancelled(following).await });
        Ok(Response::new(Box::pin(past.chain(tokio_stream::wrappers::ReceiverStream::new(receiver)))))
    }

    async fn restart(&self, request: Request<RestartRequest>) -> Result<Response<RestartResponse>, Status> {
        let name = request.into_inner().name;
        let target = self.ask(|reply| Ask::Restart(name, reply)).await??;
        Ok(Response::new(RestartResponse { target }))
    }

    async fn scale(&self, request: Request<ScaleRequest>) -> Result<Response<ScaleResponse>, Status> {
        let ScaleRequest { name, replicas } = request.into_inner();
        let (widget, before) = self.ask(|reply| Ask::Scale(name, replicas, reply)).await??;
        Ok(Response::new(ScaleResponse { widget: widget.to_string(), before }))
    }

    async fn down(&self, request: Request<DownRequest>) -> Result<Response<DownResponse>, Status> {
        let force = request.into_inner().force;
        self.ask(|reply| Ask::Down(force, reply)).await?;
        Ok(Response::new(DownResponse {}))
    }
}

/// Said in the place of lines that came faster than their reader took them.
fn gap(missed: u64) -> LogLine {
    Line {
        at: clock::now(),
        source: String::new(),
        stream: logs::Stream::Event,
        level: Level::Warn,
        text: format!(
            "{missed} lines of all sources were not shown: they came too fast; `kontrol logs` has them"
        ),
    }
    .into()
}

impl From<Line> for LogLine {
    fn from(line: Line) -> Self {
        Self {
            at_micros: line.at.as_micros(),
            source: line.source,
            stream: line.stream.as_str().to_owned(),
            level: line.level.as_str().to_owned(),
            text: line.text,
        }
    }
}
