//! Every scenario, with a crash after each of its writes, and with every other trouble at some of them.

use std::{fmt::Write as _, time::Duration};

use kontrol_e2e_apiserver::{Ended, Fault};

use crate::{
    cluster::{Cluster, FAULTS, Trouble},
    scenarios::{self, Scenario},
    shape::{Shape, check_history, conditions},
};

fn run(scenario: Scenario, trouble: Trouble) -> Cluster {
    let mut cluster = Cluster::new(trouble);
    scenario(&mut cluster);
    cluster
}

/// What is different, one line a thing.
fn difference(wanted: &Shape, found: &Shape) -> String {
    let mut text = String::new();
    let mut lines = |what: &str, wanted: &dyn std::fmt::Debug, found: &dyn std::fmt::Debug, differs: bool| {
        if differs {
            writeln!(text, "{what}\n  wanted {wanted:?}\n  found  {found:?}").unwrap();
        }
    };
    for (name, one) in &wanted.objects {
        lines(name, one, &found.objects.get(name), found.objects.get(name) != Some(one));
    }
    for name in found.objects.keys().filter(|name| !wanted.objects.contains_key(*name)) {
        lines(name, &"nothing", &"an object", true);
    }
    lines("pods", &wanted.pods, &found.pods, wanted.pods != found.pods);
    lines("pods made", &wanted.made, &found.made, wanted.made != found.made);
    text
}

