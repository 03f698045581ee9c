//! The door's listeners.

use std::{
    fs, io,
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    },
    path::Path,
};

use futures::{Stream, StreamExt};
use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};

use super::connection::Connection;
use crate::service::Service;

/// Binds the Unix socket, for the user alone (0600, in a folder that is made with 0700 where it is missing) or for the group that a pod's
/// containers share. What an earlier process left at the path is removed.
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
    fs::set_permissions(path, fs::Permissions::from_mode(mode(path)))?;
    Ok(listener)
}

/// Who may connect: this user; and where the folder hands its group on to what is made in it, as a pod's volume with an `fsGroup` does, that
/// group, which the pod's containers share.
fn mode(path: &Path) -> u32 {
    let folder = path.parent().and_then(|folder| fs::metadata(folder).ok());
    if folder.is_some_and(|folder| folder.mode() & 0o2000 != 0) { 0o660 } else { 0o600 }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_socket_is_for_the_user_alone_unless_the_folder_hands_on_its_group() {
        let folder = tempfile::tempdir().unwrap();
        let bound = |name: &str| {
            let path = folder.path().join(name).join("door.sock");
            let _listener = bind_socket(&path).unwrap();
            fs::metadata(path).unwrap().mode() & 0o777
        };
        assert_eq!(bound("alone"), 0o600);
        fs::create_dir(folder.path().join("shared")).unwrap();
        fs::set_permissions(folder.path().join("shared"), fs::Permissions::from_mode(0o2770)).unwrap();
        assert_eq!(bound("shared"), 0o660);
    }
}
