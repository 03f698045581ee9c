//! The cluster: made, opened, taken down; its nodes and its API server broken and mended.

use std::{
    fs,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client, Config, config::Kubeconfig};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::{
    Addresses, Component, Entry, Error, Ledger, Result, Run, Tool, Tools, Version, cgroup,
    error::{at, json},
    fake, network, node,
    process::Process,
    ready, until, wait,
};

/// How long anything of the cluster may take that should take seconds.
const PATIENCE: Duration = Duration::from_mins(2);

/// What kind of cluster is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Which Kubernetes. Default: the newest.
    pub kubernetes: Version,
    /// How many real nodes, `node0` and on. Default: 2.
    pub nodes: u8,
    /// How many fake nodes, `fake-0` and on. Default: 0.
    pub fake_nodes: u32,
    /// Whether the API server writes down each write. Default: no.
    pub audit: bool,
    /// How many requests a second the controllers and the scheduler may make. Default: 200.
    pub controller_qps: u32,
    /// Extended resources that nodes say they have: node, resource, how many.
    pub extended: Vec<(String, String, u32)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            kubernetes: Version::NEWEST,
            nodes: 2,
            fake_nodes: 0,
            audit: false,
            controller_qps: 200,
            extended: Vec::new(),
        }
    }
}

/// What a cluster is made of, as it is kept in its folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    /// What was asked for.
    pub options: Options,
    /// Its addresses.
    pub addresses: Addresses,
    /// The names of its real nodes.
    pub nodes: Vec<String>,
    /// The copy of `kontrol-cluster` that starts components.
    pub launcher: PathBuf,
    /// The folders of its programs.
    pub path: Vec<PathBuf>,
    /// Its components.
    pub components: Vec<Component>,
}

impl State {
    /// Writes it into the run's folder, whole.
    pub(crate) fn write(&self, run: &Run) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).map_err(json("the cluster's state"))?;
        let (path, new) = (run.state(), run.root().join("cluster.json.new"));
        fs::write(&new, text).map_err(at(&new))?;
        fs::rename(&new, &path).map_err(at(path))
    }
}

/// A cluster that is up.
#[derive(Clone, Debug)]
pub struct Cluster {
    run: Run,
    state: State,
}

/// How a cluster is.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The run's name.
    pub name: String,
    /// The version of Kubernetes.
    pub kubernetes: String,
    /// Where the API server is.
    pub server: String,
    /// An administrator's kubeconfig.
    pub kubeconfig: PathBuf,
    /// The real nodes.
    pub nodes: Vec<NodeState>,
    /// The components: name, process (none where it does not run), log.
    pub components: Vec<(String, Option<i32>, PathBuf)>,
}

/// How a node is.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeState {
    /// Its name.
    pub name: String,
    /// Whether the API server calls it ready; nothing where the API server does not answer.
    pub ready: Option<bool>,
    /// Whether its cable is in place.
    pub connected: bool,
    /// Whether its kubelet runs.
    pub running: bool,
}

/// A client for the kubeconfig at `path`.
pub(crate) async fn client(path: &Path) -> Result<Client> {
    let config = Kubeconfig::read_from(path)
        .map_err(|error| Error::Invalid(format!("{}: {error}", path.display())))?;
    let mut config = Config::from_custom_kubeconfig(config, &kube::config::KubeConfigOptions::default())
        .await
        .map_err(|error| Error::Invalid(format!("{}: {error}", path.display())))?;
    config.connect_timeout = Some(Duration::from_secs(2));
    Ok(Client::try_from(config)?)
}

