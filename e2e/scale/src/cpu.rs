//! Processor time of the operator, read from this machine's own kernel: its pods are processes here.

use std::{fs, time::Duration};

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;

/// The operator's program, as the kernel keeps its name: fifteen bytes of it.
const PROGRAM: &str = "kontrol-operato";
/// The kernel's ticks in a second, as it shows them to programs.
const TICKS: u64 = 100;

/// The operator's process in a pod.
pub(crate) fn process_of(pod: &Pod) -> anyhow::Result<u32> {
    let uid = pod.metadata.uid.as_deref().context("the pod has no uid")?;
    let all = fs::read_dir("/proc")?.flatten();
    let ours = |pid: &u32| {
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        read("comm").trim_end() == PROGRAM && read("cgroup").contains(uid)
    };
    let mut numbers = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.find(ours).with_context(|| format!("no process of this machine is the operator of {uid}"))
}

/// The processor time of a process so far, with that of its threads that have ended.
pub(crate) fn time_of(process: u32) -> anyhow::Result<Duration> {
    let path = format!("/proc/{process}/stat");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    parse(&text).with_context(|| format!("{path} reads {text}"))
}

/// User and system time, fields 14 and 15.
fn parse(text: &str) -> Option<Duration> {
    // The name, in parentheses, may hold anything.
    let mut fields = text.rsplit_once(") ")?.1.split(' ').skip(11);
    let (user, system) = (fields.next()?.parse::<u64>().ok()?, fields.next()?.parse::<u64>().ok()?);
    Some(Duration::from_millis((user + system) * 1000 / TICKS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_system_time_are_added() {
        let text = "7 (a) b) S 1 7 7 0 -1 4194560 15 0 0 0 120 30 0 0 20 0 4 0 100 0 0";
        assert_eq!(parse(text), Some(Duration::from_millis(1500)));
        assert_eq!(parse("7"), None);
    }

    #[test]
    fn this_process_has_a_time() {
        assert!(time_of(std::process::id()).is_ok());
    }
}
