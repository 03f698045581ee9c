//! The shim with real processes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends by it")]

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::fs::PermissionsExt,
    os::unix::net::UnixStream,
    path::PathBuf,
    process::Child,
    time::{Duration, Instant},
};

use kontrol_shim::{Event, FailedKind, Launch, Limits, Options};

const PATIENCE: Duration = Duration::from_secs(10);

struct Shim {
    child: Child,
    control: Option<UnixStream>,
    events: BufReader<UnixStream>,
}

impl Shim {
    fn start(command: &[&str]) -> Self {
        Self::with(Options::new(command.iter().map(Into::into).collect()))
    }

    fn shell(script: &str) -> Self {
        Self::start(&["sh", "-c", script])
    }

    fn with(options: Options) -> Self {
        let launch = Launch {
            shim: PathBuf::from(env!("CARGO_BIN_EXE_kontrol-shim")),
            options,
            environment: [("GIVEN".into(), "by the world".into())].into(),
            folder: std::env::temp_dir(),
        };
        let launched = launch.start().unwrap();
        launched.control.set_read_timeout(Some(PATIENCE)).unwrap();
        let events = BufReader::new(launched.control.try_clone().unwrap());
        Self { child: launched.child, control: Some(launched.control), events }
    }

    fn event(&mut self) -> Event {
        let mut line = String::new();
        self.events.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    fn started(&mut self) -> u32 {
        match self.event() {
            Event::Started { pid } => pid,
            other => panic!("{other:?}"),
        }
    }

    fn output_line(&mut self) -> String {
        let mut line = String::new();
        BufReader::new(self.child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    fn order(&mut self, order: &str) {
        writeln!(self.control.as_mut().unwrap(), "{order}").unwrap();
    }

    /// As when the world is killed: every descriptor of its end is closed.
    fn world_dies(mut self) -> Child {
        drop(self.control.take());
        drop(self.events);
        self.child
    }
}

#[allow(clippy::disallowed_methods, reason = "tests measure")]
fn now() -> Instant {
    Instant::now()
}

fn alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap().trim_start().starts_with('Z'))
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = now() + PATIENCE;
    while !condition() {
        assert!(now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

fn ended(code: i32) -> Event {
    Event::Ended { code: Some(code), signal: None, left: 0 }
}

#[test]
fn the_exit_code_is_reported() {
    let mut shim = Shim::shell("exit 3");
    shim.started();
    assert_eq!(shim.event(), ended(3));
    assert_eq!(shim.child.wait().unwrap().code(), Some(3));
}

#[test]
fn the_signal_is_reported() {
    let mut shim = Shim::shell("kill -SEGV $$");
    shim.started();
    assert_eq!(shim.event(), Event::Ended { code: None, signal: Some(11), left: 0 });
}

#[test]
fn output_environment_and_folder_are_the_commands() {
    let mut shim = Shim::shell("echo $GIVEN in $(pwd)");
    let folder = fs::canonicalize(std::env::temp_dir()).unwrap();
    assert_eq!(shim.output_line(), format!("by the world in {}", folder.display()));
}

#[test]
fn a_command_that_does_not_exist_fails_with_its_name() {
    let mut shim = Shim::start(&["no-such-program-anywhere"]);
    match shim.event() {
        Event::Failed { reason, kind: FailedKind::NotFound } => assert!(reason.contains("no-such-program")),
        other => panic!("{other:?}"),
    }
    assert_eq!(shim.child.wait().unwrap().code(), Some(127));
}

#[test]
fn a_file_that_is_not_executable_fails() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("data");
    fs::write(&file, "exit 0").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let mut shim = Shim::start(&[file.to_str().unwrap()]);
    assert!(matches!(shim.event(), Event::Failed { kind: FailedKind::NotExecutable, .. }));
}

#[test]
fn stop_is_a_sigterm_to_the_whole_group() {
    let mut shim = Shim::shell("trap 'exit 7' TERM; echo up; while :; do sleep 0.01; done");
    shim.started();
    assert_eq!(shim.output_line(), "up");
    shim.order("stop");
    assert!(matches!(shim.event(), Event::Ended { code: Some(7), signal: None, .. }));
}

#[test]
fn a_command_that_ignores_sigterm_is_killed_after_the_grace() {
    let mut shim = Shim::shell("trap '' TERM; echo up; while :; do sleep 0.01; done");
    shim.started();
    shim.output_line();
    let before = now();
    shim.order("stop 200");
    assert!(matches!(shim.event(), Event::Ended { code: None, signal: Some(9), .. }));
    let took = before.elapsed();
    assert!(took >= Duration::from_millis(200) && took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn kill_needs_no_grace() {
    let mut shim = Shim::shell("trap '' TERM; echo up; exec sleep 60");
    shim.started();
    shim.output_line();
    shim.order("kill");
    assert_eq!(shim.event(), Event::Ended { code: None, signal: Some(9), left: 0 });
}

#[test]
fn children_left_behind_are_killed_and_counted() {
    let mut shim = Shim::shell("sleep 60 & echo $!; exit 0");
    shim.started();
    let orphan: u32 = shim.output_line().parse().unwrap();
    assert_eq!(shim.event(), Event::Ended { code: Some(0), signal: None, left: 1 });
    assert!(!alive(orphan));
}

#[test]
fn children_that_left_the_group_are_killed_too() {
    let mut shim = Shim::shell("setsid sh -c 'echo $$; sleep 60 & sleep 60' & sleep 0.2; exit 0");
    shim.started();
    let daemon: u32 = shim.output_line().parse().unwrap();
    match shim.event() {
        Event::Ended { code: Some(0), left, .. } => assert!(left >= 2, "{left}"),
        other => panic!("{other:?}"),
    }
    assert!(!alive(daemon));
}

#[test]
fn a_world_that_is_gone_takes_the_group_with_it() {
    let mut shim = Shim::shell("trap '' TERM; sleep 60 & echo $!; wait; sleep 60");
    let command = shim.started();
    let child: u32 = shim.output_line().parse().unwrap();
    let mut process = shim.world_dies();
    process.wait().unwrap();
    assert!(!alive(command) && !alive(child));
}

#[test]
fn a_shim_that_is_killed_takes_the_command_with_it() {
    let mut shim = Shim::start(&["sleep", "60"]);
    let command = shim.started();
    shim.child.kill().unwrap();
    shim.child.wait().unwrap();
    until("the command outlives its shim", || !alive(command));
}

#[test]
fn limits_are_in_force() {
    let mut options = Options::new(["sh", "-c", "ulimit -n; ulimit -v"].map(Into::into).into());
    options.limits = Limits { memory: Some(512 << 20), open_files: Some(99) };
    let mut shim = Shim::with(options);
    let mut output = String::new();
    let mut reader = BufReader::new(shim.child.stdout.take().unwrap());
    reader.read_line(&mut output).unwrap();
    reader.read_line(&mut output).unwrap();
    assert_eq!(output, format!("99\n{}\n", 512 << 10));
}

#[test]
fn a_wrong_order_is_passed_over() {
    let mut shim = Shim::start(&["sleep", "60"]);
    shim.started();
    shim.order("dance");
    shim.order("kill");
    assert_eq!(shim.event(), Event::Ended { code: None, signal: Some(9), left: 0 });
}

#[test]
fn a_start_takes_a_few_milliseconds() {
    let mut times: Vec<Duration> = (0..20)
        .map(|_| {
            let before = now();
            let mut shim = Shim::start(&["true"]);
            shim.started();
            before.elapsed()
        })
        .collect();
    times.sort();
    println!("spawn to started: p50 {:?}, max {:?}", times[10], times[19]);
    assert!(times[10] < Duration::from_millis(50), "{times:?}");
}
