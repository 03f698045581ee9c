//! What the generator gives: legal, deep and long enough, the same for ever, and nothing left out.

use kontrol_otp::{Combination, Coverage, Mix, generate, generate_with, play};

const SCHEDULES: u64 = 100_000;

#[test]
fn a_hundred_thousand_schedules_meet_each_combination_five_hundred_times() {
    let mut coverage = Coverage::default();
    for seed in 0..SCHEDULES {
        let case = generate(seed);
        assert_eq!(case.tree.check(), Ok(()), "seed {seed}");
        coverage.record(&case, &play(&case));
    }
    println!(
        "{} schedules: {} events in the median, depths {:?}, {} gave up, {} shut down, {} starts refused, {} roots ended",
        coverage.schedules,
        coverage.median_events(),
        coverage.depths,
        coverage.gave_up,
        coverage.shut_down,
        coverage.refused,
        coverage.roots_ended,
    );
    let rarest = coverage.combinations.values().min();
    println!("{} combinations, the rarest in {rarest:?} schedules", coverage.combinations.len());
    assert!(coverage.median_events() >= 10);
    assert!(coverage.depths.keys().all(|&depth| depth >= 2));
    assert_eq!(coverage.combinations.len(), Combination::COUNT);
    assert!(coverage.combinations.values().all(|&schedules| schedules >= 500));
}

#[test]
fn a_seed_gives_the_same_bytes_twice() {
    for seed in 0..100 {
        let bytes = || {
            let case = generate(seed);
            let trace = play(&case);
            serde_json::to_string(&(case, trace)).unwrap()
        };
        assert_eq!(bytes(), bytes());
    }
}

#[test]
fn cases_and_traces_survive_json() {
    for seed in 0..100 {
        let case = generate(seed);
        let trace = play(&case);
        let json = serde_json::to_string(&(&case, &trace)).unwrap();
        assert_eq!(
            serde_json::from_str::<(kontrol_otp::Case, kontrol_otp::Trace)>(&json).unwrap(),
            (case, trace)
        );
    }
}

#[test]
fn a_mix_holds_only_what_it_names() {
    let plain = Mix { bursts: false, requests: false, time: false };
    for seed in 0..1000 {
        let case = generate_with(seed, plain);
        for event in &case.schedule.events {
            match event {
                kontrol_otp::Event::Ends { ends, .. } => assert_eq!(ends.len(), 1),
                kontrol_otp::Event::Refuse(_) => {}
                other => panic!("seed {seed}: {other:?}"),
            }
        }
        assert!(case.tree.supervisors().iter().all(|supervisor| supervisor.period == 3600));
    }
}
