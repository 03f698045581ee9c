//! The real binary, as hub and as sidecars.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use hyper_util::rt::TokioIo;
use kontrol_proto::v1::{self, session_response::Message};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use super::{Operator, operator::TOKEN, soon};

/// A process that is killed with its handle.
pub(crate) struct Process {
    child: Child,
    pub(crate) hello: v1::Hello,
}

impl Process {
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn terminate(&self) {
        self.signal(rustix::process::Signal::TERM);
    }

    /// Stops it where it is, until [`Process::resume`].
    pub(crate) fn pause(&self) {
        self.signal(rustix::process::Signal::STOP);
    }

    pub(crate) fn resume(&self) {
        self.signal(rustix::process::Signal::CONT);
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> std::process::ExitStatus {
        super::eventually("the process ends", || {
            let status = self.child.try_wait().unwrap();
            async move { status }
        })
        .await
    }

    /// A channel to its Unix socket.
    pub(crate) async fn channel(&self) -> Channel {
        self.try_channel().await.unwrap()
    }

    /// The same, if it listens already.
    pub(crate) async fn try_channel(&self) -> Option<Channel> {
        let path = self.hello.socket.clone();
        let connector = tower::service_fn(move |_: http::Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        Endpoint::from_static("http://sidecar").connect_with_connector(connector).await.ok()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// An operator and a folder for everything.
pub(crate) struct World {
    pub(crate) operator: Operator,
    folder: tempfile::TempDir,
}

impl World {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let operator = Operator::start().await;
        fs::write(folder.path().join("ca.pem"), &operator.authority.pem).unwrap();
        fs::write(folder.path().join("token"), TOKEN).unwrap();
        Self { operator, folder }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    fn command(&self, mode: &str, ca: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kontrol-sidecar"));
        command
            .arg(mode)
            .args(["--control", &self.operator.address])
            .arg("--ca-file")
            .arg(ca)
            .arg("--join-token-file")
            .arg(self.path().join("token"))
            .env("KONTROL_LOG", "warn")
            .stdin(Stdio::null());
        command
    }

    async fn spawn(&self, mut command: Command, subject: &str) -> Process {
        let child = command.spawn().unwrap();
        let hello = self.operator.hello(subject, child.id()).await;
        Process { child, hello }
    }

    /// Starts a hub on the world's log, with these topics.
    pub(crate) async fn hub(&self, topics: Vec<v1::TopicConfig>) -> Process {
        self.hub_at(topics, "127.0.0.1:0").await
    }

    /// The same, at an address.
    pub(crate) async fn hub_at(&self, topics: Vec<v1::TopicConfig>, peer: &str) -> Process {
        self.hub_of("hub", topics, peer).await
    }

    /// The same, with a subject of its own, as the hub of one bus in a cluster has it.
    pub(crate) async fn hub_of(&self, subject: &str, topics: Vec<v1::TopicConfig>, peer: &str) -> Process {
        let config = v1::HubConfig {
            version: 1,
            topics,
            fences: Vec::new(),
            storage_bytes: 256 << 20,
            segment_bytes: 4 << 20,
        };
        self.operator.configure(subject, Message::Hub(config));
        let mut command = self.command("hub", &self.path().join("ca.pem"));
        command.arg("--dir").arg(self.path().join("hub")).args(["--peer", peer, "--subject", subject]);
        let hub = self.spawn(command, subject).await;
        self.operator.applied(subject, 1).await;
        hub
    }

    /// Starts a hub on the world's log that ends by itself; says how, and what it wrote to its log.
    pub(crate) async fn hub_that_ends(&self) -> (std::process::ExitStatus, String) {
        let mut command = self.command("hub", &self.path().join("ca.pem"));
        command.arg("--dir").arg(self.path().join("hub")).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let status = super::eventually("the hub ends", || {
            let status = child.try_wait().unwrap();
            async move { status }
        })
        .await;
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (status, said)
    }

    /// Starts a sidecar with a configuration.
    pub(crate) async fn sidecar(&self, instance: &str, config: v1::SidecarConfig) -> Process {
        self.sidecar_with_grace(instance, config, "10s").await
    }

    /// The same, that drains for so long at most.
    pub(crate) async fn sidecar_with_grace(
        &self,
        instance: &str,
        config: v1::SidecarConfig,
        grace: &str,
    ) -> Process {
        let version = config.version;
        self.operator.configure(instance, Message::Sidecar(config));
        let mut command = self.sidecar_command(instance);
        command.args(["--drain-grace", grace]);
        let process = self.spawn(command, instance).await;
        soon("applied", self.operator.applied(instance, version)).await;
        process
    }

    /// Starts a sidecar and waits for nothing but its hello.
    pub(crate) async fn sidecar_again(&self, instance: &str) -> Process {
        self.spawn(self.sidecar_command(instance), instance).await
    }

    /// Starts a sidecar without waiting for anything; only its socket is known.
    pub(crate) fn sidecar_alone(&self, instance: &str) -> Process {
        let child = self.sidecar_command(instance).spawn().unwrap();
        let socket = self.path().join(instance.replace('/', ".")).join("door.sock");
        let hello = v1::Hello { socket: socket.display().to_string(), ..Default::default() };
        Process { child, hello }
    }

    /// Starts a sidecar as a pod does it, with the token in `token` and these options besides.
    pub(crate) async fn pod(&self, instance: &str, token: &Path, options: &[(&str, &str)]) -> Process {
        let folder: PathBuf = self.path().join(instance.replace('/', "."));
        let mut command = Command::new(env!("CARGO_BIN_EXE_kontrol-sidecar"));
        command
            .arg("run")
            .env("KONTROL_INSTANCE", instance)
            .env("KONTROL_SOCKET", folder.join("door.sock"))
            .env("KONTROL_STATE_DIR", &folder)
            .env("KONTROL_CONTROL", &self.operator.address)
            .env("KONTROL_CA_FILE", self.path().join("ca.pem"))
            .env("KONTROL_TOKEN_FILE", token)
            .env("KONTROL_LOG", "warn")
            .envs(options.iter().copied())
            .stdin(Stdio::null());
        self.spawn(command, instance).await
    }

    fn sidecar_command(&self, instance: &str) -> Command {
        let folder: PathBuf = self.path().join(instance.replace('/', "."));
        let mut command = self.command("run", &self.path().join("ca.pem"));
        command.args(["--instance", instance]).arg("--socket").arg(folder.join("door.sock"));
        command.arg("--state-dir").arg(folder);
        command
    }
}
