//! Clean-up: from the ledger, so that it does not matter where the run was when it ended.

use std::{fs, io, path::Path};

use rustix::process::Signal;

use crate::{
    Entry, Ledger, Result, Run, addresses::RUNS, cgroup, error::at, mounts, network, node, process::Process,
};

/// Ends and removes all that the run has made. Gives whether there was anything. May be repeated.
pub(crate) fn clean(run: &Run) -> Result<bool> {
    let root = run.root();
    if !root.exists() {
        release(run)?;
        return Ok(false);
    }
    let entries = Ledger::read(&run.ledger())?;
    // First the one that would start others.
    for entry in entries.iter().rev() {
        if let Entry::Process { pid, started, .. } = entry {
            Process { pid: *pid, started: *started }.signal(Signal::KILL);
        }
    }
    for entry in &entries {
        if let Entry::Cgroup { path } = entry {
            cgroup::kill(path)?;
        }
    }
    mounts::clear(&root)?;
    for entry in entries.iter().rev() {
        match entry {
            Entry::Namespace { name } => network::remove_namespace(name)?,
            Entry::Link { name } => network::remove_link(name)?,
            Entry::Cgroup { path } => cgroup::remove(path)?,
            Entry::Process { .. } | Entry::Addresses { .. } => {}
        }
    }
    forget_networks(run)?;
    remove_folder(&root)?;
    release(run)?;
    Ok(true)
}

fn remove_folder(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path)(error)),
        _ => Ok(()),
    }
}

/// Removes what the CNI plugins remember of the pods of this run.
fn forget_networks(run: &Run) -> Result<()> {
    let folder = Path::new("/var/lib/cni/results");
    let prefix = node::cni_network(run, "");
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries.flatten().filter(|e| e.file_name().to_string_lossy().starts_with(&prefix)) {
        fs::remove_file(entry.path()).map_err(at(entry.path()))?;
    }
    Ok(())
}

/// The file by which a run holds the addresses with `index`.
pub(crate) fn claim_path(base: &Path, index: u8) -> std::path::PathBuf {
    base.join(".addresses").join(index.to_string())
}

/// Gives the run's addresses back.
fn release(run: &Run) -> Result<()> {
    for index in 0..RUNS {
        let path = claim_path(run.base(), index);
        if fs::read_to_string(&path).is_ok_and(|owner| owner == run.name().as_str()) {
            fs::remove_file(&path).map_err(at(path))?;
        }
    }
    Ok(())
}
