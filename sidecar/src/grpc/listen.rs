//! The door's listeners.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::Path,
};

use futures::{Stream, StreamExt};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio_stream::wrappers::TcpListenerStream;

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

/// Accepted connections that send at once: what is served on a stream of connections has Nagle's algorithm on otherwise, which costs
/// tens of milliseconds.
pub fn nodelay(listener: TcpListener) -> impl Stream<Item = io::Result<TcpStream>> {
    TcpListenerStream::new(listener).map(|stream| {
        let stream = stream?;
        stream.set_nodelay(true)?;
        Ok(stream)
    })
}
