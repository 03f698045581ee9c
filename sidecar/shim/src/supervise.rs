//! The shim's only loop: one thread, which waits on the control socket, on the command and on the end of a grace.

use std::{
    collections::HashSet,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{
        Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process, kill_process_group,
        pidfd_open, set_child_subreaper, wait, waitid,
    },
};

use crate::{
    Event, FailedKind, Options, Order, family,
    machine::{Input, Machine, Signal as Send},
    sys,
};

/// How often orphans that ended are collected while the command runs.
pub(crate) const REAP_EVERY: Duration = Duration::from_secs(5);
/// How long killed processes may take to be gone before the end is reported without them.
const GONE_WITHIN: Duration = Duration::from_secs(5);
/// How often it is looked whether killed processes are gone.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// The longest order, in bytes.
const ORDER_LIMIT: usize = 256;

/// What the system refused the shim itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Becoming the reaper of what the command leaves behind.
    #[error("failed to prepare: {0}")]
    Prepare(#[source] io::Error),
    /// Watching the command.
    #[error("failed to watch the command: {0}")]
    Watch(#[source] io::Error),
    /// Listening for the sidecar.
    #[error("failed to listen at {}: {source}", path.display())]
    Listen {
        /// The socket.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

/// Runs the command to its end, which is the returned event; all events are written to `control` as well.
pub fn run(options: &Options, control: UnixStream) -> Result<Event, Error> {
    set_child_subreaper(Pid::from_raw(1)).map_err(|error| Error::Prepare(error.into()))?;
    let mut world = World { stream: control, partial: Vec::new(), open: true };
    let child = match start(options) {
        Ok(child) => child,
        Err(event) => {
            world.tell(&event);
            return Ok(event);
        }
    };
    let command = Running::new(&child).map_err(Error::Watch)?;
    world.tell(&Event::Started { pid: child.id() });
    watch(options, &mut world, &command)?;
    let event = command.finish().map_err(Error::Watch)?;
    world.tell(&event);
    Ok(event)
}

pub(crate) fn start(options: &Options) -> Result<Child, Event> {
    let (program, arguments) = options.command.split_first().ok_or_else(|| Event::Failed {
        reason: "the command is empty".to_owned(),
        kind: FailedKind::NotFound,
    })?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).process_group(0);
    sys::prepare(&mut command, options.limits);
    command.spawn().map_err(|error| {
        let (path, program) = (Path::new(program), program.to_string_lossy());
        let by_path = path.components().count() > 1;
        let (reason, kind) = match error.kind() {
            io::ErrorKind::NotFound if by_path && path.exists() => (
                format!("the interpreter that the first line of {program} names does not exist"),
                FailedKind::NotFound,
            ),
            io::ErrorKind::NotFound if by_path => (format!("{program} does not exist"), FailedKind::NotFound),
            io::ErrorKind::NotFound => (format!("{program} is not in PATH"), FailedKind::NotFound),
            io::ErrorKind::PermissionDenied => {
                (format!("{program} has no execute permission"), FailedKind::NotExecutable)
            }
            _ if error.raw_os_error() == Some(Errno::NOEXEC.raw_os_error()) => {
                (format!("{program} is neither a program nor a script"), FailedKind::NotExecutable)
            }
            _ => (format!("{program} could not be started: {error}"), FailedKind::Refused),
        };
        Event::Failed { reason, kind }
    })
}

/// Carries out orders until the command has ended. It stays un-reaped, so that its number stays its own.
fn watch(options: &Options, world: &mut World, command: &Running) -> Result<(), Error> {
    let start = clock();
    let mut machine = Machine::new(options.grace);
    loop {
        let timeout =
            machine.wake().map_or(REAP_EVERY, |at| at.saturating_sub(start.elapsed()).min(REAP_EVERY));
        let woken = wait_for(world, command, timeout).map_err(|error| Error::Watch(error.into()))?;
        let mut inputs = if woken.world { world.read() } else { Vec::new() };
        inputs.push(Input::Tick);
        for input in inputs {
            match machine.on(input, start.elapsed()) {
                Some(Send::Term) => command.signal(Signal::TERM),
                Some(Send::Kill) => command.signal(Signal::KILL),
                None => {}
            }
        }
        if woken.command {
            return Ok(());
        }
        command.reap_orphans();
    }
}

struct Woken {
    world: bool,
    command: bool,
}

fn wait_for(world: &World, command: &Running, timeout: Duration) -> Result<Woken, Errno> {
    let mut fds = vec![PollFd::new(&command.pidfd, PollFlags::IN)];
    if world.open {
        fds.push(PollFd::new(&world.stream, PollFlags::IN));
    }
    let timeout = Timespec {
        tv_sec: timeout.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    match poll(&mut fds, Some(&timeout)) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error),
    }
    let ready = |index: usize| fds.get(index).is_some_and(|fd| !fd.revents().is_empty());
    Ok(Woken { command: ready(0), world: ready(1) })
}

/// The other end of the control socket.
struct World {
    stream: UnixStream,
    partial: Vec<u8>,
    open: bool,
}

impl World {
    /// A world that is gone hears nothing, and that is found by reading.
    fn tell(&mut self, event: &Event) {
        if let Ok(mut line) = serde_json::to_vec(event) {
            line.push(b'\n');
            self.open &= self.stream.write_all(&line).is_ok();
        }
    }

    fn read(&mut self) -> Vec<Input> {
        let mut buffer = [0; ORDER_LIMIT];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.gone(),
            Ok(length) => {
                self.partial.extend_from_slice(&buffer[..length]);
                self.orders()
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Vec::new(),
            Err(_) => self.gone(),
        }
    }

    fn gone(&mut self) -> Vec<Input> {
        self.open = false;
        vec![Input::WorldGone]
    }

    /// Takes the whole lines; one that is no order is passed over.
    fn orders(&mut self) -> Vec<Input> {
        let mut inputs = Vec::new();
        while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            let order = std::str::from_utf8(&line).ok().and_then(|line| line.parse::<Order>().ok());
            inputs.extend(order.map(Input::Order));
        }
        if self.partial.len() > ORDER_LIMIT {
            self.partial.clear();
        }
        inputs
    }
}

