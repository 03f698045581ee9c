//! The one task that owns the world: it takes messages, decides, writes, and only then acts.

mod error;
mod handle;
mod programs;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs, io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kontrol_core::{code::Code, id::InstanceId, limits, time::Timestamp};
use kontrol_shim::Order;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::{
    Desired,
    admin::{self, Ask},
    folder::{self, Folder},
    launcher::Launcher,
    ledger::{Ledger, Leftovers},
    logs::{Level, Logs},
    process::Task,
    state::{Command, Effect, Input, Key, Report, State, told},
    user::Listed,
};
use crate::{authority::Authority, clock, control};
pub use error::Error;
pub use handle::Handle;
pub(super) use handle::Message;
pub use programs::Binaries;
use programs::Programs;

/// Messages that may wait for the world.
const MAILBOX: usize = 4096;
/// Messages taken together into one decision.
const BATCH: usize = 256;
/// Decisions that may follow from one another without anything new happening; a plan that never settles is a mistake.
const ROUNDS: usize = 10_000;
/// The pause before a status that could not be written is written again.
const REWRITE: Duration = Duration::from_millis(500);

/// What a world is begun with.
#[derive(Debug)]
pub struct Options {
    /// The state folder.
    pub state: PathBuf,
    /// Where the relative working folders of widgets start from; absolute.
    pub folder: PathBuf,
    /// The programs to start.
    pub binaries: Binaries,
    /// What is to run.
    pub desired: Desired,
}

/// A world.
pub struct World {
    folder: Arc<Folder>,
    programs: Programs,
    state: State,
    authority: Arc<Authority>,
    subjects: Arc<Mutex<BTreeSet<String>>>,
    ledger: Ledger,
    launcher: Launcher,
    logs: Arc<Logs>,
    /// What was found when the world was opened, told to those who listen when it begins to run.
    notices: Vec<String>,
    mailbox: (mpsc::Sender<Message>, mpsc::Receiver<Message>),
    /// The last order for each process.
    orders: BTreeMap<Key, watch::Sender<Option<Order>>>,
    tasks: JoinSet<()>,
    server: Option<control::Server>,
    /// Whether the status in memory is not yet on disk.
    unwritten: bool,
    retry_write: Option<Timestamp>,
    ready: watch::Sender<bool>,
    changes: watch::Sender<u64>,
    downs: Vec<oneshot::Sender<()>>,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("folder", &self.folder.root()).finish_non_exhaustive()
    }
}

impl World {
    /// Takes hold of the state folder, ends what an earlier world left, and prepares to run.
    pub async fn open(options: Options) -> Result<Self, Error> {
        let now = clock::now();
        let folder = Arc::new(Folder::open(&options.state)?);
        for widget in options.desired.widgets() {
            // The one with the longest name that scaling can bring.
            let last = InstanceId { widget: widget.id.clone(), ordinal: limits::REPLICAS - 1 };
            folder.sidecar_socket(&programs::run_name(&last))?;
        }
        let logs = Arc::new(Logs::new(folder.logs()).map_err(Error::Thread)?);
        let path = folder.processes();
        let (ledger, leftovers) =
            Ledger::open(path.clone()).map_err(|source| folder::Error::Unusable { path, source })?;
        // What sidecars of an earlier world kept speaks of incarnations of that world.
        folder.clear_run()?;
        let mut notices: Vec<String> = ended_leftovers(&leftovers).into_iter().collect();
        let earlier = folder.read(now)?;
        if let Some((aside, reason)) = earlier.set_aside {
            notices.push(format!(
                "{}: the written status cannot be read ({reason}); it was set aside as {}, and restart windows start empty",
                Code::StatusUnreadable,
                aside.display()
            ));
        }
        let authority = Arc::new(Authority::open(&folder.ca(), now)?);
        let server = control::Server::bind("127.0.0.1:0").await?;
        let mut state = State::new(earlier.written, now, free_port);
        state.take(Input::Manifest(options.desired), now);
        let programs = Programs {
            binaries: options.binaries,
            origin: options.folder,
            folder: Arc::clone(&folder),
            authority: Arc::clone(&authority),
            control: server.address().to_string(),
        };
        Ok(Self {
            server: Some(server),
            folder,
            programs,
            state,
            authority,
            subjects: Arc::default(),
            ledger,
            launcher: Launcher::new().map_err(Error::Thread)?,
            logs,
            notices,
            mailbox: mpsc::channel(MAILBOX),
            orders: BTreeMap::new(),
            tasks: JoinSet::new(),
            unwritten: true,
            retry_write: None,
            ready: watch::Sender::new(false),
            changes: watch::Sender::new(0),
            downs: Vec::new(),
        })
    }

