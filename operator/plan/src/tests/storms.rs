//! Everything that can happen to pods, in any order.

use std::{collections::BTreeMap, time::Duration};

use kontrol_core::spec::{
    Container, Group, Node, ReplicaEnd, Revision, Rollout, Share, Strategy as Restarts, Widget,
};
use proptest::prelude::*;

use super::world::{World, group, health, widget};
use crate::{End, Event, InstanceState, LastEnd, NodeHealth, Place, plan};

const MACHINES: usize = 3;

#[derive(Clone, Debug)]
enum Blow {
    /// The process of an instance ends, and is about to be restarted in place, or was.
    InPlace(usize, bool),
    /// An instance ends.
    Ends(usize, End),
    /// An instance hangs.
    Hangs(usize),
    /// A machine is lost.
    Loses(usize),
    /// All machines are back.
    Heals,
    /// The template of a widget changes.
    Template(usize),
    /// A roll-out is paused, or goes on.
    Pauses(usize),
    /// Starts find no place from now on, or do again.
    Places(bool),
    /// Starts do not get ready from now on, or do again.
    Readies(bool),
    Passes(u64),
}

fn blow() -> impl Strategy<Value = Blow> {
    let end = prop_oneof![
        Just(End::Exited(0)),
        Just(End::Exited(1)),
        Just(End::OutOfMemory),
        Just(End::Evicted),
        Just(End::Deleted)
    ];
    prop_oneof![
        (0..6_usize, any::<bool>()).prop_map(|(at, back)| Blow::InPlace(at, back)),
        (0..6_usize, end).prop_map(|(at, end)| Blow::Ends(at, end)),
        (0..6_usize).prop_map(Blow::Hangs),
        (0..MACHINES).prop_map(Blow::Loses),
        Just(Blow::Heals),
        (0..3_usize).prop_map(Blow::Template),
        (0..3_usize).prop_map(Blow::Pauses),
        any::<bool>().prop_map(Blow::Places),
        any::<bool>().prop_map(Blow::Readies),
        (1..90_u64).prop_map(Blow::Passes),
    ]
}

fn pod(name: &'static str) -> impl Strategy<Value = Widget> {
    let container = (any::<bool>(), 0..3_u32, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(wrapped, alternatives, identity, force, count_external)| Container {
            wrapped,
            alternatives,
            identity,
            force_delete: identity && force,
            count_external,
            ..Container::default()
        },
    );
    (container, 1..4_u32, 0..2_u32, 0..2_u32, any::<bool>()).prop_map(
        move |(container, replicas, unavailable, surge, replaces)| Widget {
            container: Some(container),
            replicas,
            rollout: Rollout {
                max_unavailable: Share::Count(unavailable),
                max_surge: Share::Count(surge),
                ..Rollout::default()
            },
            replica_end: if replaces { ReplicaEnd::ReplacesReplica } else { ReplicaEnd::EndsWidget },
            health: Some(health().into()),
            ..widget("g", name)
        },
    )
}

fn pods() -> impl Strategy<Value = Group> {
    let strategy =
        prop_oneof![Just(Restarts::OneForOne), Just(Restarts::OneForAll), Just(Restarts::RestForOne)];
    (strategy, pod("a"), pod("b"), pod("c"))
        .prop_map(|(strategy, a, b, c)| group("g", strategy, vec![a, b, c]))
}

fn edit(world: &mut World, at: usize, edit: impl FnOnce(&mut Widget)) {
    if let Some(Node::Group(group)) = &mut world.desired {
        edit(&mut group.widgets[at]);
    }
}

/// The living instance at this place in the list.
fn living(world: &mut World, at: usize) -> Option<&mut crate::Instance> {
    let living = world.observed.instances.iter_mut().filter(|instance| !instance.state.is_ended());
    let mut living: Vec<_> = living.collect();
    if living.is_empty() { None } else { Some(living.swap_remove(at % living.len())) }
}

