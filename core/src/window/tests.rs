use super::*;
use crate::spec::Intensity;

fn at(millis: u64) -> Timestamp {
    Timestamp::from_micros(millis * 1_000)
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_sum_forgets_what_is_older_than_its_span() {
    let mut sum = Sum::new(SECOND);
    sum.add(at(0), 3);
    sum.add(at(450), 2);
    assert_eq!(sum.total(at(999)), 5);
    assert_eq!(sum.total(at(1_000)), 2);
    assert_eq!(sum.total(at(1_500)), 0);
    sum.add(at(100_000), 1);
    assert_eq!(sum.total(at(100_050)), 1);
}

#[test]
fn a_clock_that_steps_back_loses_nothing() {
    let mut sum = Sum::new(SECOND);
    sum.add(at(5_000), 1);
    sum.add(at(1_000), 1);
    assert_eq!(sum.total(at(5_100)), 2);
}

#[test]
fn the_highest_value_holds_for_the_span_after_its_end() {
    let mut held = Held::default();
    assert_eq!(held.extreme(), None);
    held.set(Keep::Highest, 5, at(0));
    held.set(Keep::Highest, 2, at(10_000));
    held.forget(SECOND, at(10_500));
    assert_eq!((held.extreme(), held.holds_until(SECOND)), (Some(5), Some(at(11_000))));
    held.forget(SECOND, at(11_000));
    assert_eq!((held.extreme(), held.holds_until(SECOND)), (Some(2), None));
}

#[test]
fn the_lowest_value_holds_too_and_a_better_one_replaces_it_at_once() {
    let mut held = Held::default();
    for (value, millis) in [(3, 0), (8, 100), (5, 200), (9, 300)] {
        held.set(Keep::Lowest, value, at(millis));
    }
    held.forget(SECOND, at(1_000));
    assert_eq!(held.extreme(), Some(3));
    held.forget(SECOND, at(1_100));
    assert_eq!(held.extreme(), Some(5));
    held.set(Keep::Lowest, 1, at(1_150));
    assert_eq!((held.extreme(), held.holds_until(SECOND)), (Some(1), None));
}

#[test]
fn the_same_value_again_changes_nothing() {
    let mut held = Held::default();
    held.set(Keep::Highest, 5, at(0));
    let before = held.clone();
    held.set(Keep::Highest, 5, at(700));
    assert_eq!(held, before);
}

#[test]
fn a_history_is_bounded_and_errs_on_the_side_of_the_extreme() {
    let mut held = Held::default();
    for step in 0..1_000_u64 {
        held.set(Keep::Highest, 2_000 - step, at(step));
    }
    assert!(held.past.len() <= Held::LIMIT);
    assert_eq!(held.extreme(), Some(2_000));
}

#[test]
fn one_restart_more_than_the_intensity_allows_is_too_many() {
    let intensity = Intensity { max_restarts: 2, period: SECOND };
    let mut restarts = Restarts::default();
    assert!(restarts.count(intensity, at(0)));
    assert!(restarts.count(intensity, at(500)));
    assert!(!restarts.clone().count(intensity, at(1_000)), "exactly a period ago still counts");
    assert!(restarts.count(intensity, at(1_001)));
    assert_eq!(restarts.len(), 2);
    assert!(!Restarts::default().count(Intensity { max_restarts: 0, period: SECOND }, at(0)));
}

#[test]
fn a_restart_in_the_future_counts_as_now() {
    let intensity = Intensity { max_restarts: 1, period: SECOND };
    let mut restarts = Restarts::default();
    assert!(restarts.count(intensity, at(90_000)));
    restarts.forget(intensity, at(0));
    restarts.forget(intensity, at(1_000));
    assert_eq!(restarts.len(), 1);
    restarts.forget(intensity, at(1_001));
    assert!(restarts.is_empty());
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_sum_covers_nine_tenths_of_its_span_and_no_more_than_all_of_it(
        steps in proptest::collection::vec((0_u64..300, 0_u64..9), 1..100)
    ) {
        let mut sum = Sum::new(SECOND);
        let (mut now, mut added) = (0, Vec::new());
        for (step, amount) in steps {
            now += step;
            sum.add(at(now), amount);
            added.push((now, amount));
            let within = |span: u64| -> u64 {
                added.iter().filter(|(then, _)| now - then < span).map(|(_, amount)| amount).sum()
            };
            let total = sum.total(at(now));
            proptest::prop_assert!(within(900) <= total && total <= within(1_000), "{total} at {now}");
        }
    }
}
