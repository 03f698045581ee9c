//! The window of restarts. The real OTP is played with a period of an hour, so the model stands alone here.

use crate::facts::{Crash, Fact, OneForOne, Permanent, below, brute, ends, fact, pass, supervisor};

/// A supervisor that bears one restart within ten seconds.
fn ten_seconds<const N: usize>(events: [kontrol_otp::Event; N], trace: &'static str) -> Fact {
    let root = supervisor(0, OneForOne, 1, vec![brute(1)]);
    fact(kontrol_otp::Supervisor { period: 10, ..root }, events, trace)
}

#[test]
fn restart_as_old_as_the_period_still_counts() {
    ten_seconds(
        [ends(0, [(1, Crash)]), pass(10), ends(0, [(1, Crash)])],
        "start 1, start 0 | 0 1
         start 1 | 0 1
         | 0 1
         give_up 0, end 0 |",
    )
    .check();
}

#[test]
fn restart_older_than_the_period_is_forgotten() {
    ten_seconds(
        [ends(0, [(1, Crash)]), pass(11), ends(0, [(1, Crash)]), pass(11), ends(0, [(1, Crash)])],
        "start 1, start 0 | 0 1
         start 1 | 0 1
         | 0 1
         start 1 | 0 1
         | 0 1
         start 1 | 0 1",
    )
    .check();
}

#[test]
fn window_slides_with_each_restart() {
    ten_seconds(
        [ends(0, [(1, Crash)]), pass(11), ends(0, [(1, Crash)]), pass(5), ends(0, [(1, Crash)])],
        "start 1, start 0 | 0 1
         start 1 | 0 1
         | 0 1
         start 1 | 0 1
         | 0 1
         give_up 0, end 0 |",
    )
    .check();
}

#[test]
fn each_supervisor_has_its_own_period() {
    let short = kontrol_otp::Supervisor { period: 1, ..supervisor(1, OneForOne, 0, vec![brute(2)]) };
    let long =
        kontrol_otp::Supervisor { period: 100, ..supervisor(0, OneForOne, 1, vec![below(Permanent, short)]) };
    fact(
        long,
        [ends(1, [(2, Crash)]), pass(50), ends(1, [(2, Crash)])],
        "start 2, start 1, start 0 | 0 1 2
         give_up 1, end 1, start 2, start 1 | 0 1 2
         | 0 1 2
         give_up 1, end 1, give_up 0, end 0 |",
    )
    .check();
}
