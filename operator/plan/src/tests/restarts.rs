use std::time::Duration;

use kontrol_core::spec::{Intensity, Node, Restart, Strategy};

use super::world::{CRASH, KILLED, NORMAL, REFUSED, World, group, group_of, widget};
use crate::{End, InstanceState};

fn abc(strategy: Strategy) -> World {
    let mut world = World::settled(Node::Group(group_of("g", strategy, &["a", "b", "c"])));
    world.take_acts();
    world.take_lines();
    world
}

fn with(restart: Restart) -> World {
    let mut widgets = vec![widget("g", "a"), widget("g", "b")];
    widgets[0].restart = restart;
    let mut world = World::settled(Node::Group(group("g", Strategy::OneForOne, widgets)));
    world.take_acts();
    world.take_lines();
    world
}

#[test]
fn one_for_one_restarts_the_child_that_ended() {
    let mut world = abc(Strategy::OneForOne);
    world.set("g/b-0", KILLED);
    world.settle();
    assert_eq!(world.take_acts(), ["start g/b-0 #2"]);
}

#[test]
fn one_for_all_stops_the_others_in_reverse_and_starts_all_in_order() {
    let mut world = abc(Strategy::OneForAll);
    world.set("g/b-0", KILLED);
    world.settle();
    assert_eq!(
        world.take_acts(),
        ["stop g/c-0 #1", "stop g/a-0 #1", "start g/a-0 #2", "start g/b-0 #2", "start g/c-0 #2"]
    );
}

#[test]
fn rest_for_one_restarts_the_child_that_ended_and_those_after_it() {
    let mut world = abc(Strategy::RestForOne);
    world.pass(Duration::from_secs(41));
    world.set("g/b-0", KILLED);
    world.settle();
    assert_eq!(world.take_acts(), ["stop g/c-0 #1", "start g/b-0 #2", "start g/c-0 #2"]);
    assert_eq!(
        world.take_lines(),
        [
            "g/b-0 ended: signal 9 (SIGKILL) after 41 s",
            "g restarts b, c (RestForOne), epoch 1, 1 of 3 restarts in 30 s",
            "g/b-0 runs again after less than 1 ms",
            "g/c-0 runs again after less than 1 ms"
        ]
    );
}

#[test]
fn always_restarts_after_a_normal_end() {
    let mut world = with(Restart::Always);
    world.set("g/a-0", NORMAL);
    world.settle();
    assert_eq!(world.running(), ["g/a-0 #2", "g/b-0 #1"]);
}

#[test]
fn on_failure_restarts_after_an_abnormal_end_only() {
    for (end, running) in [(CRASH, "g/a-0 #2"), (KILLED, "g/a-0 #2")] {
        let mut world = with(Restart::OnFailure);
        world.set("g/a-0", end);
        world.settle();
        assert_eq!(world.running(), [running, "g/b-0 #1"]);
    }
    let mut world = with(Restart::OnFailure);
    world.set("g/a-0", NORMAL);
    world.settle();
    assert_eq!(world.running(), ["g/b-0 #1"]);
    assert!(world.root().conditions.ready.status);
}

#[test]
fn never_is_never_restarted() {
    let mut world = with(Restart::Never);
    world.set("g/a-0", CRASH);
    world.settle();
    assert_eq!(world.running(), ["g/b-0 #1"]);
    assert_eq!(
        world.take_lines(),
        ["g/a-0 ended: exit code 1 after less than 1 ms", "g/a stays ended (restart Never)"]
    );
}

#[test]
fn a_child_that_is_never_restarted_is_stopped_and_forgotten_by_a_group_restart() {
    let mut widgets = vec![widget("g", "a"), widget("g", "b")];
    widgets[1].restart = Restart::Never;
    let mut world = World::settled(Node::Group(group("g", Strategy::OneForAll, widgets)));
    world.take_acts();
    world.set("g/a-0", CRASH);
    world.settle();
    assert_eq!(world.take_acts(), ["stop g/b-0 #1", "start g/a-0 #2"]);
    assert_eq!(
        world.take_lines().iter().filter(|line| line.contains("restarts")).collect::<Vec<_>>(),
        ["g restarts a (OneForAll), epoch 1, 1 of 3 restarts in 30 s"]
    );
}

