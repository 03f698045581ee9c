//! A component: a program of the cluster that runs in a cgroup and a network namespace of the run.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io,
    os::{fd::AsFd as _, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::{Deserialize, Serialize};

use crate::{Error, Result, Run, cgroup, error::at, process::Process};

/// A program of the cluster, as it is started, and started again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    /// Its name, which is also its log's.
    pub name: String,
    /// The network namespace it runs in.
    pub namespace: String,
    /// The cgroup it runs in.
    pub cgroup: String,
    /// The command line.
    pub command: Vec<String>,
    /// Additions to the environment.
    pub environment: BTreeMap<String, String>,
}

impl Component {
    /// A component of the run's control plane.
    pub(crate) fn control(run: &Run, name: &str, command: Vec<String>) -> Self {
        Self {
            name: name.to_owned(),
            namespace: run.namespace(),
            cgroup: run.cgroup_of("control"),
            command,
            environment: BTreeMap::new(),
        }
    }

    /// Where it writes.
    pub fn log(&self, run: &Run) -> PathBuf {
        run.logs().join(format!("{}.log", self.name))
    }

    /// Starts it, in a session of its own, so that it outlives whoever started it. `launcher` is `kontrol-cluster`.
    pub(crate) fn start(&self, run: &Run, launcher: &Path) -> Result<Process> {
        let path = self.log(run);
        let log = OpenOptions::new().create(true).append(true).open(&path).map_err(at(&path))?;
        let errors = log.try_clone().map_err(at(&path))?;
        let child = Command::new(launcher)
            .args(["enter", "--namespace", &self.namespace, "--cgroup", &self.cgroup, "--"])
            .args(&self.command)
            .envs(&self.environment)
            .current_dir(run.root())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(at(launcher))?;
        let pid = i32::try_from(child.id()).unwrap_or_default();
        Process::with_id(pid).ok_or_else(|| self.ended(run))
    }

    /// That it ended, with the end of its log.
    pub(crate) fn ended(&self, run: &Run) -> Error {
        let log = self.log(run);
        Error::Ended { component: self.name.clone(), tail: crate::process::tail(&log), log }
    }
}

/// Becomes `command` inside the cgroup and the network namespace, in a session of its own where `session` is set. Comes back only with an error.
pub fn enter(cgroup: Option<&str>, namespace: Option<&str>, session: bool, command: &[OsString]) -> Error {
    let Some((program, arguments)) = command.split_first() else {
        return Error::Invalid("no command was given".to_owned());
    };
    if let Some(cgroup) = cgroup
        && let Err(error) = cgroup::join(cgroup)
    {
        return error;
    }
    if let Some(namespace) = namespace
        && let Err(error) = join_namespace(namespace)
    {
        return error;
    }
    if session {
        // Fails only where the process leads a session already.
        rustix::process::setsid().ok();
    }
    let error = Command::new(program).args(arguments).exec();
    Error::Command { command: program.to_string_lossy().into_owned(), reason: error.to_string() }
}

/// Moves this thread into the network namespace `name`.
pub(crate) fn join_namespace(name: &str) -> Result<()> {
    let path = Path::new("/var/run/netns").join(name);
    let file = File::open(&path).map_err(at(&path))?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(|error| at(path)(error.into()))
}

/// Writes `value` to the file `path` of `/proc/sys/net` as the network namespace `namespace` sees it.
pub(crate) fn set_in_namespace(namespace: &str, path: &'static str, value: &'static str) -> Result<()> {
    let namespace = namespace.to_owned();
    // A thread of its own, since it cannot come back from the namespace.
    let thread = std::thread::spawn(move || -> Result<()> {
        join_namespace(&namespace)?;
        fs::write(path, value).map_err(at(path))
    });
    thread.join().unwrap_or_else(|_| Err(at(path)(io::Error::other("the thread panicked"))))
}
