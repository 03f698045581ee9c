//! How a world starts a shim.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::CommandExt},
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use crate::Options;

/// A shim that is about to be started.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The `kontrol-shim` binary.
    pub shim: PathBuf,
    /// What it is told.
    pub options: Options,
    /// Additions to the environment that the world itself has.
    pub environment: BTreeMap<OsString, OsString>,
    /// The folder that the command starts in.
    pub folder: PathBuf,
}

/// A shim that runs. Dropping `control` kills what it runs.
#[derive(Debug)]
pub struct Launched {
    /// The shim. Its stdout and stderr are the command's.
    pub child: Child,
    /// Orders to it, events from it.
    pub control: UnixStream,
}

impl Launch {
    /// Starts the shim, in a process group of its own so that the terminal's signals do not reach it.
    pub fn start(&self) -> io::Result<Launched> {
        let (ours, theirs) = UnixStream::pair()?;
        let child = Command::new(&self.shim)
            .args(self.options.to_arguments())
            .envs(&self.environment)
            .current_dir(&self.folder)
            .process_group(0)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        Ok(Launched { child, control: ours })
    }
}
