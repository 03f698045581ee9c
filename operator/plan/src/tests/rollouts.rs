use std::time::Duration;

use kontrol_core::spec::{Group, Node, ReplicaEnd, Restart, Revision, Rollout, Share, Strategy, Widget};

use super::world::{CRASH, REFUSED, World, group, health, widget};
use crate::{
    InstanceState,
    status::{Failure, Inner, Reason, Widget as Status},
};

fn many(name: &str, replicas: u32) -> Widget {
    Widget {
        replicas,
        replica_end: ReplicaEnd::ReplacesReplica,
        health: Some(health().into()),
        ..widget("g", name)
    }
}

fn settled(widgets: Vec<Widget>) -> World {
    let mut world = World::settled(Node::Group(group("g", Strategy::OneForOne, widgets)));
    world.take_acts();
    world.take_lines();
    // What runs has run well for long enough to be good.
    world.pass(Duration::from_mins(1));
    world
}

fn edit(world: &mut World, edit: impl FnOnce(&mut Group)) {
    if let Some(Node::Group(group)) = &mut world.desired {
        edit(group);
    }
    world.settle();
}

fn template(revision: u64) -> impl FnOnce(&mut Group) {
    move |group| group.widgets[0].revision = Revision(revision)
}

fn status(world: &World, at: usize) -> &Status {
    match &world.root().children[at].inner {
        Inner::Widget(widget) => widget,
        Inner::Node(_) => unreachable!(),
    }
}

/// The ordinals and revisions that run, and whether they are ready.
fn revisions(world: &World) -> Vec<(u32, u64, bool)> {
    let running = world.instances().filter(|instance| !instance.state.is_ended());
    let mut running: Vec<_> = running
        .map(|instance| (instance.id.ordinal, instance.revision.0, instance.state == InstanceState::Ready))
        .collect();
    running.sort_unstable();
    running
}

fn unready(world: &mut World, replicas: u32) {
    for ordinal in 0..replicas {
        world.started.insert(format!("g/a-{ordinal}"), InstanceState::Starting);
    }
}

fn become_ready(world: &mut World, ordinal: u32) {
    world.set(&format!("g/a-{ordinal}"), InstanceState::Ready);
    world.settle();
}

#[test]
fn replicas_are_replaced_one_after_the_other_from_the_highest() {
    let mut world = settled(vec![many("a", 3)]);
    edit(&mut world, template(2));
    assert_eq!(
        world.take_acts(),
        [
            "stop g/a-2 #1",
            "start g/a-2 #2",
            "stop g/a-1 #1",
            "start g/a-1 #2",
            "stop g/a-0 #1",
            "start g/a-0 #2"
        ]
    );
    assert!(world.root().restarts.is_empty());
    let lines = world.take_lines();
    assert_eq!(lines[0], "g/a rolls out revision 0000000000000002, from 0000000000000001");
    assert!(lines.iter().any(|line| line.starts_with("g/a has rolled out revision 0000000000000002")));
}

#[test]
fn no_more_replicas_are_missing_than_may() {
    let mut world = settled(vec![many("a", 5)]);
    unready(&mut world, 5);
    edit(&mut world, |group| {
        group.widgets[0].revision = Revision(2);
        group.widgets[0].rollout.max_unavailable = Share::Count(2);
    });
    let ready = |world: &World| revisions(world).iter().filter(|(_, _, ready)| *ready).count();
    assert_eq!(ready(&world), 3);
    become_ready(&mut world, 4);
    assert_eq!(ready(&world), 3);
    // One that is missing anyway is replaced without taking anything away; the others wait for it.
    world.set("g/a-0", CRASH);
    world.settle();
    become_ready(&mut world, 3);
    assert_eq!(ready(&world), 3);
    assert_eq!(revisions(&world)[1], (1, 1, true));
}

#[test]
fn the_next_replica_is_replaced_when_callers_are_sent_to_the_new_one() {
    let mut world = settled(vec![many("a", 3)]);
    unready(&mut world, 3);
    edit(&mut world, template(2));
    world.serve("g/a-2", false);
    become_ready(&mut world, 2);
    assert_eq!(revisions(&world), [(0, 1, true), (1, 1, true), (2, 2, true)]);
    world.serve("g/a-2", true);
    world.settle();
    assert_eq!(revisions(&world), [(0, 1, true), (1, 2, false), (2, 2, true)]);
}

