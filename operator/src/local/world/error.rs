//! Why a world cannot begin or go on.

use std::{io, path::PathBuf};

use kontrol_core::code::Code;

use crate::{authority, control, local::folder};

/// Why a world cannot begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The state folder.
    #[error(transparent)]
    Folder(#[from] folder::Error),
    /// The authority.
    #[error(transparent)]
    Authority(#[from] authority::Error),
    /// The control server.
    #[error(transparent)]
    Control(#[from] control::Error),
    /// The command line's socket.
    #[error("the control socket {} cannot be used: {source}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A binary is missing.
    #[error("{name} is not in {}: install kontrol, kontrol-sidecar and kontrol-shim in one folder, or set KONTROL_BIN_DIR", folder.display())]
    Binary {
        /// Which.
        name: &'static str,
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// The system refuses threads.
    #[error("a thread cannot be started: {0}")]
    Thread(#[source] io::Error),
}

impl Error {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::Folder(error) => error.code(),
            Self::Authority(error) => error.code(),
            Self::Control(error) => error.code(),
            Self::Socket { .. } => Code::ListenFailed,
            Self::Binary { .. } => Code::BinaryNotFound,
            Self::Thread(_) => Code::StateFolderUnusable,
        }
    }
}