#[test]
fn a_group_restart_takes_along_a_child_that_had_ended_normally() {
    let mut widgets = vec![widget("g", "a"), widget("g", "b")];
    widgets[1].restart = Restart::OnFailure;
    let mut world = World::settled(Node::Group(group("g", Strategy::OneForAll, widgets)));
    world.set("g/b-0", NORMAL);
    world.settle();
    assert_eq!(world.running(), ["g/a-0 #1"]);
    world.set("g/a-0", CRASH);
    world.settle();
    assert_eq!(world.running(), ["g/a-0 #2", "g/b-0 #2"]);
}

#[test]
fn the_next_is_stopped_only_when_the_one_before_is_gone() {
    let mut world = abc(Strategy::OneForAll);
    world.slow_stops = true;
    world.set("g/a-0", CRASH);
    world.settle();
    assert_eq!(world.take_acts(), ["stop g/c-0 #1"]);
    world.set("g/c-0", NORMAL);
    world.settle();
    assert_eq!(world.take_acts(), ["stop g/b-0 #1"]);
    world.set("g/b-0", KILLED);
    world.settle();
    assert_eq!(world.take_acts(), ["start g/a-0 #2", "start g/b-0 #2", "start g/c-0 #2"]);
    assert_eq!(world.root().restarts.len(), 1);
}

#[test]
fn ends_of_children_that_a_restart_stops_join_it() {
    let mut world = abc(Strategy::OneForAll);
    world.slow_stops = true;
    world.set("g/a-0", CRASH);
    world.settle();
    world.set("g/b-0", CRASH);
    world.set("g/c-0", CRASH);
    world.slow_stops = false;
    world.settle();
    assert_eq!(world.running(), ["g/a-0 #2", "g/b-0 #2", "g/c-0 #2"]);
    assert_eq!(world.root().restarts.len(), 1);
    assert_eq!(world.root().epoch, 1);
}

#[test]
fn the_end_of_a_child_that_a_restart_has_started_is_a_new_fault_after_it() {
    let mut world = abc(Strategy::RestForOne);
    if let Some(Node::Group(group)) = &mut world.desired {
        group.widgets[1].health = Some(super::world::health().into());
    }
    world.started.insert("g/b-0".into(), InstanceState::Running);
    world.set("g/a-0", CRASH);
    world.settle();
    assert_eq!(world.running(), ["g/a-0 #2", "g/b-0 #2"]);
    world.set("g/a-0", CRASH);
    world.settle();
    assert_eq!(world.root().restarts.len(), 1, "it waits for the restart that is open");
    world.started.clear();
    world.set("g/b-0", InstanceState::Ready);
    world.settle();
    assert_eq!(world.running(), ["g/a-0 #3", "g/b-0 #3", "g/c-0 #3"]);
    assert_eq!(world.root().restarts.len(), 2);
}

#[test]
fn a_failed_start_in_a_restart_is_tried_again_and_counts() {
    let mut world = abc(Strategy::RestForOne);
    world.started.insert("g/b-0".into(), REFUSED);
    world.set("g/a-0", CRASH);
    for _ in 0..5 {
        world.step();
    }
    world.started.clear();
    world.settle();
    assert_eq!(world.running().len(), 3);
    assert!(world.root().restarts.len() >= 2, "{:?}", world.root().restarts);
}

/// A group `g` of a, b and c in which b fails to start once after a crashed.
fn failing_once(strategy: Strategy) -> World {
    let mut world = abc(strategy);
    world.take_acts();
    world.started.insert("g/b-0".into(), REFUSED);
    world.set("g/a-0", CRASH);
    while !world.acts.contains(&"start g/b-0 #2".to_owned()) {
        world.step();
    }
    world.started.clear();
    world.settle();
    world
}

#[test]
fn rest_for_one_tries_again_from_the_child_that_failed_to_start() {
    let mut world = failing_once(Strategy::RestForOne);
    assert_eq!(
        world.take_acts(),
        [
            "stop g/c-0 #1",
            "stop g/b-0 #1",
            "start g/a-0 #2",
            "start g/b-0 #2",
            "start g/b-0 #3",
            "start g/c-0 #2"
        ]
    );
    assert_eq!(world.root().restarts.len(), 2);
}

#[test]
fn one_for_all_tries_again_from_the_first_when_a_child_failed_to_start() {
    let mut world = failing_once(Strategy::OneForAll);
    assert_eq!(
        world.take_acts(),
        [
            "stop g/c-0 #1",
            "stop g/b-0 #1",
            "start g/a-0 #2",
            "start g/b-0 #2",
            "stop g/a-0 #2",
            "start g/a-0 #3",
            "start g/b-0 #3",
            "start g/c-0 #2"
        ]
    );
    assert_eq!(world.root().restarts.len(), 2);
}

