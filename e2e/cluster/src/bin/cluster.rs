//! `kontrol-cluster`: a real Kubernetes on this machine, for tests. See `docs/cluster.md`.

use std::{
    ffi::OsString,
    io::{self, Write as _},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use kontrol_e2e_cluster::{
    Cluster, Error, Options, Run, RunName, Tool, Tools, Version, enter, images,
    lab::Lab,
    measure::{Figure, measure},
    provision,
};

/// A real Kubernetes cluster on this machine: a control plane and two nodes, each in a network namespace of its own.
///
/// Everything that a cluster makes bears its name and is removed by `down`, also after a crash. Each work tree has a name of its own, so
/// that the clusters of two work trees do not meet; --name gives another.
#[derive(Parser)]
#[command(name = "kontrol-cluster", version, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Verb,
    /// The cluster's name [default: made of the work tree's path]
    #[arg(long, global = true, env = "KONTROL_CLUSTER")]
    name: Option<RunName>,
    /// How results are printed
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Text)]
    output: Output,
}

const EXAMPLES: &str = "Examples:
  kontrol-cluster up                                 start it, or find it up
  kontrol-cluster up --gpus node1=2 --kwok 100       two GPUs on node1, and 100 fake nodes
  kontrol-cluster exec -- kubectl get nodes -o wide  run a command with its tools and its kubeconfig
  kontrol-cluster images --load                      make Kontrol's images and load them into the nodes
  kontrol-cluster node kill node1                    take a node's power, with all that runs on it
  kontrol-cluster down                               end and remove it";

#[derive(Clone, Copy, ValueEnum, PartialEq, Eq)]
enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

#[derive(Subcommand)]
enum Verb {
    /// Start the cluster, or find it up (builds its tools once)
    Up(Up),
    /// End the cluster and remove all that it has made
    Down,
    /// Show the nodes and the components
    Status,
    /// List the clusters of this machine
    List,
    /// Print the path of an administrator's kubeconfig
    Kubeconfig,
    /// Run a command with the cluster's tools in PATH and KUBECONFIG set
    Exec {
        /// Run it in this node's network namespace, not the host's
        #[arg(long)]
        node: Option<String>,
        /// The command
        #[arg(required = true, last = true)]
        command: Vec<OsString>,
    },
    /// Make Kontrol's images as OCI archives in target/images
    Images {
        /// Load them into the nodes
        #[arg(long)]
        load: bool,
        /// Compile as for a release
        #[arg(long)]
        release: bool,
        /// Only the images of these names
        names: Vec<String>,
    },
    /// Make an image of what lies in folders, as an OCI archive
    Image(Pack),
    /// Load an OCI archive into the nodes
    Load {
        /// The archives
        #[arg(required = true)]
        archives: Vec<PathBuf>,
    },
    /// Break and mend a node
    Node {
        #[command(subcommand)]
        verb: NodeVerb,
    },
    /// Stop and start the API server
    Apiserver {
        #[command(subcommand)]
        verb: ServerVerb,
    },
    /// Say in a node's status that it has extended resources
    Resource {
        /// The node
        node: String,
        /// Name and count, as nvidia.com/gpu=2
        #[arg(required = true, value_parser = resource)]
        resources: Vec<(String, u32)>,
    },
    /// Build the tools: all, or those named
    Tools {
        /// Which Kubernetes
        #[arg(long, env = "K8S", default_value = "1.36")]
        kubernetes: Version,
        /// Folders of e2e/cluster/tools
        names: Vec<String>,
    },
    /// Measure what the kubelet itself costs, with bare pods (needs the image kontrol-probe)
    Measure {
        /// How often each thing is measured
        #[arg(short, default_value_t = 20)]
        n: usize,
        /// How often a node's power is taken (about a minute each)
        #[arg(long, default_value_t = 3)]
        losses: usize,
    },
    /// Make volumes for the cluster's claims, until ended (the cluster starts this)
    #[command(hide = true)]
    Provision,
    /// Become a command in a cgroup and a network namespace (the cluster starts its components by this)
    #[command(hide = true)]
    Enter {
        #[arg(long)]
        cgroup: Option<String>,
        #[arg(long)]
        namespace: Option<String>,
        #[arg(required = true, last = true)]
        command: Vec<OsString>,
    },
}

#[derive(Args)]
struct Up {
    /// Which Kubernetes: 1.36, or 1.33
    #[arg(long, env = "K8S", default_value = "1.36")]
    kubernetes: Version,
    /// How many real nodes
    #[arg(long, default_value_t = 2)]
    nodes: u8,
    /// How many fake nodes, played by kwok
    #[arg(long, value_name = "N", default_value_t = 0)]
    kwok: u32,
    /// How many GPUs a node says it has, as node1=2 (nvidia.com/gpu); may be repeated
    #[arg(long, value_name = "NODE=COUNT", value_parser = resource)]
    gpus: Vec<(String, u32)>,
    /// Have the API server write down each write, in logs/audit.jsonl of the cluster's folder
    #[arg(long)]
    audit: bool,
    /// How many requests a second the controllers and the scheduler may make
    #[arg(long, value_name = "N", default_value_t = 200)]
    controller_qps: u32,
}

