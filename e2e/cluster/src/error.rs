//! What can go wrong, said so that the way out is clear.

use std::{io, path::PathBuf, time::Duration};

/// Why something about the cluster failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder could not be read, written or removed.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A program failed.
    #[error("`{command}` failed: {reason}")]
    Command {
        /// The command line.
        command: String,
        /// How it ended and what it said.
        reason: String,
    },
    /// A condition did not come to be in time.
    #[error("waited {} s for {what}: {last}", after.as_secs())]
    Timeout {
        /// The condition.
        what: String,
        /// For how long it was waited for.
        after: Duration,
        /// What was seen last.
        last: String,
    },
    /// A component of the cluster ended while it was needed.
    #[error("{component} ended; the end of {}:\n{tail}", log.display())]
    Ended {
        /// Which.
        component: String,
        /// Where it wrote.
        log: PathBuf,
        /// The last lines of that.
        tail: String,
    },
    /// There is no such cluster.
    #[error("no cluster `{0}` is up: start it by `make cluster` (or `kontrol-cluster up --name {0}`)")]
    NotUp(String),
    /// Something named does not exist in the cluster.
    #[error("there is no {kind} `{name}`; there are: {known}")]
    Unknown {
        /// What kind of thing.
        kind: &'static str,
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// A name or option is not valid.
    #[error("{0}")]
    Invalid(String),
    /// The machine lacks what is needed.
    #[error("{0}")]
    Machine(String),
    /// The API server said no, or nothing.
    #[error("the API server: {0}")]
    Api(#[from] Box<kube::Error>),
    /// A certificate could not be made.
    #[error("certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// JSON of our own could not be read or written.
    #[error("{what}: {source}")]
    Json {
        /// Of what.
        what: String,
        /// Why.
        source: serde_json::Error,
    },
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        Self::Api(Box::new(error))
    }
}

/// Gives an I/O error its path.
pub(crate) fn at(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
    let path = path.into();
    move |source| Error::File { path, source }
}

/// Gives a JSON error its subject.
pub(crate) fn json(what: impl Into<String>) -> impl FnOnce(serde_json::Error) -> Error {
    let what = what.into();
    move |source| Error::Json { what, source }
}
