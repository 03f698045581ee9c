//! How a cluster is made, from nothing or from what a crash has left.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};

use crate::{
    Addresses, Cluster, Component, Entry, Error, Ledger, Options, Result, Run, State, Tool, Tools,
    addresses::RUNS, bootstrap, cgroup, clean, clock, control, error::at, fake, images, network, node,
    pki::Authority, until, wait,
};

/// How long the cluster's parts may take to find each other.
const PATIENCE: Duration = Duration::from_mins(2);

/// Programs of the system, and the Debian packages that have them.
const PROGRAMS: [(&str, &str); 7] = [
    ("etcd", "etcd-server"),
    ("runc", "runc"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("iptables", "iptables"),
    ("conntrack", "conntrack"),
    ("/usr/lib/cni/ptp", "containernetworking-plugins"),
];

/// Keeps anybody else from making or removing the run meanwhile.
pub(crate) fn alone(run: &Run) -> Result<File> {
    fs::create_dir_all(run.base()).map_err(at(run.base()))?;
    let path = run.base().join(format!(".{}.lock", run.name()));
    let file = File::create(&path).map_err(at(&path))?;
    flock(&file, FlockOperation::LockExclusive).map_err(|error| at(path)(error.into()))?;
    Ok(file)
}

/// That the machine has what a cluster needs.
fn check_machine() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::Machine(
            "a cluster needs network namespaces and cgroups: run it as root (sudo -E make cluster)"
                .to_owned(),
        ));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = |name: &str| std::env::split_paths(&path).any(|folder| folder.join(name).exists());
    let missing: Vec<&str> =
        PROGRAMS.iter().filter(|(name, _)| !found(name)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::Machine(format!(
        "Debian packages are missing ({}): `hack/setup cluster` installs them",
        missing.join(", ")
    )))
}

impl Cluster {
    /// Makes the cluster of `run`, or finds it up. `launcher` is the program `kontrol-cluster`; `say` gets a line for each step.
    pub fn up(run: &Run, options: &Options, launcher: &Path, say: &mut dyn FnMut(&str)) -> Result<Self> {
        check_machine()?;
        if options.nodes == 0 || options.nodes > 16 {
            return Err(Error::Invalid(format!("{} nodes: a cluster has 1 to 16", options.nodes)));
        }
        let tools = Tools::ensure(&Tool::of_cluster(options.kubernetes), say)?;
        let _alone = alone(run)?;
        let begun = clock::now();
        if let Some(cluster) = Self::found(run, options)? {
            say(&format!("cluster {} is up already", run.name()));
            cluster.extend(options, say)?;
            return Ok(cluster);
        }
        if clean::clean(run)? {
            say(&format!("cleaned up what an earlier run of {} had left", run.name()));
        }
        let cluster = Self::make(run, options, &tools, launcher)?;
        let mut step = |what: &str| say(&format!("{what} ({:.1} s)", begun.elapsed().as_secs_f64()));
        step("network, keys and folders made");
        cluster.start_all(&tools, &mut step)?;
        cluster.extend(options, say)?;
        say(&format!(
            "cluster {} is up: Kubernetes {}, {}",
            run.name(),
            options.kubernetes,
            cluster.state().nodes.join(" and ")
        ));
        Ok(cluster)
    }

