//! `kontrol up`: runs manifests, follows their edits, and drains on Ctrl-C.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use kontrol_core::code::Code;
use kontrol_crds::Problem;
use kontrol_operator::local::{
    Binaries, Desired, Error, Handle, Options, World, folder,
    logs::{Level, Line},
};
use kontrol_proto::v1::LogLine;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::broadcast::{Receiver, error::RecvError},
    task::{JoinSet, spawn_blocking},
    time::{MissedTickBehavior, interval, timeout},
};

use crate::{
    Outcome,
    args::{Lines, Up},
    ask, complain,
    lint::{read, summary},
    print, render,
};

/// How often the manifests are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long everything may take to become ready before it is said what is missing, and again after each such time.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) async fn run(up: &Up, place: &Path) -> Outcome {
    // Looked at before they are read: an edit in between is seen as one.
    let stamps = stamps_of(&up.paths);
    let desired = match read(&up.paths) {
        Ok(desired) => desired,
        Err(problems) => {
            for problem in &problems {
                complain(&problem.to_string());
            }
            return Outcome::Invalid;
        }
    };
    let declared = summary(&desired);
    let seen = Seen { stamps, desired: desired.clone() };
    let opened = async {
        let binaries = Binaries::find(&bin_dir(up))?;
        // The working folders of widgets are relative to this one, as the paths of the manifests are.
        let folder = std::path::absolute(".").unwrap_or_else(|_| PathBuf::from("."));
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
    if up.output == Lines::Text {
        print(&format!("kontrol {}: {declared}; state in {}", env!("CARGO_PKG_VERSION"), place.display()));
    }
    let handle = world.handle();
    let lines = handle.logs().follow();
    let mut tasks = JoinSet::new();
    tasks.spawn(watch_manifests(up.paths.clone(), seen, handle.clone()));
    tasks.spawn(drain_on_signals(signals, handle.clone()));
    if up.output == Lines::Text {
        tasks.spawn(announce(handle.clone()));
    }
    // A terminal that stops reading (Ctrl-S, a full pipe) must not stop what supervises: printing has a thread of its own.
    let (output, quiet) = (up.output, up.quiet);
    let printer = spawn_blocking(move || show(lines, output, quiet));
    drop(handle);
    let ended = world.run().await;
    tasks.shutdown().await;
    // The printer ends when the last line of the world is printed.
    drop(timeout(Duration::from_secs(1), printer).await);
    match ended {
        Ok(()) => Outcome::Done,
        Err(error) => {
            complain(&format!("{}: {error}", error.code()));
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

/// Prints the tree when everything has become ready; before, says from time to time what it waits for.
async fn announce(handle: Handle) {
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
    if let Some(tree) = handle.tree().await {
        drop(spawn_blocking(move || print(render::tree(&tree).trim_end())).await);
        let text = "everything is Ready; in another terminal: kontrol tree -w, why NAME, logs NAME -f; Ctrl-C here stops it";
        handle.say(Level::Info, text.to_owned());
    }
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

/// The manifests as they were taken last.
struct Seen {
    stamps: Stamps,
    desired: Desired,
}

/// Follows edits. The content decides, so that a touched file or one written twice changes nothing. What came from stdin cannot be read
/// again, so where it is one of them nothing is followed.
async fn watch_manifests(paths: Vec<PathBuf>, mut seen: Seen, handle: Handle) {
    if paths.iter().any(|path| path.as_os_str() == "-") {
        return;
    }
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let now = stamps_of(&paths);
        if now == seen.stamps {
            continue;
        }
        seen.stamps = now;
        match read(&paths) {
            Ok(desired) if seen.desired == desired => {}
            Ok(desired) => {
                handle.say(Level::Info, "the manifest has changed".to_owned());
                handle.manifest(desired.clone()).await;
                seen.desired = desired;
            }
            Err(problems) => rejected(&handle, &problems),
        }
    }
}

fn rejected(handle: &Handle, problems: &[Problem]) {
    let list: Vec<String> = problems.iter().map(|problem| format!("\n  {problem}")).collect();
    let text = format!(
        "{}: the changed manifest has mistakes; what runs goes on as it was{}",
        Code::ManifestRejected,
        list.concat()
    );
    handle.say(Level::Error, text);
}

/// Name, size and time of each manifest: what a change of content changes.
type Stamps = Vec<(PathBuf, Option<(u64, std::time::SystemTime)>)>;

fn stamps_of(paths: &[PathBuf]) -> Stamps {
    let stamp = |path: PathBuf| {
        let metadata = fs::metadata(&path).ok();
        (path, metadata.and_then(|metadata| Some((metadata.len(), metadata.modified().ok()?))))
    };
    let mut stamps = Vec::new();
    for path in paths {
        if path.is_dir() {
            let entries = fs::read_dir(path).into_iter().flatten().flatten();
            stamps.extend(entries.map(|entry| stamp(entry.path())));
        }
        stamps.push(stamp(path.clone()));
    }
    stamps.sort();
    stamps
}
