use std::time::Duration;

use kontrol_core::{
    grant::Grant,
    spec::{Container, Group, Intensity, Node, ReplicaEnd, Restart, Strategy, Widget},
};

use super::world::{CRASH, World, group, health, widget};
use crate::{
    Action, End, InstanceState, LastEnd, NodeHealth, Place, grant, plan,
    status::{Inner, Reason},
};

fn pod(name: &str, container: Container) -> Widget {
    Widget { container: Some(container), ..widget("g", name) }
}

fn pods(strategy: Strategy, container: Container) -> World {
    let widgets = ["a", "b"].map(|name| pod(name, container));
    settled(group("g", strategy, widgets.to_vec()))
}

fn settled(group: Group) -> World {
    let mut world = World::settled(Node::Group(group));
    for (place, instance) in world.observed.instances.iter_mut().enumerate() {
        instance.place = Some(Place { node: format!("n{}", place + 1).into() });
    }
    world.settle();
    world.take_acts();
    world.take_lines();
    world
}

/// The kubelet or the shim has restarted it.
fn restarted(world: &mut World, name: &str, restarts: u32, end: End, state: InstanceState) {
    world.set(name, state);
    let at = world.now;
    let found = world.observed.instances.iter_mut().find(|other| super::world::short(&other.id) == name);
    let instance = found.unwrap();
    instance.restarts = restarts;
    instance.last_end = Some(LastEnd { at, end, message: None });
    world.settle();
}

fn lose(world: &mut World, node: &str) {
    let since = world.now;
    world.observed.nodes.insert(node.into(), NodeHealth::Lost { since });
    world.settle();
}

const KILLED: End = End::Signalled(9);

#[test]
fn a_restart_in_place_is_told_and_counted_and_nothing_is_done() {
    let mut world = pods(Strategy::OneForOne, Container::default());
    restarted(&mut world, "g/a-0", 1, KILLED, InstanceState::Ready);
    assert!(world.take_acts().is_empty());
    assert_eq!(
        world.take_lines(),
        [
            "g/a-0 ended and was restarted in place: signal 9 (SIGKILL)",
            "g counts the restart of a, epoch 1, 1 of 3 restarts in 30 s"
        ]
    );
    let last = world.root().last.clone().unwrap();
    assert_eq!(last.first().event.to_string(), "g/a-0 ended and was restarted in place: signal 9 (SIGKILL)");
    world.settle();
    assert_eq!(world.root().restarts.len(), 1);
}

#[test]
fn the_second_end_in_place_is_not_left_to_the_back_off_of_the_kubelet() {
    let mut world = pods(Strategy::OneForOne, Container::default());
    restarted(&mut world, "g/a-0", 1, KILLED, InstanceState::Ready);
    world.pass(Duration::from_mins(1));
    world.take_lines();
    restarted(&mut world, "g/a-0", 2, KILLED, InstanceState::Restarting(KILLED));
    assert_eq!(world.take_acts(), ["stop g/a-0 #1", "start g/a-0 #2"]);
    assert_eq!(world.root().restarts.len(), 1);
    assert_eq!(world.root().epoch, 2);
}

#[test]
fn an_end_in_place_long_after_the_one_before_is_left_to_the_kubelet() {
    let mut world = pods(Strategy::OneForOne, Container::default());
    restarted(&mut world, "g/a-0", 1, KILLED, InstanceState::Ready);
    world.pass(Duration::from_mins(11));
    restarted(&mut world, "g/a-0", 2, KILLED, InstanceState::Restarting(KILLED));
    assert!(world.take_acts().is_empty());
    restarted(&mut world, "g/a-0", 2, KILLED, InstanceState::Ready);
    assert!(world.take_acts().is_empty());
}

#[test]
fn what_stays_restarting_for_longer_than_a_start_may_take_has_ended() {
    let mut world = pods(Strategy::OneForOne, Container::default());
    restarted(&mut world, "g/a-0", 1, KILLED, InstanceState::Restarting(KILLED));
    assert!(world.take_acts().is_empty());
    assert_eq!(world.wake, Some(world.now.plus(Duration::from_mins(1))));
    world.pass(Duration::from_mins(1));
    world.settle();
    assert_eq!(world.take_acts(), ["stop g/a-0 #1", "start g/a-0 #2"]);
}

