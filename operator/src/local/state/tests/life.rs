//! From start to end.

use std::time::Duration;

use kontrol_core::spec::Shutdown;
use kontrol_plan::{Action, StartError};
use kontrol_proto::{session::Configuration, v1::Health};

use super::house::{House, Odd, desired, group, group_with_topic, instance};
use crate::local::{
    Desired,
    folder::Written,
    state::{APPLY_WITHIN, Input, Key, Report},
};

const BOTH: [(&str, &str); 2] = [("a", ""), ("b", "")];

#[test]
fn a_group_starts_in_order_and_stops_in_reverse() {
    let mut house = House::new(group("", &[("a", ""), ("b", ""), ("c", "")]));
    assert_eq!(house.done, ["start a", "start b", "start c"]);
    assert!(house.state.ready());
    house.take(Input::Drain { force: false });
    assert_eq!(house.done[3..], ["stop c", "stop b", "stop a"]);
    assert!(house.state.gone());
}

#[test]
fn a_forced_drain_kills_everything() {
    let mut house = House::new(group("", &BOTH));
    house.take(Input::Drain { force: true });
    assert!(house.done[2..].iter().all(|done| done.starts_with("kill")), "{:?}", house.done);
    assert!(house.state.gone());
}

#[test]
fn a_process_waits_for_its_sidecar_and_no_longer_than_a_moment() {
    let mut house = House::with(group("", &BOTH), Written::default(), Odd::Silent);
    assert!(house.done.is_empty());
    house.wait(APPLY_WITHIN);
    assert_eq!(house.done, ["start a"]);
}

#[test]
fn what_a_sidecar_is_told_of_incarnations_never_goes_down() {
    let mut house = House::with(group("", &BOTH[..1]), Written::default(), Odd::Silent);
    let shutdown = Shutdown::Brutal;
    let stop = Action::Stop { instance: instance("a/0"), incarnation: 1, shutdown };
    let remove = Action::Remove { instance: instance("a/0"), incarnation: 1 };
    house.state.act(vec![stop, remove], house.now);
    let slot = &house.state.slots[&instance("a/0")];
    assert!(slot.process.is_none());
    assert_eq!(slot.fence, 1);
}

#[test]
fn a_replacement_has_a_higher_incarnation_and_the_fence_rises_with_it() {
    let mut house = House::new(group("  strategy: OneForAll\n", &BOTH));
    house.ends("a", 1, 1);
    assert_eq!(house.done[2..], ["stop b", "start a", "start b"]);
    let incarnation =
        &house.launched[&instance("a/0")].environment[std::ffi::OsStr::new("KONTROL_INCARNATION")];
    assert_eq!(incarnation, "2");
    assert_eq!(house.state.slots[&instance("a/0")].fence, 2);
}

#[test]
fn silence_before_a_good_word_is_a_start_that_is_not_over() {
    let mut house = House::new(group("", &[("a", "    health: {report: {}}\n")]));
    house.hears("a", Health::NotReady, true);
    assert_eq!(house.done, ["start a"]);
    house.hears("a", Health::Ready, false);
    assert!(house.state.ready());
    house.hears("a", Health::NotReady, true);
    assert_eq!(house.done[1..], ["stop a", "start a"]);
}

#[test]
fn silence_counts_from_the_start_where_running_is_all_that_is_waited_for() {
    let lines = "    health: {report: {}}\n    start: {when: Running}\n";
    let mut house = House::new(group("", &[("a", lines)]));
    house.hears("a", Health::NotReady, true);
    assert_eq!(house.done, ["start a", "stop a", "start a"]);
}

#[test]
fn a_port_that_is_taken_is_given_up_unless_the_manifest_says_it() {
    let lines = |port: &str| format!("    endpoint: {{{port}}}\n");
    let taken = |port: &str| {
        let mut house = House::new(group("", &[("a", &lines(port))]));
        let report = Report::Failed { error: StartError::PortTaken, reason: String::new() };
        house.state.take(Input::Process(Key::Widget(instance("a/0"), 1), report), house.now);
        house.state.slots[&instance("a/0")].port
    };
    assert_eq!(taken(""), None);
    assert_eq!(taken("port: 8080"), Some(8080));
}

#[test]
fn an_end_that_is_told_twice_is_one_end() {
    let mut house = House::new(group("", &BOTH));
    house.ends("a", 1, 1);
    house.ends("a", 1, 1);
    assert_eq!(house.done[2..], ["start a"]);
}

#[test]
fn a_sidecar_that_ends_is_started_again_and_its_widget_stays() {
    let mut house = House::new(group("", &BOTH));
    let before = house.sidecars.len();
    let ended = Report::Ended { code: None, signal: Some(9), left: 0 };
    house.take(Input::Process(Key::Sidecar(instance("a/0"), 1), ended));
    assert_eq!(house.sidecars[before..], [Key::Sidecar(instance("a/0"), 2)]);
    assert_eq!(house.done, ["start a", "start b"]);
    assert!(house.said.iter().any(|(_, text)| text.contains("KTL2012")));
}

#[test]
fn a_sidecar_that_comes_up_each_time_is_soon_started_again_however_often_it_ends() {
    let mut house = House::new(group("", &BOTH[..1]));
    for generation in 1..20 {
        let ended = Report::Ended { code: None, signal: Some(9), left: 0 };
        house.take(Input::Process(Key::Sidecar(instance("a/0"), generation), ended));
        house.wait(Duration::from_millis(100));
        assert_eq!(house.sidecars.last(), Some(&Key::Sidecar(instance("a/0"), generation + 1)));
    }
}