impl Cluster {
    /// The cluster of the run, which is to be up.
    pub fn open(run: Run) -> Result<Self> {
        let path = run.state();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::NotUp(run.name().to_string()));
            }
            Err(error) => return Err(at(path)(error)),
        };
        let state = serde_json::from_slice(&text).map_err(json(path.display().to_string()))?;
        Ok(Self { run, state })
    }

    pub(crate) fn from_parts(run: Run, state: State) -> Self {
        Self { run, state }
    }

    /// Ends and removes all that the run has made, wherever it was when it ended. Gives whether there was anything.
    pub fn down(run: &Run) -> Result<bool> {
        let _alone = crate::up::alone(run)?;
        crate::clean::clean(run)
    }

    /// The run.
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// What it is made of.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The path of an administrator's kubeconfig, which works from the host.
    pub fn kubeconfig(&self) -> PathBuf {
        self.run.kubeconfig()
    }

    /// An administrator's client.
    pub async fn client(&self) -> Result<Client> {
        client(&self.run.kubeconfig()).await
    }

    /// The path of one of the cluster's programs: `kubectl`, `ctr`, `helm` where it is built.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        let found = self.state.path.iter().map(|folder| folder.join(name)).find(|path| path.exists());
        found.ok_or_else(|| {
            Error::Machine(format!("{name} is not built: `kontrol-cluster tools {name}` builds it"))
        })
    }

    /// Runs `kubectl` as an administrator; gives what it printed.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let (program, config) = (self.program("kubectl")?, self.kubeconfig());
        let config = format!("--kubeconfig={}", config.display());
        let mut all = vec![config.as_str()];
        all.extend(arguments);
        network::command(&program.display().to_string(), &all)
    }

    /// Loads an OCI archive into the nodes.
    pub fn load_image(&self, archive: &Path) -> Result<()> {
        let ctr = self.program("ctr")?.display().to_string();
        for node in &self.state.nodes {
            let socket = self.run.node(node).join("containerd.sock").display().to_string();
            let archive = archive.display().to_string();
            network::command(&ctr, &["-a", &socket, "-n", "k8s.io", "images", "import", &archive])?;
        }
        Ok(())
    }

    /// Whether a node has an image of this name, so that it needs none from a registry.
    pub fn has_image(&self, node: &str, name: &str) -> Result<bool> {
        let ctr = self.program("ctr")?.display().to_string();
        let socket = self.run.node(node).join("containerd.sock").display().to_string();
        let filter = format!("name=={name}");
        Ok(!network::command(&ctr, &["-a", &socket, "-n", "k8s.io", "images", "list", "-q", &filter])?
            .is_empty())
    }

    /// Says in a node's status that it has `count` of the extended resource.
    pub async fn advertise(&self, node: &str, resource: &str, count: u32) -> Result<()> {
        fake::advertise(&self.client().await?, node, resource, count).await
    }

    /// Makes sure that there are `count` fake nodes, with a kwok that plays them (built where it is missing, with a word by `say`).
    pub fn fake_nodes(&self, count: u32, say: &mut dyn FnMut(&str)) -> Result<()> {
        if self.process("kwok").is_none() {
            let tools = Tools::ensure(&[Tool::named("kwok")?], say)?;
            let kwok = fake::kwok(&self.run, &tools)?;
            let mut state = self.state.clone();
            state.components.retain(|component| component.name != kwok.name);
            state.components.push(kwok);
            state.write(&self.run)?;
            Self::from_parts(self.run.clone(), state).start("kwok")?;
        }
        wait::block_on(async { fake::ensure(&self.client().await?, count).await })
    }

    fn component(&self, name: &str) -> Result<&Component> {
        self.state.components.iter().find(|component| component.name == name).ok_or_else(|| Error::Unknown {
            kind: "component",
            name: name.to_owned(),
            known: self.state.components.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", "),
        })
    }

    /// The process of a component, if it runs.
    pub(crate) fn process(&self, component: &str) -> Option<Process> {
        let entries = Ledger::read(&self.run.ledger()).unwrap_or_default();
        let newest = entries.into_iter().rev().find_map(|entry| match entry {
            Entry::Process { component: name, pid, started } if name == component => {
                Some(Process { pid, started })
            }
            _ => None,
        });
        newest.filter(|process| process.alive())
    }

    /// Starts a component.
    pub(crate) fn start(&self, name: &str) -> Result<Process> {
        let process = self.component(name)?.start(&self.run, &self.state.launcher)?;
        let path = self.run.ledger();
        let entry = Entry::Process { component: name.to_owned(), pid: process.pid, started: process.started };
        Ledger::open(&path)?.add(&entry).map_err(at(path))?;
        Ok(process)
    }

    /// Ends a component at once, and comes back when it is gone.
    fn stop(&self, name: &str) -> Result<()> {
        self.component(name)?;
        let Some(process) = self.process(name) else { return Ok(()) };
        process.signal(Signal::KILL);
        until(&format!("{name} to be gone"), PATIENCE, || {
            Ok(if process.alive() { Err(format!("process {} is alive", process.pid)) } else { Ok(()) })
        })
    }

    /// Waits until the API server says that it is ready.
    pub(crate) fn wait_for_api(&self) -> Result<()> {
        until("the API server to be ready", PATIENCE, || {
            for name in ["etcd", "kube-apiserver"] {
                if self.process(name).is_none() {
                    return Err(self.component(name)?.ended(&self.run));
                }
            }
            Ok(self.ask("/readyz").map(drop))
        })
    }

    /// What the API server answers to a GET; as text what stands in the way.
    pub(crate) fn ask(&self, path: &str) -> Result<String, String> {
        let asked = wait::block_on(async {
            let request = http_get(path)?;
            Ok(self.client().await?.request_text(request).await?)
        });
        asked.map_err(|error| error.to_string())
    }

    /// Ends the API server at once. Nothing else ends: see what goes on without it.
    pub fn apiserver_stop(&self) -> Result<()> {
        self.stop("kube-apiserver")
    }

    /// Starts the API server again, and waits until it is ready.
    pub fn apiserver_start(&self) -> Result<()> {
        if self.process("kube-apiserver").is_none() {
            self.start("kube-apiserver")?;
        }
        self.wait_for_api()
    }

    /// The number of a node of the cluster.
    fn number(&self, node: &str) -> Result<u8> {
        let mut numbers = self.state.nodes.iter().zip(0u8..);
        let number = numbers.find_map(|(name, number)| (name == node).then_some(number));
        let known = || self.state.nodes.join(", ");
        number.ok_or_else(|| Error::Unknown { kind: "node", name: node.to_owned(), known: known() })
    }

    fn known(&self, node: &str) -> Result<()> {
        self.number(node).map(drop)
    }

    /// Takes a node's power: its cable first, so that nothing says good-bye, then its kubelet, its containerd and all that runs in its pods.
    pub fn node_kill(&self, node: &str) -> Result<()> {
        self.known(node)?;
        network::connect(&self.run, node, false)?;
        cgroup::kill(&self.run.cgroup_of(node))
    }

    /// Gives a node its power and its cable back. [`Cluster::wait_for_node`] waits until it is ready.
    pub fn node_restart(&self, node: &str) -> Result<()> {
        self.known(node)?;
        cgroup::kill(&self.run.cgroup_of(node))?;
        network::connect(&self.run, node, true)?;
        self.start_node(node)
    }

    /// Ends a node's kubelet at once. What runs in its pods goes on.
    pub fn kubelet_stop(&self, node: &str) -> Result<()> {
        self.known(node)?;
        let [_, kubelet, _] = node::component_names(node);
        self.stop(&kubelet)
    }

    /// Starts a node's kubelet again.
    pub fn kubelet_start(&self, node: &str) -> Result<()> {
        self.known(node)?;
        let [_, kubelet, _] = node::component_names(node);
        if self.process(&kubelet).is_none() {
            self.start(&kubelet)?;
        }
        Ok(())
    }

    pub(crate) fn start_node(&self, node: &str) -> Result<()> {
        let [containerd, kubelet, proxy] = node::component_names(node);
        if self.process(&containerd).is_none() {
            self.start(&containerd)?;
        }
        self.wait_for_containerd(node)?;
        self.start(&kubelet)?;
        self.start(&proxy)?;
        Ok(())
    }

    pub(crate) fn wait_for_containerd(&self, node: &str) -> Result<()> {
        let [name, ..] = node::component_names(node);
        let (socket, ctr) =
            (self.run.node(node).join("containerd.sock"), self.program("ctr")?.display().to_string());
        until(&format!("{name} to answer"), PATIENCE, || {
            if self.process(&name).is_none() {
                return Err(self.component(&name)?.ended(&self.run));
            }
            if let Err(error) = UnixStream::connect(&socket) {
                return Ok(Err(format!("{}: {error}", socket.display())));
            }
            let asked = network::command(&ctr, &["-a", &socket.display().to_string(), "version"]);
            Ok(asked.map(drop).map_err(|error| error.to_string()))
        })
    }

    /// Cuts a node's cable. All on it goes on.
    pub fn node_partition(&self, node: &str) -> Result<()> {
        self.known(node)?;
        network::connect(&self.run, node, false)
    }

    /// Puts a node's cable back.
    pub fn node_heal(&self, node: &str) -> Result<()> {
        self.known(node)?;
        network::connect(&self.run, node, true)
    }

    /// Drops what the pods of a node send to this TCP port, wherever that is. All else passes, its kubelet's words among it.
    pub fn node_mute(&self, node: &str, port: u16) -> Result<()> {
        let pods = self.state.addresses.pods_of(self.number(node)?);
        network::mute(&self.run, node, &pods, port)
    }

    /// Lets it pass again.
    pub fn node_unmute(&self, node: &str) -> Result<()> {
        self.known(node)?;
        network::unmute(&self.run, node)
    }

    /// Has a node take pods again, where it was cordoned.
    pub(crate) fn node_uncordon(&self, node: &str) -> Result<()> {
        self.known(node)?;
        wait::block_on(async {
            let nodes = Api::<Node>::all(self.client().await?);
            if nodes.get_opt(node).await?.as_ref().is_some_and(ready::is_cordoned) {
                nodes.uncordon(node).await?;
            }
            Ok(())
        })
    }

    /// Waits until the API server calls the node ready and gives it pods, or until it calls it not ready.
    pub fn wait_for_node(&self, node: &str, ready: bool, within: Duration) -> Result<()> {
        self.known(node)?;
        let [_, kubelet, _] = node::component_names(node);
        let what = if ready { "ready" } else { "not ready" };
        until(&format!("{node} to be {what}"), within, || {
            let started = match self.process(&kubelet) {
                None if ready => return Err(self.component(&kubelet)?.ended(&self.run)),
                process => process.map(Process::started),
            };
            let seen = match self.node(node) {
                Ok(seen) => seen.unwrap_or_default(),
                Err(error) => return Ok(Err(error.to_string())),
            };
            let why_not = if ready {
                ready::why_not(&seen, started.unwrap_or(SystemTime::UNIX_EPOCH))
            } else {
                ready::is_ready(&seen).then(|| "it is ready".to_owned())
            };
            Ok(why_not.map_or(Ok(()), Err))
        })
    }

    /// The node, as the API server has it.
    fn node(&self, name: &str) -> Result<Option<Node>> {
        wait::block_on(async { Ok(Api::<Node>::all(self.client().await?).get_opt(name).await?) })
    }

    /// How the cluster is.
    pub fn status(&self) -> Result<Status> {
        let process = |name: &str| self.process(name).map(|process| process.pid);
        let nodes = self.state.nodes.iter().map(|name| {
            let [_, kubelet, _] = node::component_names(name);
            Ok(NodeState {
                name: name.clone(),
                ready: self.node(name).ok().map(|node| node.as_ref().is_some_and(ready::is_ready)),
                connected: network::connected(&self.run, name)?,
                running: process(&kubelet).is_some(),
            })
        });
        Ok(Status {
            name: self.run.name().to_string(),
            kubernetes: self.state.options.kubernetes.to_string(),
            server: self.state.addresses.server(),
            kubeconfig: self.kubeconfig(),
            nodes: nodes.collect::<Result<_>>()?,
            components: self
                .state
                .components
                .iter()
                .map(|component| (component.name.clone(), process(&component.name), component.log(&self.run)))
                .collect(),
        })
    }

    /// The programs' folders and what stands in `PATH`, for a command that is to find them.
    pub fn search_path(&self) -> Result<std::ffi::OsString> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let all = self.state.path.iter().cloned().chain(std::env::split_paths(&path));
        std::env::join_paths(all).map_err(|error| Error::Invalid(format!("PATH: {error}")))
    }
}

/// A GET without a body.
fn http_get(path: &str) -> Result<http::Request<Vec<u8>>> {
    http::Request::get(path).body(Vec::new()).map_err(|error| Error::Invalid(format!("{path}: {error}")))
}