#[test]
fn a_wrapped_instance_is_restarted_in_place_as_often_as_the_window_bears() {
    let mut world = pods(Strategy::OneForOne, Container { wrapped: true, ..Container::default() });
    for restarts in 1..=3 {
        restarted(&mut world, "g/a-0", restarts, KILLED, InstanceState::Ready);
        assert!(world.take_acts().is_empty());
    }
    restarted(&mut world, "g/a-0", 4, KILLED, InstanceState::Ready);
    assert_eq!(world.take_acts(), ["stop g/b-0 #1", "stop g/a-0 #1"]);
    assert!(world.take_lines().iter().any(|line| line.starts_with("g gives up: 4 restarts in 30 s")));
}

#[test]
fn restarts_in_place_of_replicas_count_in_the_window_of_their_widget() {
    let container = Container { wrapped: true, ..Container::default() };
    let replica_end = ReplicaEnd::ReplacesReplica;
    let many = Widget { replicas: 2, replica_end, ..pod("a", container) };
    let mut world = settled(group("g", Strategy::OneForAll, vec![many]));
    restarted(&mut world, "g/a-1", 3, KILLED, InstanceState::Ready);
    assert!(world.take_acts().is_empty());
    assert!(world.root().restarts.is_empty());
    restarted(&mut world, "g/a-1", 4, KILLED, InstanceState::Ready);
    assert_eq!(world.root().restarts.len(), 1);
    assert_eq!(world.running(), ["g/a-0 #2", "g/a-1 #2"]);
}

#[test]
fn a_restart_in_place_that_was_seen_before_is_counted_once() {
    let mut world = pods(Strategy::OneForOne, Container { wrapped: true, ..Container::default() });
    restarted(&mut world, "g/a-0", 2, KILLED, InstanceState::Ready);
    let old = world.observed.instances[0].clone();
    world.pass(Duration::from_secs(1));
    restarted(&mut world, "g/a-0", 3, KILLED, InstanceState::Ready);
    assert_eq!(world.root().restarts.len(), 3);
    let new = std::mem::replace(&mut world.observed.instances[0], old);
    world.settle();
    world.observed.instances[0] = new;
    world.settle();
    assert_eq!(world.root().restarts.len(), 3);
}

#[test]
fn who_counts_restarts_in_place_may_begin_again() {
    let mut world = pods(Strategy::OneForOne, Container { wrapped: true, ..Container::default() });
    restarted(&mut world, "g/a-0", 2, KILLED, InstanceState::Ready);
    world.pass(Duration::from_secs(1));
    restarted(&mut world, "g/a-0", 1, KILLED, InstanceState::Ready);
    assert_eq!(world.root().restarts.len(), 3);
}

fn restart_counts(world: &World) -> Vec<u64> {
    let counts = world.root().children.iter().map(|slot| match &slot.inner {
        Inner::Widget(widget) => widget.restart_count,
        Inner::Node(_) => unreachable!(),
    });
    counts.collect()
}

#[test]
fn restarts_in_place_and_new_processes_after_an_end_add_up() {
    let mut world = pods(Strategy::OneForOne, Container::default());
    assert_eq!(restart_counts(&world), [0, 0]);
    restarted(&mut world, "g/a-0", 1, KILLED, InstanceState::Ready);
    assert_eq!(restart_counts(&world), [1, 0]);
    restarted(&mut world, "g/a-0", 2, KILLED, InstanceState::Restarting(KILLED));
    assert_eq!(
        (restart_counts(&world), world.running()),
        (vec![2, 0], vec!["g/a-0 #2".into(), "g/b-0 #1".into()])
    );
    world.set("g/b-0", InstanceState::Ended(End::Evicted));
    world.settle();
    assert_eq!(restart_counts(&world), [2, 1]);
}

#[test]
fn a_restart_of_a_group_is_one_of_each_replica_that_has_run() {
    let many = Widget { replicas: 2, ..pod("b", Container::default()) };
    let mut world = settled(group("g", Strategy::OneForAll, vec![pod("a", Container::default()), many]));
    world.set("g/a-0", super::world::CRASH);
    world.settle();
    assert_eq!(restart_counts(&world), [1, 2]);
}