fn strike(world: &mut World, blow: &Blow) {
    let now = world.now;
    let starts = |world: &mut World, state: Option<InstanceState>| {
        world.started.clear();
        for (name, ordinal) in ["a", "b", "c"].into_iter().flat_map(|name| (0..4).map(move |at| (name, at))) {
            if let Some(state) = state {
                world.started.insert(format!("g/{name}-{ordinal}"), state);
            }
        }
    };
    match *blow {
        Blow::InPlace(at, back) => {
            if let Some(instance) = living(world, at).filter(|it| it.state == InstanceState::Ready) {
                let end = End::Signalled(9);
                instance.restarts += 1;
                instance.last_end = Some(LastEnd { at: now, end, message: None });
                instance.state = if back { InstanceState::Ready } else { InstanceState::Restarting(end) };
                instance.since = now;
            }
        }
        Blow::Ends(at, end) => {
            if let Some(instance) = living(world, at) {
                instance.state = InstanceState::Ended(end);
                instance.since = now;
            }
        }
        Blow::Hangs(at) => {
            if let Some(instance) = living(world, at) {
                instance.state = InstanceState::Hung;
                instance.since = now;
            }
        }
        Blow::Loses(machine) => {
            let lost = NodeHealth::Lost { since: now };
            world.observed.nodes.insert(format!("n{machine}").into(), lost);
        }
        Blow::Heals => world.observed.nodes.clear(),
        Blow::Template(at) => edit(world, at, |widget| widget.revision = Revision(widget.revision.0 + 1)),
        Blow::Pauses(at) => edit(world, at, |widget| widget.rollout.paused = !widget.rollout.paused),
        Blow::Places(none) => starts(world, none.then_some(InstanceState::Unschedulable)),
        Blow::Readies(none) => starts(world, none.then_some(InstanceState::Running)),
        Blow::Passes(seconds) => world.pass(Duration::from_secs(seconds)),
    }
}

/// What was started is put on some machine that it does not keep away from, as far as there is one.
fn place(world: &mut World) {
    let lost: Vec<_> = world.observed.nodes.keys().cloned().collect();
    for instance in &mut world.observed.instances {
        if instance.place.is_none() && instance.state != InstanceState::Unschedulable {
            let first = instance.id.ordinal as usize + instance.id.widget.widget.as_str().len();
            let machines = (0..MACHINES).map(|at| format!("n{}", (first + at) % MACHINES));
            let free = machines.map(std::convert::Into::into).find(|name| !lost.contains(name));
            instance.place = free.map(|node| Place { node });
        }
    }
}

/// How many ends a fact tells of.
fn ends(event: &Event) -> usize {
    match event {
        Event::Ended { .. } => 1,
        Event::RestartedInPlace { times, .. } => *times as usize,
        _ => 0,
    }
}

proptest! {
    #[test]
    fn whatever_happens_to_pods_is_decided_once_and_comes_to_rest(
        group in pods(),
        blows in proptest::collection::vec(blow(), 0..30),
    ) {
        let identity = |name: &str| {
            let widget = group.widgets.iter().find(|widget| widget.id.widget.as_str() == name);
            widget.and_then(|widget| widget.container).is_some_and(|of| of.identity && !of.force_delete)
        };
        let mut world = World::settled(Node::Group(group.clone()));
        let (mut faults, mut restarts) = (0_usize, 0_usize);
        for blow in &blows {
            place(&mut world);
            let lost: Vec<_> = world.observed.nodes.keys().cloned().collect();
            strike(&mut world, blow);
            world.settle();
            let told = std::mem::take(&mut world.events);
            faults += told.iter().map(ends).sum::<usize>();
            restarts += told.iter().filter(|event| matches!(event, Event::Restarts { .. })).count();
            // One restart at most for each end, and nothing is left to do.
            prop_assert!(restarts <= faults, "{restarts} restarts for {faults} faults");
            let again = plan(world.desired.as_ref(), &world.observed, world.now);
            prop_assert!(again.actions.is_empty() && again.status == world.observed.status, "{again:#?}");
            // Of one replica one process runs at a time: of an identity of its own whatever is known of machines.
            let mut run: BTreeMap<_, usize> = BTreeMap::new();
            for instance in world.instances() {
                let on_lost = instance.place.as_ref().is_some_and(|place| {
                    lost.contains(&place.node) || world.observed.nodes.contains_key(&place.node)
                });
                let ended = instance.state.is_ended()
                    || (on_lost && !identity(instance.id.widget.widget.as_str()));
                *run.entry(instance.id.clone()).or_default() += usize::from(!ended);
            }
            prop_assert!(run.values().all(|count| *count <= 1), "{run:?}");
        }
    }
}