    /// The way to it.
    pub fn handle(&self) -> Handle {
        Handle {
            mailbox: self.mailbox.0.clone(),
            logs: Arc::clone(&self.logs),
            ready: self.ready.subscribe(),
        }
    }

    /// Runs until it was drained.
    pub async fn run(mut self) -> Result<(), Error> {
        let stop = CancellationToken::new();
        let mut servers: JoinSet<Result<(), Error>> = JoinSet::new();
        let (events, mut heard) = mpsc::channel(MAILBOX);
        if let Some(server) = self.server.take() {
            let subjects = Arc::clone(&self.subjects);
            let known: control::Known = Arc::new(move |subject: &str| lock(&subjects).contains(subject));
            let authority = Arc::clone(&self.authority);
            let serving = control::Serving { authority, proof: control::Proof::JoinToken, known, events };
            let run = server.run(serving, stop.clone());
            servers.spawn(async move { run.await.map_err(Error::Control) });
        }
        let socket = self.folder.control_socket();
        let listener = admin::listen(&socket)?;
        let admin = admin::serve(
            listener,
            self.mailbox.0.clone(),
            Arc::clone(&self.logs),
            self.changes.subscribe(),
            stop.clone(),
        );
        servers.spawn(async move {
            admin.await;
            Ok(())
        });
        // A world that is in no list is found by the name of its state folder.
        let _listed = Listed::enter(self.folder.root())
            .inspect_err(|error| tracing::debug!(%error, "the world is not listed"));
        for notice in std::mem::take(&mut self.notices) {
            self.logs.event(clock::now(), Level::Warn, notice);
        }
        let mut due = true;
        loop {
            if due {
                self.settle().await;
                if self.state.gone() {
                    break;
                }
            }
            due = true;
            let pause = self.next_wake().map(|at| at.since(clock::now()));
            tokio::select! {
                Some(message) = self.mailbox.1.recv() => {
                    let mut batch = VecDeque::from([message]);
                    while batch.len() < BATCH && let Ok(message) = self.mailbox.1.try_recv() {
                        batch.push_back(message);
                    }
                    due = false;
                    for message in batch {
                        due |= self.hear(message);
                    }
                    self.ledger.keep();
                }
                Some(event) = heard.recv() => self.take(Input::Control(event)),
                Some(_) = self.tasks.join_next(), if !self.tasks.is_empty() => due = false,
                Some(ended) = servers.join_next(), if !servers.is_empty() => {
                    if let Ok(Err(error)) = ended {
                        return Err(error);
                    }
                }
                () = async { sleep(pause.unwrap_or_default()).await }, if pause.is_some() => {}
            }
        }
        stop.cancel();
        for done in self.downs.drain(..) {
            // Who asked and did not wait need not hear.
            done.send(()).unwrap_or_default();
        }
        while servers.join_next().await.is_some() {}
        drop(fs::remove_file(&socket));
        Ok(())
    }

    fn next_wake(&self) -> Option<Timestamp> {
        if self.unwritten { self.retry_write } else { self.state.wake() }
    }

    /// Takes a message; says whether there may be something to decide.
    fn hear(&mut self, message: Message) -> bool {
        match message {
            Message::Input(input) => self.take(*input),
            Message::Launched(key, pid) => {
                self.ledger.shim_started(&format!("{key:?}"), &key.source(), pid);
                return false;
            }
            Message::Report(key, report) => {
                if let Report::Started { pid } = &report {
                    self.ledger.started(&format!("{key:?}"), &key.source(), *pid);
                } else {
                    self.ledger.ended(&format!("{key:?}"));
                    self.orders.remove(&key);
                }
                self.take(Input::Process(key, report));
            }
            Message::Ask(ask) => return self.answer(ask),
        }
        true
    }

    fn answer(&mut self, ask: Ask) -> bool {
        let now = clock::now();
        match ask {
            Ask::Tree(reply) => drop(reply.send(self.state.tree(now))),
            Ask::Why(name, reply) => {
                let answer = admin::one(&self.state, &name).map(|named| self.state.why(&named, now));
                drop(reply.send(answer));
            }
            Ask::Sources(name, reply) => drop(reply.send(admin::sources(&self.state, &name))),
            Ask::Restart(name, reply) => {
                let answer = admin::one(&self.state, &name).map(|named| {
                    let target = named.describe();
                    self.take(Input::Restart(named.restart()));
                    target
                });
                drop(reply.send(answer));
                return true;
            }
            Ask::Scale(name, replicas, reply) => {
                let answer = admin::scalable(&self.state, &name, replicas).map(|(widget, before)| {
                    self.take(Input::Scale(widget.clone(), replicas));
                    (widget, before)
                });
                drop(reply.send(answer));
                return true;
            }
            Ask::Down(force, reply) => {
                self.downs.push(reply);
                self.take(Input::Drain { force });
                return true;
            }
        }
        false
    }

