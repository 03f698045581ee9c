//! The shim as the first process of a container: no world holds its stdin, and a grant lets it start the command again.
//!
//! ```text
//!   kubelet ──SIGTERM──► shim ──► group of the command
//!   sidecar ══socket══► shim     grant down · state up, whole, on each change
//! ```
//!
//! Invariants: without a grant it is a plain init, which ends with the command's own status; what was started is gone before it is started
//! again; once told to stop it starts nothing; the purse outlives every connection and every process but the shim's own.

mod decide;
mod door;

use std::{
    io::Read,
    os::unix::net::UnixStream,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use kontrol_core::{
    time::Timestamp,
    wrapped::{Ended, Why},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, Signal, set_child_subreaper},
    time::{ClockId, clock_gettime},
};

use crate::{
    Event, Options, RunError as Error,
    machine::{Input, Machine, Signal as Send},
    supervise::{self, REAP_EVERY, Running, clock},
    sys,
    wire::Order,
};
use decide::Keeper;
use door::Door;

/// What ends the container, what wakes the shim, and what is handed on as it is.
const SIGNALS: [Signal; 7] =
    [Signal::TERM, Signal::INT, Signal::CHILD, Signal::HUP, Signal::USR1, Signal::USR2, Signal::QUIT];

/// Runs the command, again where a grant allows it; returns the status to exit with, the command's own.
pub fn run(options: &Options) -> Result<u8, Error> {
    set_child_subreaper(Pid::from_raw(1)).map_err(|error| Error::Prepare(error.into()))?;
    let signals = sys::signals(&SIGNALS.map(Signal::as_raw)).map_err(Error::Prepare)?;
    let mut shim = Shim {
        options,
        signals,
        door: Door::open(options)?,
        keeper: Keeper::new(since_boot().as_micros()),
        stopped: false,
    };
    loop {
        let child = match supervise::start(options) {
            Ok(child) => child,
            Err(event) => return Ok(shim.failed(&event)),
        };
        let command = Running::new(&child).map_err(Error::Watch)?;
        shim.keeper.started(child.id());
        shim.tell();
        shim.watch(&command)?;
        let event = command.finish().map_err(Error::Watch)?;
        if !shim.ended(&event) {
            return Ok(event.status());
        }
    }
}

struct Shim<'a> {
    options: &'a Options,
    signals: UnixStream,
    door: Door,
    keeper: Keeper,
    /// Whether the container is being stopped.
    stopped: bool,
}

impl Shim<'_> {
    fn tell(&mut self) {
        self.door.tell(&self.keeper.state());
    }

    /// Carries out signals and takes grants until the command has ended. It stays un-reaped, so that its number stays its own.
    fn watch(&mut self, command: &Running) -> Result<(), Error> {
        let start = clock();
        let mut machine = Machine::new(self.options.grace);
        if self.stopped {
            // The order came between two processes: this one is not to begin its work.
            send(command, machine.on(Input::Order(Order::Stop(None)), start.elapsed()));
        }
        loop {
            let due = machine.wake().map_or(REAP_EVERY, |at| at.saturating_sub(start.elapsed()));
            let woken =
                self.wait(command, due.min(REAP_EVERY)).map_err(|error| Error::Watch(error.into()))?;
            for signal in self.caught() {
                match signal {
                    Signal::CHILD => {}
                    Signal::TERM | Signal::INT => {
                        self.stopped = true;
                        send(command, machine.on(Input::Order(Order::Stop(None)), start.elapsed()));
                    }
                    other => command.signal(other),
                }
            }
            if woken.door {
                self.converse();
            }
            send(command, machine.on(Input::Tick, start.elapsed()));
            if woken.command {
                return Ok(());
            }
            command.reap_orphans();
        }
    }

    fn converse(&mut self) {
        let arrived = self.door.accept();
        let mut changed = arrived;
        for order in self.door.read() {
            self.keeper.order(order);
            changed = true;
        }
        if changed {
            self.tell();
        }
    }

    fn wait(&self, command: &Running, timeout: Duration) -> Result<Woken, Errno> {
        let mut fds =
            vec![PollFd::new(&command.pidfd, PollFlags::IN), PollFd::new(&self.signals, PollFlags::IN)];
        fds.extend(self.door.fds().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        let timeout = Timespec {
            tv_sec: timeout.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        let ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
        Ok(Woken { command: fds.first().is_some_and(ready), door: fds.iter().skip(2).any(ready) })
    }

    /// The signals that came since this was asked.
    fn caught(&mut self) -> Vec<Signal> {
        let mut numbers = [0; 64];
        let count = self.signals.read(&mut numbers).unwrap_or(0);
        let known = |number: &u8| SIGNALS.into_iter().find(|signal| signal.as_raw() == i32::from(*number));
        numbers[..count].iter().filter_map(known).collect()
    }

    /// Takes the end of the command; says whether it is started again.
    fn ended(&mut self, event: &Event) -> bool {
        let caught = self.caught();
        self.stopped |= caught.iter().any(|signal| matches!(*signal, Signal::TERM | Signal::INT));
        // A grant that has arrived counts, even if this is the first look at it.
        self.converse();
        let Event::Ended { code, signal, left } = *event else { return false };
        let at_micros = wall_micros();
        let ended = Ended { code, signal, at_micros, left, denied: None };
        let again = self.keeper.ended(&ended, self.stopped, since_boot());
        self.tell();
        again
    }

    fn failed(&mut self, event: &Event) -> u8 {
        if let Event::Failed { reason, .. } = event {
            complain(reason);
        }
        let ended =
            Ended { code: None, signal: None, at_micros: wall_micros(), left: 0, denied: Some(Why::Failed) };
        self.keeper.failed(ended);
        self.tell();
        event.status()
    }
}

struct Woken {
    command: bool,
    door: bool,
}

fn send(command: &Running, signal: Option<Send>) {
    match signal {
        Some(Send::Term) => command.signal(Signal::TERM),
        Some(Send::Kill) => command.signal(Signal::KILL),
        None => {}
    }
}

/// A line for whoever reads the container's log. There is nobody else to tell where it cannot be written.
fn complain(text: &str) {
    use std::io::Write;
    drop(writeln!(std::io::stderr(), "kontrol-shim: {text}"));
}

/// Windows of grants are counted by the clock that nobody sets.
fn since_boot() -> Timestamp {
    let since = Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default();
    Timestamp::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

#[allow(clippy::disallowed_methods, reason = "the shim's wall clock, for what people read")]
fn wall_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