#[test]
fn a_revision_that_is_ready_and_gets_no_callers_is_not_returned_from() {
    let mut world = settled(vec![many("a", 1)]);
    unready(&mut world, 1);
    edit(&mut world, template(2));
    world.serve("g/a-0", false);
    become_ready(&mut world, 0);
    world.pass(Duration::from_hours(1));
    world.settle();
    assert_eq!(revisions(&world), [(0, 2, true)]);
    world.serve("g/a-0", true);
    world.settle();
    assert!(world.take_lines().iter().any(|line| line.starts_with("g/a has rolled out")));
}

#[test]
fn a_revision_that_never_starts_is_not_rolled_out_though_its_ends_are_not_restarted() {
    let mut world = settled(vec![Widget { restart: Restart::Never, ..many("a", 1) }]);
    unready(&mut world, 1);
    edit(&mut world, template(2));
    world.set("g/a-0", REFUSED);
    world.settle();
    world.pass(Duration::from_mins(2));
    world.settle();
    let lines = world.take_lines();
    assert!(!lines.iter().any(|line| line.starts_with("g/a has rolled out")), "{lines:?}");
    assert_eq!(status(&world, 0).good, Some(Revision(1)));
}

#[test]
fn surge_starts_new_ordinals_first_and_takes_them_away_at_the_end() {
    let mut world = settled(vec![many("a", 2)]);
    unready(&mut world, 3);
    edit(&mut world, |group| {
        group.widgets[0].revision = Revision(2);
        group.widgets[0].rollout.max_unavailable = Share::Count(0);
        group.widgets[0].rollout.max_surge = Share::Count(1);
    });
    assert_eq!(revisions(&world), [(0, 1, true), (1, 1, true), (2, 2, false)]);
    become_ready(&mut world, 2);
    assert_eq!(revisions(&world), [(0, 1, true), (1, 2, false), (2, 2, true)]);
    become_ready(&mut world, 1);
    become_ready(&mut world, 0);
    assert_eq!(revisions(&world), [(0, 2, true), (1, 2, true)]);
}

#[test]
fn a_single_replica_with_surge_is_never_missing() {
    let mut world = settled(vec![Widget { health: Some(health().into()), ..widget("g", "a") }]);
    unready(&mut world, 2);
    edit(&mut world, |group| {
        group.widgets[0].revision = Revision(2);
        group.widgets[0].rollout.max_unavailable = Share::Count(0);
        group.widgets[0].rollout.max_surge = Share::Count(1);
    });
    assert_eq!(revisions(&world), [(0, 1, true), (1, 2, false)]);
    become_ready(&mut world, 1);
    assert_eq!(revisions(&world), [(0, 2, false), (1, 2, true)]);
    become_ready(&mut world, 0);
    assert_eq!(revisions(&world), [(0, 2, true)]);
}

#[test]
fn the_next_child_waits_until_the_one_before_it_is_rolled_out() {
    let mut world = settled(vec![many("a", 2), widget("g", "b")]);
    unready(&mut world, 2);
    edit(&mut world, |group| {
        group.widgets[0].revision = Revision(2);
        group.widgets[1].revision = Revision(2);
    });
    become_ready(&mut world, 1);
    assert!(!world.take_acts().iter().any(|act| act.contains("g/b")));
    assert_eq!(world.root().conditions.reconciling.reason, Reason::RollingOut);
    become_ready(&mut world, 0);
    assert_eq!(world.take_acts(), ["stop g/b-0 #1", "start g/b-0 #2"]);
    assert!(world.root().conditions.ready.status);
    assert_eq!(world.root().conditions.progressing.reason, Reason::RolledOut);
}

#[test]
fn a_pause_keeps_every_replica_at_its_own_template() {
    let mut world = settled(vec![many("a", 3)]);
    unready(&mut world, 3);
    edit(&mut world, template(2));
    become_ready(&mut world, 2);
    edit(&mut world, |group| group.widgets[0].rollout.paused = true);
    become_ready(&mut world, 1);
    world.started.clear();
    for ordinal in [0, 2] {
        world.set(&format!("g/a-{ordinal}"), CRASH);
        world.settle();
    }
    assert_eq!(revisions(&world), [(0, 1, true), (1, 2, true), (2, 2, true)]);
    assert_eq!(world.root().conditions.progressing.reason, Reason::Paused);
    world.pass(Duration::from_hours(5));
    edit(&mut world, |group| group.widgets[0].rollout.paused = false);
    assert_eq!(revisions(&world), [(0, 2, true), (1, 2, true), (2, 2, true)]);
}

