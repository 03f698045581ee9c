//! One shim and what it runs: its events in, orders out, its output to the logs.

use std::{net::TcpListener, sync::Arc};

use kontrol_plan::StartError;
use kontrol_shim::{Event, FailedKind, Launch, Order};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf, pipe},
    },
    sync::{mpsc, watch},
    task::JoinSet,
};

use super::{
    launcher::Launcher,
    ledger::ignore_gone,
    logs::{Logs, Stream},
    preflight::no_folder,
    state::{Key, Report},
    world::Message,
};

/// All that it takes to run one process.
pub(super) struct Task {
    pub(super) key: Key,
    pub(super) launch: Launch,
    /// The port that must be free.
    pub(super) port: Option<u16>,
    pub(super) launcher: Launcher,
    pub(super) logs: Arc<Logs>,
    pub(super) mailbox: mpsc::Sender<Message>,
}

impl Task {
    /// Runs it to its end. Of several orders that it has not taken yet the last one counts.
    pub(super) async fn run(self, orders: watch::Receiver<Option<Order>>) {
        if let Err(report) = self.supervise(orders).await {
            self.tell(report).await;
        }
    }

    async fn supervise(&self, mut orders: watch::Receiver<Option<Order>>) -> Result<(), Report> {
        self.check()?;
        let mut launched =
            self.launcher.start(self.launch.clone()).await.map_err(|error| Report::Failed {
                error: StartError::Other,
                reason: format!("its shim could not be started: {error}"),
            })?;
        let lost = |error: std::io::Error| Report::Failed {
            error: StartError::Other,
            reason: format!("its shim cannot be talked to: {error}"),
        };
        let mut captures = JoinSet::new();
        let outputs = [
            (Stream::Out, launched.child.stdout.take().map(Into::into)),
            (Stream::Err, launched.child.stderr.take().map(Into::into)),
        ];
        for (stream, output) in outputs {
            let Some(output) = output else { continue };
            let output = pipe::Receiver::from_owned_fd(output).map_err(lost)?;
            let (logs, source) = (Arc::clone(&self.logs), self.key.source());
            captures.spawn(async move { logs.capture(source, stream, output).await });
        }
        drop(self.mailbox.send(Message::Launched(self.key.clone(), launched.child.id())).await);
        launched.control.set_nonblocking(true).map_err(lost)?;
        let (events, mut control) = UnixStream::from_std(launched.control).map_err(lost)?.into_split();
        let told = self.converse(events, &mut control, &mut orders).await;
        self.launcher.reap(launched.child);
        drop(control);
        match told {
            Some(report) => {
                // What was written before the end is read before the end is told, as far as nobody else holds the pipes.
                let drained =
                    tokio::time::timeout(DRAIN, async { while captures.join_next().await.is_some() {} });
                tokio::join!(self.tell(report), async { drop(drained.await) });
                Ok(())
            }
            None => Err(Report::Lost),
        }
    }

    /// Tells events until the last one, which is returned; none: the shim ended without it.
    async fn converse(
        &self,
        events: OwnedReadHalf,
        control: &mut OwnedWriteHalf,
        orders: &mut watch::Receiver<Option<Order>>,
    ) -> Option<Report> {
        let mut lines = BufReader::new(events).lines();
        let mut group = None;
        loop {
            let line = tokio::select! {
                line = lines.next_line() => line,
                Ok(()) = orders.changed() => {
                    let order = *orders.borrow_and_update();
                    if let Some(order) = order {
                        // A shim that is gone is noticed by reading.
                        drop(control.write_all(format!("{order}\n").as_bytes()).await);
                    }
                    continue;
                }
            };
            let event = line.ok().flatten().and_then(|line| serde_json::from_str::<Event>(&line).ok());
            match event {
                Some(Event::Started { pid }) => {
                    group = Some(pid);
                    self.tell(Report::Started { pid }).await;
                }
                Some(Event::Failed { reason, kind }) => return Some(failed(kind, reason)),
                Some(Event::Ended { code, signal, left }) => {
                    return Some(Report::Ended { code, signal, left });
                }
                None => {
                    if let Some(pid) = group.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw) {
                        // The command died with its shim; what it left in its group is ended here.
                        ignore_gone(kill_process_group(pid, Signal::KILL));
                    }
                    return None;
                }
            }
        }
    }

    /// What can be said before anything is started, and better than the system would.
    fn check(&self) -> Result<(), Report> {
        let failed = |error, reason| Err(Report::Failed { error, reason });
        if !self.launch.folder.is_dir() {
            return failed(StartError::Other, no_folder(&self.launch.folder));
        }
        let Some(port) = self.port else { return Ok(()) };
        match TcpListener::bind(("127.0.0.1", port)) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                failed(StartError::PortTaken, format!("another process listens on 127.0.0.1:{port}"))
            }
            Err(error) => {
                failed(StartError::Other, format!("it could not listen on 127.0.0.1:{port}: {error}"))
            }
        }
    }

    async fn tell(&self, report: Report) {
        drop(self.mailbox.send(Message::Report(self.key.clone(), report)).await);
    }
}

/// How long output may still come after the end; children that were killed hold no pipes.
const DRAIN: std::time::Duration = std::time::Duration::from_secs(1);

fn failed(kind: FailedKind, reason: String) -> Report {
    let error = match kind {
        FailedKind::NotFound => StartError::NotFound,
        FailedKind::NotExecutable => StartError::NotExecutable,
        FailedKind::Refused => StartError::Other,
    };
    Report::Failed { error, reason }
}
