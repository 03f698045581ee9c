//! `kontrol-operator run` on a cluster; `kontrol-operator check` for those who wait for it.

use std::{process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use kontrol_core::duration;
use kontrol_operator::kubernetes::{Options, World, connect};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

#[derive(Debug, Parser)]
#[command(name = "kontrol-operator", version, about = "Kontrol's operator for Kubernetes")]
struct Cli {
    #[command(subcommand)]
    mode: Mode,
    /// What is logged, as `tracing` filters write it; `kube_client` is off unless it is named.
    #[arg(long, env = "KONTROL_LOG", default_value = "info", global = true)]
    log: String,
    /// How it is logged.
    #[arg(long, env = "KONTROL_LOG_FORMAT", default_value = "json", global = true)]
    log_format: Format,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    /// One JSON object a line.
    Json,
    /// Lines for people.
    Text,
}

#[derive(Debug, Subcommand)]
enum Mode {
    /// Runs the operator.
    Run(Box<Run>),
    /// Asks an address until it answers well.
    Check(Check),
}

#[derive(Debug, Args)]
struct Run {
    /// The operator's own namespace.
    #[arg(long, env = "KONTROL_NAMESPACE", default_value = "kontrol-system")]
    namespace: String,
    /// The name of the operator's pod: who it is in the lease.
    #[arg(long, env = "KONTROL_POD_NAME", default_value = "kontrol-operator")]
    pod_name: String,
    /// A namespace to look at; may be given several times. Default: all.
    #[arg(
        long = "watch-namespace",
        visible_alias = "watch-namespaces",
        env = "KONTROL_WATCH_NAMESPACES",
        value_delimiter = ','
    )]
    watch_namespaces: Vec<String>,
    /// The image of sidecars and hubs.
    #[arg(long, env = "KONTROL_SIDECAR_IMAGE")]
    sidecar_image: Option<String>,
    /// The image that the shim is copied from; default: the sidecar's.
    #[arg(long, env = "KONTROL_SHIM_IMAGE")]
    shim_image: Option<String>,
    /// Where sidecars are listened for.
    #[arg(long, env = "KONTROL_CONTROL", default_value = "0.0.0.0:7400")]
    control: String,
    /// Where /metrics, /healthz and /readyz are served.
    #[arg(long, env = "KONTROL_ADMIN", default_value = "0.0.0.0:7401")]
    admin: String,
    /// What sidecars are told as the operator's address; default: kontrol-control.<namespace>.svc:7400.
    #[arg(long, env = "KONTROL_CONTROL_ADDRESS")]
    control_address: Option<String>,
    /// The trust domain of SPIFFE IDs.
    #[arg(long, env = "KONTROL_TRUST_DOMAIN", default_value = "kontrol.local")]
    trust_domain: String,
    /// The name of the lease.
    #[arg(long, env = "KONTROL_LEASE_NAME", default_value = "kontrol-operator")]
    lease_name: String,
    /// For how long the lease is good after a renewal: whole seconds, at least one.
    #[arg(long, env = "KONTROL_LEASE_DURATION", default_value = "2s", value_parser = whole_seconds)]
    lease_duration: Duration,
    /// The time between renewals of the lease: more than none, at most half of its duration.
    #[arg(long, env = "KONTROL_LEASE_RENEW", default_value = "500ms", value_parser = duration::parse)]
    lease_renew: Duration,
    /// Requests to the API server that may be under way at a time.
    #[arg(long, env = "KONTROL_CONCURRENCY", default_value_t = 32)]
    concurrency: usize,
}

/// Reads what a lease can say.
fn whole_seconds(text: &str) -> Result<Duration, String> {
    let read = duration::parse(text).map_err(|error| error.to_string())?;
    if read.is_zero() || read.subsec_nanos() > 0 {
        return Err(format!(
            "{text} is not one or more whole seconds, such as 2s, and a lease counts in seconds"
        ));
    }
    Ok(read)
}