#[test]
fn neither_a_new_template_nor_another_number_of_replicas_is_a_restart() {
    let replica_end = ReplicaEnd::ReplacesReplica;
    let many = Widget { replicas: 2, replica_end, ..pod("b", Container::default()) };
    let mut world = settled(group("g", Strategy::OneForOne, vec![pod("a", Container::default()), many]));
    for (revision, replicas) in [(2, 3), (3, 0), (4, 2)] {
        let Some(Node::Group(group)) = &mut world.desired else { unreachable!() };
        for widget in &mut group.widgets {
            widget.revision = kontrol_core::spec::Revision(revision);
        }
        group.widgets[1].replicas = replicas;
        world.settle();
    }
    assert_eq!(restart_counts(&world), [0, 0]);
    world.set("g/b-1", super::world::CRASH);
    world.settle();
    assert_eq!(restart_counts(&world), [0, 1]);
}

#[test]
fn a_replica_without_a_place_that_nobody_sees_does_not_fail_to_start() {
    let mut world =
        World::new(Node::Group(group("g", Strategy::OneForOne, vec![pod("a", Container::default())])));
    world.started.insert("g/a-0".into(), InstanceState::Unschedulable);
    world.settle();
    // The next one who decides does not know of the request that was refused.
    world.observed.instances.clear();
    world.pass(Duration::from_mins(5));
    world.take_lines();
    assert!(world.step());
    assert_eq!(world.take_acts(), ["start g/a-0 #1"; 2]);
    assert!(world.take_lines().is_empty());
}

#[test]
fn ends_from_outside_are_restarted_by_the_strategy_and_not_counted() {
    for end in [End::OutOfMemory, End::Evicted, End::Preempted, End::Deleted] {
        let mut world = pods(Strategy::OneForAll, Container::default());
        for turn in 1..=3 {
            world.set("g/a-0", InstanceState::Ended(end));
            world.settle();
            assert_eq!(world.running(), [format!("g/a-0 #{}", turn + 1), format!("g/b-0 #{}", turn + 1)]);
        }
        assert!(world.root().restarts.is_empty());
        assert!(world.take_lines()[1].ends_with("epoch 1, not counted"));
    }
}

#[test]
fn ends_from_outside_count_where_the_widget_asks_for_it() {
    let container = Container { count_external: true, ..Container::default() };
    let mut world = pods(Strategy::OneForOne, container);
    world.set("g/a-0", InstanceState::Ended(End::OutOfMemory));
    world.settle();
    assert_eq!(world.root().restarts.len(), 1);
}

#[test]
fn many_ends_from_outside_slow_the_next_start_down() {
    let mut world = pods(Strategy::OneForOne, Container::default());
    for _ in 0..3 {
        world.set("g/a-0", InstanceState::Ended(End::OutOfMemory));
        world.settle();
    }
    assert_eq!(world.running(), ["g/a-0 #4", "g/b-0 #1"]);
    world.set("g/a-0", InstanceState::Ended(End::OutOfMemory));
    world.settle();
    assert_eq!(world.running(), ["g/b-0 #1"]);
    assert_eq!(world.wake, Some(world.now.plus(Duration::from_secs(1))));
    world.pass(Duration::from_secs(1));
    world.settle();
    assert_eq!(world.running(), ["g/a-0 #5", "g/b-0 #1"]);
}

#[test]
fn an_end_from_outside_during_a_start_starts_anew_and_fails_nothing() {
    let mut group = group("g", Strategy::OneForAll, vec![pod("a", Container::default())]);
    group.widgets[0].health = Some(health().into());
    let mut world = World::new(Node::Group(group));
    world.started.insert("g/a-0".into(), InstanceState::Starting);
    world.settle();
    world.set("g/a-0", InstanceState::Ended(End::Evicted));
    world.settle();
    assert_eq!(world.take_acts(), ["start g/a-0 #1", "start g/a-0 #2"]);
    assert!(world.root().restarts.is_empty());
}

