//! The state folder: who holds it, and what is written in it for the next one.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use kontrol_core::{code::Code, id::WidgetId, time::Timestamp};
use kontrol_plan::Status;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::user::{CONTROL_SOCKET, SOCKET_PATH_LIMIT, fits, socket_path};

/// What is wrong with the state folder.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another `kontrol up` holds it.
    #[error("another `kontrol up` (pid {pid}) runs in {}; end it with `kontrol down`, or choose another place with --state-dir", folder.display())]
    Held {
        /// The folder.
        folder: PathBuf,
        /// Who holds it.
        pid: String,
    },
    /// It cannot be made, read or written.
    #[error("the state folder cannot be used: {}: {source}", path.display())]
    Unusable {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Neither it nor the temporary folder has room for the path of a sidecar's socket.
    #[error(
        "the path of a sidecar's Unix socket, {}, would have {} bytes, and the system takes {limit}: choose a shorter place for the state \
         folder with --state-dir, or for temporary files with TMPDIR",
        socket.display(),
        socket.as_os_str().len()
    )]
    TooDeep {
        /// The socket.
        socket: PathBuf,
        /// The most bytes that its path may have.
        limit: usize,
    },
    /// The status cannot be written.
    #[error("the status cannot be written: {}: {source}; nothing is started or stopped until it can", path.display())]
    NotWritten {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl Error {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::Held { .. } => Code::AlreadyRunning,
            Self::Unusable { .. } | Self::TooDeep { .. } => Code::StateFolderUnusable,
            Self::NotWritten { .. } => Code::StatusNotWritten,
        }
    }
}

/// All that one world leaves to the next: the status of each tree, and what users set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Written {
    /// The status of each tree, by `group/<namespace>/<name>` or `supervisor/…` of its root.
    pub trees: BTreeMap<String, Status>,
    /// Replicas that users set with `kontrol scale`.
    pub scaled: BTreeMap<String, Scaled>,
    /// The highest incarnation of any tree that is gone: what comes back under an old name starts above it.
    pub floor: u64,
}

/// Replicas as a user set them. They hold until the manifest's own number changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Scaled {
    /// What the user wants.
    pub replicas: u32,
    /// What the manifest said then.
    pub manifest: u32,
}

impl Written {
    /// The key of a widget under `scaled`.
    pub fn scaled_key(widget: &WidgetId) -> String {
        widget.to_string()
    }
}

/// What was read of an earlier world.
#[derive(Debug)]
pub struct Earlier {
    /// What it left.
    pub written: Written,
    /// Where an unreadable status was set aside, and what was wrong with it.
    pub set_aside: Option<(PathBuf, String)>,
}

/// The state folder, held until it is dropped.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    _lock: fs::File,
}

impl Folder {
    /// Makes the folder where it is missing, and takes hold of it.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let unusable = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Unusable { path, source }
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(unusable(root))?;
        let root = root.canonicalize().map_err(unusable(root))?;
        let path = root.join("lock");
        let mut lock = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(unusable(&path))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut pid = String::new();
            lock.read_to_string(&mut pid).map_err(unusable(&path))?;
            return Err(Error::Held { folder: root, pid: pid.trim().to_owned() });
        }
        let claim = |lock: &mut fs::File| {
            lock.set_len(0)?;
            lock.rewind()?;
            writeln!(lock, "{}", std::process::id())
        };
        claim(&mut lock).map_err(unusable(&path))?;
        for part in ["run", "logs"] {
            let path = root.join(part);
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(unusable(&path))?;
        }
        Ok(Self { root, _lock: lock })
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The authority's folder.
    pub fn ca(&self) -> PathBuf {
        self.root.join("ca")
    }

    /// The socket of the command line's requests.
    pub fn control_socket(&self) -> PathBuf {
        self.root.join(CONTROL_SOCKET)
    }

    /// The hub's data.
    pub fn hub(&self) -> PathBuf {
        self.root.join("hub")
    }

    /// What processes write.
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// The folder of one sidecar.
    pub fn run(&self, name: &str) -> PathBuf {
        self.root.join("run").join(name)
    }

    /// The socket of one sidecar; an error where there is no place for it.
    pub fn sidecar_socket(&self, name: &str) -> Result<PathBuf, Error> {
        let socket = socket_path(self.run(name).join("socket"));
        if fits(&socket) { Ok(socket) } else { Err(Error::TooDeep { socket, limit: SOCKET_PATH_LIMIT }) }
    }

    /// The record of what runs.
    pub fn processes(&self) -> PathBuf {
        self.root.join("processes.json")
    }

    /// Removes what sidecars kept. Nobody may be running in here any more.
    pub fn clear_run(&self) -> Result<(), Error> {
        let path = self.root.join("run");
        let clear = || {
            fs::remove_dir_all(&path)?;
            fs::DirBuilder::new().mode(0o700).create(&path)
        };
        clear().map_err(|source| Error::Unusable { path: path.clone(), source })
    }

    fn status(&self) -> PathBuf {
        self.root.join("status.json")
    }

    /// Reads what an earlier world wrote. A file that makes no sense is set aside and named.
    pub fn read(&self, now: Timestamp) -> Result<Earlier, Error> {
        let path = self.status();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Earlier { written: Written::default(), set_aside: None });
            }
            Err(source) => return Err(Error::Unusable { path, source }),
        };
        match serde_json::from_slice(&text) {
            Ok(written) => Ok(Earlier { written, set_aside: None }),
            Err(error) => {
                let aside = self.root.join(format!("status.json.unreadable-{}", now.as_micros()));
                fs::rename(&path, &aside).map_err(|source| Error::Unusable { path, source })?;
                Ok(Earlier { written: Written::default(), set_aside: Some((aside, error.to_string())) })
            }
        }
    }

    /// Writes durably, whole or not at all: when it returns, the next world will read this.
    pub fn write(&self, written: &Written) -> Result<(), Error> {
        let path = self.status();
        let store = || -> io::Result<()> {
            let partial = path.with_extension("partial");
            let mut file =
                fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
            file.write_all(&serde_json::to_vec(written)?)?;
            file.sync_all()?;
            fs::rename(&partial, &path)?;
            fs::File::open(&self.root)?.sync_all()
        };
        store().map_err(|source| Error::NotWritten { path: path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_held_by_one_and_the_other_is_told_who() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join(".kontrol");
        let held = Folder::open(&root).unwrap();
        let error = Folder::open(&root).unwrap_err();
        assert_eq!(error.code(), Code::AlreadyRunning);
        assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
        drop(held);
        Folder::open(&root).unwrap();
    }

    #[test]
    fn what_is_written_is_read_and_rubbish_is_set_aside() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path()).unwrap();
        let mut written = Written::default();
        written.scaled.insert("default/rag/llm".into(), Scaled { replicas: 3, manifest: 1 });
        written.trees.insert("group/default/rag".into(), Status::default());
        folder.write(&written).unwrap();
        assert_eq!(folder.read(Timestamp::ZERO).unwrap().written, written);

        fs::write(place.path().join("status.json"), "{").unwrap();
        let earlier = folder.read(Timestamp::from_micros(7)).unwrap();
        assert_eq!(earlier.written, Written::default());
        assert!(earlier.set_aside.unwrap().0.ends_with("status.json.unreadable-7"));
    }

    #[test]
    fn a_place_that_is_no_folder_is_named() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("file");
        fs::write(&file, "").unwrap();
        let error = Folder::open(&file.join("state")).unwrap_err();
        assert_eq!(error.code(), Code::StateFolderUnusable);
        assert!(error.to_string().contains("file"), "{error}");
    }
}
