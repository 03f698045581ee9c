use kontrol_core::spec::Revision;

use super::*;
use crate::kubernetes::pod::Pod;

fn pod(spec: &str, status: &str, deleting: bool) -> Pod {
    let deleting = if deleting { r#","deletionTimestamp":"2026-11-21T20:00:10Z""# } else { "" };
    let text = format!(
        r#"{{"metadata":{{"name":"rag-llm-0-3","namespace":"default","uid":"u","resourceVersion":"7",
        "creationTimestamp":"2026-11-21T20:00:00Z"{deleting},
        "ownerReferences":[{{"apiVersion":"kontrol.dev/v1alpha1","kind":"Widget","name":"rag-llm","uid":"w","controller":true}}],
        "labels":{{"kontrol.dev/group":"rag","kontrol.dev/widget":"llm","kontrol.dev/ordinal":"0",
        "kontrol.dev/incarnation":"3","kontrol.dev/epoch":"1","kontrol.dev/revision":"00000000000000ff"}}}},
        "spec":{spec},"status":{status}}}"#
    );
    Pod::read(&text).unwrap().1.unwrap()
}

fn replica(phase: ReplicaPhase, incarnation: u64) -> Replica {
    let text = serde_json::json!({
        "incarnation": incarnation, "epoch": 1, "revision": 255, "phase": phase, "since": 0, "ready": false,
    });
    serde_json::from_value(text).unwrap()
}

fn id() -> InstanceId {
    "default/rag/llm/0".parse().unwrap()
}

fn state(spec: &str, status: &str) -> InstanceState {
    observe(&id(), &pod(spec, status, false), Some(&replica(ReplicaPhase::Up, 3)), None).state
}

const RUNNING: &str = r#"{"phase":"Running","containerStatuses":[{"name":"widget","state":{"running":{"startedAt":"2026-11-21T20:00:01Z"}}}]}"#;

fn ended(state: &str) -> String {
    format!(
        r#"{{"phase":"Running","containerStatuses":[{{"name":"widget","state":{{"terminated":{state}}}}}]}}"#
    )
}

#[test]
fn a_pod_carries_its_numbers_in_its_labels() {
    let pod = pod("{}", RUNNING, false);
    let seen = observe(&id(), &pod, None, None);
    assert_eq!((seen.incarnation, seen.epoch, seen.revision), (3, 1, Revision(255)));
    assert_eq!(seen.state, InstanceState::Running);
}