#[derive(Args)]
struct Pack {
    /// Its name with a tag, as kontrol.local/ai-pipeline:dev
    image: String,
    /// The archive that is written
    archive: PathBuf,
    /// A folder, and where its files are in the image, as build/app=/app; may be repeated, a later one wins
    #[arg(long, value_name = "FOLDER=PLACE", required = true, value_parser = part)]
    add: Vec<images::Part>,
    /// A variable of its environment; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// The folder that it starts in
    #[arg(long, value_name = "FOLDER")]
    workdir: Option<String>,
}

#[derive(Subcommand)]
enum NodeVerb {
    /// Take its power: its cable, its kubelet, its containerd and all that runs in its pods, at once
    Kill { node: String },
    /// Give it its power back, and wait until it is ready
    Restart { node: String },
    /// Cut its cable; all on it goes on
    Partition { node: String },
    /// Put its cable back
    Heal { node: String },
}

#[derive(Subcommand)]
enum ServerVerb {
    /// End it at once; nothing else ends
    Stop,
    /// Start it, and wait until it is ready
    Start,
}

/// `name=count`.
fn resource(text: &str) -> Result<(String, u32), String> {
    let (name, count) = text.split_once('=').ok_or_else(|| format!("`{text}` is not name=count"))?;
    Ok((name.to_owned(), count.parse().map_err(|error| format!("`{count}`: {error}"))?))
}

