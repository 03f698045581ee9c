use std::time::Duration;

use kontrol_core::spec::{Node, Restart, Shutdown, Start, StartedWhen, Strategy};

use super::world::{CRASH, NORMAL, REFUSED, World, child, group, group_of, supervisor, widget};
use crate::{InstanceState, status::NodePhase};

fn abc(strategy: Strategy) -> Node {
    Node::Group(group_of("g", strategy, &["a", "b", "c"]))
}

#[test]
fn children_start_in_order_each_when_the_one_before_has_started() {
    let mut world = World::new(abc(Strategy::OneForOne));
    world.started.insert("g/a-0".into(), InstanceState::Running);
    if let Some(Node::Group(group)) = &mut world.desired {
        group.widgets[0].health = Some(super::world::health().into());
    }
    world.settle();
    assert_eq!(world.take_acts(), ["start g/a-0 #1"]);
    world.set("g/a-0", InstanceState::Ready);
    world.settle();
    assert_eq!(world.take_acts(), ["start g/b-0 #1", "start g/c-0 #1"]);
    assert_eq!(
        world.take_lines(),
        [
            "g/a-0 runs after less than 1 ms",
            "g/b-0 runs after less than 1 ms",
            "g/c-0 runs after less than 1 ms",
            "g has started"
        ]
    );
}

#[test]
fn the_next_child_starts_before_callers_are_sent_to_the_one_before_and_the_group_is_ready_after_it() {
    let mut first = widget("g", "a");
    first.health = Some(super::world::health().into());
    let mut world = World::new(Node::Group(group("g", Strategy::OneForOne, vec![first, widget("g", "b")])));
    world.started.insert("g/a-0".into(), InstanceState::Starting);
    world.settle();
    world.serve("g/a-0", false);
    world.set("g/a-0", InstanceState::Ready);
    world.settle();
    assert_eq!(world.running(), ["g/a-0 #1", "g/b-0 #1"]);
    assert!(!world.root().conditions.ready.status);
    world.serve("g/a-0", true);
    world.settle();
    assert!(world.root().conditions.ready.status);
}

#[test]
fn a_widget_that_counts_as_started_when_it_runs_is_not_waited_for() {
    let mut first = widget("g", "a");
    first.health = Some(super::world::health().into());
    first.start = Start { when: StartedWhen::Running, ..Start::default() };
    let mut world = World::new(Node::Group(group("g", Strategy::OneForOne, vec![first, widget("g", "b")])));
    world.started.insert("g/a-0".into(), InstanceState::Running);
    world.settle();
    assert_eq!(world.running(), ["g/a-0 #1", "g/b-0 #1"]);
    assert!(!world.root().conditions.ready.status);
}

#[test]
fn a_widget_without_replicas_counts_as_started() {
    let mut none = widget("g", "a");
    none.replicas = 0;
    let world = World::settled(Node::Group(group("g", Strategy::OneForOne, vec![none, widget("g", "b")])));
    assert_eq!(world.running(), ["g/b-0 #1"]);
    assert!(world.root().conditions.ready.status);
}

#[test]
fn all_replicas_of_a_widget_start_together_and_all_are_waited_for() {
    let mut many = widget("g", "a");
    many.replicas = 3;
    many.health = Some(super::world::health().into());
    let mut world = World::new(Node::Group(group("g", Strategy::OneForOne, vec![many, widget("g", "b")])));
    world.started.insert("g/a-1".into(), InstanceState::Running);
    world.settle();
    assert_eq!(world.take_acts(), ["start g/a-0 #1", "start g/a-1 #1", "start g/a-2 #1"]);
    world.set("g/a-1", InstanceState::Ready);
    world.settle();
    assert_eq!(world.take_acts(), ["start g/b-0 #1"]);
}

#[test]
fn later_unreadiness_never_stops_later_siblings() {
    let mut world = World::settled(abc(Strategy::RestForOne));
    world.take_acts();
    world.set("g/a-0", InstanceState::NotReady);
    world.settle();
    assert!(world.take_acts().is_empty());
    assert!(!world.root().conditions.ready.status);
}

