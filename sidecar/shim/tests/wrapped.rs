//! The shim as the first process of a container, with real processes; a thread of the test is the sidecar.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends by it")]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use kontrol_core::wrapped::{Order, State, Why};
use rustix::process::{Pid, Signal, kill_process};

const PATIENCE: Duration = Duration::from_secs(20);

#[allow(clippy::disallowed_methods, reason = "tests measure")]
fn now() -> Instant {
    Instant::now()
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(now() < deadline, "never: {what}");
        std::thread::yield_now();
    }
}

/// A shim in a container of its own folder.
struct Container {
    child: Child,
    folder: tempfile::TempDir,
}

impl Container {
    fn start(command: &[&str]) -> Self {
        Self::with(&[], command)
    }

    fn shell(script: &str) -> Self {
        Self::start(&["sh", "-c", script])
    }

    fn with(options: &[&str], command: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_kontrol-shim"))
            .arg("--socket")
            .arg(folder.path().join("shim.sock"))
            .args(options)
            .arg("--")
            .args(command)
            .env("FOLDER", folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self { child, folder }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("shim.sock")
    }

    fn sidecar(&self) -> Sidecar {
        Sidecar::connect(&self.socket())
    }

    fn signal(&self, signal: Signal) {
        kill(self.child.id(), signal);
    }

    fn ended(&mut self) -> ExitStatus {
        until("the shim ends", || self.child.try_wait().unwrap())
    }

    fn output(&mut self) -> String {
        let mut output = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut output).unwrap();
        output
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

struct Sidecar {
    stream: UnixStream,
    lines: BufReader<UnixStream>,
}

impl Sidecar {
    fn connect(socket: &Path) -> Self {
        let stream = until("the shim listens", || UnixStream::connect(socket).ok());
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { lines: BufReader::new(stream.try_clone().unwrap()), stream }
    }

    fn order(&mut self, order: Order) {
        let mut line = serde_json::to_vec(&order).unwrap();
        line.push(b'\n');
        self.stream.write_all(&line).unwrap();
    }

    fn give(&mut self, epoch: u64, count: u32) {
        self.order(Order::Give { epoch, count, window_ms: 60_000, only_failures: false });
        self.until(|state| state.epoch == Some(epoch));
    }

    fn hear(&mut self) -> State {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    fn until(&mut self, holds: impl Fn(&State) -> bool) -> State {
        until("the shim says so", || Some(self.hear()).filter(&holds))
    }

    fn running(&mut self) -> u32 {
        self.until(|state| state.pid != 0).pid
    }
}

fn kill(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
}

fn alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap().trim_start().starts_with('Z'))
}

#[test]
fn without_a_sidecar_it_is_a_plain_init() {
    let mut container = Container::shell("echo to the log; exit 7");
    assert_eq!(container.output(), "to the log\n");
    assert_eq!(container.ended().code(), Some(7));
    let mut killed = Container::shell("kill -SEGV $$");
    assert_eq!(killed.ended().code(), Some(128 + 11));
    let mut missing = Container::start(&["no-such-program-anywhere"]);
    assert_eq!(missing.ended().code(), Some(127));
}

#[test]
fn sigterm_goes_to_the_group_and_sigkill_follows_after_the_grace() {
    let mut polite = Container::shell("trap 'exit 3' TERM; echo up; while :; do sleep 0.01; done");
    let mut line = String::new();
    BufReader::new(polite.child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    polite.signal(Signal::TERM);
    assert_eq!(polite.ended().code(), Some(3));

    let deaf = ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.01; done"];
    let mut deaf = Container::with(&["--shutdown-grace-ms", "200"], &deaf);
    BufReader::new(deaf.child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    deaf.signal(Signal::TERM);
    assert_eq!(deaf.ended().code(), Some(128 + 9));
}

#[test]
fn other_signals_are_handed_on() {
    let mut container = Container::shell("trap 'exit 5' USR1; echo up; while :; do sleep 0.01; done");
    let mut line = String::new();
    BufReader::new(container.child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    container.signal(Signal::USR1);
    assert_eq!(container.ended().code(), Some(5));
}

#[test]
fn orphans_that_end_are_collected_while_the_command_runs() {
    let mut container = Container::shell("(sleep 0.05 & echo $!); exec sleep 60");
    let mut line = String::new();
    BufReader::new(container.child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let orphan: u32 = line.trim().parse().unwrap();
    until("the orphan is collected", || (!Path::new(&format!("/proc/{orphan}")).exists()).then_some(()));
    container.signal(Signal::TERM);
    assert_eq!(container.ended().code(), Some(128 + 15));
}

#[test]
fn a_grant_is_spent_on_restarts_and_then_the_end_is_the_commands_own() {
    let mut container = Container::start(&["sleep", "60"]);
    let mut sidecar = container.sidecar();
    sidecar.give(3, 2);
    let first = sidecar.hear_or_running();
    kill(first, Signal::KILL);
    let between = sidecar.until(|state| state.last_end.is_some());
    assert_eq!((between.pid, between.restarts), (0, 1));
    let second = sidecar.running();
    assert_ne!(first, second);
    kill(second, Signal::SEGV);
    let third = sidecar.until(|state| state.pid != 0 && state.restarts == 2);
    assert_eq!((third.spent, third.open, third.last_end.unwrap().signal), (2, true, Some(11)));
    kill(third.pid, Signal::KILL);
    let last = sidecar.until(|state| state.pid == 0);
    assert_eq!((last.restarts, last.open), (2, false));
    let end = last.last_end.unwrap();
    assert_eq!((end.signal, end.denied), (Some(9), Some(Why::Spent)));
    assert_eq!(container.ended().code(), Some(128 + 9));
}

#[test]
fn the_purse_outlives_the_connection_and_spends_while_nobody_listens() {
    let container = Container::start(&["sleep", "60"]);
    let mut sidecar = container.sidecar();
    sidecar.give(1, 5);
    let first = sidecar.hear_or_running();
    drop(sidecar);
    kill(first, Signal::KILL);
    let mut again = container.sidecar();
    let state = again.until(|state| state.restarts == 1 && state.pid != 0);
    assert_eq!((state.spent, state.epoch), (1, Some(1)));
    again.give(1, 5);
    kill(state.pid, Signal::KILL);
    let state = again.until(|state| state.restarts == 2 && state.pid != 0);
    assert_eq!(state.spent, 2, "a grant that is sent again gives nothing back");
    kill(state.pid, Signal::TERM);
    again.until(|state| state.restarts == 3);
}

#[test]
fn a_revoked_grant_restarts_nothing() {
    let mut container = Container::start(&["sleep", "60"]);
    let mut sidecar = container.sidecar();
    sidecar.give(1, 5);
    sidecar.order(Order::Revoke { epoch: 1 });
    let pid = sidecar.until(|state| !state.open).pid;
    kill(pid, Signal::KILL);
    assert_eq!(sidecar.until(|state| state.pid == 0).last_end.unwrap().denied, Some(Why::Revoked));
    assert_eq!(container.ended().code(), Some(128 + 9));
}

#[test]
fn a_container_that_is_stopped_starts_nothing_again() {
    let mut container = Container::start(&["sleep", "60"]);
    let mut sidecar = container.sidecar();
    sidecar.give(1, 5);
    container.signal(Signal::TERM);
    assert_eq!(sidecar.until(|state| state.pid == 0).last_end.unwrap().denied, Some(Why::Stopped));
    assert_eq!(container.ended().code(), Some(128 + 15));
}

#[test]
fn where_only_failures_count_a_normal_end_ends_the_container() {
    let script = "test -e $FOLDER/second || { touch $FOLDER/second; while test ! -e $FOLDER/go; do sleep 0.01; done; exit 4; }";
    let mut container = Container::shell(script);
    let mut sidecar = container.sidecar();
    sidecar.order(Order::Give { epoch: 0, count: 5, window_ms: 60_000, only_failures: true });
    sidecar.until(|state| state.open);
    fs::write(container.folder.path().join("go"), "").unwrap();
    let last = sidecar.until(|state| state.last_end.as_ref().is_some_and(|end| end.code == Some(0)));
    assert_eq!((last.restarts, last.last_end.unwrap().denied), (1, Some(Why::Normal)));
    assert_eq!(container.ended().code(), Some(0));
}

#[test]
fn what_a_process_left_is_gone_before_the_next_one_starts() {
    let container = Container::shell("sleep 60 & echo $! >> $FOLDER/left; wait");
    let mut sidecar = container.sidecar();
    sidecar.give(1, 5);
    let first = sidecar.hear_or_running();
    let left = container.folder.path().join("left");
    let orphan: u32 = until("the child has a number", || fs::read_to_string(&left).ok()?.trim().parse().ok());
    kill(first, Signal::KILL);
    let state = sidecar.until(|state| state.restarts == 1 && state.pid != 0);
    assert!(!alive(orphan));
    assert_eq!(state.last_end.unwrap().left, 1);
}

#[test]
fn rubbish_on_the_socket_changes_nothing() {
    let container = Container::start(&["sleep", "60"]);
    let mut sidecar = container.sidecar();
    sidecar.stream.write_all(b"rubbish\n{\"order\":\"dance\"}\n\xff\xff\n").unwrap();
    sidecar.stream.write_all(&[b'x'; 9000]).unwrap();
    sidecar.stream.write_all(b"\n").unwrap();
    sidecar.give(2, 1);
    let pid = sidecar.hear_or_running();
    assert!(alive(pid));
}

#[test]
fn it_copies_itself_into_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let installed =
        Command::new(env!("CARGO_BIN_EXE_kontrol-shim")).arg("--install").arg(folder.path()).status();
    assert!(installed.unwrap().success());
    let copy = folder.path().join("kontrol-shim");
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o555);
    let socket = folder.path().join("shim.sock");
    let status = Command::new(copy).arg("--socket").arg(socket).args(["--", "true"]).status();
    assert_eq!(status.unwrap().code(), Some(0));
}

#[test]
fn an_end_is_followed_by_its_replacement_within_milliseconds() {
    let container = Container::start(&["sleep", "600"]);
    let mut sidecar = container.sidecar();
    sidecar.give(1, 1000);
    let mut pid = sidecar.hear_or_running();
    let mut times: Vec<Duration> = (1..=100)
        .map(|turn| {
            let before = now();
            kill(pid, Signal::KILL);
            pid = sidecar.until(|state| state.restarts == turn && state.pid != 0).pid;
            before.elapsed()
        })
        .collect();
    times.sort();
    println!("end to replacement heard: p50 {:?}, p99 {:?}, max {:?}", times[50], times[98], times[99]);
    assert!(times[50] < Duration::from_millis(50), "{times:?}");
}

impl Sidecar {
    /// The process that runs, as a line says that has come or comes.
    fn hear_or_running(&mut self) -> u32 {
        self.order(Order::Revoke { epoch: 0 });
        self.running()
    }
}
