use std::time::Duration;

use kontrol_core::spec::{Group, Node, Restart, Strategy};

use super::world::{CRASH, NORMAL, World, child, group_of, object, supervisor, widget, widget_id};
use crate::{InstanceState, RestartRequest, RestartTarget};

fn abc() -> World {
    let mut world = World::settled(Node::Group(group_of("g", Strategy::RestForOne, &["a", "b", "c"])));
    world.take_acts();
    world.take_lines();
    world
}

fn edit(world: &mut World, edit: impl FnOnce(&mut Group)) {
    if let Some(Node::Group(group)) = &mut world.desired {
        edit(group);
    }
    world.settle();
}

fn ask(world: &mut World, target: RestartTarget) {
    world.pass(Duration::from_secs(1));
    world.observed.restarts.push(RestartRequest { target, at: world.now });
    world.settle();
}

#[test]
fn a_new_child_is_started_and_nobody_else_is_touched() {
    let mut world = abc();
    edit(&mut world, |group| group.widgets.insert(1, widget("g", "new")));
    assert_eq!(world.take_acts(), ["start g/new-0 #1"]);
    assert_eq!(world.take_lines()[0], "g follows its manifest: starts new");
}

#[test]
fn a_child_that_is_gone_from_the_manifest_is_stopped_and_nobody_else_is_touched() {
    let mut world = abc();
    edit(&mut world, |group| {
        group.widgets.remove(1);
    });
    assert_eq!(world.take_acts(), ["stop g/b-0 #1"]);
    assert!(world.root().leaving.is_empty());
}

#[test]
fn removed_children_stop_in_reverse_one_at_a_time() {
    let mut world = abc();
    world.slow_stops = true;
    edit(&mut world, |group| group.widgets.truncate(1));
    assert_eq!(world.take_acts(), ["stop g/c-0 #1"]);
    world.set("g/c-0", CRASH);
    world.settle();
    assert_eq!(world.take_acts(), ["stop g/b-0 #1"]);
    assert!(world.root().restarts.is_empty());
}

#[test]
fn a_child_that_comes_back_has_a_higher_incarnation() {
    let mut world = abc();
    edit(&mut world, |group| {
        group.widgets.remove(1);
    });
    edit(&mut world, |group| group.widgets.push(widget("g", "b")));
    assert_eq!(world.running(), ["g/a-0 #1", "g/b-0 #2", "g/c-0 #1"]);
}

#[test]
fn a_child_that_comes_back_while_it_stops_is_stopped_and_started() {
    let mut world = abc();
    world.slow_stops = true;
    edit(&mut world, |group| {
        group.widgets.remove(1);
    });
    edit(&mut world, |group| group.widgets.push(widget("g", "b")));
    world.set("g/b-0", NORMAL);
    world.settle();
    assert_eq!(world.running(), ["g/a-0 #1", "g/b-0 #2", "g/c-0 #1"]);
}

#[test]
fn another_order_restarts_nobody_and_rules_the_next_restart() {
    let mut world = abc();
    edit(&mut world, |group| group.widgets.reverse());
    assert!(world.take_acts().is_empty());
    world.set("g/b-0", CRASH);
    world.settle();
    assert_eq!(world.take_acts(), ["stop g/a-0 #1", "start g/b-0 #2", "start g/a-0 #2"]);
}

#[test]
fn a_changed_template_restarts_what_it_changed_in_order_and_counts_for_nothing() {
    let mut world = abc();
    edit(&mut world, |group| {
        group.widgets[0].revision.0 = 2;
        group.widgets[2].revision.0 = 2;
    });
    assert_eq!(world.take_acts(), ["stop g/a-0 #1", "start g/a-0 #2", "stop g/c-0 #1", "start g/c-0 #2"]);
    assert!(world.root().restarts.is_empty());
}

#[test]
fn a_changed_rule_restarts_nobody() {
    let mut world = abc();
    edit(&mut world, |group| {
        group.strategy = Strategy::OneForAll;
        group.intensity.max_restarts = 9;
        group.widgets[1].restart = Restart::Never;
    });
    assert!(world.take_acts().is_empty());
}

