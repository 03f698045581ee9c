//! What people ask, and what they are told.

use kontrol_proto::v1;

use super::house::{House, Odd, desired, group, instance};
use crate::local::{
    admin::{one, scalable, sources},
    folder::Written,
    state::{Input, Named},
};

const BOTH: [(&str, &str); 2] = [("a", ""), ("b", "")];

#[test]
fn why_tells_the_reason_of_a_failed_start_and_what_came_of_it() {
    let house = House::with(group("", &BOTH), Written::default(), Odd::NoCommands);
    let why = house.why("g/a");
    let chain: Vec<&str> = why.chain.iter().map(|cause| cause.text.as_str()).collect();
    assert_eq!(
        chain,
        [
            "g is started again in 10 s",
            "g/a failed to start",
            "KTL2001: g/a-0 failed to start: command not found: it is not in PATH"
        ]
    );
    assert_eq!(why.lines[1], "it does not run: g: it is started again in 10s");
    let row = &house.state.tree(house.now).roots[0].widgets[0];
    assert!(row.replicas[0].message.contains("KTL2001"), "{row:?}");
}

#[test]
fn why_of_one_that_waits_names_whom_it_waits_for() {
    let house = House::with(group("", &BOTH), Written::default(), Odd::Silent);
    assert_eq!(house.why("g/b").lines[1], "it does not run: a has to be started before it");
}

#[test]
fn why_of_a_caller_names_whom_it_does_not_call() {
    let mut house = House::new(group("", &BOTH));
    let breaker = v1::EndpointState {
        instance: "default/g/b/0".to_owned(),
        breaker: "open".to_owned(),
        reason: "5 failures in a row".to_owned(),
        ..v1::EndpointState::default()
    };
    let signals =
        v1::Signals { health: v1::Health::Ready.into(), breakers: vec![breaker], ..v1::Signals::default() };
    house.says(&instance("a/0"), signals);
    assert_eq!(
        house.why("g/a").lines[2],
        "replica 0: its calls to g/b/0 are held back, since its circuit breaker is open: 5 failures in a row"
    );
}

#[test]
fn replicas_that_a_user_set_hold_until_the_manifest_says_another_number() {
    let mut house = House::new(group("", &BOTH));
    house.take(Input::Scale(instance("a/0").widget, 3));
    assert_eq!(house.state.instances(&instance("a/0").widget).len(), 3);
    assert_eq!(house.why("a").lines[0], "3 replicas: set by `kontrol scale` (its manifest says 1)");
    house.take(Input::Manifest(group("", &BOTH)));
    assert_eq!(house.state.instances(&instance("a/0").widget).len(), 3);
    house.take(Input::Manifest(group("", &[("a", "    replicas: 2\n"), ("b", "")])));
    assert_eq!(house.state.instances(&instance("a/0").widget).len(), 2);
    assert_eq!(house.why("a").lines[0], "2 replicas: as its manifest says (spec.replicas)");
}

#[test]
fn a_widget_that_scales_itself_is_not_scaled_by_hand() {
    let house = House::new(group("", &[("a", "    scaling: {min: 1, max: 3, target: {inFlight: 2}}\n")]));
    let refused = house.state.may_scale(&instance("a/0").widget, 2).unwrap_err();
    assert!(refused.contains("scaling.class"), "{refused}");
    assert!(house.why("a").lines[0].starts_with("1 replica: "), "{:?}", house.why("a").lines);
}

#[test]
fn a_name_may_be_short_and_must_be_clear() {
    let house = House::new(group("", &[("a", ""), ("g", "")]));
    let count = |name: &str| house.state.named(name).len();
    assert_eq!(
        (count("a"), count("g/a"), count("default/g/a"), count("g/a-0"), count("nobody")),
        (1, 1, 1, 1, 0)
    );
    assert_eq!(house.state.named("g").len(), 1, "the group before the widget");
}

const SHOP: &str = "\
apiVersion: kontrol.dev/v1alpha1
kind: Supervisor
metadata: {name: shop}
spec: {children: [{group: prices}]}
---
apiVersion: kontrol.dev/v1alpha1
kind: WidgetGroup
metadata: {name: prices}
spec:
  widgets:
  - {name: pricer, replicas: 3, process: {command: [p]}}
  - {name: ticker, process: {command: [t]}}
---
apiVersion: kontrol.dev/v1alpha1
kind: Widget
metadata: {name: clock}
spec: {process: {command: [c]}}
";

#[test]
fn a_name_that_is_not_there_is_answered_with_those_that_are() {
    let house = House::new(desired(SHOP));
    let refused = |name: &str| one(&house.state, name).unwrap_err().message().to_owned();
    assert_eq!(
        refused("pricr"),
        "there is no \"pricr\" here; did you mean prices/pricer? There are shop, prices, prices/pricer, \
         prices/ticker, clock"
    );
    assert!(refused("shp").contains("did you mean shop?"), "{}", refused("shp"));
    assert!(
        refused("nobody").starts_with("there is no \"nobody\" here; there are shop, "),
        "{}",
        refused("nobody")
    );
    assert!(refused("prices-0").starts_with("there is no \"prices-0\""), "a group has no replicas");
}

#[test]
fn a_replica_that_is_not_there_is_answered_with_those_that_are() {
    let house = House::new(desired(SHOP));
    let refused = |name: &str| one(&house.state, name).unwrap_err().message().to_owned();
    assert_eq!(refused("pricer-7"), "default/prices/pricer has no replica 7: it has replicas 0 to 2");
    assert_eq!(refused("prices/ticker-1"), "default/prices/ticker has no replica 1: it has replica 0");
    assert_eq!(refused("clock-1"), "default/clock/clock has no replica 1: it has replica 0");
    assert!(matches!(one(&house.state, "pricer-2"), Ok(Named::Widget(_))));
}

#[test]
fn the_logs_of_a_replica_are_its_own_and_those_of_a_supervisor_are_of_all_below() {
    let house = House::new(desired(SHOP));
    let of = |name: &str| sources(&house.state, name).unwrap();
    assert_eq!(of("pricer-1"), ["prices/pricer-1", "prices/pricer-1 sidecar"]);
    assert_eq!(of("pricer").len(), 6);
    assert_eq!(of("shop").len(), 8);
    assert_eq!(of("").len(), 12);
    assert_eq!(of("hub"), ["hub"]);
    assert!(sources(&house.state, "tickr").unwrap_err().message().contains("did you mean prices/ticker?"));
}

#[test]
fn a_widget_outside_any_group_is_scaled_by_its_name() {
    let house = House::new(desired(SHOP));
    assert_eq!(scalable(&house.state, "clock", 2).unwrap().0.to_string(), "default/clock/clock");
    let refused = scalable(&house.state, "prices", 2).unwrap_err();
    assert!(
        refused.message().ends_with("scale one of its widgets: prices/pricer, prices/ticker"),
        "{refused}"
    );
}

#[test]
fn a_replica_is_not_scaled_in_place_of_its_widget() {
    let house = House::new(desired(SHOP));
    let refused = scalable(&house.state, "pricer-1", 0).unwrap_err();
    assert_eq!(refused.message(), "pricer-1 is replica 1 of default/prices/pricer; scale the widget");
}
