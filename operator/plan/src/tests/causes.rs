//! What a status remembers of why each child is where it is.

use std::{sync::Arc, time::Duration};

use kontrol_core::spec::{self, Node, ReplicaEnd, Restart, Revision, Strategy};

use super::world::{
    CRASH, KILLED, NORMAL, World, child, group, group_of, object, supervisor, widget, widget_id,
};
use crate::{
    Cause, RestartRequest, RestartTarget,
    status::{self, Inner, Outcome, Reason, Slot},
};

fn abc(strategy: Strategy) -> World {
    World::settled(Node::Group(group_of("g", strategy, &["a", "b", "c"])))
}

/// A group of a widget of this restart type, and of one that is always restarted.
fn job(restart: Restart, strategy: Strategy) -> World {
    let job = spec::Widget { restart, ..widget("g", "job") };
    World::settled(Node::Group(group("g", strategy, vec![widget("g", "a"), job])))
}

fn slot<'a>(node: &'a status::Node, name: &str) -> &'a Slot {
    node.children.iter().find(|slot| slot.key.name.as_str() == name).unwrap()
}

fn chain(cause: Option<&Arc<Cause>>) -> Vec<String> {
    cause.into_iter().flat_map(|cause| cause.chain()).map(|cause| cause.event.to_string()).collect()
}

/// What was decided about a child last, and what led to it.
fn decided(node: &status::Node, name: &str) -> Vec<String> {
    chain(node.decision_about(slot(node, name)))
}

fn ask(world: &mut World, target: RestartTarget) {
    world.pass(Duration::from_secs(1));
    world.observed.restarts.push(RestartRequest { target, at: world.now });
}

#[test]
fn every_child_that_a_restart_takes_along_says_so_and_why() {
    let mut world = abc(Strategy::RestForOne);
    world.set("g/b-0", KILLED);
    world.settle();
    let because = [
        "g restarts b, c (RestForOne), epoch 1, 1 of 3 restarts in 30 s",
        "g/b-0 ended: signal 9 (SIGKILL) after less than 1 ms",
    ];
    assert_eq!(decided(world.root(), "a"), [] as [&str; 0]);
    assert_eq!(decided(world.root(), "b"), because);
    assert_eq!(decided(world.root(), "c"), because);
    assert_eq!(world.root().decisions.len(), 1, "one decision, whomever it takes along");
}

#[test]
fn a_child_whose_turn_in_a_restart_has_not_come_says_so_too() {
    let mut world = abc(Strategy::OneForAll);
    world.slow_stops = true;
    world.set("g/b-0", KILLED);
    world.settle();
    assert_eq!(world.running(), ["g/a-0 #1", "g/c-0 #1"]);
    assert_eq!(decided(world.root(), "a"), decided(world.root(), "b"));
    assert_eq!(decided(world.root(), "a").len(), 2);
}

#[test]
fn what_was_decided_about_one_child_outlives_what_is_decided_about_others() {
    let mut world = abc(Strategy::OneForOne);
    world.set("g/b-0", KILLED);
    world.settle();
    let because = decided(world.root(), "b");
    for _ in 0..20 {
        world.pass(Duration::from_secs(20));
        world.set("g/a-0", CRASH);
        world.settle();
    }
    assert_eq!(decided(world.root(), "b"), because);
    assert!(decided(world.root(), "a")[0].contains("epoch 21"), "{:?}", decided(world.root(), "a"));
    assert!(world.root().decisions.len() <= 5, "those that concern nobody any more are cleared away");
}

#[test]
fn a_restart_that_a_user_asked_for_is_why() {
    let mut world = abc(Strategy::OneForAll);
    ask(&mut world, RestartTarget::Widget(widget_id("g", "b")));
    world.settle();
    assert_eq!(decided(world.root(), "b"), ["g restarts b, as asked"]);
    assert_eq!(decided(world.root(), "a"), [] as [&str; 0]);
    ask(&mut world, RestartTarget::Group(object("g")));
    world.settle();
    assert_eq!(world.running(), ["g/a-0 #2", "g/b-0 #3", "g/c-0 #2"]);
    assert_eq!(decided(world.root(), "a"), ["g restarts, as asked"]);
}

#[test]
fn a_changed_template_is_why() {
    let mut world = abc(Strategy::OneForOne);
    if let Some(Node::Group(group)) = &mut world.desired {
        group.widgets[1].revision = Revision(2);
    }
    world.settle();
    assert_eq!(decided(world.root(), "b"), ["g follows its manifest: starts b"]);
}

#[test]
fn a_restart_of_a_group_is_why_for_all_that_is_in_it() {
    let mut of_g = group_of("g", Strategy::OneForOne, &["a", "b"]);
    of_g.intensity.max_restarts = 0;
    let groups =
        vec![child(Node::Group(of_g)), child(Node::Group(group_of("h", Strategy::OneForOne, &["c"])))];
    let mut world = World::settled(Node::Supervisor(supervisor("top", Strategy::OneForAll, groups)));
    world.set("g/a-0", CRASH);
    world.settle();
    assert_eq!(world.running(), ["g/a-0 #2", "g/b-0 #2", "h/c-0 #2"]);
    let because = [
        "top restarts g, h (OneForAll), epoch 1, 1 of 3 restarts in 30 s",
        "g gives up: 1 restart in 30 s is more than 0",
        "g/a-0 ended: exit code 1 after less than 1 ms",
    ];
    assert_eq!(decided(world.root(), "g"), because);
    assert_eq!(decided(world.node("g"), "b"), because);
    assert_eq!(decided(world.node("h"), "c"), because);
}

