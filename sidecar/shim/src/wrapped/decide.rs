//! What the shim of a container holds and says, as a pure state machine.

use std::time::Duration;

use kontrol_core::{
    grant::{Answer, Denied, Grant, Purse},
    time::Timestamp,
    wrapped::{Ended, Order, State, Why},
};

/// The purse, and what is told of it.
#[derive(Clone, Debug)]
pub(super) struct Keeper {
    state: State,
    purse: Purse,
    /// Whether an end with code 0 is the end, under the grant that is held.
    only_failures: bool,
}

impl Keeper {
    pub(super) fn new(shim: u64) -> Self {
        let state = State { shim, ..State::default() };
        Self { state, purse: Purse::default(), only_failures: false }
    }

    /// All that the sidecar is told.
    pub(super) fn state(&self) -> State {
        self.state.clone()
    }

    pub(super) fn started(&mut self, pid: u32) {
        self.state.pid = pid;
    }

    pub(super) fn order(&mut self, order: Order) {
        match order {
            Order::Give { epoch, count, window_ms, only_failures } => {
                let window = Duration::from_millis(window_ms);
                let grant = Grant { count, window, epoch, normal: !only_failures };
                if self.purse.give(grant) {
                    self.only_failures = only_failures;
                    (self.state.spent, self.state.open) = (0, true);
                }
            }
            Order::Revoke { epoch } => {
                if self.purse.epoch().is_none_or(|held| held <= epoch) {
                    (self.state.spent, self.state.open) = (0, false);
                }
                self.purse.revoke(epoch);
            }
        }
        self.state.epoch = self.purse.epoch();
    }

    /// The command has ended; says whether it is started again.
    pub(super) fn ended(&mut self, ended: &Ended, stopped: bool, now: Timestamp) -> bool {
        let denied = if stopped {
            Some(Why::Stopped)
        } else if self.only_failures && ended.code == Some(0) {
            Some(Why::Normal)
        } else {
            match self.purse.ended(now) {
                Answer::Restart { spent, .. } => {
                    self.state.spent = spent;
                    None
                }
                Answer::Stop(denied) => {
                    self.state.open = false;
                    Some(match denied {
                        Denied::Never => Why::Never,
                        Denied::Spent => Why::Spent,
                        Denied::Revoked => Why::Revoked,
                    })
                }
            }
        };
        self.state.pid = 0;
        self.state.restarts += u64::from(denied.is_none());
        self.state.last_end = Some(Ended { denied, ..*ended });
        denied.is_none()
    }

    /// The command cannot be started. Where it had run before, its last restart was none.
    pub(super) fn failed(&mut self, ended: Ended) {
        self.state.pid = 0;
        self.state.restarts = self.state.restarts.saturating_sub(u64::from(self.state.last_end.is_some()));
        self.state.last_end = Some(match self.state.last_end.take() {
            Some(before) => Ended { denied: Some(Why::Failed), ..before },
            None => ended,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(code: i32) -> Ended {
        Ended { code: Some(code), signal: None, at_micros: 1, left: 0, denied: None }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn give(epoch: u64, count: u32) -> Order {
        Order::Give { epoch, count, window_ms: 30_000, only_failures: false }
    }

    fn denied(keeper: &Keeper) -> Option<Why> {
        keeper.state().last_end.unwrap().denied
    }

    #[test]
    fn without_a_grant_the_end_is_the_end() {
        let mut keeper = Keeper::new(1);
        keeper.started(7);
        assert!(!keeper.ended(&exit(1), false, at(0)));
        assert_eq!((keeper.state().restarts, keeper.state().pid, denied(&keeper)), (0, 0, Some(Why::Never)));
    }

    #[test]
    fn a_grant_is_spent_and_the_next_epoch_gives_another() {
        let mut keeper = Keeper::new(1);
        keeper.order(give(0, 2));
        assert!(keeper.ended(&exit(1), false, at(0)));
        assert!(keeper.ended(&exit(0), false, at(1)));
        keeper.order(give(0, 9));
        assert_eq!((keeper.state().spent, keeper.state().open), (2, true));
        assert!(!keeper.ended(&exit(1), false, at(2)));
        let state = keeper.state();
        assert_eq!((state.restarts, state.open, state.epoch), (2, false, Some(0)));
        assert_eq!(denied(&keeper), Some(Why::Spent));
        keeper.order(give(1, 1));
        assert!(keeper.ended(&exit(1), false, at(3)));
    }

    #[test]
    fn a_revocation_that_is_late_takes_nothing() {
        let mut keeper = Keeper::new(1);
        keeper.order(give(5, 1));
        keeper.order(Order::Revoke { epoch: 4 });
        assert!(keeper.state().open);
        keeper.order(Order::Revoke { epoch: 5 });
        assert!(!keeper.state().open);
        assert!(!keeper.ended(&exit(1), false, at(0)));
        assert_eq!(denied(&keeper), Some(Why::Revoked));
    }

    #[test]
    fn a_container_that_is_stopped_spends_nothing() {
        let mut keeper = Keeper::new(1);
        keeper.order(give(0, 1));
        assert!(!keeper.ended(&exit(0), true, at(0)));
        assert_eq!((keeper.state().spent, denied(&keeper)), (0, Some(Why::Stopped)));
    }

    #[test]
    fn where_only_failures_count_a_normal_end_is_the_end() {
        let mut keeper = Keeper::new(1);
        keeper.order(Order::Give { epoch: 0, count: 3, window_ms: 1000, only_failures: true });
        assert!(keeper.ended(&exit(1), false, at(0)));
        assert!(!keeper.ended(&exit(0), false, at(1)));
        assert_eq!(denied(&keeper), Some(Why::Normal));
    }

    #[test]
    fn a_restart_that_fails_is_none() {
        let mut keeper = Keeper::new(1);
        keeper.order(give(0, 3));
        keeper.started(7);
        assert!(keeper.ended(&exit(1), false, at(0)));
        keeper.failed(exit(127));
        let state = keeper.state();
        assert_eq!(
            (state.restarts, state.last_end.clone().unwrap().code, denied(&keeper)),
            (0, Some(1), Some(Why::Failed))
        );
    }
}
