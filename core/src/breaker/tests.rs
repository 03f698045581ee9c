use super::*;

const OPEN_FOR: Duration = Duration::from_mins(1);

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

fn breaker() -> Breaker {
    Breaker::new(BreakerPolicy::default())
}

fn call(breaker: &mut Breaker, class: Class, now: Timestamp) -> Option<Change> {
    let (permit, _) = breaker.admit(now).unwrap();
    breaker.record(permit, class, now)
}

fn opened(now: Timestamp) -> Breaker {
    let mut breaker = breaker();
    for _ in 0..5 {
        call(&mut breaker, Class::Failure, now);
    }
    assert_eq!(breaker.state(now), State::Open(now.plus(OPEN_FOR)));
    breaker
}

/// A breaker with a trial under way since second 60.
fn on_trial() -> (Breaker, Permit) {
    let mut breaker = opened(at(0));
    let (permit, change) = breaker.admit(at(60)).unwrap();
    assert_eq!(change.map(|change| (change.from, change.to)), Some((State::Open(at(60)), State::HalfOpen)));
    (breaker, permit)
}

/// State × event → state, every one of them.
#[test]
fn the_transition_table_is_complete() {
    let one_before = || {
        let mut breaker = breaker();
        for _ in 0..4 {
            call(&mut breaker, Class::Failure, at(0));
        }
        breaker
    };
    for (class, after) in [
        (Class::Success, State::Closed),
        (Class::Neutral, State::Closed),
        (Class::Failure, State::Open(at(0).plus(OPEN_FOR))),
    ] {
        let mut breaker = one_before();
        let change = call(&mut breaker, class, at(0));
        assert_eq!(breaker.state(at(0)), after, "closed, one before its bound, {class:?}");
        assert_eq!(change.is_some(), after != State::Closed);
    }

    let mut open = opened(at(0));
    assert_eq!(
        open.admit(at(59)),
        Err(Refused {
            state: State::Open(at(60)),
            reason: Reason::Consecutive(5),
            retry_after: Duration::from_secs(1)
        })
    );
    assert_eq!(open.state(at(60)), State::HalfOpen);

    for (class, after) in [
        (Class::Success, State::Closed),
        (Class::Failure, State::Open(at(121))),
        (Class::Neutral, State::HalfOpen),
    ] {
        let (mut breaker, permit) = on_trial();
        assert!(breaker.admit(at(61)).is_err(), "one trial at a time");
        let change = breaker.record(permit, class, at(61));
        assert_eq!(breaker.state(at(61)), after, "half-open, {class:?}");
        assert_eq!(change.map(|change| change.to), (after != State::HalfOpen).then_some(after));
        assert_eq!(breaker.would_admit(at(61)), class != Class::Failure);
    }
}

#[test]
fn a_success_in_between_starts_the_count_over() {
    let mut breaker = breaker();
    for _ in 0..4 {
        for _ in 0..4 {
            call(&mut breaker, Class::Failure, at(0));
        }
        // Enough successes to stay below the rate.
        for _ in 0..12 {
            call(&mut breaker, Class::Success, at(0));
        }
    }
    assert_eq!(breaker.state(at(0)), State::Closed);
}

#[test]
fn half_of_the_calls_failing_opens_it_once_there_are_enough() {
    let mut breaker = breaker();
    for _ in 0..9 {
        assert_eq!(call(&mut breaker, Class::Success, at(1)), None);
        assert_eq!(call(&mut breaker, Class::Failure, at(1)), None);
    }
    assert_eq!(call(&mut breaker, Class::Success, at(1)), None);
    let change = call(&mut breaker, Class::Failure, at(1)).unwrap();
    assert_eq!(
        change.reason.unwrap().to_string(),
        "10 of 20 calls failed within 10s",
        "the twentieth call is the first that the rate may judge by"
    );
}

#[test]
fn the_rate_forgets_what_left_its_window() {
    let mut breaker = breaker();
    for second in 0..40 {
        let class = if second % 2 == 0 { Class::Success } else { Class::Failure };
        assert_eq!(call(&mut breaker, class, at(second)), None, "ten calls in ten seconds are too few");
    }
}

#[test]
fn overload_and_cancellation_count_neither_way() {
    let mut breaker = breaker();
    for _ in 0..4 {
        call(&mut breaker, Class::Failure, at(0));
        call(&mut breaker, Class::of(Status::ResourceExhausted), at(0));
        call(&mut breaker, Class::of(Status::Cancelled), at(0));
    }
    assert_eq!(breaker.state(at(0)), State::Closed);
    let change = call(&mut breaker, Class::Failure, at(0)).unwrap();
    assert_eq!(change.reason, Some(Reason::Consecutive(5)));
}

#[test]
fn answers_are_successes_and_silence_is_a_failure() {
    for status in [Status::Ok, Status::InvalidArgument, Status::NotFound, Status::PermissionDenied] {
        assert_eq!(Class::of(status), Class::Success);
    }
    for status in [Status::Unavailable, Status::DeadlineExceeded, Status::Internal, Status::Unknown] {
        assert_eq!(Class::of(status), Class::Failure);
    }
}

#[test]
fn an_outcome_of_an_earlier_state_is_without_effect() {
    let mut breaker = breaker();
    let (late, _) = breaker.admit(at(0)).unwrap();
    for _ in 0..5 {
        call(&mut breaker, Class::Failure, at(0));
    }
    let (trial, _) = breaker.admit(at(60)).unwrap();
    assert_eq!(breaker.record(late, Class::Success, at(61)), None);
    assert_eq!(breaker.state(at(61)), State::HalfOpen);
    assert_eq!(breaker.record(trial, Class::Success, at(62)).map(|change| change.to), Some(State::Closed));
    assert_eq!(breaker.record(trial, Class::Failure, at(62)), None, "an outcome counts once");
    assert_eq!(breaker.reason(), None);
}

#[test]
fn a_trial_that_is_never_recorded_is_given_up() {
    let (mut breaker, forgotten) = on_trial();
    assert_eq!(breaker.admit(at(119)).unwrap_err().retry_after, Duration::from_secs(1));
    let (second, _) = breaker.admit(at(120)).unwrap();
    assert_eq!(breaker.record(forgotten, Class::Failure, at(121)), None);
    assert!(breaker.record(second, Class::Success, at(121)).is_some());
}

#[test]
fn a_refusal_says_why_and_until_when() {
    let mut breaker = opened(at(0));
    let refused = breaker.admit(at(20)).unwrap_err();
    assert_eq!(refused.to_string(), "the circuit breaker is open: 5 failures in a row; try again in 40s");
}