#[derive(Debug, Args)]
struct Check {
    /// What to ask, http only.
    #[arg(long)]
    url: http::Uri,
    /// For how long.
    #[arg(long, default_value = "30s", value_parser = duration::parse)]
    timeout: Duration,
}

/// The system's allocator puts what is kept of an object between what it takes to read it, and has no use for the gaps later.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // The client calls each request that failed an error; those that matter are said by who asked, once.
    let filter = EnvFilter::new(format!("kube_client=off,{}", cli.log));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match cli.log_format {
        Format::Json => logs.json().flatten_event(true).with_current_span(false).init(),
        Format::Text => logs.with_ansi(false).init(),
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "the runtime cannot be started");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(async {
        match cli.mode {
            Mode::Run(run) => operate(*run).await,
            Mode::Check(asked) => check(asked).await,
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "kontrol-operator ended");
            ExitCode::FAILURE
        }
    }
}

async fn operate(run: Run) -> anyhow::Result<()> {
    anyhow::ensure!(
        !run.lease_renew.is_zero() && run.lease_renew <= run.lease_duration / 2,
        "--lease-renew is {:?}: it has to be more than none and at most half of --lease-duration, which is {:?}",
        run.lease_renew,
        run.lease_duration
    );
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        anyhow::bail!("another cryptography provider was installed before");
    }
    let mut config = kube::Config::infer().await.context("there is no way to the API server")?;
    // What is refused is tried again by the one queue that knows what is worth it.
    config.default_retry = false;
    let own = config.clone();
    let client = connect(config).context("the API server's client cannot be made")?;
    let defaults = Options::default();
    let control_address =
        run.control_address.unwrap_or_else(|| format!("kontrol-control.{}.svc:7400", run.namespace));
    let options = Options {
        namespace: run.namespace,
        pod_name: run.pod_name,
        watch_namespaces: run.watch_namespaces.into_iter().filter(|name| !name.is_empty()).collect(),
        sidecar_image: run.sidecar_image.unwrap_or(defaults.sidecar_image),
        shim_image: run.shim_image.filter(|image| !image.is_empty()),
        control: run.control,
        admin: run.admin,
        control_address,
        trust_domain: run.trust_domain,
        lease_name: run.lease_name,
        lease_duration: run.lease_duration,
        lease_renew: run.lease_renew,
        concurrency: run.concurrency.max(1),
    };
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be awaited")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be awaited")?;
    let asked = stop.clone();
    let mut signals = tokio::task::JoinSet::new();
    signals.spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("asked to end");
        asked.cancel();
    });
    let world = World::new(client, options).elected_by(move || connect(own));
    let outcome = Box::pin(world.run(stop)).await;
    signals.shutdown().await;
    outcome.context("the operator cannot go on")
}

/// Asks until the answer is 200.
async fn check(asked: Check) -> anyhow::Result<()> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let host = asked.url.host().context("the URL names no host")?.to_owned();
    let port = asked.url.port_u16().unwrap_or(80);
    let path = asked.url.path().to_owned();
    let once = || async {
        let mut stream = tokio::net::TcpStream::connect((host.as_str(), port)).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let first = answer.lines().next().unwrap_or_default().to_owned();
        anyhow::ensure!(
            first.contains(" 200 "),
            "{path} says {first:?}: {}",
            answer.lines().last().unwrap_or("")
        );
        anyhow::Ok(())
    };
    let mut last = None;
    let tried = tokio::time::timeout(asked.timeout, async {
        while let Err(error) = once().await {
            last = Some(error);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    if tried.await.is_ok() {
        return Ok(());
    }
    Err(last.unwrap_or_else(|| anyhow::anyhow!("no answer"))).context("it did not answer well in time")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_whole_seconds() {
        for (text, wanted) in
            [("2s", Some(2)), ("1m", Some(60)), ("2500ms", None), ("0s", None), ("900ms", None)]
        {
            assert_eq!(whole_seconds(text).ok(), wanted.map(Duration::from_secs), "{text}");
        }
        assert!(Cli::try_parse_from(["kontrol-operator", "run", "--lease-duration", "2500ms"]).is_err());
    }
}
