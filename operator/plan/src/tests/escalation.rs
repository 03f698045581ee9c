use std::time::Duration;

use kontrol_core::spec::{AutoShutdown, Child, Exhausted, Intensity, Node, Restart, RetryPolicy, Strategy};

use super::world::{CRASH, NORMAL, REFUSED, World, child, group, group_of, supervisor, widget};
use crate::{
    End, InstanceState, StartError,
    status::{Reason, Why},
};

const ONCE: Intensity = Intensity { max_restarts: 1, period: Duration::from_secs(30) };

/// `top` (`RestForOne`) over the groups `g` (a, b) and `h` (c), which bear one restart.
fn tree(restart: Restart) -> World {
    let group = |name, widgets: &[&str]| {
        let mut group = group_of(name, Strategy::OneForOne, widgets);
        group.intensity = ONCE;
        Node::Group(group)
    };
    let children = vec![Child { restart, ..child(group("g", &["a", "b"])) }, child(group("h", &["c"]))];
    let mut world = World::settled(Node::Supervisor(supervisor("top", Strategy::RestForOne, children)));
    world.take_acts();
    world.take_lines();
    world
}

fn crash(world: &mut World, instance: &str, times: u32) {
    for _ in 0..times {
        world.set(instance, CRASH);
        world.settle();
    }
}

fn root_group(policy: Exhausted) -> World {
    let mut group = group_of("g", Strategy::OneForOne, &["a"]);
    group.intensity = ONCE;
    group.when_exhausted = policy;
    let mut world = World::settled(Node::Group(group));
    world.take_acts();
    world
}

#[test]
fn a_group_that_gives_up_is_restarted_by_the_strategy_of_its_parent() {
    let mut world = tree(Restart::Always);
    crash(&mut world, "g/a-0", 2);
    assert_eq!(
        world.take_acts(),
        [
            "start g/a-0 #2",
            "stop g/b-0 #1",
            "stop h/c-0 #1",
            "start g/a-0 #3",
            "start g/b-0 #2",
            "start h/c-0 #2"
        ]
    );
    assert_eq!(world.root().restarts.len(), 1);
}

#[test]
fn the_cause_of_an_escalation_leads_from_the_top_to_the_leaf() {
    let mut world = tree(Restart::Always);
    crash(&mut world, "g/a-0", 2);
    let last = world.root().last.clone().unwrap();
    let chain: Vec<_> = last.chain().map(|cause| cause.event.to_string()).collect();
    assert_eq!(
        chain,
        [
            "top restarts g, h (RestForOne), epoch 1, 1 of 3 restarts in 30 s",
            "g gives up: 2 restarts in 30 s are more than 1",
            "g/a-0 ended: exit code 1 after less than 1 ms"
        ]
    );
}

#[test]
fn what_the_world_says_of_a_failed_start_stands_at_the_end_of_the_chain() {
    let mut world = tree(Restart::Always);
    world.started.insert("g/a-0".into(), REFUSED);
    world.messages.insert("g/a-0".into(), "its working folder nowhere/ does not exist".into());
    crash(&mut world, "g/a-0", 1);
    let last = world.root().last.clone().unwrap();
    let chain: Vec<_> = last.chain().map(|cause| cause.event.to_string()).collect();
    assert_eq!(
        chain,
        [
            "top is started again in 10 s",
            "top gives up: 4 restarts in 30 s are more than 3",
            "top/g failed to start",
            "g/a failed to start",
            "g/a-0 failed to start: its working folder nowhere/ does not exist",
        ]
    );
    let kept = serde_json::to_string(&world.observed.status).unwrap();
    assert_eq!(serde_json::from_str::<crate::Status>(&kept).unwrap(), world.observed.status);
}

#[test]
fn what_the_world_says_stands_beside_how_it_ended() {
    for (state, text) in [
        (
            InstanceState::Ended(End::NotStarted(StartError::NotFound)),
            "g/a-0 failed to start: command not found: llm.py",
        ),
        (CRASH, "g/a-0 ended: exit code 1 (llm.py) after less than 1 ms"),
    ] {
        let mut world = World::new(Node::Group(group_of("g", Strategy::OneForOne, &["a"])));
        world.started.insert("g/a-0".into(), state);
        world.messages.insert("g/a-0".into(), "llm.py".into());
        world.step();
        world.step();
        assert_eq!(world.take_lines()[0], text);
    }
}

#[test]
fn a_group_that_is_started_again_has_an_empty_window_and_a_new_epoch() {
    let mut world = tree(Restart::Always);
    crash(&mut world, "g/a-0", 2);
    let group = world.node("g");
    assert!(group.restarts.is_empty());
    assert_eq!(group.epoch, 2);
    crash(&mut world, "g/a-0", 1);
    assert_eq!(world.running().len(), 3);
}

#[test]
fn a_supervisors_own_end_is_normal_as_in_otp() {
    let mut world = tree(Restart::OnFailure);
    crash(&mut world, "g/a-0", 2);
    assert_eq!(world.running(), ["h/c-0 #1"]);
}

#[test]
fn escalation_goes_up_to_the_root() {
    let mut world = tree(Restart::Always);
    crash(&mut world, "g/a-0", 8);
    assert!(world.running().is_empty());
    let conditions = world.root().conditions;
    assert!(conditions.stalled.status);
    assert_eq!(conditions.stalled.reason, Reason::BackingOff);
    assert_eq!(world.take_lines().last().unwrap(), "top is started again in 10 s");
}

