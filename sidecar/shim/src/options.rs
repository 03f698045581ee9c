//! The command line. Read by hand: the shim starts for each process, and a parser library costs more than all else it does.

use std::{ffi::OsString, path::PathBuf, time::Duration};

/// How the shim is called.
pub const USAGE: &str = "\
usage: kontrol-shim [--shutdown-grace-ms N] [--limit-memory BYTES] [--limit-open-files N] -- COMMAND [ARGUMENT…]
       kontrol-shim --socket PATH [--peer-uid N] [--shutdown-grace-ms N] … -- COMMAND [ARGUMENT…]
       kontrol-shim --install FOLDER

Runs COMMAND in a process group of its own and ends with it. Orders come on stdin, a Unix socket, one a line: stop, stop MILLISECONDS,
kill; events go out on it as JSON lines. When stdin closes, the whole group is killed.

With --socket it is the first process of a container: SIGTERM goes to the group, orphans are collected, and where the sidecar has given a
grant over the socket at PATH, COMMAND is started again when it ends. Only this user, root and the user --peer-uid may connect.

With --install it copies itself into FOLDER and ends.";

/// What one shim is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The program and its arguments; never empty.
    pub command: Vec<OsString>,
    /// From SIGTERM to SIGKILL where a `stop` names no grace. Default 10 s.
    pub grace: Duration,
    /// What the system keeps the command within.
    pub limits: Limits,
    /// Where a sidecar finds the shim of a wrapped container; none: a world holds the other end of stdin.
    pub socket: Option<PathBuf>,
    /// Who may connect there besides this user and root.
    pub peer: Option<u32>,
}

/// Resource limits of the command and of each process that it starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Address space in bytes (`RLIMIT_AS`).
    pub memory: Option<u64>,
    /// Open files (`RLIMIT_NOFILE`).
    pub open_files: Option<u64>,
}

/// What is wrong with a command line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// An option that does not exist.
    #[error("unknown option {0:?}")]
    Unknown(String),
    /// An option whose value is missing or no number.
    #[error("{0} takes a whole number")]
    Value(&'static str),
    /// An option whose path is missing.
    #[error("{0} takes a path")]
    Path(&'static str),
    /// No command after `--`.
    #[error("no command after --")]
    NoCommand,
}

const GRACE: &str = "--shutdown-grace-ms";
const MEMORY: &str = "--limit-memory";
const OPEN_FILES: &str = "--limit-open-files";
const SOCKET: &str = "--socket";
const PEER: &str = "--peer-uid";

impl Options {
    /// Options for a command, all else by default.
    pub fn new(command: Vec<OsString>) -> Self {
        Self { command, grace: Duration::from_secs(10), limits: Limits::default(), socket: None, peer: None }
    }

    /// Reads the arguments, the program's own name left out.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, Error> {
        let mut arguments = arguments.into_iter();
        let mut options = Self::new(Vec::new());
        while let Some(argument) = arguments.next() {
            if argument == SOCKET {
                options.socket = Some(arguments.next().ok_or(Error::Path(SOCKET))?.into());
                continue;
            }
            let mut number = |name| {
                let value = arguments.next().and_then(|value| value.to_str()?.parse::<u64>().ok());
                value.ok_or(Error::Value(name))
            };
            match argument.to_str() {
                Some("--") => break,
                Some(GRACE) => options.grace = Duration::from_millis(number(GRACE)?),
                Some(MEMORY) => options.limits.memory = Some(number(MEMORY)?),
                Some(OPEN_FILES) => options.limits.open_files = Some(number(OPEN_FILES)?),
                Some(PEER) => {
                    options.peer = Some(number(PEER)?.try_into().map_err(|_| Error::Value(PEER))?);
                }
                _ => return Err(Error::Unknown(argument.to_string_lossy().into_owned())),
            }
        }
        options.command = arguments.collect();
        if options.command.is_empty() { Err(Error::NoCommand) } else { Ok(options) }
    }

    /// The arguments that [`Options::parse`] reads back.
    pub fn to_arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec![GRACE.into(), self.grace.as_millis().to_string().into()];
        for (name, limit) in [(MEMORY, self.limits.memory), (OPEN_FILES, self.limits.open_files)] {
            if let Some(limit) = limit {
                arguments.extend([name.into(), limit.to_string().into()]);
            }
        }
        if let Some(socket) = &self.socket {
            arguments.extend([SOCKET.into(), socket.into()]);
        }
        if let Some(peer) = self.peer {
            arguments.extend([PEER.into(), peer.to_string().into()]);
        }
        arguments.push("--".into());
        arguments.extend(self.command.iter().cloned());
        arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Options, Error> {
        Options::parse(words.iter().map(OsString::from))
    }

    #[test]
    fn options_read_back_as_they_were_written() {
        let mut options = Options::new(vec!["sh".into(), "-c".into(), "--".into()]);
        assert_eq!(Options::parse(options.to_arguments()).unwrap(), options);
        options.grace = Duration::from_millis(250);
        options.limits = Limits { memory: Some(1 << 30), open_files: Some(64) };
        options.socket = Some("/run/kontrol/shim.sock".into());
        options.peer = Some(65532);
        assert_eq!(Options::parse(options.to_arguments()).unwrap(), options);
    }

    #[test]
    fn a_wrong_command_line_is_refused() {
        assert_eq!(parse(&[]), Err(Error::NoCommand));
        assert_eq!(parse(&["--"]), Err(Error::NoCommand));
        assert_eq!(parse(&["true"]), Err(Error::Unknown("true".into())));
        assert_eq!(parse(&["--limit-memory", "much", "--", "true"]), Err(Error::Value("--limit-memory")));
        assert_eq!(parse(&["--socket"]), Err(Error::Path("--socket")));
        assert_eq!(parse(&["--peer-uid", "-1", "--", "true"]), Err(Error::Value("--peer-uid")));
        assert_eq!(parse(&["--shutdown-grace-ms"]), Err(Error::Value("--shutdown-grace-ms")));
    }
}