#[test]
fn callers_are_sent_to_a_pod_that_the_kubelet_calls_ready_whatever_its_sidecar_says() {
    let says = Word {
        state: InstanceState::Ready,
        since: Timestamp::ZERO,
        message: None,
        restarts: 0,
        last_end: None,
    };
    for status in ["False", "True"] {
        let condition =
            format!(r#"{{"type":"Ready","status":"{status}","lastTransitionTime":"2026-11-21T20:00:03Z"}}"#);
        let status_of_pod = RUNNING.replacen('{', &format!(r#"{{"conditions":[{condition}],"#), 1);
        let seen = observe(&id(), &pod("{}", &status_of_pod, false), None, Some(&says));
        assert_eq!((seen.state, seen.serving), (InstanceState::Ready, status == "True"));
    }
}

#[test]
fn an_ended_container_of_a_pod_that_is_not_restarted_is_an_end_before_the_pod_is_gone() {
    let end = ended(r#"{"exitCode":3,"finishedAt":"2026-11-21T20:00:05Z"}"#);
    assert_eq!(state(r#"{"restartPolicy":"Never"}"#, &end), InstanceState::Ended(End::Exited(3)));
    assert_eq!(state(r#"{"restartPolicy":"Always"}"#, &end), InstanceState::Restarting(End::Exited(3)));
}

#[test]
fn what_the_kubelet_restarts_is_counted_with_its_newest_end() {
    let status = r#"{"phase":"Running","containerStatuses":[{"name":"widget","restartCount":1,
        "state":{"waiting":{"reason":"CrashLoopBackOff"}},
        "lastState":{"terminated":{"exitCode":1,"finishedAt":"2026-11-21T20:00:05Z"}}}]}"#;
    let seen = observe(&id(), &pod(r#"{"restartPolicy":"Always"}"#, status, false), None, None);
    assert_eq!((seen.state, seen.restarts), (InstanceState::Restarting(End::Exited(1)), 2));
    assert_eq!(seen.last_end.map(|last| last.end), Some(End::Exited(1)));
}

#[test]
fn signals_memory_eviction_and_preemption_are_told_apart() {
    let never = r#"{"restartPolicy":"Never"}"#;
    for (terminated, end) in [
        (r#"{"exitCode":137}"#, End::Signalled(9)),
        (r#"{"exitCode":137,"reason":"OOMKilled"}"#, End::OutOfMemory),
        (r#"{"exitCode":2}"#, End::Exited(2)),
        (
            r#"{"exitCode":128,"reason":"StartError","message":"exec: \"x\": executable file not found in $PATH"}"#,
            End::NotStarted(StartError::NotFound),
        ),
    ] {
        assert_eq!(state(never, &ended(terminated)), InstanceState::Ended(end));
    }
    let evicted =
        r#"{"phase":"Failed","reason":"Evicted","message":"The node was low on resource: memory."}"#;
    assert_eq!(state(never, evicted), InstanceState::Ended(End::Evicted));
    let preempted = r#"{"phase":"Failed","conditions":[{"type":"DisruptionTarget","status":"True",
        "reason":"PreemptionByScheduler"}],"containerStatuses":[{"name":"widget","state":{"terminated":{"exitCode":143}}}]}"#;
    assert_eq!(state(never, preempted), InstanceState::Ended(End::Preempted));
}

#[test]
fn a_removal_that_is_not_ours_is_an_end_at_once_and_ours_is_a_stop() {
    let told = |phase, incarnation| {
        let pod = pod("{}", RUNNING, true);
        observe(&id(), &pod, Some(&replica(phase, incarnation)), None).state
    };
    assert_eq!(told(ReplicaPhase::Up, 3), InstanceState::Ended(End::Deleted));
    assert_eq!(told(ReplicaPhase::Stopping, 3), InstanceState::Stopping);
    // Its replacement is on its way already: it must not hold that up.
    assert_eq!(told(ReplicaPhase::Starting, 4), InstanceState::Ended(End::Deleted));
}

#[test]
fn a_removal_by_an_eviction_is_one_from_its_first_moment_to_its_last() {
    let evicted =
        r#""conditions":[{"type":"DisruptionTarget","status":"True","reason":"EvictionByEvictionAPI"}],"#;
    let killed = ended(r#"{"exitCode":143,"finishedAt":"2026-11-21T20:00:11Z"}"#);
    for policy in [r#"{"restartPolicy":"Always"}"#, r#"{"restartPolicy":"Never"}"#] {
        for (status, deleting) in
            [(RUNNING, true), (&killed, true), (&killed.replace("Running", "Failed"), false)]
        {
            let pod = pod(policy, &status.replacen('{', &format!("{{{evicted}"), 1), deleting);
            let seen = observe(&id(), &pod, Some(&replica(ReplicaPhase::Up, 3)), None);
            assert_eq!(seen.state, InstanceState::Ended(End::Evicted), "{policy} {status}");
        }
    }
}

#[test]
fn a_pod_that_no_node_takes_says_what_lacks() {
    let status = r#"{"phase":"Pending","conditions":[{"type":"PodScheduled","status":"False","reason":"Unschedulable",
        "message":"0/2 nodes are available: 2 Insufficient nvidia.com/gpu.","lastTransitionTime":"2026-11-21T20:00:02Z"}]}"#;
    let seen = observe(&id(), &pod("{}", status, false), None, None);
    assert_eq!(seen.state, InstanceState::Unschedulable);
    assert!(seen.message.unwrap().contains("nvidia.com/gpu"));
}

#[test]
fn the_word_of_the_sidecar_counts_while_its_widget_runs() {
    let word = Word {
        state: InstanceState::Ready,
        since: Timestamp::from_micros(u64::MAX / 2),
        message: None,
        restarts: 2,
        last_end: None,
    };
    let seen = observe(&id(), &pod("{}", RUNNING, false), None, Some(&word));
    assert_eq!((seen.state, seen.restarts), (InstanceState::Ready, 2));
    let end = ended(r#"{"exitCode":0}"#);
    let seen = observe(&id(), &pod(r#"{"restartPolicy":"Never"}"#, &end, false), None, Some(&word));
    assert_eq!(seen.state, InstanceState::Ended(End::Exited(0)));
}
