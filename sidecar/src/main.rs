//! `kontrol-sidecar run` beside a widget, and `kontrol-sidecar hub` for the topics of a world.

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use kontrol_core::{duration, id::InstanceId};
use kontrol_sidecar::{
    delivery::HttpEndpoint,
    hub::{HubOptions, HubProcess},
    sidecar::{Options, Sidecar},
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
    /// The address for metrics and health.
    #[arg(long, env = "KONTROL_ADMIN", default_value = "127.0.0.1:0")]
    admin: String,
    #[command(flatten)]
    control: ControlArgs,
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
    #[command(flatten)]
    control: ControlArgs,
}

#[derive(Debug, Args)]
struct ControlArgs {
    /// The operator, host:port.
    #[arg(long, env = "KONTROL_CONTROL")]
    control: String,
    /// The authority's certificate, PEM.
    #[arg(long, env = "KONTROL_CA_FILE")]
    ca_file: PathBuf,
    /// A file that holds the join token.
    #[arg(long, env = "KONTROL_JOIN_TOKEN_FILE")]
    join_token_file: PathBuf,
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
    let RunArgs { instance, socket, grpc, http, peer, admin, control, state_dir, drain_grace } = args;
    let ControlArgs { control, ca_file, join_token_file } = control;
    let options = Options {
        instance,
        socket,
        grpc,
        http,
        peer,
        admin,
        control,
        ca_file,
        join_token_file,
        state_dir,
        grace: drain_grace,
    };
    let stop = terminated()?;
    let sidecar =
        Sidecar::bind(options, Arc::new(HttpEndpoint::new())).await.context("an address cannot be bound")?;
    Box::pin(sidecar.run(stop)).await.context("the sidecar failed")
}

async fn hub(args: HubArgs) -> anyhow::Result<()> {
    let HubArgs { dir, peer, admin, control } = args;
    let ControlArgs { control, ca_file, join_token_file } = control;
    let options = HubOptions { folder: dir, peer, admin, control, ca_file, join_token_file };
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
