//! Random histories of publishing, consuming and crashing, on a disk that fails. Each seed is one history; the same seed is the same
//! history, byte for byte.
//!
//! `KONTROL_SEED=N cargo test -p kontrol-hub --test crash -- --nocapture` plays one seed and says what happens in it;
//! `KONTROL_SEEDS=N` plays so many.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test's helpers fail the test")]
#![allow(clippy::disallowed_methods, reason = "a test's own arguments come by the environment")]

#[path = "crash/history.rs"]
mod history;
#[path = "crash/model.rs"]
mod model;
#[path = "crash/report.rs"]
mod report;
#[path = "crash/topics.rs"]
mod topics;

use history::play;
use kontrol_hub::io::faulty::Omit;
use report::Report;

const NOTHING: Omit = Omit { sync: false, sync_dir: false };

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// A failure, with the command that plays its seed alone.
fn told(failure: &str) -> String {
    let seed = failure.strip_prefix("seed ").and_then(|rest| rest.split(':').next()).unwrap_or("?");
    format!(
        "{failure}\nplay it: KONTROL_SEED={seed} cargo test -p kontrol-hub --profile ci --test crash nothing -- --nocapture"
    )
}

/// The failures among so many seeds, on two threads.
fn failures(seeds: std::ops::Range<u64>, omit: Omit) -> Vec<String> {
    let half = seeds.start.midpoint(seeds.end);
    std::thread::scope(|scope| {
        let some = |range: std::ops::Range<u64>| {
            scope.spawn(move || range.filter_map(|seed| play(seed, omit, false).err()).collect::<Vec<_>>())
        };
        let both = [some(seeds.start..half), some(half..seeds.end)];
        both.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn nothing_acknowledged_is_lost_doubled_or_reordered_in_any_history() {
    if let Some(seed) = number("KONTROL_SEED") {
        let report = play(seed, NOTHING, true).unwrap();
        println!("{report:#?}");
        return;
    }
    let found = failures(0..number("KONTROL_SEEDS").unwrap_or(2_400), NOTHING);
    assert!(found.is_empty(), "{} seeds fail, first: {}", found.len(), told(&found[0]));
}

#[test]
fn the_histories_reach_what_they_are_meant_to_reach() {
    let mut sum = Report::default();
    for seed in 0..200 {
        sum.add(&play(seed, NOTHING, false).unwrap());
    }
    println!("{sum:#?}");
    let Report {
        published,
        delivered,
        acknowledged,
        power,
        process,
        broken,
        full,
        cuts,
        dead,
        dropped,
        duplicates,
        rolled,
    } = sum;
    for (what, count, least) in [
        ("published", published, 3_000),
        ("delivered", delivered, 3_000),
        ("acknowledged", acknowledged, 2_000),
        ("power failures", power, 100),
        ("killed processes", process, 100),
        ("I/O errors", broken, 20),
        ("full disks", full, 20),
        ("torn tails", cuts, 10),
        ("dead letters", dead, 100),
        ("dropped", dropped, 100),
        ("duplicates", duplicates, 100),
        ("segments", rolled, 200),
    ] {
        assert!(count >= least, "{what}: {count} of at least {least}");
    }
}

#[test]
fn a_seed_gives_the_same_history_twice() {
    for seed in [3, 77] {
        assert_eq!(play(seed, NOTHING, false), play(seed, NOTHING, false));
    }
}

#[test]
fn a_hub_that_does_not_sync_its_writes_is_found_out() {
    let found = failures(0..100, Omit { sync: true, sync_dir: false });
    assert!(found.iter().any(|failure| failure.contains("lost")), "{found:?}");
    println!("{} of 100 seeds fail, such as: {}", found.len(), found[0]);
}

#[test]
fn a_hub_that_does_not_sync_its_folder_is_found_out() {
    let found = failures(0..100, Omit { sync: false, sync_dir: true });
    assert!(!found.is_empty());
    println!("{} of 100 seeds fail, such as: {}", found.len(), found[0]);
}