#[test]
fn the_root_is_started_again_after_pauses_that_double_up_to_the_longest() {
    let policy = RetryPolicy { initial: Duration::from_secs(10), max: Duration::from_mins(1) };
    let mut world = root_group(Exhausted::Retry(policy));
    for pause in [10, 20, 40, 60, 60] {
        crash(&mut world, "g/a-0", 2);
        assert!(world.running().is_empty());
        assert_eq!(world.wake, Some(world.now.plus(Duration::from_secs(pause))));
        world.pass(Duration::from_micros(pause * 1_000_000 - 1));
        world.settle();
        assert!(world.running().is_empty());
        world.pass(Duration::from_micros(1));
        world.settle();
        assert_eq!(world.running().len(), 1);
        assert!(world.root().restarts.is_empty());
    }
}

#[test]
fn pauses_start_over_once_the_tree_has_run_for_the_longest() {
    let policy = RetryPolicy { initial: Duration::from_secs(10), max: Duration::from_mins(1) };
    let mut world = root_group(Exhausted::Retry(policy));
    crash(&mut world, "g/a-0", 2);
    world.pass(Duration::from_secs(10));
    world.settle();
    world.pass(Duration::from_mins(1));
    crash(&mut world, "g/a-0", 2);
    assert_eq!(world.wake, Some(world.now.plus(Duration::from_secs(10))));
}

#[test]
fn a_root_that_stays_stopped_is_started_by_a_changed_manifest_only() {
    let mut world = root_group(Exhausted::Stop);
    crash(&mut world, "g/a-0", 2);
    world.pass(Duration::from_hours(1));
    world.settle();
    assert!(world.running().is_empty());
    assert_eq!(world.root().conditions.stalled.reason, Reason::Exhausted);
    if let Some(Node::Group(group)) = &mut world.desired {
        group.widgets[0].revision.0 = 2;
    }
    world.settle();
    assert_eq!(world.running(), ["g/a-0 #3"]);
}

#[test]
fn the_first_significant_end_shuts_its_group_down() {
    let mut job = widget("g", "job");
    job.restart = Restart::OnFailure;
    job.significant = true;
    let mut one = group("g", Strategy::OneForOne, vec![widget("g", "a"), job, widget("g", "b")]);
    one.auto_shutdown = AutoShutdown::AnySignificant;
    let mut world = World::settled(Node::Group(one));
    world.take_acts();
    world.set("g/job-0", CRASH);
    world.settle();
    assert_eq!(world.take_acts(), ["start g/job-0 #2"]);
    world.set("g/job-0", NORMAL);
    world.settle();
    assert_eq!(world.take_acts(), ["stop g/b-0 #1", "stop g/a-0 #1"]);
    assert_eq!(world.observed.status.exhausted.unwrap().why, Why::ShutDown);
    assert_eq!(world.root().conditions.ready.reason, Reason::ShutDown);
    world.pass(Duration::from_hours(1));
    world.settle();
    assert!(world.running().is_empty());
}

#[test]
fn a_significant_group_that_shuts_down_shuts_its_supervisor_down() {
    let mut job = widget("g", "job");
    job.restart = Restart::Never;
    job.significant = true;
    let mut inner = group("g", Strategy::OneForOne, vec![widget("g", "a"), job]);
    inner.auto_shutdown = AutoShutdown::AnySignificant;
    let significant = Child { restart: Restart::OnFailure, significant: true, node: Node::Group(inner) };
    let other = child(Node::Group(group_of("h", Strategy::OneForOne, &["b"])));
    let mut top = supervisor("top", Strategy::OneForOne, vec![other, significant]);
    top.auto_shutdown = AutoShutdown::AnySignificant;
    let mut world = World::settled(Node::Supervisor(top));
    world.take_acts();
    world.set("g/job-0", CRASH);
    world.settle();
    assert_eq!(world.take_acts(), ["stop g/a-0 #1", "stop h/b-0 #1"]);
    assert_eq!(world.observed.status.exhausted.unwrap().why, Why::ShutDown);
    let last = world.root().last.clone().unwrap();
    let chain: Vec<_> = last.chain().map(|cause| cause.event.to_string()).collect();
    assert_eq!(
        chain,
        [
            "top shuts down: its significant g has ended",
            "top/g stays ended (restart OnFailure)",
            "g shuts down: its significant job has ended",
            "g/job stays ended (restart Never)",
            "g/job-0 ended: exit code 1 after less than 1 ms"
        ]
    );
}

#[test]
fn all_significant_waits_for_the_last() {
    let jobs = ["x", "y"].map(|name| {
        let mut job = widget("g", name);
        job.restart = Restart::Never;
        job.significant = true;
        job
    });
    let mut one = group("g", Strategy::OneForOne, jobs.into_iter().chain([widget("g", "a")]).collect());
    one.auto_shutdown = AutoShutdown::AllSignificant;
    let mut world = World::settled(Node::Group(one));
    world.set("g/x-0", NORMAL);
    world.settle();
    assert_eq!(world.running(), ["g/a-0 #1", "g/y-0 #1"]);
    world.set("g/y-0", CRASH);
    world.settle();
    assert!(world.running().is_empty());
}