#[test]
fn a_template_that_changes_during_a_start_is_taken_at_once() {
    let mut world = abc();
    world.started.insert("g/a-0".into(), InstanceState::Running);
    edit(&mut world, |group| {
        group.widgets[0].health = Some(super::world::health().into());
        group.widgets[0].revision.0 = 2;
    });
    assert_eq!(world.running()[0], "g/a-0 #2");
    world.started.clear();
    edit(&mut world, |group| group.widgets[0].revision.0 = 3);
    assert_eq!(world.running(), ["g/a-0 #3", "g/b-0 #1", "g/c-0 #1"]);
}

#[test]
fn a_changed_template_starts_a_job_that_had_ended() {
    let mut world = abc();
    edit(&mut world, |group| group.widgets[2].restart = Restart::Never);
    world.set("g/c-0", NORMAL);
    world.settle();
    assert_eq!(world.running().len(), 2);
    edit(&mut world, |group| group.widgets[2].revision.0 = 2);
    assert_eq!(world.running(), ["g/a-0 #1", "g/b-0 #1", "g/c-0 #2"]);
}

#[test]
fn a_removed_group_stops_in_reverse_and_leaves_its_siblings() {
    let groups = ["g", "h"].map(|name| child(Node::Group(group_of(name, Strategy::OneForOne, &["a", "b"]))));
    let top = supervisor("top", Strategy::OneForAll, groups.to_vec());
    let mut world = World::settled(Node::Supervisor(top));
    world.take_acts();
    if let Some(Node::Supervisor(top)) = &mut world.desired {
        top.children.remove(0);
    }
    world.settle();
    assert_eq!(world.take_acts(), ["stop g/b-0 #1", "stop g/a-0 #1"]);
}

#[test]
fn another_root_waits_for_the_one_before_to_stop() {
    let mut world = abc();
    world.desired = Some(Node::Group(group_of("h", Strategy::OneForOne, &["x"])));
    world.settle();
    assert_eq!(world.take_acts(), ["stop g/c-0 #1", "stop g/b-0 #1", "stop g/a-0 #1", "start h/x-0 #2"]);
}

#[test]
fn a_request_to_restart_a_widget_is_done_once_and_counts_for_nothing() {
    let mut world = abc();
    ask(&mut world, RestartTarget::Widget(widget_id("g", "b")));
    assert_eq!(world.take_acts(), ["stop g/b-0 #1", "start g/b-0 #2"]);
    assert!(world.root().restarts.is_empty());
    assert_eq!(world.take_lines()[0], "g restarts b, as asked");
    world.settle();
    assert!(world.take_acts().is_empty());
}

#[test]
fn a_request_to_restart_the_root_stops_and_starts_all() {
    let mut world = abc();
    ask(&mut world, RestartTarget::Group(object("g")));
    assert_eq!(
        world.take_acts(),
        [
            "stop g/c-0 #1",
            "stop g/b-0 #1",
            "stop g/a-0 #1",
            "start g/a-0 #2",
            "start g/b-0 #2",
            "start g/c-0 #2"
        ]
    );
}

#[test]
fn a_request_to_restart_a_group_below_a_supervisor_leaves_the_others() {
    let groups = ["g", "h"].map(|name| child(Node::Group(group_of(name, Strategy::OneForOne, &["a"]))));
    let top = supervisor("top", Strategy::OneForAll, groups.to_vec());
    let mut world = World::settled(Node::Supervisor(top));
    world.take_acts();
    ask(&mut world, RestartTarget::Group(object("h")));
    assert_eq!(world.take_acts(), ["stop h/a-0 #1", "start h/a-0 #2"]);
}

#[test]
fn a_request_starts_a_tree_that_had_given_up() {
    let mut world = abc();
    for _ in 0..4 {
        world.set("g/a-0", CRASH);
        world.settle();
    }
    assert!(world.running().is_empty());
    ask(&mut world, RestartTarget::Widget(widget_id("g", "b")));
    assert_eq!(world.running().len(), 3);
    assert_eq!(world.observed.status.exhausted, None);
}

#[test]
fn a_request_that_any_later_start_has_satisfied_is_done() {
    let mut world = abc();
    world
        .observed
        .restarts
        .push(RestartRequest { target: RestartTarget::Widget(widget_id("g", "c")), at: world.now });
    world.set("g/a-0", CRASH);
    world.settle();
    assert_eq!(world.running(), ["g/a-0 #2", "g/b-0 #2", "g/c-0 #2"]);
}
