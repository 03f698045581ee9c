//! The one task that owns the world: it takes messages, decides, writes, and only then acts.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kontrol_core::{code::Code, id::InstanceId, time::Timestamp};
use kontrol_plan::{End, Event};
use kontrol_shim::{Launch, Order};
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
    ledger::Ledger,
    logs::{Level, Logs},
    process::{Task, socket_path},
    state::{Addresses, Command, Effect, Input, Key, Report, State, WidgetCommand},
};
use crate::{
    authority::{self, Authority, HUB, write_secret},
    clock, control,
};

/// Messages that may wait for the world.
const MAILBOX: usize = 4096;
/// Messages taken together into one decision.
const BATCH: usize = 256;
/// Decisions that may follow from one another without anything new happening; a plan that never settles is a mistake.
const ROUNDS: usize = 10_000;
/// The pause before a status that could not be written is written again.
const REWRITE: Duration = Duration::from_millis(500);
/// From SIGTERM to SIGKILL for sidecars and the hub.
const COMPANION_GRACE: Duration = Duration::from_secs(10);

/// Why a world cannot begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The state folder.
    #[error(transparent)]
    Folder(#[from] folder::Error),
    /// The authority.
    #[error(transparent)]
    Authority(#[from] authority::Error),
    /// The control server.
    #[error(transparent)]
    Control(#[from] control::Error),
    /// The command line's socket.
    #[error("the control socket {} cannot be used: {source}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A binary is missing.
    #[error("{name} is not in {}: install kontrol, kontrol-sidecar and kontrol-shim in one folder, or set KONTROL_BIN_DIR", folder.display())]
    Binary {
        /// Which.
        name: &'static str,
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// The system refuses threads.
    #[error("a thread cannot be started: {0}")]
    Thread(#[source] io::Error),
}

impl Error {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::Folder(error) => error.code(),
            Self::Authority(error) => error.code(),
            Self::Control(error) => error.code(),
            Self::Socket { .. } => Code::ListenFailed,
            Self::Binary { .. } => Code::BinaryNotFound,
            Self::Thread(_) => Code::StateFolderUnusable,
        }
    }
}

/// The programs that a world starts.
#[derive(Clone, Debug)]
pub struct Binaries {
    shim: PathBuf,
    sidecar: PathBuf,
}

impl Binaries {
    /// Finds them in a folder.
    pub fn find(folder: &Path) -> Result<Self, Error> {
        let find = |name: &'static str| {
            let path = folder.join(name);
            if path.is_file() { Ok(path) } else { Err(Error::Binary { name, folder: folder.to_owned() }) }
        };
        Ok(Self { shim: find("kontrol-shim")?, sidecar: find("kontrol-sidecar")? })
    }

    /// A shim and a sidecar from different places.
    pub fn new(shim: PathBuf, sidecar: PathBuf) -> Self {
        Self { shim, sidecar }
    }
}

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

/// What reaches the world.
pub(super) enum Message {
    Input(Box<Input>),
    Launched(Key, u32),
    Report(Key, Report),
    Ask(Ask),
}

/// The way to a world. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    mailbox: mpsc::Sender<Message>,
    logs: Arc<Logs>,
    ready: watch::Receiver<bool>,
}

impl Handle {
    /// The manifests have changed.
    pub async fn manifest(&self, desired: Desired) {
        self.input(Input::Manifest(desired)).await;
    }

    /// Everything is to stop in reverse order; forced: at once.
    pub async fn drain(&self, force: bool) {
        self.input(Input::Drain { force }).await;
    }

    /// What is written and decided.
    pub fn logs(&self) -> &Logs {
        &self.logs
    }

    /// Whether everything that is wanted is ready.
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.clone()
    }

    /// Adds a line of its own to the decisions.
    pub fn say(&self, level: Level, text: String) {
        self.logs.event(clock::now(), level, text);
    }

    /// The tree as it is; none: the world has ended.
    pub async fn tree(&self) -> Option<kontrol_proto::v1::TreeResponse> {
        let (reply, answer) = oneshot::channel();
        self.mailbox.send(Message::Ask(Ask::Tree(reply))).await.ok()?;
        answer.await.ok()
    }

    async fn input(&self, input: Input) {
        drop(self.mailbox.send(Message::Input(Box::new(input))).await);
    }
}

