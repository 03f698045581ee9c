//! Sweeps over seeds, the proof that they can fail, and that a seed is a history.

use kontrol_sim::{Mutant, run, sweep};

const SEEDS: u64 = 10_000;

#[test]
fn ten_thousand_seeds_break_no_rule() {
    let summary = sweep(0..SEEDS, None, 10).unwrap();
    let told: Vec<_> =
        summary.violations.iter().map(|(seed, violation)| format!("seed {seed}: {violation}")).collect();
    assert!(
        told.is_empty(),
        "replay with: cargo run -p kontrol-sim --profile ci -- --seed N\n{}",
        told.join("\n")
    );
    assert_eq!(summary.seeds, SEEDS);
    let totals = summary.totals;
    assert!(totals.restarts > SEEDS && totals.replaced > SEEDS && totals.conflicts > 1_000, "{totals:?}");
}

#[test]
fn seeds_find_every_mistake_that_a_decider_is_given() {
    for mutant in Mutant::ALL {
        let summary = sweep(0..SEEDS, Some(mutant), 1).unwrap();
        assert!(!summary.violations.is_empty(), "{mutant:?} went unnoticed in {SEEDS} seeds");
    }
}

#[test]
fn a_seed_gives_the_same_bytes_twice() {
    for seed in 0..50 {
        let (first, second) = (run(seed, None, true).unwrap(), run(seed, None, true).unwrap());
        assert!(!first.trace.is_empty());
        assert!(first == second, "seed {seed}");
    }
}
