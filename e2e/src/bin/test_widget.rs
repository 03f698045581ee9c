//! `kontrol-test-widget`: a small native widget for tests and benchmarks.

use std::{os::unix::net::UnixDatagram, path::PathBuf, time::Duration};

use clap::Parser;
use kontrol_e2e::widget;
use kontrol_proto::v1::widget_client::WidgetClient;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

/// Reports that it is ready, answers calls with their own data, and says what happens to it.
#[derive(Debug, Parser)]
struct Args {
    /// A datagram socket that is told `reported NAME INCARNATION PID` and `stopping NAME INCARNATION PID`.
    #[arg(long)]
    notify: Option<PathBuf>,
    /// Answers calls.
    #[arg(long)]
    serve: bool,
    /// Serves the same echo on this loopback address without any sidecar, and prints the address.
    #[arg(long, conflicts_with_all = ["notify", "serve"])]
    direct: Option<String>,
    #[arg(long, env = "KONTROL_SIDECAR_SOCKET", hide = true)]
    socket: Option<PathBuf>,
    #[arg(long, env = "KONTROL_WIDGET", hide = true, default_value = "")]
    name: String,
    #[arg(long, env = "KONTROL_INCARNATION", hide = true, default_value = "0")]
    incarnation: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if let Some(address) = &args.direct {
        let listener = TcpListener::bind(address).await?;
        #[allow(clippy::print_stdout)] // the address is what this mode prints
        {
            println!("{}", listener.local_addr()?);
        }
        return widget::Direct.serve(listener).await;
    }
    run(&args).await
}

async fn run(args: &Args) -> anyhow::Result<()> {
    let mut end = signal(SignalKind::terminate())?;
    // An end with status 1, for whoever wants one.
    let mut fail = signal(SignalKind::user_defined1())?;
    let socket = args
        .socket
        .clone()
        .ok_or_else(|| anyhow::anyhow!("KONTROL_SIDECAR_SOCKET is not set: run this under kontrol up"))?;
    let channel = widget::door(socket).await?;
    let mut reporter = WidgetClient::new(channel.clone());
    widget::report_ready(&mut reporter).await?;
    notify(args, "reported")?;
    let serving =
        async { if args.serve { widget::serve_echo(channel).await } else { std::future::pending().await } };
    let reporting = async {
        let mut each_second = tokio::time::interval(Duration::from_secs(1));
        loop {
            each_second.tick().await;
            widget::report_ready(&mut reporter).await?;
        }
    };
    tokio::select! {
        _ = end.recv() => notify(args, "stopping"),
        _ = fail.recv() => anyhow::bail!("asked to fail"),
        ended = serving => ended,
        ended = reporting => { let never: Result<(), tonic::Status> = ended; Ok(never?) }
    }
}

fn notify(args: &Args, what: &str) -> anyhow::Result<()> {
    if let Some(path) = &args.notify {
        let text = format!("{what} {} {} {}", args.name, args.incarnation, std::process::id());
        UnixDatagram::unbound()?.send_to(text.as_bytes(), path)?;
    }
    Ok(())
}