/// A world.
pub struct World {
    folder: Arc<Folder>,
    default_folder: PathBuf,
    binaries: Binaries,
    state: State,
    authority: Arc<Authority>,
    subjects: Arc<Mutex<BTreeSet<String>>>,
    ledger: Ledger,
    launcher: Launcher,
    logs: Arc<Logs>,
    mailbox: (mpsc::Sender<Message>, mpsc::Receiver<Message>),
    orders: BTreeMap<Key, mpsc::UnboundedSender<Order>>,
    tasks: JoinSet<()>,
    server: Option<control::Server>,
    control: String,
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
        let logs = Arc::new(Logs::new(folder.logs()).map_err(Error::Thread)?);
        let path = folder.processes();
        let (ledger, leftovers) =
            Ledger::open(path.clone()).map_err(|source| folder::Error::Unusable { path, source })?;
        if leftovers.recorded > 0 {
            let ended = leftovers.ended.iter().map(|entry| format!("{} (pid {})", entry.name, entry.pid));
            let ended: Vec<String> = ended.collect();
            let what = match ended.len() {
                0 => "nothing of it still ran".to_owned(),
                _ => format!("these still ran and were ended: {}", ended.join(", ")),
            };
            let text = format!(
                "{}: an earlier kontrol ended without stopping its processes; {what}",
                Code::Leftovers
            );
            logs.event(now, Level::Warn, text);
        }
        let earlier = folder.read(now)?;
        if let Some((aside, reason)) = earlier.set_aside {
            let text = format!(
                "{}: the written status cannot be read ({reason}); it was set aside as {}, and restart windows start empty",
                Code::StatusUnreadable,
                aside.display()
            );
            logs.event(now, Level::Warn, text);
        }
        let authority = Arc::new(Authority::open(&folder.ca(), now)?);
        let server = control::Server::bind().await?;
        let mut state = State::new(earlier.written, now, free_port);
        state.take(Input::Manifest(options.desired), now);
        Ok(Self {
            control: server.address().to_string(),
            server: Some(server),
            folder,
            default_folder: options.folder,
            binaries: options.binaries,
            state,
            authority,
            subjects: Arc::default(),
            ledger,
            launcher: Launcher::new().map_err(Error::Thread)?,
            logs,
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
            let run = server.run(Arc::clone(&self.authority), known, events, stop.clone());
            servers.spawn(async move { run.await.map_err(Error::Control) });
        }
        let socket = socket_path(self.folder.control_socket());
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
        let mut due = true;
        while !self.state.gone() {
            if due {
                self.settle().await;
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
                self.ledger.started(&format!("{key:?} shim"), &format!("{} shim", key.source()), pid);
                return false;
            }
            Message::Report(key, report) => {
                match &report {
                    Report::Started { pid } => self.ledger.started(&format!("{key:?}"), &key.source(), *pid),
                    _ => {
                        self.ledger.ended(&format!("{key:?}"));
                        self.ledger.ended(&format!("{key:?} shim"));
                        self.orders.remove(&key);
                    }
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
                let answer = admin::scalable(&self.state, &name).map(|(widget, before)| {
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
                self.logs.event(now, level_of(event), event.to_string());
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
                Effect::Order(key, order) => {
                    // A process that has ended takes no orders.
                    if let Some(orders) = self.orders.get(&key) {
                        orders.send(order).unwrap_or_default();
                    }
                }
                Effect::Launch(key, command) => self.launch(key, command),
            }
        }
    }

    fn launch(&mut self, key: Key, command: Command) {
        let (launch, port) = match command {
            Command::Widget(widget) => self.widget(widget),
            Command::Sidecar(instance, addresses) => match self.sidecar(&instance, addresses) {
                Ok(launch) => (launch, None),
                Err(error) => return self.failed(key, &error),
            },
            Command::Hub(addresses) => match self.hub(addresses) {
                Ok(launch) => (launch, None),
                Err(error) => return self.failed(key, &error),
            },
        };
        let (orders, given) = mpsc::unbounded_channel();
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

    fn widget(&self, widget: WidgetCommand) -> (Launch, Option<u16>) {
        let mut options = kontrol_shim::Options::new(widget.command);
        options.limits =
            kontrol_shim::Limits { memory: widget.limits.memory, open_files: widget.limits.open_files };
        let folder = widget
            .folder
            .map_or_else(|| self.default_folder.clone(), |folder| self.default_folder.join(folder));
        let launch =
            Launch { shim: self.binaries.shim.clone(), options, environment: widget.environment, folder };
        (launch, widget.port)
    }

    fn sidecar(&self, instance: &InstanceId, addresses: Option<Addresses>) -> io::Result<Launch> {
        let id = &instance.widget;
        let name = format!("{}.{}.{}.{}", id.namespace, id.group, id.widget, instance.ordinal);
        let folder = self.folder.run(&name);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let subject = instance.to_string();
        let token = folder.join("token");
        write_secret(&token, self.authority.token(&subject).as_bytes())?;
        let socket = socket_path(folder.join("socket"));
        private_parent(&socket)?;
        let at = addresses.unwrap_or_default();
        let arguments = [
            ("--instance", subject),
            ("--socket", text(&socket)),
            ("--grpc", or_free(at.grpc)),
            ("--http", or_free(at.http)),
            ("--peer", or_free(at.peer)),
            ("--admin", or_free(at.admin)),
            ("--state-dir", text(&folder)),
            ("--join-token-file", text(&token)),
        ];
        Ok(self.companion("run", &arguments))
    }

    fn hub(&self, addresses: Option<Addresses>) -> io::Result<Launch> {
        let folder = self.folder.hub();
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let token = self.folder.root().join("run").join("hub.token");
        write_secret(&token, self.authority.token(HUB).as_bytes())?;
        let at = addresses.unwrap_or_default();
        let arguments = [
            ("--dir", text(&folder)),
            ("--peer", or_free(at.peer)),
            ("--admin", or_free(at.admin)),
            ("--join-token-file", text(&token)),
        ];
        Ok(self.companion("hub", &arguments))
    }

    fn companion(&self, mode: &str, arguments: &[(&str, String)]) -> Launch {
        let mut command = vec![self.binaries.sidecar.clone().into_os_string(), mode.into()];
        for (name, value) in arguments {
            command.extend([(*name).into(), value.into()]);
        }
        command.extend(["--control".into(), self.control.clone().into()]);
        command.extend(["--ca-file".into(), self.authority.ca_file().as_os_str().to_owned()]);
        let mut options = kontrol_shim::Options::new(command);
        options.grace = COMPANION_GRACE;
        Launch {
            shim: self.binaries.shim.clone(),
            options,
            environment: BTreeMap::new(),
            folder: self.folder.root().to_owned(),
        }
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn or_free(address: String) -> String {
    if address.is_empty() { "127.0.0.1:0".to_owned() } else { address }
}

pub(super) fn private_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => fs::DirBuilder::new().recursive(true).mode(0o700).create(parent),
        None => Ok(()),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn free_port() -> Option<u16> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).ok()?;
    Some(listener.local_addr().ok()?.port())
}

fn level_of(event: &Event) -> Level {
    match event {
        Event::Ended { end: End::Exited(0), .. } => Level::Info,
        Event::GaveUp { .. } | Event::StaysStopped { .. } | Event::NotStarted { .. } => Level::Error,
        Event::Ended { .. }
        | Event::ReplicasExhausted { .. }
        | Event::StartFailed { .. }
        | Event::Retries { .. }
        | Event::TookOver { .. } => Level::Warn,
        _ => Level::Info,
    }
}
