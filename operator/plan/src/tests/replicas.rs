use std::time::Duration;

use kontrol_core::spec::{Intensity, Node, ReplicaEnd, Restart, Strategy};

use super::world::{CRASH, NORMAL, REFUSED, World, group, widget};
use crate::InstanceState;

fn replicated(replica_end: ReplicaEnd, restart: Restart) -> World {
    let mut many = widget("g", "a");
    many.replicas = 3;
    many.replica_end = replica_end;
    many.restart = restart;
    many.intensity = Intensity { max_restarts: 2, period: Duration::from_secs(30) };
    let widgets = vec![many, widget("g", "b")];
    let mut world = World::settled(Node::Group(group("g", Strategy::OneForOne, widgets)));
    world.take_acts();
    world.take_lines();
    world
}

fn set_replicas(world: &mut World, replicas: u32) {
    if let Some(Node::Group(group)) = &mut world.desired {
        group.widgets[0].replicas = replicas;
    }
    world.settle();
}

#[test]
fn a_replica_that_ends_is_replaced_within_the_widgets_own_intensity() {
    let mut world = replicated(ReplicaEnd::ReplacesReplica, Restart::Always);
    world.set("g/a-1", CRASH);
    world.settle();
    assert_eq!(world.take_acts(), ["start g/a-1 #2"]);
    assert!(world.root().restarts.is_empty());
    assert_eq!(world.take_lines()[1], "g/a-1 is replaced, 1 of 2 restarts in 30 s");
}

#[test]
fn more_ends_than_the_widgets_intensity_bears_are_one_end_of_the_widget() {
    let mut world = replicated(ReplicaEnd::ReplacesReplica, Restart::Always);
    for replica in ["g/a-0", "g/a-1", "g/a-2"] {
        world.set(replica, CRASH);
        world.settle();
    }
    assert_eq!(world.root().restarts.len(), 1);
    assert_eq!(world.running(), ["g/a-0 #3", "g/a-1 #3", "g/a-2 #2", "g/b-0 #1"]);
    let lines = world.take_lines();
    assert!(lines.contains(&"g/a has ended: 3 restarts in 30 s are more than 2".to_owned()), "{lines:?}");
}

#[test]
fn where_a_replica_ends_its_widget_the_others_are_stopped_first() {
    let mut world = replicated(ReplicaEnd::EndsWidget, Restart::Always);
    world.set("g/a-1", CRASH);
    world.settle();
    assert_eq!(
        world.take_acts(),
        ["stop g/a-0 #1", "stop g/a-2 #1", "start g/a-0 #2", "start g/a-1 #2", "start g/a-2 #2"]
    );
    assert_eq!(world.root().restarts.len(), 1);
}

#[test]
fn replicas_that_ended_normally_are_done_and_the_last_one_ends_the_widget() {
    let mut world = replicated(ReplicaEnd::ReplacesReplica, Restart::OnFailure);
    for replica in ["g/a-0", "g/a-1"] {
        world.set(replica, NORMAL);
        world.settle();
    }
    assert!(world.root().conditions.ready.status);
    assert_eq!(world.running(), ["g/a-2 #1", "g/b-0 #1"]);
    world.set("g/a-2", NORMAL);
    world.settle();
    assert_eq!(world.take_lines().last().unwrap(), "g/a stays ended (restart OnFailure)");
    assert_eq!(world.running(), ["g/b-0 #1"]);
}

#[test]
fn fewer_replicas_stop_those_with_the_highest_ordinals() {
    let mut world = replicated(ReplicaEnd::ReplacesReplica, Restart::Always);
    set_replicas(&mut world, 1);
    assert_eq!(world.take_acts(), ["stop g/a-1 #1", "stop g/a-2 #1"]);
    assert!(world.root().conditions.ready.status);
}

#[test]
fn a_replica_that_comes_back_has_a_higher_incarnation() {
    let mut world = replicated(ReplicaEnd::ReplacesReplica, Restart::Always);
    set_replicas(&mut world, 0);
    assert_eq!(world.running(), ["g/b-0 #1"]);
    set_replicas(&mut world, 2);
    assert_eq!(world.running(), ["g/a-0 #2", "g/a-1 #2", "g/b-0 #1"]);
}

#[test]
fn a_replica_that_is_scaled_away_does_not_count() {
    let mut world = replicated(ReplicaEnd::EndsWidget, Restart::Always);
    world.slow_stops = true;
    set_replicas(&mut world, 2);
    world.set("g/a-2", CRASH);
    world.settle();
    assert!(world.root().restarts.is_empty());
    assert_eq!(world.running(), ["g/a-0 #1", "g/a-1 #1", "g/b-0 #1"]);
}

#[test]
fn a_replacement_that_fails_to_start_counts_again() {
    let mut world = replicated(ReplicaEnd::ReplacesReplica, Restart::Always);
    world.started.insert("g/a-0".into(), REFUSED);
    world.set("g/a-0", CRASH);
    for _ in 0..3 {
        world.step();
    }
    world.started.clear();
    world.settle();
    assert_eq!(world.root().restarts.len(), 1);
    assert!(world.running().iter().all(|instance| !instance.starts_with("g/a-0 #1 ")));
}

#[test]
fn a_replica_that_hangs_is_replaced() {
    let mut world = replicated(ReplicaEnd::ReplacesReplica, Restart::OnFailure);
    world.set("g/a-2", InstanceState::Hung);
    world.settle();
    assert_eq!(world.take_acts(), ["stop g/a-2 #1", "start g/a-2 #2"]);
}