    fn take(&mut self, input: Input) {
        let effects = self.state.take(input, clock::now());
        self.carry_out(effects);
    }

    /// Decides, writes and acts until nothing more follows.
    async fn settle(&mut self) {
        for _ in 0..ROUNDS {
            let now = clock::now();
            let decision = self.state.decide(now);
            for event in &decision.events {
                let (level, text) = told(event);
                self.logs.event(now, level, text);
            }
            self.unwritten |= decision.write;
            if self.unwritten && !self.write(now).await {
                return;
            }
            let settled = decision.actions.is_empty();
            let mut effects = self.state.act(decision.actions, now);
            effects.extend(self.state.tend(now));
            *lock(&self.subjects) = self.state.subjects();
            effects.extend(self.state.configure(now));
            self.carry_out(effects);
            if settled {
                break;
            }
        }
        self.ready.send_if_modified(|ready| std::mem::replace(ready, self.state.ready()) != *ready);
        self.changes.send_modify(|change| *change += 1);
    }

    /// Makes the decision durable; false: it is not, and nothing may be done.
    async fn write(&mut self, now: Timestamp) -> bool {
        let (folder, written) = (Arc::clone(&self.folder), self.state.written().clone());
        let outcome = tokio::task::spawn_blocking(move || folder.write(&written)).await;
        let failure = match outcome {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("{}: {error}", error.code())),
            Err(error) => Some(error.to_string()),
        };
        self.unwritten = failure.is_some();
        match failure {
            None => {
                if self.retry_write.take().is_some() {
                    self.logs.event(now, Level::Info, "the status can be written again".to_owned());
                }
            }
            Some(text) => {
                if self.retry_write.is_none() {
                    self.logs.event(now, Level::Error, text);
                }
                self.retry_write = Some(now.plus(REWRITE));
            }
        }
        !self.unwritten
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Say(level, text) => self.logs.event(clock::now(), level, text),
                Effect::Tell(session, message) => session.tell(message),
                Effect::End(session) => session.end(),
                Effect::Order(key, order) => {
                    // A process that has ended takes no orders.
                    if let Some(orders) = self.orders.get(&key) {
                        orders.send_if_modified(|last| {
                            // There is no way back from a kill.
                            let takes = *last != Some(Order::Kill);
                            if takes {
                                *last = Some(order);
                            }
                            takes
                        });
                    }
                }
                Effect::Launch(key, command) => self.launch(key, command),
            }
        }
    }

    fn launch(&mut self, key: Key, command: Command) {
        let (launch, port) = match self.programs.launch(command) {
            Ok(launch) => launch,
            Err(error) => return self.failed(key, &error),
        };
        let (orders, given) = watch::channel(None);
        self.orders.insert(key.clone(), orders);
        let task = Task {
            key,
            launch,
            port,
            launcher: self.launcher.clone(),
            logs: Arc::clone(&self.logs),
            mailbox: self.mailbox.0.clone(),
        };
        self.tasks.spawn(task.run(given));
    }

    fn failed(&mut self, key: Key, error: &io::Error) {
        let (mailbox, reason) = (self.mailbox.0.clone(), error.to_string());
        let report = Report::Failed { error: kontrol_plan::StartError::Other, reason };
        self.tasks.spawn(async move { drop(mailbox.send(Message::Report(key, report)).await) });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn free_port() -> Option<u16> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).ok()?;
    Some(listener.local_addr().ok()?.port())
}

/// What is to be said of what an earlier world left.
fn ended_leftovers(leftovers: &Leftovers) -> Option<String> {
    let ended: Vec<String> =
        leftovers.ended.iter().map(|entry| format!("{} (pid {})", entry.name, entry.pid)).collect();
    let what = match ended.as_slice() {
        [] => "nothing of it runs any more".to_owned(),
        ended => format!("ended what still ran: {}", ended.join(", ")),
    };
    let text =
        format!("{}: an earlier kontrol ended without stopping its processes; {what}", Code::Leftovers);
    (leftovers.recorded > 0).then_some(text)
}
