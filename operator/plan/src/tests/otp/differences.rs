//! Where the plan does something else than OTP, one test for each row of the table in the crate's documentation.

use std::time::Duration;

use kontrol_core::spec::{self, ReplicaEnd, Restart, StartedWhen, Strategy};
use kontrol_otp::{Act, Event, Id, Mix, Model, Node, Refusal, Request, generate_with};

use super::{layers::layered, player};
use crate::{
    InstanceState, RestartRequest, RestartTarget,
    status::NodePhase,
    tests::world::{CRASH, REFUSED, World, group, group_of, health, widget, widget_id},
};

const MIX: Mix = Mix { bursts: false, requests: false, time: false };

/// A group `g` of these widgets.
fn world(strategy: Strategy, widgets: Vec<spec::Widget>) -> World {
    World::new(spec::Node::Group(group("g", strategy, widgets)))
}

/// The first case in which the root ends, played by the model up to there.
fn case_with_an_end() -> kontrol_otp::Case {
    let mut cases = (0..).map(|seed| layered(&generate_with(seed, MIX)));
    cases.find(|case| kontrol_otp::play(case).steps.last().is_some_and(|step| step.rest.is_empty())).unwrap()
}

#[test]
fn a_root_that_gave_up_is_started_again_after_a_pause() {
    let case = case_with_an_end();
    let mut tree = player::tree(&case.tree.root);
    match &mut tree {
        spec::Node::Group(group) => group.when_exhausted = spec::Exhausted::default(),
        spec::Node::Supervisor(supervisor) => supervisor.when_exhausted = spec::Exhausted::default(),
    }
    let mut world = World::settled(tree);
    for _ in 0..1_000 {
        let Some(instance) = world.observed.instances.first_mut() else { break };
        instance.state = CRASH;
        world.settle();
    }
    assert_eq!(world.running(), Vec::<String>::new());
    world.pass(Duration::from_secs(10));
    world.settle();
    assert_eq!(world.root().phase, NodePhase::Running);
}

#[test]
fn a_first_start_that_fails_is_tried_again_after_a_pause() {
    let case = layered(&generate_with(0, MIX));
    let worker = case.tree.supervisors().into_iter().flat_map(|supervisor| &supervisor.children);
    let worker =
        worker.filter(|child| matches!(child.node, Node::Worker(_))).map(kontrol_otp::Child::id).next();
    let refusal = Refusal { worker: worker.unwrap(), starts: 1 };
    let (model, step) = Model::start(&case.tree, &[refusal]);
    assert!(!model.is_running() && step.acts.last() == Some(&Act::Refused(case.tree.root.id)));

    let mut world = World::new(spec::Node::Group(group_of("g", Strategy::OneForOne, &["a"])));
    world.started.insert("g/a-0".into(), REFUSED);
    world.settle();
    world.started.clear();
    world.pass(Duration::from_secs(10));
    world.settle();
    assert_eq!(world.running(), ["g/a-0 #2"]);
}

#[test]
fn a_start_that_takes_too_long_has_failed_where_otp_waits_for_ever() {
    let mut slow = widget("g", "a");
    slow.start = spec::Start { when: StartedWhen::Ready, timeout: Duration::from_secs(5) };
    slow.health = Some(health().into());
    let mut world = world(Strategy::OneForOne, vec![slow]);
    world.started.insert("g/a-0".into(), InstanceState::Running);
    world.settle();
    world.pass(Duration::from_secs(5));
    world.settle();
    assert!(world.take_lines().contains(&"g/a-0 failed to start: not ready in time".to_owned()));
}

#[test]
fn under_one_for_one_children_start_again_side_by_side_where_otp_waits_for_each() {
    let mut slow = widget("g", "a");
    slow.health = Some(health().into());
    let mut world = world(Strategy::OneForOne, vec![slow, widget("g", "b")]);
    world.settle();
    world.started.insert("g/a-0".into(), InstanceState::Running);
    world.set("g/a-0", CRASH);
    world.settle();
    world.set("g/b-0", CRASH);
    world.take_acts();
    world.settle();
    assert_eq!(world.take_acts(), ["start g/b-0 #2"]);
}

