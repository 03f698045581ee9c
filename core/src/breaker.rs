//! A circuit breaker: stops calls to an endpoint that keeps failing, and finds out when it works again.
//!
//! ```text
//!            failures in a row, or failure rate
//!   Closed ───────────────────────────────────────► Open ◄──────────┐
//!     ▲                                              │ open_for      │ the trial failed
//!     │            the trial succeeded               ▼               │
//!     └───────────────────────────────────────── HalfOpen ──────────┘
//! ```
//!
//! Three things are kept apart. *Classification* ([`Class::of`]) says what an outcome means; it knows statuses and nothing else.
//! *Policy* ([`BreakerPolicy`]) says how much failure is too much. *Admission* ([`Breaker::admit`]) lets a call through or refuses
//! it, with a reason. The breaker owns no clock and no lock: time is an argument, and its owner keeps it where the calls are made.
//!
//! # Why two signals
//!
//! Failures in a row (5 by default) find an endpoint that is gone within five calls, at any rate of calls. They are blind to one
//! that fails half of the time: a success in between starts the count over. The failure rate within a window (50 % of the last 10 s
//! by default) finds that one, but says nothing from few calls, hence `min_calls` (20): with fewer, a single failure would be
//! a large share. Neither signal alone does both; the first to speak opens the breaker, and its name is the reason that is shown.
//! A rate that is *equal* to the bound opens it: "50 %" reads as "half is too much". The window is kept in ten buckets, so its edge is
//! exact to a tenth.
//!
//! # What is not a failure
//!
//! *Overload* (`RESOURCE_EXHAUSTED`): the endpoint works and says that it is busy. Opening on it would send its share to the others,
//! which are as busy, and take the capacity of one replica after the other out of service. It does not count as a success either:
//! an endpoint that fails and sheds in turns is still failing. *Cancellation*: the caller has changed its mind, which says nothing
//! about the endpoint. *The caller's own mistakes* (`INVALID_ARGUMENT`, `NOT_FOUND`, `PERMISSION_DENIED` and so on) are answers: an
//! endpoint that gives them is well, so they count as successes. A *deadline* that passed counts as a failure although the
//! caller chose it: an endpoint that hangs shows itself in no other way.
//!
//! # Probation
//!
//! After `open_for` the next call becomes the trial; all others are refused until it ends, so that an endpoint that is
//! just coming back is met by one call and not by all that waited. Its success closes the breaker with empty counts, its failure opens it
//! for another `open_for`. A trial that ends without a verdict (cancelled, overloaded) leaves the place to the next call. One that
//! has given no outcome for `open_for` is given up, so that a caller that forgot to record cannot keep the breaker half-open for ever.
//!
//! A call that was admitted before the state changed is recorded without effect: its outcome tells of an earlier time. This is what
//! the generation in [`Permit`] is for.
//!
//! At first start everything is closed and empty: nothing is known, and the first calls are the measurement.

use std::{fmt, time::Duration};

use crate::{code::Status, spec::BreakerPolicy, time::Timestamp, window::Sum};

#[cfg(test)]
mod tests;

/// What the outcome of a call says about the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// It answered.
    Success,
    /// It did not, or could not.
    Failure,
    /// Nothing: overload and cancellation.
    Neutral,
}

impl Class {
    /// Classifies a status.
    pub const fn of(status: Status) -> Self {
        match status {
            Status::Cancelled | Status::ResourceExhausted => Self::Neutral,
            Status::Unknown
            | Status::DeadlineExceeded
            | Status::Internal
            | Status::Unavailable
            | Status::DataLoss => Self::Failure,
            _ => Self::Success,
        }
    }
}

/// Where a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Calls pass.
    Closed,
    /// Calls are refused until this time.
    Open(Timestamp),
    /// The next call, or the one that is under way, decides.
    HalfOpen,
}

impl State {
    /// `closed`, `open` or `half-open`, as metrics and the control API write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open(_) => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

/// Why a breaker opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// So many failures in a row.
    Consecutive(u32),
    /// So many failures of so many calls within the window.
    Rate {
        /// Calls that failed.
        failures: u64,
        /// Calls that had a verdict.
        calls: u64,
        /// The window.
        window: Duration,
    },
    /// The trial call failed.
    Trial,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Consecutive(failures) => write!(f, "{failures} failures in a row"),
            Self::Rate { failures, calls, window } => {
                write!(f, "{failures} of {calls} calls failed within {}", crate::duration::format(*window))
            }
            Self::Trial => f.write_str("the trial call failed"),
        }
    }
}

/// The right to make one call. Its outcome is to be recorded, whatever it is; a caller that is dropped records [`Class::Neutral`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a permit's outcome has to be recorded"]
pub struct Permit {
    generation: u64,
}

/// A call was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the circuit breaker is {}: {reason}; try again in {}", state.as_str(), crate::duration::format(*retry_after))]
pub struct Refused {
    /// The breaker's state.
    pub state: State,
    /// Why it opened.
    pub reason: Reason,
    /// When a call may pass; for a half-open breaker when its trial is given up at the latest.
    pub retry_after: Duration,
}