#[test]
fn the_cause_of_a_failed_start_outlives_another_decision_before_it_is_tried_again() {
    let mut world = abc(Strategy::OneForOne);
    world.started.insert("g/a-0".into(), REFUSED);
    world.set("g/a-0", CRASH);
    world.step();
    world.set("g/b-0", KILLED);
    world.take_lines();
    while world.root().restarts.len() < 3 {
        world.step();
    }
    let last = world.root().last.clone().unwrap();
    let chain: Vec<_> = last.chain().map(|cause| cause.event.to_string()).collect();
    assert_eq!(
        chain,
        [
            "g restarts a (OneForOne), epoch 3, 3 of 3 restarts in 30 s",
            "g/a failed to start",
            "g/a-0 failed to start: not started"
        ]
    );
}

#[test]
fn more_restarts_than_the_intensity_bears_stop_the_group() {
    let mut world = abc(Strategy::OneForOne);
    for incarnation in 2..=4 {
        world.set("g/a-0", CRASH);
        world.settle();
        assert_eq!(world.running()[0], format!("g/a-0 #{incarnation}"));
    }
    world.take_lines();
    world.set("g/a-0", CRASH);
    world.settle();
    assert!(world.running().is_empty());
    let lines = world.take_lines();
    assert!(lines.contains(&"g gives up: 4 restarts in 30 s are more than 3".to_owned()), "{lines:?}");
}

#[test]
fn restarts_that_left_the_window_do_not_count() {
    let mut world = abc(Strategy::OneForOne);
    for _ in 0..10 {
        world.set("g/a-0", CRASH);
        world.settle();
        world.pass(Duration::from_secs(11));
    }
    assert_eq!(world.running().len(), 3);
}

#[test]
fn a_restart_exactly_as_old_as_the_window_still_counts() {
    let mut one = group_of("g", Strategy::OneForOne, &["a"]);
    one.intensity = Intensity { max_restarts: 1, period: Duration::from_secs(10) };
    let mut world = World::settled(Node::Group(one));
    world.set("g/a-0", CRASH);
    world.settle();
    world.pass(Duration::from_secs(10));
    world.set("g/a-0", CRASH);
    world.settle();
    assert!(world.running().is_empty());
}

#[test]
fn a_hung_instance_is_stopped_and_counts_as_a_fault() {
    let mut world = with(Restart::OnFailure);
    world.slow_stops = true;
    world.pass(Duration::from_secs(2));
    world.set("g/a-0", InstanceState::Hung);
    world.settle();
    assert_eq!(world.take_acts(), ["stop g/a-0 #1"]);
    assert!(world.root().restarts.is_empty());
    world.set("g/a-0", NORMAL);
    world.settle();
    assert_eq!(world.take_acts(), ["start g/a-0 #2"]);
    assert_eq!(world.root().restarts.len(), 1);
    assert_eq!(
        world.take_lines()[..2],
        ["g/a-0 ended: hung after 2 s", "g restarts a (OneForOne), epoch 1, 1 of 3 restarts in 30 s"]
    );
}

#[test]
fn a_child_under_one_for_one_does_not_wait_for_the_slow_start_of_another() {
    let mut world = abc(Strategy::OneForOne);
    if let Some(Node::Group(group)) = &mut world.desired {
        group.widgets[1].health = Some(super::world::health().into());
    }
    world.started.insert("g/b-0".into(), InstanceState::Running);
    world.set("g/b-0", CRASH);
    world.settle();
    world.set("g/a-0", CRASH);
    world.settle();
    assert_eq!(world.running(), ["g/a-0 #2", "g/b-0 #2", "g/c-0 #1"]);
}

#[test]
fn an_end_that_the_world_lost_sight_of_is_a_fault() {
    let mut world = abc(Strategy::OneForOne);
    world.set("g/a-0", InstanceState::Ended(End::Lost));
    world.settle();
    assert_eq!(world.running(), ["g/a-0 #2", "g/b-0 #1", "g/c-0 #1"]);
}

#[test]
fn silence_is_never_absence() {
    let mut world = abc(Strategy::OneForOne);
    let all = std::mem::take(&mut world.observed.instances);
    world.settle();
    assert!(world.take_acts().is_empty());
    world.observed.instances = all;
    world.settle();
    assert!(world.take_acts().is_empty());
}