/// `folder=place`.
fn part(text: &str) -> Result<images::Part, String> {
    let (source, target) = text.rsplit_once("=/").ok_or_else(|| format!("`{text}` is not FOLDER=/PLACE"))?;
    Ok(images::Part { source: source.into(), target: format!("/{target}") })
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// A line for people, on standard error.
fn say(line: &str) {
    // With standard error gone there is nobody to tell.
    writeln!(io::stderr(), "{line}").ok();
}

fn progress(line: &str) {
    say(&format!("==> {line}"));
}

/// The result, on standard output.
fn print(text: &str) -> anyhow::Result<()> {
    writeln!(io::stdout(), "{text}").context("standard output")
}

fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let run = Run::new(arguments.name.unwrap_or_else(Run::default_name));
    let json = arguments.output == Output::Json;
    let open = || Cluster::open(run.clone());
    match arguments.command {
        Verb::Up(up) => {
            let options = Options {
                kubernetes: up.kubernetes,
                nodes: up.nodes,
                fake_nodes: up.kwok,
                audit: up.audit,
                controller_qps: up.controller_qps,
                extended: up
                    .gpus
                    .into_iter()
                    .map(|(node, count)| (node, "nvidia.com/gpu".to_owned(), count))
                    .collect(),
            };
            let launcher = std::env::current_exe().context("this program's own path")?;
            let cluster = Cluster::up(&run, &options, &launcher, &mut progress)?;
            if json {
                print(&serde_json::to_string(&cluster.status()?)?)?;
            } else {
                print(&format!("export KUBECONFIG={}", cluster.kubeconfig().display()))?;
            }
        }
        Verb::Down => {
            let there = Cluster::down(&run)?;
            progress(&format!("cluster {} {}", run.name(), if there { "is down" } else { "was not up" }));
        }
        Verb::Status => status(&open()?, json)?,
        Verb::List => list(&run, json)?,
        Verb::Kubeconfig => print(&open()?.kubeconfig().display().to_string())?,
        Verb::Exec { node, command } => return Err(exec(&open()?, node.as_deref(), &command)),
        Verb::Images { load, release, names } => {
            let profile = if release { images::Profile::Release } else { images::Profile::Ci };
            make_images(profile, &names, json, load.then(open).transpose()?.as_ref())?;
        }
        Verb::Image(Pack { image, archive, add, env, workdir }) => {
            show(&[images::pack(&image, &add, &env, workdir.as_deref(), &archive)?], json)?;
        }
        Verb::Load { archives } => {
            let cluster = open()?;
            archives.iter().try_for_each(|archive| cluster.load_image(archive))?;
        }
        Verb::Node { verb } => {
            let cluster = open()?;
            match verb {
                NodeVerb::Kill { node } => cluster.node_kill(&node)?,
                NodeVerb::Partition { node } => cluster.node_partition(&node)?,
                NodeVerb::Heal { node } => cluster.node_heal(&node)?,
                NodeVerb::Restart { node } => {
                    cluster.node_restart(&node)?;
                    cluster.wait_for_node(&node, true, Duration::from_mins(2))?;
                }
            }
        }
        Verb::Apiserver { verb: ServerVerb::Stop } => open()?.apiserver_stop()?,
        Verb::Apiserver { verb: ServerVerb::Start } => open()?.apiserver_start()?,
        Verb::Resource { node, resources } => {
            let (cluster, runtime) =
                (open()?, tokio::runtime::Builder::new_current_thread().enable_all().build()?);
            for (name, count) in resources {
                runtime.block_on(cluster.advertise(&node, &name, count))?;
            }
        }
        Verb::Tools { kubernetes, names } => tools(kubernetes, &names)?,
        Verb::Measure { n, losses } => {
            let lab = Lab::on(open()?, "measure");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let figures = runtime.block_on(async { measure(lab.await?, n, losses, &mut progress).await })?;
            print(&if json { serde_json::to_string(&figures)? } else { table(&figures) })?;
        }
        Verb::Provision => provision(&run)?,
        Verb::Enter { cgroup, namespace, command } => {
            return Err(enter(cgroup.as_deref(), namespace.as_deref(), true, &command).into());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Becomes the command.
fn exec(cluster: &Cluster, node: Option<&str>, command: &[OsString]) -> anyhow::Error {
    let path = match cluster.search_path() {
        Ok(path) => path,
        Err(error) => return error.into(),
    };
    let own = match std::env::current_exe() {
        Ok(own) => own,
        Err(error) => return error.into(),
    };
    let (program, arguments) = match command.split_first() {
        Some((program, arguments)) if node.is_none() => (program.clone(), arguments.to_vec()),
        _ => {
            let space = cluster.run().node_namespace(node.unwrap_or_default());
            let mut arguments: Vec<OsString> =
                ["enter", "--namespace", &space, "--"].map(OsString::from).to_vec();
            arguments.extend(command.iter().cloned());
            (own.into_os_string(), arguments)
        }
    };
    let mut child = Command::new(&program);
    child.args(arguments).env("PATH", &path).env("KUBECONFIG", cluster.kubeconfig());
    // The program is looked for in the new PATH, by a shell's rules.
    anyhow::Error::new(child.exec()).context(format!("{}", program.to_string_lossy()))
}

fn status(cluster: &Cluster, json: bool) -> anyhow::Result<()> {
    let status = cluster.status()?;
    if json {
        return print(&serde_json::to_string(&status)?);
    }
    print(&format!("cluster {}: Kubernetes {} at {}", status.name, status.kubernetes, status.server))?;
    print(&format!("kubeconfig {}", status.kubeconfig.display()))?;
    for node in &status.nodes {
        let ready = node.ready.map_or("unknown", |ready| if ready { "ready" } else { "not ready" });
        let cable = if node.connected { "connected" } else { "cut off" };
        let power = if node.running { "running" } else { "without power" };
        print(&format!("node       {:<24} {ready}, {cable}, {power}", node.name))?;
    }
    for (name, process, log) in &status.components {
        let process = process.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        print(&format!("component  {name:<24} {process:>8}  {}", log.display()))?;
    }
    Ok(())
}

fn list(run: &Run, json: bool) -> anyhow::Result<()> {
    let entries = std::fs::read_dir(run.base()).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.parse::<RunName>().is_ok())
        .collect();
    names.sort();
    if json { print(&serde_json::to_string(&names)?) } else { names.iter().try_for_each(|name| print(name)) }
}

fn make_images(
    profile: images::Profile,
    names: &[String],
    json: bool,
    load: Option<&Cluster>,
) -> anyhow::Result<()> {
    let written = images::build(profile, names, &mut progress)?;
    for image in &written {
        if let Some(cluster) = load {
            cluster.load_image(&image.archive)?;
        }
    }
    show(&written, json)
}

/// Says which images were written, and where.
fn show(written: &[images::Written], json: bool) -> anyhow::Result<()> {
    if json {
        return print(&serde_json::to_string(written)?);
    }
    written.iter().try_for_each(|image| {
        let (name, size) =
            (image.names.last().map_or("", String::as_str), image.size as f64 / (1024.0 * 1024.0));
        print(&format!("{name:<48} {size:>6.1} MiB  {}", image.archive.display()))
    })
}

/// As the page on performance has it.
fn table(figures: &[Figure]) -> String {
    let row = |figure: &Figure| {
        let Figure { what, n, median, lowest, highest } = figure;
        let digits = usize::from(*median < 10.0) * 2;
        format!("| {what} | {median:.digits$} ms | {lowest:.digits$}-{highest:.digits$} ms | {n} |")
    };
    let rows: Vec<String> = figures.iter().map(row).collect();
    format!("| what | median | lowest-highest | n |\n| --- | --- | --- | --- |\n{}", rows.join("\n"))
}

fn tools(kubernetes: Version, names: &[String]) -> anyhow::Result<()> {
    let all = Tool::all(kubernetes);
    for name in names {
        if all.iter().all(|tool| tool.folder != name) {
            let known = all.iter().map(|tool| tool.folder).collect::<Vec<_>>().join(", ");
            return Err(Error::Unknown { kind: "tool", name: name.clone(), known }.into());
        }
    }
    let wanted: Vec<Tool> = all
        .into_iter()
        .filter(|tool| names.is_empty() || names.iter().any(|name| name == tool.folder))
        .collect();
    let tools = Tools::ensure(&wanted, &mut progress)?;
    tools.folders().iter().try_for_each(|folder| print(&folder.display().to_string()))
}
