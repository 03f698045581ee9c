//! `kontrol up`: runs manifests, follows their edits, and drains on Ctrl-C.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use kontrol_operator::local::{
    Binaries, Error, Handle, Options, World, folder,
    logs::{Level, Line},
};
use kontrol_proto::v1::LogLine;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::broadcast::{Receiver, error::RecvError},
    task::{JoinSet, spawn_blocking},
    time::timeout,
};

use crate::{
    LAST_WORDS, Outcome,
    args::{Lines, Up},
    ask, complain,
    lint::summary,
    manifests::Manifests,
    print, render,
};

/// How long everything may take to become ready before it is said what is missing, and again after each such time.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) async fn run(up: &Up, place: &Path) -> Outcome {
    // The working folders of widgets are relative to this one, as the paths of the manifests are.
    let folder = std::path::absolute(".").unwrap_or_else(|_| PathBuf::from("."));
    let (manifests, desired) = match Manifests::read(up.paths.clone(), folder.clone()) {
        Ok(read) => read,
        Err(problems) => {
            for problem in &problems {
                complain(&problem.to_string());
            }
            return Outcome::Invalid;
        }
    };
    let declared = summary(&desired);
    let opened = async {
        let binaries = Binaries::find(&bin_dir(up))?;
        World::open(Options { state: place.to_owned(), folder, binaries, desired }).await
    };
    let world = match opened.await {
        Ok(world) => world,
        Err(error) => {
            complain(&format!("{}: {error}", error.code()));
            let held = matches!(error, Error::Folder(folder::Error::Held { .. }));
            return if held { Outcome::AlreadyRunning } else { Outcome::Failed };
        }
    };
    let signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => {
            complain(&format!("signals cannot be heard: {error}"));
            return Outcome::Failed;
        }
    };
    let headline = (up.output == Lines::Text)
        .then(|| format!("kontrol {}: {declared}; state in {}", env!("CARGO_PKG_VERSION"), place.display()));
    let handle = world.handle();
    let lines = handle.logs().follow();
    let mut tasks = JoinSet::new();
    tasks.spawn(manifests.watch(handle.clone()));
    tasks.spawn(drain_on_signals(signals, handle.clone()));
    tasks.spawn(announce(handle.clone(), up.output));
    // A terminal that stops reading (Ctrl-S, a full pipe) must not stop what supervises: printing has a thread of its own.
    let (output, quiet) = (up.output, up.quiet);
    let printer = spawn_blocking(move || {
        if let Some(headline) = headline {
            print(&headline);
        }
        show(lines, output, quiet);
    });
    drop(handle);
    let ended = world.run().await;
    tasks.shutdown().await;
    // The printer ends when the last line of the world is printed.
    drop(timeout(LAST_WORDS, printer).await);
    match ended {
        Ok(()) => Outcome::Done,
        Err(error) => {
            let text = format!("{}: {error}", error.code());
            drop(timeout(LAST_WORDS, spawn_blocking(move || complain(&text))).await);
            Outcome::Failed
        }
    }
}

fn bin_dir(up: &Up) -> PathBuf {
    let own = || std::env::current_exe().ok().and_then(|path| path.parent().map(Path::to_owned));
    let folder = up.bin_dir.clone().or_else(own).unwrap_or_default();
    // Processes start in folders of their own, from where a relative path would lead elsewhere.
    std::path::absolute(&folder).unwrap_or(folder)
}

/// What asks a command to end: Ctrl-C, a supervisor of its own, and a terminal that is closed.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

async fn drain_on_signals(mut signals: Signals, handle: Handle) {
    let mut force = false;
    loop {
        signals.next().await;
        let text = if force {
            "everything is killed at once"
        } else {
            "everything is stopped in reverse order; Ctrl-C once more kills it at once"
        };
        handle.say(Level::Info, text.to_owned());
        handle.drain(force).await;
        force = true;
    }
}

/// Says when everything has become ready, to people with the tree; before, says from time to time what it waits for.
async fn announce(handle: Handle, output: Lines) {
    let mut ready = handle.ready();
    let mut said = String::new();
    while !*ready.borrow_and_update() {
        match timeout(PATIENCE, ready.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return,
            Err(_) => {
                let Some(tree) = handle.tree().await.filter(|tree| !tree.draining) else { return };
                let missing = render::missing(&tree).join(", ");
                if missing != said {
                    handle.say(Level::Info, format!("not ready yet: {missing}"));
                    said = missing;
                }
            }
        }
    }
    let Some(tree) = handle.tree().await else { return };
    if output == Lines::Json {
        handle.say(Level::Info, "everything is Ready".to_owned());
        return;
    }
    drop(spawn_blocking(move || print(render::tree(&tree).trim_end())).await);
    let text = "everything is Ready; in another terminal: kontrol tree -w, why NAME, logs NAME -f; Ctrl-C here stops it";
    handle.say(Level::Info, text.to_owned());
}

fn show(mut lines: Receiver<Line>, output: Lines, quiet: bool) {
    loop {
        match lines.blocking_recv() {
            Ok(line) => {
                let line = LogLine::from(line);
                let wanted = !quiet || line.source.is_empty();
                if wanted && !ask::is_routine(&line) {
                    ask::log(line, output);
                }
            }
            Err(RecvError::Lagged(missed)) => {
                complain(&format!("{missed} lines were not shown; see kontrol logs"));
            }
            Err(RecvError::Closed) => return,
        }
    }
}