/// One trouble after the other; each ends where no trouble does.
fn each(name: &str) {
    #[allow(clippy::disallowed_methods, reason = "a test has no arguments")]
    let only: Option<usize> = std::env::var("KONTROL_TROUBLE").ok().and_then(|text| text.parse().ok());
    let (_, scenario) = scenarios::ALL.into_iter().find(|(known, _)| *known == name).unwrap();
    let calm = run(scenario, Trouble::Nothing);
    let wanted = Shape::of(&calm);
    check_history(&calm, name);
    let mut wrong = String::new();
    for (index, trouble) in troubles(calm.writes()).into_iter().enumerate() {
        if only.is_some_and(|only| only != index) {
            continue;
        }
        let said = format!("{name}, {trouble:?} (KONTROL_TROUBLE={index})");
        let cluster = run(scenario, trouble);
        check_history(&cluster, &said);
        let differs = difference(&wanted, &Shape::of(&cluster));
        if !differs.is_empty() {
            write!(wrong, "{said}:\n{differs}").unwrap();
            if only.is_some() {
                write!(wrong, "{}", cluster.history()).unwrap();
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{wrong}\none again: KONTROL_TROUBLE=<n> cargo nextest run --run-ignored all -p kontrol-operator --test controllers {name}"
    );
}

/// The writes at which a trouble comes: each, or so many of them, evenly.
fn some(writes: usize, most: usize) -> impl Iterator<Item = usize> {
    let step = writes.div_ceil(most).max(1);
    (0..writes).step_by(step)
}

/// A crash after each write of a scenario that writes so often, one of the other faults in turn at some of them, and the other kinds of trouble spread
/// over its writes and calls. `KONTROL_TROUBLES=all` tries every fault at each write; that takes some twelve minutes of one core.
fn troubles(writes: usize) -> Vec<Trouble> {
    #[allow(clippy::disallowed_methods, reason = "a test has no arguments")]
    let all = std::env::var("KONTROL_TROUBLES").is_ok_and(|text| text == "all");
    let unread = [Fault::ErrorBefore, Fault::LostAfter, Fault::TooMany(1)];
    let most = if all { writes } else { 16 };
    let crashes = (0..writes).map(|n| Trouble::Write(n, Fault::Crash));
    let faults = some(writes, most).enumerate().flat_map(|(at, n)| {
        let (from, many) = if all { (0, FAULTS.len()) } else { (at % FAULTS.len(), 1) };
        FAULTS[from..from + many].iter().map(move |fault| Trouble::Write(n, fault.clone()))
    });
    let stale = some(writes, 4).map(|n| Trouble::Stale(n, Duration::from_secs(10)));
    let calls = (0..6).map(|n| Trouble::Call(n, unread[n % unread.len()].clone()));
    let gaps = some(writes, 4).map(Trouble::Gap);
    crashes.chain(faults).chain(stale).chain(gaps).chain(calls).chain((1..4).map(Trouble::Seed)).collect()
}

macro_rules! scenarios {
    ($($(#[$attribute:meta])* $name:ident)*) => {
        mod any_trouble_leads_to_the_same_end {
            use super::*;

            $(#[test]
            $(#[$attribute])*
            fn $name() {
                each(stringify!($name));
            })*
        }
    };
}

scenarios! {
    create_a_tree restart_one_for_all restart_rest_for_one escalate change_a_template scale delete_a_group delete_a_tree_that_starts
    evict_and_run_out_of_memory remove_a_widget_from_a_group carry_messages
    leave_a_hub
}

#[test]
fn every_scenario_is_tried() {
    // The list above and the scenarios are the same: `each` looks its scenario up by name.
    assert_eq!(scenarios::ALL.len(), 12);
}

#[test]
fn nothing_is_written_when_nothing_happens() {
    for (name, scenario) in scenarios::ALL {
        let mut cluster = run(scenario, Trouble::Nothing);
        let before = cluster.writes();
        cluster.pass(Duration::from_mins(10));
        let calls = cluster.operator.as_ref().unwrap().session.calls();
        let late: Vec<_> = calls
            .iter()
            .filter(|call| call.is_write())
            .skip(before)
            .map(kontrol_e2e_apiserver::Call::line)
            .collect();
        assert!(late.is_empty(), "{name}: {late:#?}");
    }
}

#[test]
fn a_tree_that_was_created_is_ready() {
    let cluster = run(scenarios::create_a_tree, Trouble::Nothing);
    let shape = Shape::of(&cluster);
    let names: Vec<_> = shape.pods.keys().map(String::as_str).collect();
    assert_eq!(names, ["g-a-0", "g-b-0", "g-c-0", "h-a-0", "h-b-0", "h-c-0", "w-0"], "{}", cluster.history());
    for (resource, name) in
        [(scenarios::SUPERVISORS, "s"), (scenarios::GROUPS, "g"), (scenarios::WIDGETS, "w")]
    {
        let said = conditions(&cluster.server.get(resource, "default", name).unwrap());
        assert!(said.iter().any(|one| one.starts_with("Ready=True")), "{resource}/{name}: {said:?}");
    }
}

#[test]
fn one_end_is_one_restart_of_those_whom_the_strategy_names() {
    for (scenario, wanted) in [
        (scenarios::restart_one_for_all as Scenario, [("g-a-0", 2), ("g-b-0", 2), ("g-c-0", 2)]),
        (scenarios::restart_rest_for_one as Scenario, [("g-a-0", 1), ("g-b-0", 2), ("g-c-0", 2)]),
    ] {
        let cluster = run(scenario, Trouble::Nothing);
        let made = Shape::of(&cluster).made;
        let made: Vec<_> = made.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        assert_eq!(made, wanted, "{}", cluster.history());
    }
}

#[test]
fn a_crash_at_every_step_of_a_hundred_restarts_doubles_none() {
    let mut cluster = Cluster::new(Trouble::Nothing);
    let mut group = scenarios::group("g", "OneForAll");
    group["spec"]["intensity"] = serde_json::json!({"maxRestarts": 1000, "period": "30s"});
    cluster.put(&group);
    cluster.settle();
    for fault in 0..100_usize {
        cluster.end(["g-a", "g-b", "g-c"][fault % 3], &Ended::code(1));
        // The operator dies after so many rounds of this restart, and another one goes on.
        for _ in 0..fault % 11 {
            cluster.round();
        }
        cluster.crash();
        cluster.pass(Duration::from_secs(20));
        let epochs: Vec<_> = ["g-a", "g-b", "g-c"]
            .map(|name| {
                cluster.pod(name, 0).map(|pod| pod["metadata"]["labels"]["kontrol.dev/epoch"].clone())
            })
            .into();
        let wanted = serde_json::Value::from((fault + 1).to_string());
        assert!(
            epochs.iter().all(|epoch| *epoch == Some(wanted.clone())),
            "fault {fault}: {epochs:?}\n{}",
            cluster.history()
        );
    }
    check_history(&cluster, "a hundred restarts");
}

#[test]
fn a_topic_that_is_removed_is_missed_where_it_is_named() {
    let cluster = run(scenarios::carry_messages, Trouble::Nothing);
    let shape = Shape::of(&cluster);
    for (object, wanted) in [
        ("messagebuses.kontrol.dev/b", "Accepted=True:Valid"),
        ("topics.kontrol.dev/t", "Accepted=True:Valid"),
        ("routes.kontrol.dev/r", "Accepted=False:TopicNotFound"),
        ("widgets.kontrol.dev/w", "Accepted=False:TopicNotFound"),
        ("widgets.kontrol.dev/w", "Ready=True:AllReady"),
    ] {
        let said = shape.objects.get(object);
        let says = said.is_some_and(|said| said.iter().any(|one| one == wanted));
        assert!(says, "{object} does not say {wanted}: {said:?}\n{}", cluster.history());
    }
    assert!(shape.objects.contains_key("poddisruptionbudgets.policy/w"), "{:?}", shape.objects.keys());
    assert_eq!(shape.made.get("kontrol-hub-b"), Some(&2), "{:?}\n{}", shape.made, cluster.history());
}

#[test]
fn each_write_of_a_hub_may_fail_in_each_way() {
    let calm = run(scenarios::one_hub, Trouble::Nothing);
    let wanted = Shape::of(&calm);
    for kind in ["services", "persistentvolumeclaims"] {
        assert!(wanted.objects.contains_key(&format!("{kind}/kontrol-hub-b")), "{:?}", wanted.objects.keys());
    }
    for write in 0..calm.writes() {
        for fault in FAULTS.iter().chain([&Fault::Crash]) {
            let cluster = run(scenarios::one_hub, Trouble::Write(write, fault.clone()));
            let differs = difference(&wanted, &Shape::of(&cluster));
            assert!(differs.is_empty(), "write {write}, {fault:?}:\n{differs}\n{}", cluster.history());
        }
    }
}

#[test]
fn a_hub_that_nothing_names_leaves_its_claim_alone() {
    let cluster = run(scenarios::leave_a_hub, Trouble::Nothing);
    let shape = Shape::of(&cluster);
    let left: Vec<_> = shape.objects.keys().map(String::as_str).collect();
    assert_eq!(left, ["persistentvolumeclaims/kontrol-hub-default"], "{}", cluster.history());
    assert_eq!(shape.pods.len(), 0, "{:?}", shape.pods);
}

#[test]
fn a_hub_whose_process_ends_again_and_again_is_back_within_seconds() {
    let mut cluster = Cluster::new(Trouble::Nothing);
    scenarios::one_hub(&mut cluster);
    for incarnation in 1..5 {
        let name = format!("kontrol-hub-b-{incarnation}");
        assert!(cluster.kubelet.end("default", &name, "hub", &Ended::code(1)), "{}", cluster.history());
        cluster.pass(Duration::from_secs(6));
        let next = format!("kontrol-hub-b-{}", incarnation + 1);
        let runs = cluster.server.get("pods", "default", &next);
        assert!(runs.is_some_and(|pod| pod["status"]["phase"] == "Running"), "{}", cluster.history());
    }
    let bus = cluster.server.get("messagebuses.kontrol.dev", "default", "b").unwrap();
    assert_eq!(bus["status"]["restarts"], 4);
}
