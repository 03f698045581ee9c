//! What people ask, and what they are told.

use super::house::{House, Odd, group, instance};
use crate::local::{folder::Written, state::Input};

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