#[test]
fn replicas_are_replaced_by_their_widget_before_its_group_counts_anything() {
    let mut many = widget("g", "a");
    many.replicas = 2;
    many.replica_end = ReplicaEnd::ReplacesReplica;
    let mut world = world(Strategy::OneForAll, vec![many, widget("g", "b")]);
    world.settle();
    world.set("g/a-1", CRASH);
    world.take_acts();
    world.settle();
    assert_eq!(world.take_acts(), ["start g/a-1 #2"]);
    assert!(world.root().restarts.is_empty());
}

#[test]
fn a_process_that_hangs_is_ended_and_counts_where_otp_knows_no_health() {
    let mut one = widget("g", "a");
    one.health = Some(health().into());
    let mut world = world(Strategy::OneForOne, vec![one]);
    world.settle();
    world.set("g/a-0", InstanceState::Hung);
    world.take_acts();
    world.settle();
    assert_eq!(world.take_acts(), ["stop g/a-0 #1", "start g/a-0 #2"]);
    assert_eq!(world.root().restarts.len(), 1);
}

#[test]
fn an_end_by_a_signal_is_never_normal_where_otp_has_the_reason_shutdown() {
    let mut job = widget("g", "a");
    job.restart = Restart::OnFailure;
    let mut world = world(Strategy::OneForOne, vec![job]);
    world.settle();
    world.set("g/a-0", InstanceState::Ended(crate::End::Signalled(15)));
    world.settle();
    assert_eq!(world.running(), ["g/a-0 #2"]);
}

#[test]
fn a_restart_that_a_user_asked_for_is_tried_again_and_counts_when_it_fails_to_start() {
    let root = kontrol_otp::Supervisor {
        id: Id(0),
        strategy: kontrol_otp::Strategy::OneForOne,
        intensity: 3,
        period: 30,
        auto_shutdown: kontrol_otp::AutoShutdown::Never,
        children: vec![kontrol_otp::Child {
            restart: kontrol_otp::Restart::Permanent,
            significant: false,
            node: Node::Worker(kontrol_otp::Worker { id: Id(1), shutdown: kontrol_otp::Shutdown::Grace }),
        }],
    };
    let tree = kontrol_otp::Tree { root };
    let (mut model, _) = Model::start(&tree, &[]);
    let request = |request| Event::Request { supervisor: Id(0), child: Id(1), request };
    model.apply(&Event::Refuse(Refusal { worker: Id(1), starts: 1 }));
    model.apply(&request(Request::Terminate));
    assert_eq!(model.apply(&request(Request::Restart)).acts, [Act::Refused(Id(1))], "and no second try");

    let mut world = World::settled(spec::Node::Group(group_of("g", Strategy::OneForOne, &["a"])));
    let target = RestartTarget::Widget(widget_id("g", "a"));
    world.pass(Duration::from_secs(1));
    world.observed.restarts.push(RestartRequest { target, at: world.now });
    world.started.insert("g/a-0".into(), REFUSED);
    while !world.acts.contains(&"start g/a-0 #2".to_owned()) {
        world.step();
    }
    world.started.clear();
    world.settle();
    assert_eq!(world.running(), ["g/a-0 #3"]);
    assert_eq!(world.root().restarts.len(), 1);
}

#[test]
fn a_widget_beside_groups_has_a_group_of_its_own() {
    for seed in 0..1_000 {
        let case = layered(&generate_with(seed, MIX));
        for supervisor in case.tree.supervisors() {
            let workers = supervisor.children.iter().filter(|child| matches!(child.node, Node::Worker(_)));
            assert!([0, supervisor.children.len()].contains(&workers.count()), "seed {seed}");
        }
    }
}
