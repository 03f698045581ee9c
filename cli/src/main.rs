//! `kontrol`: one manifest, on a laptop; and as `kubectl kontrol` what it has become on a cluster. See `kontrol --help`.

mod args;
mod ask;
mod cluster;
mod complete;
mod lint;
mod manifests;
mod preflight;
mod render;
mod status;
mod stderr;
mod up;
mod view;

use std::{io::Write, process::ExitCode, time::Duration};

use args::{Args, Command};
use kontrol_crds::convert::Runtime;

/// How a command ended; the numbers are documented in `kontrol --help`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Done.
    Done = 0,
    /// It failed; what was said says why.
    Failed = 1,
    /// The command line or a manifest is wrong.
    Invalid = 2,
    /// Nobody answers: no `kontrol up` runs in this place, or the cluster cannot be reached.
    NotRunning = 3,
    /// Another `kontrol up` runs in this place.
    AlreadyRunning = 4,
}

/// How long a terminal may take for what is left to say when a command ends.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().collect();
    let args = Args::read(&words);
    let log = match stderr::Lines::new(std::io::stderr()) {
        Ok(log) => log,
        Err(error) => {
            complain(&format!("a thread cannot be started: {error}"));
            return ExitCode::from(Outcome::Failed as u8);
        }
    };
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(&args.log))
        .with_ansi(rustix::termios::isatty(std::io::stderr()) && std::env::var_os("NO_COLOR").is_none())
        .with_writer(move || writer.clone())
        .init();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("the runtime cannot be started: {error}"));
            return ExitCode::from(Outcome::Failed as u8);
        }
    };
    let outcome = runtime.block_on(run(args));
    // Threads that wait for processes or for the disk must not keep the command from ending.
    runtime.shutdown_background();
    log.flush_within(LAST_WORDS);
    ExitCode::from(outcome as u8)
}

async fn run(args: Args) -> Outcome {
    let (place, named) = (args.place(), args.names_place());
    let cluster = args.kube.is_meant();
    if cluster && named && !args.kube.cluster {
        complain(
            "--state-dir (or KONTROL_STATE_DIR) means a `kontrol up`, and --namespace, --context, --kubeconfig and -A mean a cluster; name one of the two",
        );
        return Outcome::Invalid;
    }
    match args.command {
        Command::Up(_) if cluster => {
            complain(
                "`up` runs manifests on this machine; on a cluster apply them: `kubectl apply -f MANIFEST`",
            );
            Outcome::Invalid
        }
        Command::Up(up) => up::run(&up, &place).await,
        Command::Lint(lint) => lint::run(&lint, if cluster { Runtime::Cluster } else { Runtime::Any }),
        Command::Version => {
            print(concat!("kontrol ", env!("CARGO_PKG_VERSION")));
            Outcome::Done
        }
        Command::Completion { shell } => {
            print(complete::script(shell).trim_end());
            Outcome::Done
        }
        Command::Complete { words } => complete::run(&words).await,
        Command::Ask(command) if cluster => cluster::run(command, &args.kube).await,
        Command::Ask(command) => ask::run(command, &place, named).await,
    }
}

/// A line on stdout. A reader that has gone needs no more.
pub(crate) fn print(text: &str) {
    drop(writeln!(std::io::stdout(), "{text}"));
}

/// A line on stderr.
pub(crate) fn complain(text: &str) {
    drop(writeln!(std::io::stderr(), "{text}"));
}