#[test]
fn a_retry_of_the_root_is_why_for_all_that_is_in_it() {
    let mut world = abc(Strategy::OneForOne);
    for _ in 0..4 {
        world.set("g/a-0", CRASH);
        world.settle();
    }
    world.pass(Duration::from_secs(10));
    world.settle();
    let because = decided(world.root(), "c");
    assert_eq!(
        because[..2],
        ["g is started again in 10 s", "g gives up: 4 restarts in 30 s are more than 3"]
    );
}

#[test]
fn a_world_in_which_nothing_runs_any_more_begins_without_decisions() {
    let mut world = abc(Strategy::OneForAll);
    world.set("g/b-0", KILLED);
    world.settle();
    world.observed.status = std::mem::take(&mut world.observed.status).nothing_runs();
    world.observed.instances.clear();
    world.settle();
    assert_eq!(world.running(), ["g/a-0 #3", "g/b-0 #3", "g/c-0 #3"]);
    assert_eq!(decided(world.root(), "a"), [] as [&str; 0]);
}

#[test]
fn a_replica_that_was_replaced_says_so_and_why() {
    let many = spec::Widget { replicas: 2, replica_end: ReplicaEnd::ReplacesReplica, ..widget("g", "a") };
    let mut world = World::settled(Node::Group(group("g", Strategy::OneForOne, vec![many])));
    world.set("g/a-1", CRASH);
    world.settle();
    let Inner::Widget(widget) = &slot(world.root(), "a").inner else { panic!("a widget") };
    assert_eq!(
        chain(widget.last.as_ref()),
        ["g/a-1 is replaced, 1 of 3 restarts in 30 s", "g/a-1 ended: exit code 1 after less than 1 ms"]
    );
}

#[test]
fn a_job_that_failed_for_good_has_failed_and_so_its_group_is_not_ready() {
    let mut world = job(Restart::Never, Strategy::OneForOne);
    world.set("g/job-0", CRASH);
    world.settle();
    assert_eq!(slot(world.root(), "job").outcome, Some(Outcome::Failed));
    let ready = world.root().conditions.ready;
    assert_eq!((ready.status, ready.reason), (false, Reason::Failed));
    assert_eq!(
        decided(world.root(), "job"),
        ["g/job stays ended (restart Never)", "g/job-0 ended: exit code 1 after less than 1 ms"]
    );
}

#[test]
fn a_job_that_completed_leaves_its_group_ready() {
    for restart in [Restart::Never, Restart::OnFailure] {
        let mut world = job(restart, Strategy::OneForOne);
        world.set("g/job-0", NORMAL);
        world.settle();
        assert_eq!(slot(world.root(), "job").outcome, Some(Outcome::Completed));
        let ready = world.root().conditions.ready;
        assert_eq!((ready.status, ready.reason), (true, Reason::AllReady));
    }
}

#[test]
fn a_group_all_of_whose_jobs_completed_has_completed() {
    let job = spec::Widget { restart: Restart::OnFailure, ..widget("g", "job") };
    let mut world = World::settled(Node::Group(group("g", Strategy::OneForOne, vec![job])));
    world.set("g/job-0", NORMAL);
    world.settle();
    let ready = world.root().conditions.ready;
    assert_eq!((ready.status, ready.reason), (true, Reason::Completed));
}

#[test]
fn a_job_of_several_replicas_has_failed_if_any_of_them_has() {
    let job = spec::Widget {
        replicas: 2,
        replica_end: ReplicaEnd::ReplacesReplica,
        restart: Restart::Never,
        ..widget("g", "job")
    };
    let mut world = World::settled(Node::Group(group("g", Strategy::OneForOne, vec![job])));
    world.set("g/job-0", CRASH);
    world.settle();
    world.set("g/job-1", NORMAL);
    world.settle();
    assert_eq!(slot(world.root(), "job").outcome, Some(Outcome::Failed));
}

#[test]
fn a_job_that_a_restart_stopped_has_neither_failed_nor_completed() {
    let mut world = job(Restart::Never, Strategy::OneForAll);
    world.set("g/a-0", CRASH);
    world.settle();
    assert_eq!(slot(world.root(), "job").outcome, None);
    assert!(world.root().conditions.ready.status);
    assert_eq!(decided(world.root(), "job").len(), 2);
}

#[test]
fn a_job_that_is_started_again_has_no_outcome_any_more() {
    let mut world = job(Restart::Never, Strategy::OneForOne);
    world.set("g/job-0", CRASH);
    world.settle();
    ask(&mut world, RestartTarget::Widget(widget_id("g", "job")));
    world.settle();
    assert_eq!(slot(world.root(), "job").outcome, None);
    assert!(world.root().conditions.ready.status);
}

#[test]
fn a_group_that_gave_up_and_is_left_so_has_failed() {
    let mut of_g = group_of("g", Strategy::OneForOne, &["a"]);
    of_g.intensity.max_restarts = 0;
    let children = vec![
        spec::Child { restart: Restart::Never, ..child(Node::Group(of_g)) },
        child(Node::Group(group_of("h", Strategy::OneForOne, &["b"]))),
    ];
    let mut world = World::settled(Node::Supervisor(supervisor("top", Strategy::OneForOne, children)));
    world.set("g/a-0", CRASH);
    world.settle();
    assert_eq!(slot(world.root(), "g").outcome, Some(Outcome::Failed));
    assert_eq!(world.root().conditions.ready.reason, Reason::Failed);
    assert_eq!(world.node("g").conditions.ready.reason, Reason::Failed);
}