#[test]
fn what_ran_on_a_lost_machine_is_started_elsewhere() {
    let mut world = pods(Strategy::OneForOne, Container::default());
    lose(&mut world, "n1");
    let planned = world.take_acts();
    assert_eq!(planned, ["stop g/a-0 #1", "start g/a-0 #2"]);
    assert_eq!(world.take_lines()[0], "g/a-0 ended: node lost (node n1) after less than 1 ms");
    assert!(world.root().restarts.is_empty());
}

#[test]
fn a_start_keeps_away_from_machines_that_are_suspect_or_lost() {
    let mut world = pods(Strategy::OneForOne, Container::default());
    let since = world.now;
    world.observed.nodes.insert("n3".into(), NodeHealth::Suspect { since });
    world.observed.nodes.insert("n1".into(), NodeHealth::Lost { since });
    let mut avoided = None;
    for _ in 0..5 {
        let planned = plan(world.desired.as_ref(), &world.observed, world.now);
        for action in &planned.actions {
            if let Action::Start { avoid, .. } = action {
                avoided = Some(avoid.clone());
            }
        }
        world.step();
    }
    assert_eq!(avoided, Some(vec!["n1".into(), "n3".into()]));
}

#[test]
fn what_ends_twice_in_a_row_on_one_machine_should_move() {
    let mut world = pods(Strategy::OneForOne, Container::default());
    for turn in 1..=2 {
        world.set("g/a-0", CRASH);
        world.settle();
        let replica = match &world.root().children[0].inner {
            Inner::Widget(widget) => widget.replicas[0].clone(),
            Inner::Node(_) => unreachable!(),
        };
        let rather_not = replica.placement.unwrap().rather_not.clone();
        assert_eq!(rather_not.is_empty(), turn == 1);
        world.observed.instances.iter_mut().for_each(|instance| {
            instance.place = Some(Place { node: "n1".into() });
        });
    }
}

#[test]
fn an_identity_of_its_own_waits_for_its_lost_machine() {
    let container = Container { identity: true, ..Container::default() };
    let mut world = pods(Strategy::OneForOne, container);
    lose(&mut world, "n1");
    assert!(world.take_acts().is_empty());
    assert_eq!(world.take_lines(), ["g/a-0 waits for the lost node n1: it has an identity of its own"]);
    assert_eq!(world.root().conditions.ready.reason, Reason::NodeLost);
    world.observed.nodes.clear();
    world.settle();
    assert!(world.take_acts().is_empty());
    assert!(world.root().conditions.ready.status);
}

#[test]
fn an_identity_of_its_own_is_given_up_by_force_only_where_its_manifest_says_so() {
    let container = Container { identity: true, force_delete: true, ..Container::default() };
    let mut world = pods(Strategy::OneForOne, container);
    let since = world.now;
    world.observed.nodes.insert("n1".into(), NodeHealth::Lost { since });
    let planned = plan(world.desired.as_ref(), &world.observed, world.now);
    assert!(
        matches!(&planned.actions[..], [Action::Abandon { incarnation: 1, .. }]),
        "{:?}",
        planned.actions
    );
    world.settle();
    assert_eq!(world.running(), ["g/a-0 #2", "g/b-0 #1"]);
}

#[test]
fn an_identity_of_its_own_is_started_when_the_one_before_is_gone_altogether() {
    let container = Container { identity: true, ..Container::default() };
    let mut world = pods(Strategy::OneForOne, container);
    world.set("g/a-0", CRASH);
    let planned = plan(world.desired.as_ref(), &world.observed, world.now);
    assert!(matches!(&planned.actions[..], [Action::Remove { .. }]), "{:?}", planned.actions);
    world.settle();
    assert_eq!(world.running(), ["g/a-0 #2", "g/b-0 #1"]);
}