/// A change of state, for metrics and events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The state before.
    pub from: State,
    /// The state after.
    pub to: State,
    /// Why it last opened.
    pub reason: Option<Reason>,
}

/// The breaker of one endpoint.
#[derive(Clone, Debug)]
pub struct Breaker {
    policy: BreakerPolicy,
    state: State,
    reason: Option<Reason>,
    /// Grows with each change of state and each trial; outcomes of an earlier one are without effect.
    generation: u64,
    /// When the trial under way began.
    trial: Option<Timestamp>,
    consecutive: u32,
    failures: Sum,
    verdicts: Sum,
}

impl Breaker {
    /// A closed breaker. A policy of 0 failures in a row counts as 1; a rate of 0 percent is switched off.
    pub fn new(policy: BreakerPolicy) -> Self {
        Self {
            policy,
            state: State::Closed,
            reason: None,
            generation: 0,
            trial: None,
            consecutive: 0,
            failures: Sum::new(policy.window),
            verdicts: Sum::new(policy.window),
        }
    }

    /// The state at `now`: an open breaker whose time is over shows as half-open.
    pub fn state(&self, now: Timestamp) -> State {
        match self.state {
            State::Open(until) if now >= until => State::HalfOpen,
            state => state,
        }
    }

    /// Why it is not closed.
    pub fn reason(&self) -> Option<Reason> {
        self.reason
    }

    /// Whether a call would be admitted, without taking the trial's place. For choosing among endpoints.
    pub fn would_admit(&self, now: Timestamp) -> bool {
        match self.state(now) {
            State::Closed => true,
            State::Open(_) => false,
            State::HalfOpen => self.trial_is_free(now),
        }
    }

    /// Admits a call or refuses it. The change is there when this call ends an open time.
    pub fn admit(&mut self, now: Timestamp) -> Result<(Permit, Option<Change>), Refused> {
        let state = self.state(now);
        if !self.would_admit(now) {
            let until = match state {
                State::Open(until) => until,
                _ => self.trial.unwrap_or(now).plus(self.policy.open_for),
            };
            let reason = self.reason.unwrap_or(Reason::Trial);
            return Err(Refused { state, reason, retry_after: until.since(now) });
        }
        let mut change = None;
        if state == State::HalfOpen {
            change = self.enter(State::HalfOpen);
            self.generation += 1;
            self.trial = Some(now);
        }
        Ok((Permit { generation: self.generation }, change))
    }

    /// Records the outcome of an admitted call.
    pub fn record(&mut self, permit: Permit, class: Class, now: Timestamp) -> Option<Change> {
        if permit.generation != self.generation {
            return None;
        }
        match (self.state, class) {
            (State::Closed, Class::Success) => {
                self.consecutive = 0;
                self.verdicts.add(now, 1);
                None
            }
            (State::Closed, Class::Failure) => {
                self.consecutive = self.consecutive.saturating_add(1);
                self.verdicts.add(now, 1);
                self.failures.add(now, 1);
                let reason = self.too_much(now)?;
                self.open(reason, now)
            }
            (State::HalfOpen, Class::Success) => self.enter(State::Closed),
            (State::HalfOpen, Class::Failure) => self.open(Reason::Trial, now),
            (State::HalfOpen, Class::Neutral) => {
                self.trial = None;
                None
            }
            (State::Closed, Class::Neutral) | (State::Open(_), _) => None,
        }
    }

    fn trial_is_free(&self, now: Timestamp) -> bool {
        self.trial.is_none_or(|since| now.since(since) >= self.policy.open_for)
    }

    fn too_much(&mut self, now: Timestamp) -> Option<Reason> {
        if self.consecutive >= self.policy.failures.max(1) {
            return Some(Reason::Consecutive(self.consecutive));
        }
        let (failures, calls) = (self.failures.total(now), self.verdicts.total(now));
        let percent = u64::from(self.policy.failure_rate_percent);
        let enough = percent > 0 && calls >= u64::from(self.policy.min_calls.max(1));
        let rate = failures.saturating_mul(100) >= calls.saturating_mul(percent);
        (enough && rate).then_some(Reason::Rate { failures, calls, window: self.policy.window })
    }

    fn open(&mut self, reason: Reason, now: Timestamp) -> Option<Change> {
        self.reason = Some(reason);
        self.enter(State::Open(now.plus(self.policy.open_for)))
    }

    fn enter(&mut self, to: State) -> Option<Change> {
        let from = std::mem::replace(&mut self.state, to);
        if from == to {
            return None;
        }
        let change = Change { from, to, reason: self.reason };
        self.generation += 1;
        self.trial = None;
        self.consecutive = 0;
        self.failures.clear();
        self.verdicts.clear();
        if to == State::Closed {
            self.reason = None;
        }
        Some(change)
    }
}
