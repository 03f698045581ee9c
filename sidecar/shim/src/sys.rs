//! The one place with `unsafe`: what must happen between fork and exec, and in a signal's handler.

use std::{
    ffi::c_int,
    io,
    os::{
        fd::AsRawFd,
        unix::{net::UnixStream, process::CommandExt},
    },
    process::Command,
};

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

/// Writes the number of each of these signals, as one byte, to the other end of the returned stream when it comes. They end this process no
/// more.
pub(crate) fn signals(numbers: &[c_int]) -> io::Result<UnixStream> {
    let (reader, writer) = UnixStream::pair()?;
    reader.set_nonblocking(true)?;
    writer.set_nonblocking(true)?;
    for number in numbers {
        let (byte, writer) = ([u8::try_from(*number).unwrap_or(0)], writer.try_clone()?);
        let note = move || {
            // A full pipe holds enough signals to wake up for.
            rustix::io::write(&writer, &byte).ok();
        };
        // SAFETY: the closure runs in a signal's handler, where only async-signal-safe calls are allowed. It makes one system call through
        // rustix on a descriptor that it owns: it allocates nothing, takes no lock and does not change `errno`, which rustix does not use.
        unsafe {
            signal_hook_registry::register(*number, note)?;
        }
    }
    Ok(reader)
}

/// The user at the other end of a connection. Read by hand: a process of another PID namespace has the number 0 here, which no type of `rustix`
/// can hold.
pub(crate) fn peer_user(stream: &UnixStream) -> io::Result<u32> {
    let mut credentials = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut length = libc::socklen_t::try_from(size_of::<libc::ucred>()).unwrap_or_default();
    // SAFETY: the descriptor is open for as long as `stream` is borrowed; the option's value and its length are written to variables of
    // exactly those types, which outlive the call.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut credentials).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(credentials.uid) } else { Err(io::Error::last_os_error()) }
}