#[test]
fn a_removed_tree_stops_in_reverse_each_when_the_one_before_is_gone() {
    let mut world = World::settled(abc(Strategy::OneForOne));
    world.take_acts();
    world.desired = None;
    world.slow_stops = true;
    world.settle();
    assert_eq!(world.take_acts(), ["stop g/c-0 #1"]);
    world.set("g/c-0", NORMAL);
    world.settle();
    assert_eq!(world.take_acts(), ["stop g/b-0 #1"]);
    world.slow_stops = false;
    world.set("g/b-0", CRASH);
    world.settle();
    assert_eq!(world.take_acts(), ["stop g/a-0 #1"]);
    assert!(world.instances().next().is_none());
    assert_eq!(world.observed.status.root, None);
    assert_eq!(world.take_lines().last().map(String::as_str), Some("g has stopped"));
}

#[test]
fn a_brutal_shutdown_is_told_to_the_world() {
    let mut one = widget("g", "a");
    one.shutdown = Shutdown::Brutal;
    let mut world = World::settled(Node::Group(group("g", Strategy::OneForOne, vec![one])));
    world.take_acts();
    world.desired = None;
    world.settle();
    assert_eq!(world.take_acts(), ["kill g/a-0 #1"]);
}

#[test]
fn a_start_that_takes_too_long_has_failed() {
    let mut slow = widget("g", "b");
    slow.health = Some(super::world::health().into());
    slow.start.timeout = Duration::from_secs(5);
    let mut world = World::new(Node::Group(group("g", Strategy::OneForOne, vec![widget("g", "a"), slow])));
    world.started.insert("g/b-0".into(), InstanceState::Running);
    world.settle();
    assert_eq!(world.wake, Some(world.now.plus(Duration::from_secs(5))));
    world.take_acts();
    world.take_lines();
    world.pass(Duration::from_secs(5));
    world.settle();
    assert_eq!(world.take_acts(), ["stop g/b-0 #1", "stop g/a-0 #1"]);
    assert_eq!(
        world.take_lines(),
        [
            "g/b-0 failed to start: not ready in time",
            "g/b failed to start",
            "g could not be started",
            "g is started again in 10 s"
        ]
    );
}

#[test]
fn the_time_of_a_start_is_counted_from_when_the_world_sees_again() {
    let mut slow = widget("g", "a");
    slow.health = Some(super::world::health().into());
    slow.start.timeout = Duration::from_secs(5);
    let mut world = World::new(Node::Group(group("g", Strategy::OneForOne, vec![slow])));
    world.started.insert("g/a-0".into(), InstanceState::Running);
    world.settle();
    world.take_acts();
    world.observed.sees_since = world.now.plus(Duration::from_mins(1));
    world.pass(Duration::from_secs(64));
    world.settle();
    assert!(world.take_acts().is_empty());
    world.pass(Duration::from_secs(1));
    world.settle();
    assert_eq!(world.take_acts(), ["stop g/a-0 #1"]);
}

#[test]
fn a_child_that_fails_to_start_undoes_the_start_of_its_supervisor() {
    let top = supervisor(
        "top",
        Strategy::OneForOne,
        vec![
            child(Node::Group(group_of("g", Strategy::OneForOne, &["a"]))),
            child(Node::Group(group_of("h", Strategy::OneForOne, &["b", "c"]))),
        ],
    );
    let mut world = World::new(Node::Supervisor(top));
    world.started.insert("h/c-0".into(), REFUSED);
    world.settle();
    assert_eq!(
        world.take_acts(),
        ["start g/a-0 #1", "start h/b-0 #1", "start h/c-0 #1", "stop h/b-0 #1", "stop g/a-0 #1"]
    );
    assert!(matches!(world.root().phase, NodePhase::Down(None)));
    assert_eq!(world.take_lines().last().map(String::as_str), Some("top is started again in 10 s"));
}

#[test]
fn a_short_job_that_ends_before_it_was_seen_to_run_has_run() {
    let mut job = widget("g", "job");
    job.restart = Restart::OnFailure;
    let mut world = World::new(Node::Group(group("g", Strategy::OneForOne, vec![job, widget("g", "b")])));
    world.started.insert("g/job-0".into(), NORMAL);
    world.settle();
    assert_eq!(world.running(), ["g/b-0 #1"]);
    assert!(world.root().conditions.ready.status);
}

#[test]
fn an_end_before_the_first_good_health_is_a_failed_start_whatever_its_code() {
    let mut one = widget("g", "a");
    one.health = Some(super::world::health().into());
    let mut world = World::new(Node::Group(group("g", Strategy::OneForOne, vec![one])));
    world.started.insert("g/a-0".into(), NORMAL);
    world.settle();
    assert!(world.take_lines().contains(&"g could not be started".to_owned()));
}
