//! What `why` says of what happened: to a widget itself, with others, or above it.

use std::time::Duration;

use super::house::{House, Odd, desired, group, instance};
use crate::local::{folder::Written, state::Input};

const BOTH: [(&str, &str); 2] = [("a", ""), ("b", "")];
const THREE: [(&str, &str); 3] = [("a", ""), ("b", ""), ("c", "")];

fn chain(house: &House, name: &str) -> Vec<String> {
    house.why(name).chain.into_iter().map(|cause| cause.text).collect()
}

/// A supervisor `top` of the groups `g` (a, b) and `h` (c), with rules for all three.
fn tree(rules: &str, of_g: &str, of_b: &str) -> crate::local::desired::Desired {
    let head = |kind: &str, name: &str| {
        format!("apiVersion: kontrol.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec:\n")
    };
    let widget = |name: &str, lines: &str| {
        format!("  - name: {name}\n    process: {{command: [run-{name}]}}\n{lines}")
    };
    desired(&format!(
        "{}{rules}---\n{}{of_g}  widgets:\n{}{}---\n{}  widgets:\n{}",
        head("Supervisor", "top"),
        head("WidgetGroup", "g"),
        widget("a", ""),
        widget("b", of_b),
        head("WidgetGroup", "h"),
        widget("c", ""),
    ))
}

const CHILDREN: &str = "  strategy: OneForAll\n  children: [{group: g}, {group: h}]\n";

#[test]
fn a_widget_that_was_restarted_along_says_with_whom_and_why() {
    let mut house = House::new(group("  strategy: OneForAll\n", &THREE));
    house.ends("b", 1, 3);
    let because = chain(&house, "g/b");
    assert!(because[0].starts_with("g restarts a, b, c (OneForAll), epoch 1"), "{because:?}");
    assert!(because[1].contains("g/b-0 ended: exit code 3"), "{because:?}");
    assert_eq!(chain(&house, "g/a"), because);
    assert_eq!(chain(&house, "g/c"), because);
    assert_eq!(chain(&house, "g"), because);
}

#[test]
fn a_later_end_of_another_widget_does_not_replace_what_is_said_of_this_one() {
    let mut house = House::new(group("", &THREE));
    house.ends("b", 1, 3);
    let because = chain(&house, "g/b");
    house.wait(Duration::from_secs(1));
    house.ends("c", 1, 4);
    assert_eq!(because.len(), 2);
    assert_eq!(chain(&house, "g/b"), because);
    assert!(chain(&house, "g")[0].starts_with("g restarts c"));
    let lines = house.why("g").lines;
    let earlier = lines.last().unwrap();
    assert!(earlier.starts_with("1s ago: g restarts b (OneForOne), epoch 1"), "{lines:?}");
    assert!(earlier.contains(", because g/b-0 ended: exit code 3"), "{lines:?}");
}

#[test]
fn a_restart_that_was_asked_for_is_said() {
    let mut house = House::new(group("", &BOTH));
    house.ends("a", 1, 3);
    house.wait(Duration::from_secs(1));
    let named = house.state.named("g/a").remove(0);
    house.take(Input::Restart(named.restart()));
    assert_eq!(chain(&house, "g/a"), ["g restarts a, as asked"]);
    assert_eq!(chain(&house, "g/b"), [] as [&str; 0]);
}

#[test]
fn a_restart_by_a_supervisor_is_said_of_everything_below_it() {
    let mut house = House::new(tree(CHILDREN, "  intensity: {maxRestarts: 0, period: 30s}\n", ""));
    house.ends("a", 1, 3);
    let because = chain(&house, "g/a");
    assert!(because[0].starts_with("top restarts g, h (OneForAll)"), "{because:?}");
    assert!(because[1].contains("g gives up"), "{because:?}");
    assert!(because[2].contains("g/a-0 ended: exit code 3"), "{because:?}");
    for name in ["b", "c", "g", "h", "top"] {
        assert_eq!(chain(&house, name), because, "{name}");
    }
}

#[test]
fn a_supervisor_and_a_group_name_the_widget_that_they_wait_for() {
    let manifest = tree(CHILDREN, "", "    health: {report: {}}\n");
    let house = House::with(manifest, Written::default(), Odd::Silent);
    for name in ["g", "top"] {
        let lines = house.why(name).lines;
        assert_eq!(lines[0], format!("{name} is not Ready: it is being started"));
        assert!(lines[1].starts_with("it waits for g/a"), "{lines:?}");
    }
    assert_eq!(house.why("top").lines[2..4], ["g: it is being started", "h: it waits to be started"]);
}

#[test]
fn a_group_that_has_given_up_names_what_it_began_with() {
    let house = House::with(group("", &BOTH), Written::default(), Odd::NoCommands);
    let lines = house.why("g").lines;
    assert_eq!(lines[0], "g is not Ready: it is started again in 10s");
    assert!(lines[1].starts_with("it began with: KTL2001: g/a-0 failed to start"), "{lines:?}");
}

#[test]
fn a_job_that_failed_is_not_ready_and_one_that_completed_is_said_to_have() {
    let once = "    restart: Never\n";
    let mut house = House::new(group("", &[("a", ""), ("good", once), ("bad", once)]));
    house.ends("good", 1, 0);
    let row = |house: &House, at: usize| house.state.tree(house.now).roots[0].widgets[at].phase.clone();
    assert_eq!(row(&house, 1), "Completed");
    assert!(house.state.ready());
    assert_eq!(house.why("good").lines[1], "it does not run: it has completed");
    house.ends("bad", 1, 1);
    assert_eq!(row(&house, 2), "Failed");
    assert!(!house.state.ready());
    assert_eq!(house.state.tree(house.now).roots[0].reason, "Failed");
    assert_eq!(
        house.why("bad").lines[1],
        "it does not run: it has failed, and its restart type leaves it so"
    );
    let lines = house.why("g").lines;
    assert_eq!(
        lines[..5],
        [
            "g is not Ready: what was to run once has failed",
            "g/bad has failed, and its restart type leaves it so",
            "a: 1 of 1 ready",
            "good: has completed",
            "bad: has failed"
        ]
    );
    let because = chain(&house, "bad");
    assert_eq!(because[0], "g/bad stays ended (restart Never)");
    assert!(because[1].contains("exit code 1"), "{because:?}");
    assert_eq!(house.state.instances(&instance("bad/0").widget).len(), 1);
}
