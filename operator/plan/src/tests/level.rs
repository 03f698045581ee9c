//! Whatever is lost or done twice on the way between decisions and the world, the same comes of it.

use std::sync::Arc;

use kontrol_core::spec::{Node, Strategy};
use kontrol_otp::{Mix, generate_with};
use proptest::prelude::{ProptestConfig, Strategy as Any, any, prop, prop_assert_eq, proptest};

use super::{
    otp::{layers::layered, player},
    world::{CRASH, KILLED, NORMAL, World, child, group_of, short, supervisor},
};
use crate::{InstanceState, plan};

const MIX: Mix = Mix { bursts: false, requests: false, time: false };

/// One end of whoever runs at this place of the list.
#[derive(Clone, Copy, Debug)]
struct Fault {
    place: prop::sample::Index,
    state: InstanceState,
}

fn fault() -> impl Any<Value = Fault> {
    let state = prop::sample::select(vec![CRASH, KILLED, NORMAL, InstanceState::Hung]);
    (any::<prop::sample::Index>(), state).prop_map(|(place, state)| Fault { place, state })
}

/// What becomes of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Luck {
    /// Written, and each action done once.
    Good,
    /// The decider died before it wrote.
    NotWritten,
    /// The decider died after it wrote and before it acted.
    NotActed,
    /// Every second action is lost.
    HalfLost,
    /// Every action is done twice.
    Doubled,
}

fn luck() -> impl Any<Value = Luck> {
    prop::sample::select(vec![Luck::Good, Luck::NotWritten, Luck::NotActed, Luck::HalfLost, Luck::Doubled])
}

fn world(seed: u64) -> World {
    World::new(player::tree(&layered(&generate_with(seed, MIX)).tree.root))
}

fn strike(world: &mut World, fault: Fault) {
    let running: Vec<String> = world.instances().map(|instance| short(&instance.id)).collect();
    if !running.is_empty() {
        let mut running = running;
        running.sort();
        let name = fault.place.get(&running).clone();
        world.set(&name, fault.state);
    }
}

/// Plans until nothing is left to do; the first plans have the luck given.
fn settle(world: &mut World, luck: &mut dyn Iterator<Item = Luck>) {
    for _ in 0..10_000 {
        let planned = plan(world.desired.as_ref(), &world.observed, world.now);
        let rests = planned.actions.is_empty()
            && planned.status == world.observed.status
            && planned.wake.is_none_or(|wake| wake > world.now);
        if rests {
            return;
        }
        let luck = luck.next().unwrap_or(Luck::Good);
        if luck != Luck::NotWritten {
            world.observed.status = planned.status;
        }
        for (nth, action) in planned.actions.iter().enumerate() {
            match luck {
                Luck::NotWritten | Luck::NotActed => {}
                Luck::HalfLost if nth % 2 == 0 => {}
                Luck::Good | Luck::HalfLost => world.act(action),
                Luck::Doubled => {
                    world.act(action);
                    world.act(action);
                }
            }
        }
    }
    panic!("no rest");
}

#[test]
fn a_plan_shares_with_the_status_before_it_what_it_leaves_as_it_is() {
    let mut world = World::settled(Node::Group(group_of("g", Strategy::OneForOne, &["a", "b", "c"])));
    world.set("g/b-0", CRASH);
    let planned = plan(world.desired.as_ref(), &world.observed, world.now);
    let before = world.root().children.iter();
    let shared: Vec<_> =
        before.zip(&planned.status.root.unwrap().children).map(|(a, b)| Arc::ptr_eq(a, b)).collect();
    assert_eq!(shared, [true, false, true]);
}

#[test]
fn a_group_that_moved_within_its_tree_shares_its_instances_until_they_have_stopped() {
    let g = || child(Node::Group(group_of("g", Strategy::OneForOne, &["a"])));
    let f = || child(Node::Group(group_of("f", Strategy::OneForOne, &["a"])));
    let top = |children| Node::Supervisor(supervisor("top", Strategy::OneForOne, children));
    let inner =
        |name: &str, children| child(Node::Supervisor(supervisor(name, Strategy::OneForOne, children)));
    let mut world = World::settled(top(vec![inner("one", vec![g()]), inner("two", vec![f()])]));
    world.slow_stops = true;
    world.desired = Some(top(vec![inner("two", vec![f(), g()])]));
    world.settle();
    world.set("g/a-0", NORMAL);
    world.settle();
    world.slow_stops = false;
    world.settle();
    assert_eq!(world.running(), ["f/a-0 #1", "g/a-0 #2"]);
    assert!(world.root().leaving.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn planning_after_applying_gives_nothing(
        seed in any::<u64>(),
        faults in prop::collection::vec(fault(), 0..12),
    ) {
        let mut world = world(seed);
        world.settle();
        for fault in faults {
            strike(&mut world, fault);
            world.settle();
            let again = plan(world.desired.as_ref(), &world.observed, world.now);
            prop_assert_eq!(again.actions, []);
            prop_assert_eq!(again.events, []);
            prop_assert_eq!(again.status, world.observed.status.clone());
        }
    }

    #[test]
    fn the_order_in_which_instances_are_observed_means_nothing(
        seed in any::<u64>(),
        faults in prop::collection::vec((fault(), any::<prop::sample::Index>()), 1..6),
    ) {
        let mut world = world(seed);
        world.settle();
        for (fault, turn) in faults {
            strike(&mut world, fault);
            let planned = plan(world.desired.as_ref(), &world.observed, world.now);
            let mut turned = world.observed.clone();
            turned.instances.reverse();
            if !turned.instances.is_empty() {
                let by = turn.index(turned.instances.len());
                turned.instances.rotate_left(by);
            }
            prop_assert_eq!(plan(world.desired.as_ref(), &turned, world.now), planned);
            world.settle();
        }
    }

    #[test]
    fn lost_and_doubled_actions_and_deciders_that_die_change_nothing(
        seed in any::<u64>(),
        faults in prop::collection::vec(fault(), 0..12),
        mut luck in prop::collection::vec(luck(), 200),
    ) {
        let (mut calm, mut rough) = (world(seed), world(seed));
        let mut luck = luck.drain(..);
        calm.settle();
        settle(&mut rough, &mut luck);
        for fault in faults {
            strike(&mut calm, fault);
            strike(&mut rough, fault);
            calm.settle();
            settle(&mut rough, &mut luck);
            prop_assert_eq!(&rough.observed.status, &calm.observed.status);
            prop_assert_eq!(rough.running(), calm.running());
        }
    }

    #[test]
    fn a_drained_tree_comes_to_nothing_whatever_is_under_way(
        seed in any::<u64>(),
        faults in prop::collection::vec(fault(), 1..4),
        steps in 0_usize..20,
    ) {
        let mut world = world(seed);
        world.settle();
        for fault in faults {
            strike(&mut world, fault);
        }
        for _ in 0..steps {
            world.step();
        }
        world.desired = None;
        world.settle();
        prop_assert_eq!(world.running(), Vec::<String>::new());
        prop_assert_eq!(&world.observed.status.root, &None);
    }
}