#[test]
fn a_template_that_changes_while_paused_waits() {
    let mut world = settled(vec![widget("g", "a")]);
    edit(&mut world, |group| {
        group.widgets[0].rollout.paused = true;
        group.widgets[0].revision = Revision(2);
    });
    assert!(world.take_acts().is_empty());
    world.set("g/a-0", CRASH);
    world.settle();
    assert_eq!(revisions(&world), [(0, 1, true)]);
    edit(&mut world, |group| group.widgets[0].rollout.paused = false);
    assert_eq!(revisions(&world), [(0, 2, true)]);
}

#[test]
fn a_template_is_good_when_it_has_run_well_for_as_long_as_ends_are_counted() {
    let mut world = settled(vec![widget("g", "a")]);
    edit(&mut world, template(2));
    assert_eq!(status(&world, 0).good, Some(Revision(1)));
    assert_eq!(world.wake, None);
    world.pass(Duration::from_secs(29));
    edit(&mut world, template(3));
    assert_eq!(status(&world, 0).good, Some(Revision(1)));
    world.pass(Duration::from_secs(30));
    world.set("g/a-0", CRASH);
    world.settle();
    assert_eq!(status(&world, 0).good, Some(Revision(3)));
    assert_eq!(status(&world, 0).rollout, None);
}

#[test]
fn what_has_run_well_for_long_is_not_returned_from() {
    let mut world = settled(vec![widget("g", "a")]);
    edit(&mut world, template(2));
    world.pass(Duration::from_mins(1));
    crash_while(&mut world, 2);
    assert!(world.take_lines().iter().any(|line| line.starts_with("g gives up")));
    assert_eq!(status(&world, 0).bad, None);
}

#[test]
fn a_template_that_had_no_time_to_prove_itself_is_not_returned_to() {
    let mut world = World::settled(Node::Group(group("g", Strategy::OneForOne, vec![widget("g", "a")])));
    edit(&mut world, template(2));
    crash_while(&mut world, 2);
    assert_eq!((status(&world, 0).good, status(&world, 0).bad.clone()), (None, None));
}

/// A template whose process ends as soon as it runs.
fn crash_while(world: &mut World, revision: u64) {
    for _ in 0..40 {
        let bad = world
            .instances()
            .find(|instance| instance.revision.0 == revision && !instance.state.is_ended())
            .map(|instance| super::world::short(&instance.id));
        let Some(bad) = bad else { return };
        world.set(&bad, CRASH);
        world.settle();
    }
}

#[test]
fn more_ends_than_the_intensity_bears_return_to_the_last_good_template() {
    let mut world = settled(vec![widget("g", "a"), widget("g", "b")]);
    edit(&mut world, template(2));
    world.take_lines();
    crash_while(&mut world, 2);
    assert_eq!(revisions(&world), [(0, 1, true), (0, 1, true)]);
    assert_eq!(status(&world, 0).bad.as_ref().unwrap().why, Failure::Intensity);
    let lines = world.take_lines();
    let returns = "g/a returns from revision 0000000000000002 to 0000000000000001, the last good one: \
                   more ends than its intensity bears";
    assert!(lines.iter().any(|line| line == returns), "{lines:#?}");
    assert!(world.root().conditions.ready.status);
    assert_eq!(world.root().conditions.progressing.reason, Reason::Returned);
    assert!(world.root().conditions.stalled.status);
    assert!(!lines.iter().any(|line| line.contains("gives up")));
}

#[test]
fn what_failed_is_not_tried_again_and_what_is_new_is() {
    let mut world = settled(vec![widget("g", "a")]);
    edit(&mut world, template(2));
    crash_while(&mut world, 2);
    world.pass(Duration::from_hours(1));
    world.settle();
    world.set("g/a-0", CRASH);
    world.settle();
    assert_eq!(revisions(&world), [(0, 1, true)]);
    edit(&mut world, template(3));
    assert_eq!(revisions(&world), [(0, 3, true)]);
    assert!(!world.root().conditions.stalled.status);
    edit(&mut world, template(2));
    assert_eq!(revisions(&world), [(0, 2, true)]);
}

#[test]
fn an_undo_runs_the_template_before_at_once() {
    let mut world = settled(vec![many("a", 2)]);
    unready(&mut world, 2);
    edit(&mut world, template(2));
    world.started.clear();
    edit(&mut world, template(1));
    assert_eq!(revisions(&world), [(0, 1, true), (1, 1, true)]);
    assert_eq!((status(&world, 0).rollout, status(&world, 0).bad.clone()), (None, None));
}

