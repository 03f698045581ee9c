//! Where the sidecar connects: one connection at a time, the newest.

use std::{
    fs,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::{
            fs::PermissionsExt,
            net::{UnixListener, UnixStream},
        },
    },
};

use kontrol_core::wrapped::{Order, State};
use rustix::process::getuid;

use super::complain;
use crate::{Options, RunError as Error, sys};

/// The longest line, in bytes.
const LINE_LIMIT: usize = 4096;
/// The socket's permissions: the pod's group (`fsGroup`) is shared by its containers. Who connects is looked at besides.
const MODE: u32 = 0o660;

pub(super) struct Door {
    listener: Option<UnixListener>,
    connection: Option<UnixStream>,
    partial: Vec<u8>,
    /// Who may connect besides this user and root.
    peer: Option<u32>,
}

impl Door {
    pub(super) fn open(options: &Options) -> Result<Self, Error> {
        let listener = options
            .socket
            .as_ref()
            .map(|path| {
                let bound = || {
                    match fs::remove_file(path) {
                        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                        _ => {}
                    }
                    let listener = UnixListener::bind(path)?;
                    // Nobody but this process may make it any wider, and a folder that does not take modes is no reason not to run.
                    drop(fs::set_permissions(path, fs::Permissions::from_mode(mode(options.peer))));
                    listener.set_nonblocking(true)?;
                    Ok(listener)
                };
                bound().map_err(|source| Error::Listen { path: path.clone(), source })
            })
            .transpose()?;
        Ok(Self { listener, connection: None, partial: Vec::new(), peer: options.peer })
    }

    /// What to wait for.
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.listener.iter().map(AsFd::as_fd).chain(self.connection.iter().map(AsFd::as_fd))
    }

    /// Takes a connection that waits; it takes the place of the one before. Says whether there is a new one.
    pub(super) fn accept(&mut self) -> bool {
        let mut new = false;
        while let Some(Ok((stream, _))) = self.listener.as_ref().map(UnixListener::accept) {
            match sys::peer_user(&stream) {
                Ok(user) if self.welcome(user) && stream.set_nonblocking(true).is_ok() => {
                    self.connection = Some(stream);
                    self.partial.clear();
                    new = true;
                }
                Ok(user) => complain(&format!("a connection of user {user} was refused")),
                Err(error) => complain(&format!("a connection was refused: {error}")),
            }
        }
        new
    }

    fn welcome(&self, user: u32) -> bool {
        user == 0 || user == getuid().as_raw() || self.peer == Some(user)
    }

    /// The orders that have arrived; a line that is none is passed over.
    pub(super) fn read(&mut self) -> Vec<Order> {
        let mut buffer = [0; LINE_LIMIT];
        loop {
            let Some(connection) = &mut self.connection else { return Vec::new() };
            match connection.read(&mut buffer) {
                Ok(0) => break self.connection = None,
                Ok(length) => self.partial.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break self.connection = None,
            }
            if self.partial.len() > LINE_LIMIT {
                break;
            }
        }
        let mut orders = Vec::new();
        while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            orders.extend(serde_json::from_slice::<Order>(&line));
        }
        if self.partial.len() > LINE_LIMIT {
            self.partial.clear();
        }
        orders
    }

    /// Says all; a connection that does not take it ends, and hears it when it comes back.
    pub(super) fn tell(&mut self, state: &State) {
        let Some(connection) = &mut self.connection else { return };
        let Ok(mut line) = serde_json::to_vec(state) else { return };
        line.push(b'\n');
        if connection.write_all(&line).is_err() {
            self.connection = None;
        }
    }
}

/// A user of another group has to be let in by the file's mode; who it is decides.
const fn mode(peer: Option<u32>) -> u32 {
    if peer.is_some() { 0o666 } else { MODE }
}
