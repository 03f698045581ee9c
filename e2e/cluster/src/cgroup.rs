//! Cgroups, in version 1 and 2: where a run's processes are, and how they are all ended.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{Error, Result, clock, error::at};

/// How long processes may take to be gone after SIGKILL.
const GONE: Duration = Duration::from_secs(20);

/// The mount points of all hierarchies: those of version 1, and the one of version 2.
fn all_hierarchies() -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let path = Path::new("/proc/self/mountinfo");
    let text = fs::read_to_string(path).map_err(at(path))?;
    let mounted = |kind: &str| -> Vec<PathBuf> {
        let of_kind = |line: &&str| line.split_once(" - ").is_some_and(|(_, rest)| rest.starts_with(kind));
        text.lines().filter(of_kind).filter_map(|l| l.split(' ').nth(4)).map(PathBuf::from).collect()
    };
    Ok((mounted("cgroup "), mounted("cgroup2 ")))
}

/// The mount points of the hierarchies that processes are to be put into: all of version 1 where there are any, else version 2.
pub(crate) fn hierarchies() -> Result<Vec<PathBuf>> {
    let (first, second) = all_hierarchies()?;
    let found = if first.is_empty() { second } else { first };
    if found.is_empty() {
        return Err(Error::Machine("no cgroup hierarchy is mounted: nodes need one".to_owned()));
    }
    Ok(found)
}

/// Makes the cgroup `path` in every hierarchy.
pub(crate) fn make(path: &str) -> Result<()> {
    for root in hierarchies()? {
        let mut folder = root.clone();
        for part in path.split('/') {
            let parent = folder.clone();
            folder.push(part);
            match fs::create_dir(&folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(at(folder)(error)),
                _ => {}
            }
            if root.join("cgroup.controllers").exists() {
                delegate(&parent)?;
            }
            // Version 1 gives a new cpuset nothing, and nobody may enter one that has nothing.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if root.ends_with("cpuset") {
                    let value = fs::read(parent.join(file)).map_err(at(parent.join(file)))?;
                    fs::write(folder.join(file), value).map_err(at(folder.join(file)))?;
                }
            }
        }
    }
    Ok(())
}

/// Lets the cgroups below `parent` have the controllers that it has (version 2).
fn delegate(parent: &Path) -> Result<()> {
    let file = parent.join("cgroup.controllers");
    let text = fs::read_to_string(&file).map_err(at(&file))?;
    let all: String = text.split_whitespace().fold(String::new(), |all, name| all + "+" + name + " ");
    let file = parent.join("cgroup.subtree_control");
    fs::write(&file, all).map_err(at(&file))
}

/// Puts this process into the cgroup `path` of every hierarchy.
pub(crate) fn join(path: &str) -> Result<()> {
    let own = std::process::id().to_string();
    for root in hierarchies()? {
        let file = root.join(path).join("cgroup.procs");
        fs::write(&file, &own).map_err(at(file))?;
    }
    Ok(())
}

/// The processes in the cgroup `path` and below it.
pub(crate) fn processes(path: &str) -> Result<BTreeSet<i32>> {
    let mut found = BTreeSet::new();
    for root in hierarchies()? {
        collect(&root.join(path), &mut found);
    }
    Ok(found)
}

fn collect(folder: &Path, found: &mut BTreeSet<i32>) {
    if let Ok(text) = fs::read_to_string(folder.join("cgroup.procs")) {
        found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 1));
    }
    for folder in subfolders(folder) {
        collect(&folder, found);
    }
}

fn subfolders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

/// Ends every process in the cgroup `path` and below it, at once, and comes back when they are gone. The processes are known by their
/// cgroup, so that what they have started is found as well, and nobody else's process is.
pub(crate) fn kill(path: &str) -> Result<()> {
    let deadline = clock::now() + GONE;
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    loop {
        let left: Vec<i32> = processes(path)?.into_iter().filter(|pid| *pid != own).collect();
        if left.is_empty() {
            return Ok(());
        }
        if clock::now() > deadline {
            return Err(Error::Timeout {
                what: format!("the processes in the cgroup {path} to be gone"),
                after: GONE,
                last: format!("{left:?} are still there"),
            });
        }
        for pid in left.into_iter().filter_map(Pid::from_raw) {
            // One that is gone already is what is wanted.
            kill_process(pid, Signal::KILL).ok();
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Removes the cgroup `path` with all below it from every hierarchy. Nobody may be in it.
pub(crate) fn remove(path: &str) -> Result<()> {
    let (first, second) = all_hierarchies()?;
    // Where both are mounted, runc makes cgroups of pods in the second as well.
    for root in first.into_iter().chain(second) {
        let folder = root.join(path);
        if folder.exists() {
            remove_tree(&folder)?;
        }
    }
    Ok(())
}

fn remove_tree(folder: &Path) -> Result<()> {
    for below in subfolders(folder) {
        remove_tree(&below)?;
    }
    let deadline = clock::now() + GONE;
    // The last process of a cgroup is counted for a moment after it is gone.
    loop {
        match fs::remove_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if clock::now() > deadline => return Err(at(folder)(error)),
            Err(_) => thread::sleep(Duration::from_millis(10)),
            Ok(()) => return Ok(()),
        }
    }
}
