//! `kontrol-test-widget`: a small native widget for tests and benchmarks.

use std::{
    os::unix::net::UnixDatagram,
    path::PathBuf,
    process::{Command, ExitCode},
    time::Duration,
};

use clap::{Parser, ValueEnum};
use kontrol_e2e::{
    widget,
    world::{self, Notice, Signal, What},
};
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
    /// How often it says that it is ready.
    #[arg(long, value_enum, default_value_t)]
    reports: Reports,
    /// Does not end when it is asked to.
    #[arg(long)]
    ignore_term: bool,
    /// Starts this many children that outlive it unless somebody ends them.
    #[arg(long, default_value = "0")]
    leave_children: usize,
    /// Listens on this loopback port, or fails.
    #[arg(long, env = "PORT", hide = true)]
    port: Option<u16>,
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

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Reports {
    /// Each second.
    #[default]
    Always,
    /// Once; the rest is for whoever else knows the door.
    Once,
    /// Never.
    Never,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    if let Some(address) = &args.direct {
        let listener = TcpListener::bind(address).await?;
        #[allow(clippy::print_stdout)] // the address is what this mode prints
        {
            println!("{}", listener.local_addr()?);
        }
        widget::Direct.serve(listener).await?;
        return Ok(ExitCode::SUCCESS);
    }
    run(&args).await
}

async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut end = signal(SignalKind::terminate())?;
    // An end with status 1, for whoever wants one.
    let mut fail = signal(SignalKind::user_defined1())?;
    // Rust's own handler of this signal takes itself away at the first one and goes on; from now on it ends the process.
    world::signal(std::process::id(), Signal::SEGV)?;
    let _own_port = match args.port {
        Some(port) => Some(TcpListener::bind(("127.0.0.1", port)).await?),
        None => None,
    };
    for _ in 0..args.leave_children {
        Command::new("sleep").arg("3600").spawn()?;
    }
    let socket = args
        .socket
        .clone()
        .ok_or_else(|| anyhow::anyhow!("KONTROL_SIDECAR_SOCKET is not set: run this under kontrol up"))?;
    let channel = widget::door(socket).await?;
    let mut reporter = WidgetClient::new(channel.clone());
    if args.reports != Reports::Never {
        widget::report_ready(&mut reporter).await?;
        notify(args, What::Reported)?;
    }
    let serving =
        async { if args.serve { widget::serve_echo(channel).await } else { std::future::pending().await } };
    let reporting = async {
        if args.reports != Reports::Always {
            return std::future::pending().await;
        }
        let mut each_second = tokio::time::interval(Duration::from_secs(1));
        loop {
            each_second.tick().await;
            widget::report_ready(&mut reporter).await?;
        }
    };
    let asked = async {
        loop {
            end.recv().await;
            notify(args, What::Stopping)?;
            if !args.ignore_term {
                return anyhow::Ok(());
            }
        }
    };
    tokio::select! {
        ended = asked => ended?,
        // Without an error's backtrace, which takes longer to print than a restart does.
        _ = fail.recv() => return Ok(ExitCode::FAILURE),
        ended = serving => ended?,
        ended = reporting => { let never: Result<(), tonic::Status> = ended; never? }
    }
    Ok(ExitCode::SUCCESS)
}

fn notify(args: &Args, what: What) -> anyhow::Result<()> {
    if let Some(path) = &args.notify {
        let pid = std::process::id();
        let notice = Notice { what, name: args.name.clone(), incarnation: args.incarnation, pid };
        UnixDatagram::unbound()?.send_to(notice.to_string().as_bytes(), path)?;
    }
    Ok(())
}
