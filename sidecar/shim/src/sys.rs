//! The one place with `unsafe`: what must happen between fork and exec.

use std::{io, os::unix::process::CommandExt, process::Command};

use rustix::process::{Resource, Rlimit, Signal, getppid, set_parent_process_death_signal, setrlimit};

use crate::Limits;

/// Lets the command die with the thread that starts it, and run within its limits.
pub(crate) fn prepare(command: &mut Command, limits: Limits) {
    let parent = rustix::process::getpid();
    let in_child = move || -> io::Result<()> {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        if getppid() != Some(parent) {
            return Err(io::Error::from(rustix::io::Errno::SRCH));
        }
        for (resource, limit) in [(Resource::As, limits.memory), (Resource::Nofile, limits.open_files)] {
            if limit.is_some() {
                setrlimit(resource, Rlimit { current: limit, maximum: limit })?;
            }
        }
        Ok(())
    };
    // SAFETY: the closure runs between fork and exec, where only async-signal-safe calls are allowed. It makes system calls through
    // rustix and nothing else: it allocates nothing, takes no lock and touches no memory but its own copies.
    unsafe {
        command.pre_exec(in_child);
    }
}
