use std::time::Duration;

use kontrol_core::spec::{Node, Strategy};

use super::world::{CRASH, World, group_of};
use crate::{InstanceState, Status};

fn abc() -> World {
    World::settled(Node::Group(group_of("g", Strategy::OneForAll, &["a", "b", "c"])))
}

#[test]
fn a_lost_status_is_made_up_from_what_runs() {
    let mut world = abc();
    world.set("g/a-0", CRASH);
    world.settle();
    world.take_acts();
    world.take_lines();
    world.observed.status = Status::default();
    world.settle();
    assert!(world.take_acts().is_empty());
    assert_eq!(world.root().epoch, 1, "the highest that instances carry");
    assert!(world.root().restarts.is_empty());
    assert_eq!(world.observed.status.recovered, Some(world.now));
    assert_eq!(
        world.take_lines()[0],
        "g took over 3 running instances: its status was lost, windows start empty"
    );
}

#[test]
fn what_does_not_run_when_the_status_is_lost_is_started_in_order() {
    let mut world = abc();
    world.take_acts();
    world.observed.instances.retain(|instance| instance.id.widget.widget.as_str() == "b");
    world.observed.status = Status::default();
    world.settle();
    assert_eq!(world.take_acts(), ["start g/a-0 #1", "start g/c-0 #1"]);
}

#[test]
fn what_runs_from_an_older_template_when_the_status_is_lost_is_replaced_in_order() {
    let mut world = abc();
    world.take_acts();
    world.observed.status = Status::default();
    if let Some(Node::Group(group)) = &mut world.desired {
        group.widgets[1].revision.0 = 2;
    }
    world.settle();
    assert_eq!(world.take_acts(), ["stop g/b-0 #1", "start g/b-0 #2"]);
}

#[test]
fn an_older_status_catches_up_with_what_runs() {
    let mut world = abc();
    let old = world.observed.status.clone();
    world.set("g/a-0", CRASH);
    world.settle();
    world.take_acts();
    world.observed.status = old;
    world.settle();
    assert!(world.take_acts().is_empty());
    assert_eq!(world.root().epoch, 1, "the highest that instances carry");
    world.set("g/a-0", CRASH);
    world.settle();
    assert_eq!(world.running(), ["g/a-0 #3", "g/b-0 #3", "g/c-0 #3"]);
    assert_eq!(world.root().epoch, 2);
}

#[test]
fn a_new_world_starts_all_with_higher_incarnations() {
    let mut world = abc();
    world.observed.instances.clear();
    world.observed.status = std::mem::take(&mut world.observed.status).nothing_runs();
    world.settle();
    assert_eq!(world.running(), ["g/a-0 #2", "g/b-0 #2", "g/c-0 #2"]);
    assert_eq!(world.root().epoch, 1);
}

#[test]
fn processes_that_no_replica_has_any_more_are_stopped_and_removed() {
    let mut world = abc();
    let mut stray = world.observed.instances[0].clone();
    stray.id.widget.widget = "stranger".parse().unwrap();
    world.observed.instances.push(stray);
    let mut surplus = world.observed.instances[1].clone();
    surplus.id.ordinal = 7;
    world.observed.instances.push(surplus);
    world.take_acts();
    world.settle();
    let mut acts = world.take_acts();
    acts.sort();
    assert_eq!(acts, ["stop g/b-7 #1", "stop g/stranger-0 #1"]);
    assert_eq!(world.running(), ["g/a-0 #1", "g/b-0 #1", "g/c-0 #1"]);
}

#[test]
fn the_next_process_of_a_replica_waits_for_the_one_before() {
    let mut world = abc();
    world.set("g/a-0", CRASH);
    let mut late = world.observed.instances[1].clone();
    late.state = InstanceState::Running;
    world.settle();
    assert_eq!(world.running(), ["g/a-0 #2", "g/b-0 #2", "g/c-0 #2"]);
    world.observed.instances.retain(|instance| instance.id != late.id);
    world.observed.instances.push(late);
    world.slow_stops = true;
    world.take_acts();
    world.set("g/a-0", CRASH);
    world.settle();
    assert!(!world.acts.iter().any(|act| act.starts_with("start g/b")), "{:?}", world.acts);
}

#[test]
fn restarts_in_the_future_count_as_now() {
    let mut world = abc();
    world.pass(Duration::from_hours(1));
    world.set("g/a-0", CRASH);
    world.settle();
    world.now = world.now.minus(Duration::from_mins(30));
    world.set("g/a-0", CRASH);
    world.settle();
    assert_eq!(world.root().restarts, [world.now, world.now]);
    world.pass(Duration::from_secs(31));
    world.set("g/a-0", CRASH);
    world.settle();
    assert_eq!(world.root().restarts, [world.now]);
}

#[test]
fn a_status_reads_back_as_it_was_written() {
    let mut world = abc();
    world.set("g/a-0", CRASH);
    world.settle();
    let text = serde_json::to_string(&world.observed.status).unwrap();
    assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), world.observed.status);
}

#[test]
fn a_number_beyond_all_bounds_takes_no_room_and_does_not_begin_anew() {
    let mut world = abc();
    world.observed.status = Status::default();
    let mut absurd = world.observed.instances[0].clone();
    absurd.id.ordinal = 4_000_000_000;
    world.observed.instances.push(absurd);
    for instance in &mut world.observed.instances {
        instance.epoch = u64::MAX;
    }
    world.settle();
    assert_eq!(world.root().epoch, u64::MAX);
    assert!(serde_json::to_string(&world.observed.status).unwrap().len() < 10_000);
    world.set("g/a-0", CRASH);
    world.settle();
    assert_eq!((world.root().epoch, world.running().len()), (u64::MAX, 3));
}
