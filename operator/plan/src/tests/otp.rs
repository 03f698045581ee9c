//! The plan against an independent model of Erlang/OTP's `supervisor`, on random trees and schedules, and where it differs on purpose.

mod differences;
pub(super) mod layers;
pub(super) mod player;

use std::thread;

use kontrol_otp::{Combination, Coverage, Mix, generate_with};

use layers::layered;

const SCHEDULES: u64 = 100_000;
const MIX: Mix = Mix { bursts: true, requests: false, time: true };

/// The text of the first difference, if there is one.
fn difference(seed: u64, coverage: &mut Coverage) -> Option<String> {
    let case = layered(&generate_with(seed, MIX));
    case.tree.check().unwrap();
    let expected = kontrol_otp::play(&case);
    let actual = player::play(&case);
    coverage.record(&case, &expected);
    let steps = expected.steps.iter().zip(&actual.steps);
    let at = steps.clone().position(|(expected, actual)| expected != actual);
    let at = at.or((expected.steps.len() != actual.steps.len()).then_some(steps.len()))?;
    let event = at.checked_sub(1).and_then(|at| case.schedule.events.get(at));
    Some(format!(
        "seed {seed}, step {at}\n  event  {event:?}\n  OTP    {}\n  plan   {}\n  before {}\n  refusals {:?}\n  tree   {:#?}",
        expected.steps.get(at).map(ToString::to_string).unwrap_or_default(),
        actual.steps.get(at).map(ToString::to_string).unwrap_or_default(),
        at.checked_sub(1).and_then(|at| expected.steps.get(at)).map(ToString::to_string).unwrap_or_default(),
        case.schedule,
        case.tree,
    ))
}

/// What was met, and the first difference of these seeds.
fn compare(seeds: impl Iterator<Item = u64>) -> (Coverage, Option<String>) {
    let mut coverage = Coverage::default();
    for seed in seeds {
        if let Some(difference) = difference(seed, &mut coverage) {
            return (coverage, Some(difference));
        }
    }
    (coverage, None)
}

#[test]
fn the_plan_does_what_otp_does_on_a_hundred_thousand_random_schedules() {
    let threads = thread::available_parallelism().map_or(2, usize::from);
    let mut coverage = Coverage::default();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..SCHEDULES)
            .take(threads)
            .map(|first| scope.spawn(move || compare((first..SCHEDULES).step_by(threads))))
            .collect();
        for worker in workers {
            let (met, difference) = worker.join().unwrap();
            assert_eq!(difference, None, "{}", difference.as_deref().unwrap_or_default());
            coverage.merge(met);
        }
    });
    let rarest = coverage.combinations.values().min().copied().unwrap_or_default();
    println!(
        "{} schedules equal: {} events in the median, depths {:?}, {} of {} combinations, the rarest in {rarest} schedules, \
         {} gave up, {} shut down, {} starts refused, {} roots ended",
        coverage.schedules,
        coverage.median_events(),
        coverage.depths,
        coverage.combinations.len(),
        Combination::COUNT,
        coverage.gave_up,
        coverage.shut_down,
        coverage.refused,
        coverage.roots_ended,
    );
    assert_eq!(coverage.schedules as u64, SCHEDULES);
    assert!(coverage.median_events() >= 10);
    assert!(coverage.depths.keys().all(|&depth| depth >= 2));
    assert_eq!(coverage.combinations.len(), Combination::COUNT);
    assert!(rarest >= 500);
}
