//! `kontrol-sidecar run` beside a widget, and `kontrol-sidecar hub` for the topics of a world.

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use kontrol_core::{duration, id::InstanceId, trust::TrustDomain};
use kontrol_sidecar::{
    control::Place,
    delivery::HttpEndpoint,
    hub::{HubOptions, HubProcess},
    identity::Token,
    sidecar::{Joining, Options, Sidecar},
};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

#[derive(Debug, Parser)]
#[command(name = "kontrol-sidecar", version, about = "Kontrol's sidecar, and its hub")]
struct Cli {
    #[command(subcommand)]
    mode: Mode,
    /// What is logged, as `tracing` filters write it.
    #[arg(long, env = "KONTROL_LOG", default_value = "info", global = true)]
    log: String,
}

#[derive(Debug, Subcommand)]
enum Mode {
    /// Runs the sidecar of one instance.
    Run(RunArgs),
    /// Runs the hub.
    Hub(HubArgs),
}

#[derive(Debug, Args)]
struct RunArgs {
    /// The instance: namespace/group/widget/ordinal.
    #[arg(long, env = "KONTROL_INSTANCE")]
    instance: InstanceId,
    /// The incarnation that it begins with; in a pod the only one.
    #[arg(long, env = "KONTROL_INCARNATION", default_value_t = 0)]
    incarnation: u64,
    /// The Unix socket of the gRPC door.
    #[arg(long, env = "KONTROL_SOCKET")]
    socket: PathBuf,
    /// The gRPC door on loopback; port 0 takes a free one.
    #[arg(long, env = "KONTROL_GRPC", default_value = "127.0.0.1:0")]
    grpc: String,
    /// The HTTP door.
    #[arg(long, env = "KONTROL_HTTP", default_value = "127.0.0.1:0")]
    http: String,
    /// The address for other sidecars.
    #[arg(long, env = "KONTROL_PEER", default_value = "127.0.0.1:0")]
    peer: String,
    /// The address for metrics and health; nothing else is served there.
    #[arg(long, env = "KONTROL_ADMIN", default_value = "127.0.0.1:0")]
    admin: String,
    #[command(flatten)]
    joining: JoiningArgs,
    /// The socket of the shim, where the widget's container is wrapped.
    #[arg(long, env = "KONTROL_SHIM_SOCKET")]
    shim_socket: Option<PathBuf>,
    /// Where the last configuration is kept.
    #[arg(long, env = "KONTROL_STATE_DIR")]
    state_dir: PathBuf,
    /// How long what is in flight may take to end after SIGTERM.
    #[arg(long, env = "KONTROL_DRAIN_GRACE", default_value = "10s", value_parser = duration::parse)]
    drain_grace: Duration,
}

#[derive(Debug, Args)]
struct HubArgs {
    /// Where the log is.
    #[arg(long, env = "KONTROL_HUB_DIR")]
    dir: PathBuf,
    /// The address for sidecars.
    #[arg(long, env = "KONTROL_PEER", default_value = "127.0.0.1:0")]
    peer: String,
    /// The address for metrics and health.
    #[arg(long, env = "KONTROL_ADMIN", default_value = "127.0.0.1:0")]
    admin: String,
    /// The subject of its certificate: `hub`, and in a cluster namespace/hub/bus.
    #[arg(long, env = "KONTROL_SUBJECT", default_value = "hub")]
    subject: String,
    #[command(flatten)]
    joining: JoiningArgs,
}

#[derive(Debug, Args)]
struct JoiningArgs {
    /// The operator, host:port.
    #[arg(long, env = "KONTROL_CONTROL")]
    control: String,
    /// The certificates of the authority, PEM.
    #[arg(long, env = "KONTROL_CA_FILE")]
    ca_file: PathBuf,
    /// A file that holds the join token.
    #[arg(long, env = "KONTROL_JOIN_TOKEN_FILE", required_unless_present = "token_file")]
    join_token_file: Option<PathBuf>,
    /// A file that holds the token of the pod's service account, with the audience kontrol.dev.
    #[arg(long, env = "KONTROL_TOKEN_FILE", conflicts_with = "join_token_file")]
    token_file: Option<PathBuf>,
    /// The trust domain of all certificates.
    #[arg(long, env = "KONTROL_TRUST_DOMAIN", default_value_t)]
    trust_domain: TrustDomain,
    /// The host that others reach this process at, such as the pod's address; default: the one that it listens on.
    #[arg(long, env = "KONTROL_ADVERTISE")]
    advertise: Option<String>,
    /// The node that it runs on.
    #[arg(long, env = "KONTROL_NODE", default_value = "")]
    node: String,
    /// The pod that it runs in.
    #[arg(long, env = "KONTROL_POD", default_value = "")]
    pod: String,
    /// The pod's UID.
    #[arg(long, env = "KONTROL_POD_UID", default_value = "")]
    pod_uid: String,
}

impl JoiningArgs {
    fn joining(self) -> anyhow::Result<Joining> {
        let Self { control, ca_file, trust_domain, node, pod, pod_uid, .. } = self;
        let join = self.join_token_file.map(Token::Join);
        let token = self.token_file.map(Token::ServiceAccount).or(join).context("there is no token file")?;
        let advertise = self.advertise.filter(|host| !host.is_empty());
        let place = Place { node, pod, pod_uid };
        Ok(Joining { control, ca_file, token, trust: trust_domain, advertise, place })
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_new(&cli.log).unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().json().with_env_filter(filter).with_writer(std::io::stderr).init();
    match work(cli.mode) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "ended");
            ExitCode::FAILURE
        }
    }
}

fn work(mode: Mode) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match mode {
            Mode::Run(args) => Box::pin(run(args)).await,
            Mode::Hub(args) => Box::pin(hub(args)).await,
        }
    })
}

async fn run(args: RunArgs) -> anyhow::Result<()> {
    let options = Options {
        instance: args.instance,
        incarnation: args.incarnation,
        socket: args.socket,
        grpc: args.grpc,
        http: args.http,
        peer: args.peer,
        admin: args.admin,
        joining: args.joining.joining()?,
        shim: args.shim_socket,
        state_dir: args.state_dir,
        grace: args.drain_grace,
    };
    let stop = terminated()?;
    let sidecar =
        Sidecar::bind(options, Arc::new(HttpEndpoint::new())).await.context("an address cannot be bound")?;
    Box::pin(sidecar.run(stop)).await.context("the sidecar failed")
}

async fn hub(args: HubArgs) -> anyhow::Result<()> {
    let HubArgs { dir, peer, admin, subject, joining } = args;
    let options = HubOptions { folder: dir, peer, admin, subject, joining: joining.joining()? };
    let stop = terminated()?;
    let hub = HubProcess::bind(options).await.context("an address cannot be bound")?;
    Box::pin(hub.run(stop)).await.context("the hub failed")
}

/// Resolves at SIGTERM or SIGINT.
fn terminated() -> anyhow::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