#[test]
fn a_session_that_is_given_up_before_it_was_used_takes_the_one_before_along() {
    let mut house = House::new(group("", &BOTH));
    house.opens_another("a");
    house.closes("a");
    assert_eq!(house.ended, 1, "or its sidecar is never told anything again");
}

#[test]
fn a_widget_without_health_is_taken_at_its_word_all_the_same() {
    let mut house = House::new(group("", &[("a", "")]));
    house.hears("a", Health::NotReady, false);
    assert!(!house.state.ready());
    house.hears("a", Health::Ready, false);
    assert!(house.state.ready());
    house.hears("a", Health::Failed, false);
    house.wait(Duration::ZERO);
    assert!(house.said.iter().any(|(_, text)| text.starts_with("KTL2010: g/a-0 ")), "{:?}", house.said);
}

#[test]
fn a_widget_that_reports_that_it_failed_is_replaced_and_why_is_told() {
    let mut house = House::new(group("", &[("a", "    health: {report: {}}\n")]));
    house.hears("a", Health::Failed, false);
    house.wait(Duration::ZERO);
    let told = house
        .said
        .iter()
        .any(|(_, text)| text.starts_with("KTL2010: g/a-0 ") && text.contains("it reported that it failed"));
    assert!(told, "{:?}", house.said);
}

#[test]
fn an_action_that_comes_twice_does_nothing_more() {
    let mut house = House::new(group("", &BOTH));
    let stop = || Action::Stop {
        instance: instance("b/0"),
        incarnation: 1,
        shutdown: Shutdown::Graceful(Duration::from_secs(1)),
    };
    assert_eq!(house.state.act(vec![stop(), stop()], house.now).len(), 1);
}

#[test]
fn the_next_world_goes_on_above_the_incarnations_of_the_last() {
    let mut house = House::new(group("", &BOTH));
    house.ends("a", 1, 1);
    let next = House::with(group("", &BOTH), house.state.written().clone(), Odd::Nothing);
    let number = |name: &str| next.state.slots[&instance(name)].fence;
    assert_eq!((number("a/0"), number("b/0")), (3, 2));
}

#[test]
fn a_widget_that_goes_and_comes_back_starts_above_its_old_incarnations() {
    let mut house = House::new(group("", &BOTH));
    house.ends("b", 1, 1);
    house.take(Input::Manifest(group("", &BOTH[..1])));
    assert_eq!(house.done.last().unwrap(), "stop b");
    house.take(Input::Manifest(group("", &BOTH)));
    assert!(house.state.slots[&instance("b/0")].fence > 2);
    assert_eq!(house.done.iter().filter(|done| *done == "start a").count(), 1);
}

#[test]
fn a_drain_tells_the_hub_nothing_more() {
    let lines = ("a", "    consumes: [{topic: t}]\n");
    let mut house = House::new(group_with_topic(&[lines, ("b", "    produces: [{topic: t}]\n")]));
    let hub =
        |told: &[Configuration]| told.iter().filter(|told| matches!(told, Configuration::Hub(_))).count();
    assert!(hub(&house.told) > 0);
    let before = house.told.len();
    house.take(Input::Drain { force: false });
    assert!(house.state.gone());
    assert_eq!(hub(&house.told[before..]), 0, "{:?}", &house.told[before..]);
}

#[test]
fn a_sidecar_is_told_nothing_before_it_speaks_for_a_process() {
    let lines = "    consumes: [{topic: t}]\n    health: {report: {}}\n";
    let mut house = House::new(group_with_topic(&[("a", lines), ("b", lines)]));
    house.hears("a", Health::Ready, false);
    house.take(Input::Scale(instance("a/0").widget, 0));
    house.take(Input::Scale(instance("a/0").widget, 1));
    let told = house.told.iter().filter_map(|told| match told {
        Configuration::Sidecar(config) => Some(config.incarnation),
        Configuration::Hub(_) => None,
    });
    let told: Vec<u64> = told.collect();
    assert!(told.len() >= 3 && told.iter().all(|incarnation| *incarnation > 0), "{told:?}");
}

/// The same widget with another command.
fn version(command: &str) -> Desired {
    let head = "apiVersion: kontrol.dev/v1alpha1\nkind: WidgetGroup\nmetadata: {name: g}\nspec:\n";
    desired(&format!("{head}  widgets:\n  - name: a\n    process: {{command: [{command}]}}\n"))
}

#[test]
fn a_command_that_keeps_ending_is_returned_from_and_a_new_one_is_tried() {
    let mut house = House::new(version("good"));
    let command = |house: &House| house.launched[&instance("a/0")].command[0].clone();
    house.wait(Duration::from_mins(1));
    house.take(Input::Manifest(version("worse")));
    assert_eq!(command(&house), "worse");
    for incarnation in 2..6 {
        house.ends("a", incarnation, 1);
    }
    assert_eq!(command(&house), "good");
    assert!(house.said.iter().any(|(_, text)| text.contains("the last good one")), "{:?}", house.said);
    house.take(Input::Manifest(version("better")));
    assert_eq!(command(&house), "better");
}
