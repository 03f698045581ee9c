//! The plan against an independent model of Erlang/OTP's `supervisor`, on random trees and schedules.

pub(super) mod layers;
pub(super) mod player;

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

#[test]
fn the_plan_does_what_otp_does() {
    let threads = std::thread::available_parallelism().map_or(2, usize::from) as u64;
    let parts: Vec<(Coverage, Vec<String>)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|first| {
                scope.spawn(move || {
                    let mut coverage = Coverage::default();
                    let mut differences = Vec::new();
                    for seed in (first..SCHEDULES).step_by(threads as usize) {
                        differences.extend(difference(seed, &mut coverage));
                        if differences.len() > 2 {
                            break;
                        }
                    }
                    (coverage, differences)
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let differences: Vec<_> = parts.iter().flat_map(|(_, differences)| differences).collect();
    assert!(differences.is_empty(), "{}", differences[0]);
    let _ = Combination::COUNT;
    for (coverage, _) in parts {
        println!("{coverage:?}");
    }
}