    /// The cluster of the run, if it is up and what is wanted.
    fn found(run: &Run, options: &Options) -> Result<Option<Self>> {
        let cluster = match Self::open(run.clone()) {
            Ok(cluster) => cluster,
            Err(Error::NotUp(_) | Error::Json { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let old = &cluster.state().options;
        let same =
            (old.kubernetes, old.nodes, old.audit) == (options.kubernetes, options.nodes, options.audit);
        let all =
            cluster.state().components.iter().all(|c| c.name == "kwok" || cluster.process(&c.name).is_some());
        Ok((same && all).then_some(cluster))
    }

    /// Fake nodes and extended resources, which a cluster may get at any time.
    fn extend(&self, options: &Options, say: &mut dyn FnMut(&str)) -> Result<()> {
        if options.fake_nodes > 0 {
            self.fake_nodes(options.fake_nodes, say)?;
        }
        wait::block_on(async {
            for (node, resource, count) in &options.extended {
                fake::advertise(&self.client().await?, node, resource, *count).await?;
            }
            Ok(())
        })
    }

    /// Everything but processes.
    fn make(run: &Run, options: &Options, tools: &Tools, launcher: &Path) -> Result<Self> {
        let root = run.root();
        for folder in [root.clone(), run.logs(), root.join("bin")] {
            fs::create_dir_all(&folder).map_err(at(folder))?;
        }
        let addresses = claim(run)?;
        let mut ledger = Ledger::open(&run.ledger())?;
        let mut add = |entry: Entry| ledger.add(&entry).map_err(at(run.ledger()));
        add(Entry::Addresses { index: addresses.index() })?;
        add(Entry::Cgroup { path: run.cgroup() })?;
        cgroup::make(&run.cgroup_of("control"))?;
        let nodes: Vec<String> = (0..options.nodes).map(|number| format!("node{number}")).collect();
        network::make(run, addresses, &nodes, &mut ledger)?;

        let authority = Authority::make(run)?;
        control::write_keys(run, addresses, &authority)?;
        // A copy: it has to start components after the one that is built here was built anew, or is gone.
        let copy = root.join("bin/kontrol-cluster");
        fs::copy(launcher, &copy).map_err(at(launcher))?;
        let mut components = vec![
            control::etcd(run),
            control::apiserver(run, addresses, tools, options)?,
            control::controller_manager(run, addresses, tools, options)?,
            control::scheduler(run, tools, options)?,
            control::coredns(run, addresses, tools)?,
            provisioner(run, &copy),
        ];
        for (name, number) in nodes.iter().zip(0u8..) {
            components.extend(node::make(run, addresses, (name, number), tools, &authority)?);
        }
        // With what tests use besides, where it is built: helm.
        let path = Tools::built(&Tool::all(options.kubernetes))?.folders();
        let state = State { options: options.clone(), addresses, nodes, launcher: copy, path, components };
        state.write(run)?;
        Ok(Self::from_parts(run.clone(), state))
    }

    /// Starts the components, each when what it needs is there.
    fn start_all(&self, tools: &Tools, step: &mut dyn FnMut(&str)) -> Result<()> {
        let (run, nodes) = (self.run(), &self.state().nodes);
        self.start("etcd")?;
        self.start("kube-apiserver")?;
        for node in nodes {
            let [containerd, ..] = node::component_names(node);
            self.start(&containerd)?;
        }
        let pause = images::pause(run, tools)?;
        for node in nodes {
            self.wait_for_containerd(node)?;
        }
        self.load_image(&pause)?;
        step("containerd answers on each node, and has the image for pods");
        self.wait_for_api()?;
        step("the API server is ready");
        for name in ["kube-controller-manager", "kube-scheduler", "coredns", "provisioner"] {
            self.start(name)?;
        }
        for node in nodes {
            self.start_node(node)?;
        }
        self.wait_for_object("the namespace kube-system", "/api/v1/namespaces/kube-system")?;
        bootstrap::apply(run, self.state().addresses, tools)?;
        // Until it is there, no pod is admitted.
        self.wait_for_object(
            "the default service account",
            "/api/v1/namespaces/default/serviceaccounts/default",
        )?;
        for node in nodes {
            self.wait_for_node(node, true, PATIENCE)?;
        }
        step("the nodes are ready");
        let dns = SocketAddr::from((self.state().addresses.control(), control::DNS_READY));
        until("CoreDNS to be ready", PATIENCE, || {
            self.all_alive()?;
            Ok(TcpStream::connect_timeout(&dns, Duration::from_secs(1))
                .map(drop)
                .map_err(|error| error.to_string()))
        })?;
        Ok(())
    }

    /// An error where a component has ended.
    fn all_alive(&self) -> Result<()> {
        let ended = self.state().components.iter().find(|component| self.process(&component.name).is_none());
        ended.map_or(Ok(()), |component| Err(component.ended(self.run())))
    }

    fn wait_for_object(&self, what: &str, path: &str) -> Result<()> {
        until(what, PATIENCE, || Ok(self.ask(path).map(drop)))
    }
}

/// The program that makes volumes.
fn provisioner(run: &Run, launcher: &Path) -> Component {
    let command = vec![
        launcher.display().to_string(),
        "provision".to_owned(),
        "--name".to_owned(),
        run.name().to_string(),
    ];
    let mut component = Component::control(run, "provisioner", command);
    component.environment.insert("KONTROL_CLUSTER_DIR".to_owned(), run.base().display().to_string());
    component
}

/// Takes addresses that nobody has: not another run, and not the host.
fn claim(run: &Run) -> Result<Addresses> {
    for index in 0..RUNS {
        let addresses = Addresses::new(index);
        let path = clean::claim_path(run.base(), index);
        let folder = path.parent().map_or_else(PathBuf::new, Path::to_owned);
        fs::create_dir_all(&folder).map_err(at(&folder))?;
        // One whose run is gone is free.
        if let Ok(owner) = fs::read_to_string(&path)
            && !owner.is_empty()
            && !run.base().join(owner).exists()
        {
            fs::remove_file(&path).map_err(at(&path))?;
        }
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(at(path)(error)),
            Ok(mut file) => file.write_all(run.name().as_str().as_bytes()).map_err(at(&path))?,
        }
        if !network::taken(addresses)? {
            return Ok(addresses);
        }
        fs::remove_file(&path).map_err(at(path))?;
    }
    Err(Error::Machine(format!(
        "all {RUNS} blocks of addresses for clusters are taken: `kontrol-cluster list` shows by whom"
    )))
}