#[test]
fn what_finds_no_place_tries_its_alternatives_in_order_and_then_again() {
    let container = Container { alternatives: 2, ..Container::default() };
    let mut world = World::new(Node::Group(group("g", Strategy::OneForOne, vec![pod("a", container)])));
    world.started.insert("g/a-0".into(), InstanceState::Unschedulable);
    let mut tried = Vec::new();
    for wait in [0, 30, 30, 30, 60] {
        world.pass(Duration::from_secs(wait));
        for _ in 0..6 {
            let planned = plan(world.desired.as_ref(), &world.observed, world.now);
            tried.extend(planned.actions.iter().filter_map(|action| match action {
                Action::Start { incarnation, alternative, .. } => Some((*incarnation, *alternative)),
                _ => None,
            }));
            world.step();
        }
        assert_eq!(world.root().conditions.ready.reason, Reason::Unschedulable);
    }
    assert_eq!(tried, [(1, 0), (2, 1), (3, 2), (4, 0), (5, 1)]);
    assert!(world.root().restarts.is_empty());
    assert_eq!(
        world.take_lines()[..3],
        [
            "g/a-0 found no place within 30 s: tries alternative 1 of 2",
            "g/a-0 found no place within 30 s: tries alternative 2 of 2",
            "g/a-0 found no place within 30 s: tries its first choice again, after all alternatives",
        ]
    );
    world.started.clear();
    world.set("g/a-0", InstanceState::Ready);
    world.settle();
    assert!(world.root().conditions.ready.status);
    world.set("g/a-0", CRASH);
    world.settle();
    assert!(matches!(&world.root().children[0].inner, Inner::Widget(widget)
        if widget.replicas[0].placement.as_ref().unwrap().alternative == 1));
}

#[test]
fn waiting_for_a_place_is_no_failed_start() {
    let mut world =
        World::new(Node::Group(group("g", Strategy::OneForOne, vec![pod("a", Container::default())])));
    world.started.insert("g/a-0".into(), InstanceState::Unschedulable);
    world.settle();
    world.pass(Duration::from_hours(1));
    world.settle();
    assert_eq!(world.take_acts(), ["start g/a-0 #1"]);
    world.set("g/a-0", InstanceState::Starting);
    world.settle();
    assert_eq!(world.wake, Some(world.now.plus(Duration::from_mins(1))));
}

#[test]
fn a_group_restart_reaches_over_a_lost_machine_once() {
    let mut world = pods(Strategy::OneForAll, Container::default());
    world.slow_stops = true;
    world.set("g/b-0", CRASH);
    world.settle();
    assert_eq!(world.take_acts(), ["stop g/a-0 #1"]);
    lose(&mut world, "n1");
    assert_eq!(world.take_acts(), ["start g/a-0 #2", "start g/b-0 #2"]);
    assert_eq!(world.root().epoch, 1);
}

fn granted(world: &World, name: &str) -> Option<Grant> {
    let instance = world.instances().find(|other| super::world::short(&other.id) == name)?;
    grant(world.desired.as_ref()?, &world.observed.status, &instance.id)
}

#[test]
fn a_grant_is_what_the_window_still_bears_under_the_epoch() {
    let container = Container { wrapped: true, ..Container::default() };
    let mut world = pods(Strategy::OneForOne, container);
    let window = Intensity::default().period;
    assert_eq!(granted(&world, "g/a-0"), Some(Grant { count: 3, window, epoch: 0, normal: true }));
    restarted(&mut world, "g/a-0", 1, KILLED, InstanceState::Ready);
    assert_eq!(granted(&world, "g/b-0"), Some(Grant { count: 2, window, epoch: 1, normal: true }));
    restarted(&mut world, "g/a-0", 3, KILLED, InstanceState::Ready);
    assert_eq!(granted(&world, "g/b-0"), None);
}

#[test]
fn nothing_is_granted_where_an_end_concerns_others_or_work_is_open() {
    let wrapped = Container { wrapped: true, ..Container::default() };
    for strategy in [Strategy::OneForAll, Strategy::RestForOne] {
        assert_eq!(granted(&pods(strategy, wrapped), "g/a-0"), None);
    }
    assert_eq!(granted(&pods(Strategy::OneForOne, Container::default()), "g/a-0"), None);
    let never = Widget { restart: Restart::Never, ..pod("a", wrapped) };
    let on_failure = Widget { restart: Restart::OnFailure, ..pod("b", wrapped) };
    let mut world = settled(group("g", Strategy::OneForOne, vec![never, on_failure]));
    assert_eq!(granted(&world, "g/a-0"), None);
    assert!(!granted(&world, "g/b-0").unwrap().normal);
    world.slow_stops = true;
    world.set("g/b-0", InstanceState::Hung);
    world.settle();
    assert_eq!(granted(&world, "g/b-0"), None);
}