/// The command, not reaped before [`Running::finish`].
pub(crate) struct Running {
    pid: Pid,
    pub(crate) pidfd: OwnedFd,
}

impl Running {
    pub(crate) fn new(child: &Child) -> io::Result<Self> {
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::from(Errno::SRCH))?;
        Ok(Self { pid, pidfd: pidfd_open(pid, PidfdFlags::empty())? })
    }

    /// To the whole group.
    pub(crate) fn signal(&self, signal: Signal) {
        ignore_gone(kill_process_group(self.pid, signal));
    }

    /// Collects orphans that ended; the command itself stays.
    pub(crate) fn reap_orphans(&self) {
        for orphan in family::children() {
            if orphan != self.pid {
                ignore_gone(waitid(WaitId::Pid(orphan), WaitIdOptions::EXITED | WaitIdOptions::NOHANG));
            }
        }
    }

    /// Ends all that the command left, in its group or out of it, and collects everything.
    pub(crate) fn finish(&self) -> io::Result<Event> {
        let mut left: HashSet<Pid> = family::alive();
        self.signal(Signal::KILL);
        let status = waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED)?
            .ok_or_else(|| io::Error::from(Errno::CHILD))?;
        let deadline = clock() + GONE_WITHIN;
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some(_)) => {}
                Err(Errno::CHILD) => break,
                Ok(None) if deadline <= clock() => break,
                Ok(None) | Err(_) => {
                    for orphan in family::alive() {
                        left.insert(orphan);
                        ignore_gone(kill_process(orphan, Signal::KILL));
                    }
                    thread::sleep(LOOK_EVERY);
                }
            }
        }
        Ok(Event::Ended {
            code: status.exit_status(),
            signal: status.terminating_signal(),
            left: u32::try_from(left.len()).unwrap_or(u32::MAX),
        })
    }
}

/// Who is gone needs no signal and no collecting, and nothing else can go wrong between a shim and its own children.
fn ignore_gone<T>(result: Result<T, Errno>) {
    drop(result.ok());
}

#[allow(clippy::disallowed_methods, reason = "the shim's only clock; the machine takes time as an argument")]
pub(crate) fn clock() -> Instant {
    Instant::now()
}
