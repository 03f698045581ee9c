//! The door's listeners.

use std::{
    fs, io,
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt, PermissionsExt},
    },
    path::Path,
};

use futures::{Stream, StreamExt};
use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};

use super::connection::Connection;
use crate::service::Service;

/// Binds the Unix socket, for the user alone (0600, in a folder that is made with 0700 where it is missing). What an earlier process
/// left at the path is removed.
pub fn bind_socket(path: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent()
        && !folder.exists()
    {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// The connections of the Unix socket.
pub(super) fn unix(listener: UnixListener, service: Service) -> impl Stream<Item = io::Result<Connection>> {
    UnixListenerStream::new(listener).map(move |stream| begin(stream?.into_std()?.into(), &service))
}

/// The connections of the loopback port. They send at once: Nagle's algorithm, which is on otherwise, costs tens of milliseconds.
pub(super) fn tcp(listener: TcpListener, service: Service) -> impl Stream<Item = io::Result<Connection>> {
    TcpListenerStream::new(listener).map(move |stream| {
        let stream = stream?;
        stream.set_nodelay(true)?;
        begin(stream.into_std()?.into(), &service)
    })
}

fn begin(socket: OwnedFd, service: &Service) -> io::Result<Connection> {
    let (connection, writing) = Connection::begin(socket)?;
    service.spawn(writing);
    Ok(connection)
}
