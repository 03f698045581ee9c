//! Who descends from this process, as `/proc` tells. The shim is the subreaper, so what the command leaves behind is found here.

use std::{collections::HashSet, fs};

use rustix::process::{Pid, getpid};

/// The children of this process, ended or not.
pub(crate) fn children() -> Vec<Pid> {
    children_of(getpid())
}

/// All who descend from this process and have not ended.
pub(crate) fn alive() -> HashSet<Pid> {
    let mut found = HashSet::new();
    let mut open = children();
    while let Some(pid) = open.pop() {
        open.extend(children_of(pid));
        if !ended(pid) {
            found.insert(pid);
        }
    }
    found
}

/// A process's children are listed with the thread that made them; orphans with the reaper's first thread.
fn children_of(pid: Pid) -> Vec<Pid> {
    let threads = fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).into_iter().flatten();
    threads
        .filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("children")).ok())
        .flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|pid| Pid::from_raw(pid.parse().ok()?))
        .collect()
}

fn ended(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.ok().is_none_or(|line| has_ended(&line))
}

/// Reads the state in a line of `/proc/PID/stat`; the program's name before it may hold blanks and parentheses.
fn has_ended(line: &str) -> bool {
    let state = line.rfind(')').and_then(|end| line.get(end + 1..)?.split_whitespace().next());
    !matches!(state, Some(state) if !matches!(state, "Z" | "X"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_may_be_named_with_parentheses() {
        assert!(!has_ended("7 (a) Z) S 1 42 42 0 -1"));
        assert!(has_ended("7 (a) Z 1 42 42"));
        assert!(has_ended(""));
    }
}
