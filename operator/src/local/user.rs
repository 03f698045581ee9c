//! What belongs to the user rather than to one state folder: sockets of sidecars whose own place has too long a path, and the list of the
//! worlds that run, by which the command line finds the only one.
//!
//! ```text
//!   <temporary folder>/kontrol-<uid>/     0700, of this user, or not used
//!       <hash of the wanted path>.sock
//!       worlds/<hash of the state folder>   holds the path of the state folder
//! ```

use std::{
    fs, io,
    os::{
        fd::AsRawFd,
        unix::{
            ffi::{OsStrExt, OsStringExt},
            fs::{DirBuilderExt, MetadataExt},
        },
    },
    path::{Path, PathBuf},
};

use tokio::net::UnixStream;

use super::connect_admin;

/// The name of a world's control socket in its state folder.
pub(super) const CONTROL_SOCKET: &str = "control.sock";
/// The most bytes that the path of a socket may have: the system's own limit is 107.
pub(super) const SOCKET_PATH_LIMIT: usize = 100;

/// The path of a socket that others are told of: where it is wanted, or in the user's folder where that path is too long.
pub(super) fn socket_path(wanted: PathBuf) -> PathBuf {
    if fits(&wanted) {
        return wanted;
    }
    folder().join(format!("{:016x}.sock", hash(&wanted)))
}

/// Whether a socket may have this path.
pub(super) fn fits(path: &Path) -> bool {
    path.as_os_str().len() <= SOCKET_PATH_LIMIT
}

/// A socket's place by which it can be bound or connected to, however long its path is, as long as this lives: whoever looks for it needs
/// to know nothing but its path.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    _folder: Option<fs::File>,
}

impl Place {
    /// The place of a socket in a folder that is there.
    pub(super) fn of(socket: &Path) -> io::Result<Self> {
        let (Some(parent), Some(name), false) = (socket.parent(), socket.file_name(), fits(socket)) else {
            return Ok(Self { path: socket.to_owned(), _folder: None });
        };
        let folder = fs::File::open(parent)?;
        let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
        Ok(Self { path, _folder: Some(folder) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Makes the folder that a socket is to be in, for this user alone.
pub(super) fn private_parent(socket: &Path) -> io::Result<()> {
    match socket.parent() {
        Some(parent) if parent == folder() => private(parent),
        Some(parent) => fs::DirBuilder::new().recursive(true).mode(0o700).create(parent),
        None => Ok(()),
    }
}

/// A world's entry in the list of those that run; struck out when it is dropped.
#[derive(Debug)]
pub(super) struct Listed(PathBuf);

impl Listed {
    /// Enters the world of a state folder.
    pub(super) fn enter(state: &Path) -> io::Result<Self> {
        private(&folder())?;
        let worlds = folder().join("worlds");
        private(&worlds)?;
        let entry = worlds.join(format!("{:016x}", hash(state)));
        fs::write(&entry, state.as_os_str().as_bytes())?;
        Ok(Self(entry))
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        // An entry that stays is struck out by the next who reads it.
        drop(fs::remove_file(&self.0));
    }
}

/// The state folders of this user's worlds that answer. Entries that crashes left are struck out.
pub async fn running() -> Vec<PathBuf> {
    let mut found = Vec::new();
    if private(&folder()).is_err() {
        return found;
    }
    for entry in fs::read_dir(folder().join("worlds")).into_iter().flatten().flatten() {
        let Ok(path) = fs::read(entry.path()) else { continue };
        let state = PathBuf::from(std::ffi::OsString::from_vec(path));
        if connect_admin(&state).await.is_some() {
            found.push(state);
        } else if is_gone(&state).await {
            drop(fs::remove_file(entry.path()));
        }
    }
    found.sort();
    found
}

/// Whether nobody can be listening for a state folder, as against somebody who could not be asked.
async fn is_gone(state: &Path) -> bool {
    let asked = async { UnixStream::connect(Place::of(&state.join(CONTROL_SOCKET))?.path()).await };
    let error = asked.await.err().map(|error| error.kind());
    matches!(error, Some(io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused))
}

fn folder() -> PathBuf {
    std::env::temp_dir().join(format!("kontrol-{}", rustix::process::getuid().as_raw()))
}

/// Makes a folder for this user alone; one that others could have a hand in is refused.
fn private(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let found = fs::symlink_metadata(folder)?;
    let own =
        found.is_dir() && found.uid() == rustix::process::getuid().as_raw() && found.mode() & 0o777 == 0o700;
    if own {
        Ok(())
    } else {
        let text = format!("{} belongs to somebody else or is open to others", folder.display());
        Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
    }
}

/// FNV-1a: the same for everybody who names the same path, in every version.
fn hash(path: &Path) -> u64 {
    path.as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_with_too_long_a_path_lies_in_the_users_folder() {
        let short = PathBuf::from("/s/control.sock");
        assert_eq!(socket_path(short.clone()), short);
        let long = PathBuf::from("/x".repeat(60)).join("control.sock");
        let instead = socket_path(long.clone());
        assert!(instead.starts_with(folder()) && instead.as_os_str().len() < SOCKET_PATH_LIMIT);
        assert_eq!(socket_path(long), instead);
    }

    #[tokio::test]
    async fn a_socket_is_found_by_its_path_alone_however_long_that_is() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("x".repeat(120));
        fs::create_dir(&folder).unwrap();
        for socket in [folder.join("s"), place.path().join("s")] {
            let place = Place::of(&socket).unwrap();
            let _listener = tokio::net::UnixListener::bind(place.path()).unwrap();
            drop(place);
            assert!(socket.exists());
            UnixStream::connect(Place::of(&socket).unwrap().path()).await.unwrap();
        }
    }

    #[test]
    fn a_folder_that_others_may_write_in_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let place = tempfile::tempdir().unwrap();
        let open = place.path().join("open");
        private(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(private(&open).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }

    #[tokio::test]
    async fn only_a_world_that_nobody_can_be_behind_is_gone() {
        let state = tempfile::tempdir().unwrap();
        assert!(is_gone(state.path()).await, "it has no socket");
        let listener = tokio::net::UnixListener::bind(state.path().join(CONTROL_SOCKET)).unwrap();
        assert!(!is_gone(state.path()).await);
        drop(listener);
        assert!(is_gone(state.path()).await, "nobody listens at its socket");
        assert!(!is_gone(&state.path().join("x".repeat(300))).await, "it cannot be asked");
    }

    #[tokio::test]
    async fn a_world_that_does_not_answer_is_struck_out() {
        let place = tempfile::tempdir().unwrap();
        let listed = Listed::enter(place.path()).unwrap();
        assert!(!running().await.contains(&place.path().to_owned()));
        assert!(!listed.0.exists());
    }
}
