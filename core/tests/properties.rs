//! What holds of the rules whatever happens, and in whatever order.

use std::time::Duration;

use kontrol_core::{
    backoff,
    breaker::{Breaker, Class, State},
    budget::Budget,
    duration,
    grant::{Answer, Grant, Purse},
    health::{Fold, Verdict, Word},
    spec::{Backoff, BreakerPolicy, Intensity},
    time::Timestamp,
    window::{Held, Keep, Restarts},
};
use proptest::prelude::*;

fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

fn millis(millis: u64) -> Timestamp {
    Timestamp::from_micros(millis * 1_000)
}

/// Times that only grow, in milliseconds, each with a value.
fn history<T: std::fmt::Debug>(value: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<(u64, T)>> {
    prop::collection::vec((0_u64..400, value), 1..200).prop_map(|steps| {
        let mut now = 0;
        let at = |(step, value)| {
            now += step;
            (now, value)
        };
        steps.into_iter().map(at).collect()
    })
}

fn class() -> impl Strategy<Value = Class> {
    prop::sample::select(vec![Class::Success, Class::Failure, Class::Failure, Class::Neutral])
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_pause_stays_within_its_bounds_and_grows(
        initial in 0_u64..100_000, more in 0_u64..100_000, factor_percent in 100_u32..1_000,
        jitter_percent in 0_u32..=100, retry in 0_u32..64, jitter in 0.0_f64..=1.0
    ) {
        let (initial, max) = (Duration::from_millis(initial), Duration::from_millis(initial + more));
        let policy = Backoff { initial, max, factor_percent, jitter_percent };
        let (whole, drawn) = (backoff::pause(&policy, retry, 0.0), backoff::pause(&policy, retry, jitter));
        prop_assert!(initial <= whole && whole <= max);
        prop_assert!(backoff::pause(&policy, retry + 1, 0.0) >= whole);
        let least = whole.mul_f64(f64::from(100 - jitter_percent) / 100.0);
        prop_assert!(drawn <= whole && drawn + Duration::from_micros(1) >= least, "{drawn:?} of {whole:?}");
    }

    /// Without the rate, a breaker is a count of failures in a row, and one trial at a time.
    #[test]
    fn a_breaker_is_a_count_of_failures_in_a_row(calls in history(class()), failures in 1_u32..6) {
        let open_for = Duration::from_secs(1);
        let policy = BreakerPolicy { failures, failure_rate_percent: 0, open_for, ..BreakerPolicy::default() };
        let mut breaker = Breaker::new(policy);
        let (mut in_a_row, mut open_until) = (0, None);
        for (at, class) in calls {
            let now = millis(at);
            if let Some(until) = open_until.filter(|until| now < *until) {
                prop_assert_eq!(breaker.state(now), State::Open(until));
                let refused = breaker.admit(now).map_err(|refused| refused.retry_after);
                prop_assert_eq!(refused.err(), Some(until.since(now)));
                continue;
            }
            let on_trial = open_until.is_some();
            prop_assert!(breaker.would_admit(now));
            let (permit, _) = breaker.admit(now).unwrap();
            prop_assert_eq!(breaker.would_admit(now), !on_trial);
            let change = breaker.record(permit, class, now);
            match class {
                Class::Success => (in_a_row, open_until) = (0, None),
                Class::Neutral => {}
                Class::Failure => {
                    in_a_row += 1;
                    if on_trial || in_a_row >= failures {
                        let until = now.plus(open_for);
                        (in_a_row, open_until) = (0, Some(until));
                        prop_assert_eq!(change.map(|change| change.to), Some(State::Open(until)));
                    }
                }
            }
        }
    }

    /// Outcomes that come late, out of order or twice never admit a second trial.
    #[test]
    fn a_breaker_bears_outcomes_in_any_order(
        steps in history((any::<bool>(), class(), any::<prop::sample::Index>())),
        failures in 1_u32..5, failure_rate_percent in 0_u32..=100, min_calls in 1_u32..20
    ) {
        let open_for = Duration::from_millis(500);
        let policy =
            BreakerPolicy { failures, failure_rate_percent, min_calls, open_for, ..BreakerPolicy::default() };
        let mut breaker = Breaker::new(policy);
        let mut permits = Vec::new();
        for (at, (admit, class, which)) in steps {
            let now = millis(at);
            let before = breaker.state(now);
            if admit {
                match breaker.admit(now) {
                    Ok((permit, _)) => {
                        prop_assert!(!matches!(before, State::Open(_)));
                        prop_assert!(before != State::HalfOpen || !breaker.would_admit(now));
                        permits.push(permit);
                    }
                    Err(refused) => {
                        prop_assert!(refused.retry_after <= open_for && before != State::Closed);
                    }
                }
            } else if !permits.is_empty()
                && let Some(change) = breaker.record(*which.get(&permits), class, now)
            {
                prop_assert!(change.from != change.to);
                prop_assert!(change.to != State::Closed || class == Class::Success);
                prop_assert!(!matches!(change.to, State::Open(_)) || class == Class::Failure);
            }
            prop_assert_eq!(breaker.reason().is_some(), breaker.state(now) != State::Closed);
        }
    }

    #[test]
    fn retries_never_exceed_their_share_and_the_reserve(
        percent in 0_u32..=100, steps in history(any::<bool>())
    ) {
        let mut budget = Budget::new(percent, millis(0));
        let (mut calls, mut retries) = (0_u64, 0_u64);
        for (at, call) in steps {
            if call {
                budget.call();
                calls += 1;
            } else if budget.retry(millis(at)) {
                retries += 1;
            }
            let most = calls * u64::from(percent) + if percent == 0 { 0 } else { 100 + at / 10 };
            prop_assert!(retries * 100 <= most, "{retries} retries of {calls} calls at {at}");
        }
    }

    #[test]
    fn what_is_held_is_the_extreme_of_the_window(
        values in history(0_u64..50), span in 1_u64..2_000, highest in any::<bool>()
    ) {
        let values = &values[..values.len().min(Held::LIMIT)];
        let span = Duration::from_millis(span);
        let keep = if highest { Keep::Highest } else { Keep::Lowest };
        let mut held = Held::default();
        for (index, (at, value)) in values.iter().enumerate() {
            let now = millis(*at);
            held.set(keep, *value, now);
            held.forget(span, now);
            // A value is in force until the next one is set, and counts while that is less than the span ago.
            let lately = |place: usize| place == index || millis(values[place + 1].0).plus(span) > now;
            let counted = (0..=index).filter(|place| lately(*place)).map(|place| values[place].1);
            let expected = if highest { counted.max() } else { counted.min() };
            prop_assert_eq!(held.extreme(), expected);
        }
    }

    #[test]
    fn restarts_are_counted_as_a_list_of_them_would(
        times in history(Just(())), max_restarts in 0_u32..5, period in 1_u64..2_000
    ) {
        let intensity = Intensity { max_restarts, period: Duration::from_millis(period) };
        let mut restarts = Restarts::default();
        let mut counted: Vec<u64> = Vec::new();
        for (at, ()) in times {
            counted.push(at);
            let within = counted.iter().filter(|then| at - **then <= period).count();
            prop_assert_eq!(restarts.count(intensity, millis(at)), within <= max_restarts as usize);
        }
    }

    /// A step is an end of the child, or a grant (count, epoch) that is given or revoked.
    #[test]
    fn a_grant_is_never_overspent(
        steps in history(prop_oneof![
            3 => Just(None),
            1 => (0_u32..4, 0_u64..8, any::<bool>()).prop_map(Some)
        ])
    ) {
        let window = Duration::from_secs(1);
        let mut purse = Purse::default();
        let mut granted: Vec<(u64, u64)> = Vec::new();
        let (mut highest, mut most) = (None, 0);
        for (at, step) in steps {
            match step {
                Some((_, epoch, true)) => {
                    purse.revoke(epoch);
                    if highest.is_none_or(|held| held <= epoch) {
                        (highest, most) = (Some(epoch), 0);
                    }
                }
                Some((count, epoch, false)) => {
                    let taken = purse.give(Grant { count, window, epoch, normal: true });
                    prop_assert_eq!(taken, highest.is_none_or(|held| epoch > held));
                    if taken {
                        (highest, most) = (Some(epoch), count);
                    }
                }
                None => {
                    if let Answer::Restart { epoch, .. } = purse.ended(millis(at)) {
                        prop_assert_eq!(Some(epoch), highest);
                        granted.push((epoch, at));
                        let lately = granted.iter().filter(|(then, when)| *then == epoch && at - when <= 1_000);
                        prop_assert!(lately.count() <= most as usize);
                    }
                }
            }
            prop_assert_eq!(purse.epoch(), highest);
        }
    }

    #[test]
    fn health_is_hung_by_silence_alone_and_a_final_verdict_stays(
        words in history(prop::sample::select(vec![
            None, Some(Word::Ready), Some(Word::NotReady), Some(Word::Failed)
        ]))
    ) {
        let timeout = Duration::from_millis(300);
        let mut fold = Fold::started(Some(timeout), millis(0));
        let (mut heard, mut ready, mut ended) = (millis(0), false, None);
        for (at, word) in words {
            let now = millis(at);
            let silent = now.since(heard) >= timeout;
            let verdict = match word {
                Some(word) => fold.word(word, now),
                None => fold.at(now),
            };
            if silent && ready {
                ended = ended.or(Some(Verdict::Hung));
            } else if word == Some(Word::Failed) {
                ended = ended.or(Some(Verdict::Failed));
            }
            if let Some(ended) = ended {
                prop_assert_eq!(verdict, ended);
            } else {
                prop_assert_eq!(verdict == Verdict::Hung, silent && word.is_none());
            }
            prop_assert_eq!(fold.is_final(), ended.is_some());
            if word.is_some() {
                heard = now;
                ready |= word == Some(Word::Ready) && ended.is_none();
            }
            let hung = ended.is_none() && silent && word.is_none();
            prop_assert_eq!(fold.deadline().is_none(), ended.is_some() || hung);
        }
    }

    #[test]
    fn a_duration_reads_back_and_no_text_panics(micros in any::<u64>(), text in any::<String>()) {
        let length = Duration::from_micros(micros);
        prop_assert_eq!(duration::parse(&duration::format(length)), Ok(length));
        if let Ok(length) = duration::parse(&text) {
            prop_assert_eq!(duration::parse(&duration::format(length)), Ok(length));
        }
    }
}
