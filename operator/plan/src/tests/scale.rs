use std::{collections::BTreeMap, time::Duration};

use kontrol_core::spec::{
    Node, ReplicaEnd, Scaling, ScalingClass, ScalingTarget, ServeVia, Served, Strategy,
};

use super::world::{World, group, widget, widget_id};
use crate::{
    InstanceState,
    signals::{QueueSignals, ReplicaSignals, WaitingSignals, WidgetSignals},
};

fn scaled(min: u32) -> World {
    let mut llm = widget("g", "llm");
    llm.replica_end = ReplicaEnd::ReplacesReplica;
    llm.scaling = Some(Box::new(Scaling {
        class: ScalingClass::Kontrol,
        min,
        max: 4,
        targets: vec![ScalingTarget::InFlight(2_000)],
        up_window: Duration::ZERO,
        down_window: Duration::from_mins(5),
    }));
    World::settled(Node::Group(group("g", Strategy::OneForOne, vec![llm, widget("g", "page")])))
}

/// Each replica that runs says that it works on so much.
fn in_flight(world: &mut World, each: u64) {
    let at = world.now;
    let replicas = world
        .instances()
        .filter(|instance| instance.id.widget.widget.as_str() == "llm")
        .map(|instance| ReplicaSignals {
            ordinal: instance.id.ordinal,
            incarnation: instance.incarnation,
            in_flight: Some(each * 1_000),
            reported: BTreeMap::new(),
            at,
        })
        .collect();
    let signals = WidgetSignals {
        replicas,
        queue: Some(QueueSignals { depth: 0, growth: 0, at }),
        waiting: Some(WaitingSignals { calls: 0, at }),
    };
    world.observed.signals.insert(widget_id("g", "llm"), signals);
    world.settle();
}

#[test]
fn load_over_the_target_starts_replicas_with_a_reason() {
    let mut world = scaled(1);
    world.take_lines();
    in_flight(&mut world, 5);
    assert_eq!(world.running(), ["g/llm-0 #1", "g/llm-1 #1", "g/llm-2 #1", "g/page-0 #1"]);
    let line = world.take_lines().remove(0);
    assert!(line.starts_with("g/llm scales from 1 to 3: in flight 5"), "{line}");
}

#[test]
fn load_that_is_gone_stops_replicas_after_the_down_window_down_to_zero() {
    let mut world = scaled(0);
    in_flight(&mut world, 5);
    assert_eq!(world.running().len(), 4);
    in_flight(&mut world, 0);
    assert_eq!(world.running().len(), 4);
    world.pass(Duration::from_mins(5) + Duration::from_secs(1));
    in_flight(&mut world, 0);
    assert_eq!(world.running(), ["g/page-0 #1"]);
    assert!(world.root().conditions.ready.status);
}

#[test]
fn what_waits_brings_a_widget_back_from_zero_with_a_reason() {
    let mut world = scaled(0);
    world.pass(Duration::from_mins(10));
    in_flight(&mut world, 0);
    world.pass(Duration::from_mins(10));
    in_flight(&mut world, 0);
    assert_eq!(world.running(), ["g/page-0 #1"]);
    world.take_lines();
    let at = world.now;
    if let Some(Node::Group(group)) = &mut world.desired {
        group.widgets[0].serves = [Served { method: "answer".parse().unwrap(), via: ServeVia::Door }].into();
    }
    let waiting = Some(WaitingSignals { calls: 1_000, at });
    world
        .observed
        .signals
        .insert(widget_id("g", "llm"), WidgetSignals { waiting, ..WidgetSignals::default() });
    world.settle();
    assert_eq!(world.running(), ["g/llm-0 #2", "g/page-0 #1"]);
    let line = world.take_lines().remove(0);
    assert!(line.starts_with("g/llm scales from 0 to 1: ") && line.contains("waiting calls"), "{line}");
}

#[test]
fn replicas_that_are_still_starting_are_not_ordered_again() {
    let mut world = scaled(1);
    for ordinal in 1..4 {
        world.started.insert(format!("g/llm-{ordinal}"), InstanceState::Starting);
    }
    in_flight(&mut world, 5);
    let ordered = world.running();
    world.pass(Duration::from_secs(1));
    let at = world.now;
    let one =
        ReplicaSignals { ordinal: 0, incarnation: 1, in_flight: Some(5_000), reported: BTreeMap::new(), at };
    world
        .observed
        .signals
        .insert(widget_id("g", "llm"), WidgetSignals { replicas: vec![one], ..WidgetSignals::default() });
    world.settle();
    assert_eq!(world.running(), ordered);
    assert_eq!(ordered, ["g/llm-0 #1", "g/llm-1 #1", "g/llm-2 #1", "g/page-0 #1"]);
}

#[test]
fn unknown_load_changes_nothing() {
    let mut world = scaled(0);
    in_flight(&mut world, 3);
    let before = world.running();
    world.observed.signals.clear();
    world.pass(Duration::from_hours(1));
    world.settle();
    assert_eq!(world.running(), before);
}

#[test]
fn limits_that_change_hold_at_once() {
    let mut world = scaled(1);
    in_flight(&mut world, 8);
    assert_eq!(world.running().len(), 5);
    if let Some(Node::Group(group)) = &mut world.desired {
        group.widgets[0].scaling.as_mut().unwrap().max = 2;
    }
    world.settle();
    assert_eq!(world.running(), ["g/llm-0 #1", "g/llm-1 #1", "g/page-0 #1"]);
}

#[test]
fn external_scaling_leaves_the_number_to_the_spec() {
    let mut world = scaled(1);
    if let Some(Node::Group(group)) = &mut world.desired {
        group.widgets[0].scaling.as_mut().unwrap().class = ScalingClass::External;
        group.widgets[0].replicas = 3;
    }
    in_flight(&mut world, 0);
    assert_eq!(world.running().len(), 4);
}

#[test]
fn a_decision_outlives_the_decider() {
    let mut world = scaled(1);
    in_flight(&mut world, 5);
    let text = serde_json::to_string(&world.observed.status).unwrap();
    world.observed.status = serde_json::from_str(&text).unwrap();
    world.observed.signals.clear();
    world.settle();
    assert_eq!(world.running().len(), 4);
}