#[test]
fn a_bad_template_never_stands_in_the_way_of_its_fix() {
    let mut world = settled(vec![many("a", 3)]);
    unready(&mut world, 3);
    edit(&mut world, template(2));
    assert_eq!(revisions(&world), [(0, 1, true), (1, 1, true), (2, 2, false)]);
    world.started.clear();
    edit(&mut world, template(3));
    assert_eq!(revisions(&world), [(0, 3, true), (1, 3, true), (2, 3, true)]);
}

#[test]
fn replicas_on_trial_that_end_too_often_return_without_touching_the_good_ones() {
    let mut world = settled(vec![many("a", 3)]);
    unready(&mut world, 3);
    edit(&mut world, template(2));
    crash_while(&mut world, 2);
    world.started.clear();
    if let Some(instance) = world.observed.instances.iter_mut().find(|i| i.id.ordinal == 2) {
        instance.state = InstanceState::Ready;
    }
    world.settle();
    assert_eq!(revisions(&world), [(0, 1, true), (1, 1, true), (2, 1, true)]);
    assert_eq!(world.running()[..2], ["g/a-0 #1", "g/a-1 #1"]);
    assert!(world.root().restarts.is_empty());
}

/// Two replicas whose new template does not become ready, and has 20 seconds to; what starts later does.
fn stuck() -> World {
    let mut world = settled(vec![many("a", 2)]);
    unready(&mut world, 2);
    edit(&mut world, |group| {
        group.widgets[0].revision = Revision(2);
        group.widgets[0].rollout.progress_deadline = Duration::from_secs(20);
    });
    world.started.clear();
    world
}

#[test]
fn no_progress_within_the_deadline_returns() {
    let mut world = stuck();
    assert_eq!(world.wake, Some(world.now.plus(Duration::from_secs(20))));
    world.pass(Duration::from_secs(20));
    world.settle();
    assert_eq!(revisions(&world), [(0, 1, true), (1, 1, true)]);
    assert_eq!(status(&world, 0).bad.as_ref().unwrap().why, Failure::Deadline);
}

#[test]
fn progress_that_could_not_be_seen_is_not_missed() {
    let mut world = stuck();
    world.pass(Duration::from_secs(20));
    world.observed.sees_since = world.now;
    world.settle();
    assert_eq!(status(&world, 0).bad, None);
    world.pass(Duration::from_secs(20));
    world.settle();
    assert_eq!(status(&world, 0).bad.as_ref().unwrap().why, Failure::Deadline);
}

#[test]
fn what_does_not_stay_ready_returns_at_the_deadline() {
    let mut world = settled(vec![widget("g", "a")]);
    edit(&mut world, |group| {
        group.widgets[0].revision = Revision(2);
        group.widgets[0].rollout.progress_deadline = Duration::from_mins(1);
    });
    for _ in 0..6 {
        world.pass(Duration::from_secs(12));
        world.set("g/a-0", CRASH);
        world.settle();
    }
    assert_eq!(status(&world, 0).bad.as_ref().unwrap().why, Failure::Deadline);
    assert_eq!(revisions(&world), [(0, 1, true)]);
}

#[test]
fn without_a_return_it_stands_still_and_says_so() {
    let mut world = settled(vec![many("a", 2)]);
    unready(&mut world, 2);
    edit(&mut world, |group| {
        let progress_deadline = Duration::from_secs(20);
        group.widgets[0].revision = Revision(2);
        group.widgets[0].rollout = Rollout { progress_deadline, auto_rollback: false, ..Rollout::default() };
    });
    world.pass(Duration::from_secs(20));
    world.settle();
    assert_eq!(revisions(&world), [(0, 1, true), (1, 2, false)]);
    assert_eq!(world.root().conditions.stalled.reason, Reason::RolloutStalled);
    assert!(world.take_lines().iter().any(|line| line.contains("stands still: no progress")));
}

#[test]
fn a_first_template_has_nothing_to_return_to() {
    let mut world = World::new(Node::Group(group("g", Strategy::OneForOne, vec![widget("g", "a")])));
    world.started.insert("g/a-0".into(), CRASH);
    world.settle();
    assert!(world.take_lines().iter().any(|line| line.contains("is started again in")));
    assert_eq!(status(&world, 0).bad, None);
}
