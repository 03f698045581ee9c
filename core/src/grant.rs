//! Restart grants: what a shim may do by itself when its child ends.
//!
//! The plan decides restarts. Where a decision would come late (the operator is away, or milliseconds count) it gives the shim
//! a grant beforehand: so many restarts, within so long, under this epoch. The shim spends it without asking and reports what it
//! spent, so that the restarts are counted where all others are.
//!
//! ```text
//!            give (higher epoch)                  one restart too many within the window
//!   None ───────────────────────► Active ──────────────────────────────────────────────► Spent
//!    ▲                              │ revoke                                                │
//!    └── nothing is allowed         ▼                        give (higher epoch)            │
//!                                Revoked ────────────────────► Active ◄─────────────────────┘
//! ```
//!
//! Grants are fenced by their epoch, the group's count of restarts: one of an epoch that is not above the highest seen is
//! without effect, so a grant that was delayed or sent twice cannot give restarts back, and one that was revoked stays so. A spent grant stays spent when its
//! window has passed: the shim has stopped and reported, and what comes next is the plan's to decide.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{spec::Intensity, time::Timestamp, window::Restarts};

/// A permission to restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Grant {
    /// Restarts that are allowed within the window.
    pub count: u32,
    /// The window.
    pub window: Duration,
    /// The epoch of the group under which it was given.
    pub epoch: u64,
    /// Whether an end with exit code 0 is restarted too, as the restart type `Always` has it. Default true.
    #[serde(default = "yes")]
    pub normal: bool,
}

fn yes() -> bool {
    true
}

/// Why no restart is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Denied {
    /// No grant was ever given, or none for an end with exit code 0.
    Never,
    /// More ends within the window than the grant allows.
    Spent,
    /// The plan took it back.
    Revoked,
}

/// The answer to the end of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Answer {
    /// Start it again, and report it.
    Restart {
        /// Under which epoch.
        epoch: u64,
        /// How many restarts were spent under this grant, this one included.
        spent: u64,
    },
    /// Stop and report.
    Stop(Denied),
}

/// What a shim holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purse {
    /// The last grant that was taken, with the highest epoch seen.
    grant: Option<Grant>,
    denied: Option<Denied>,
    restarts: Restarts,
    spent: u64,
}

impl Purse {
    /// Takes a grant; false where its epoch is not above the highest seen, and then nothing changes.
    pub fn give(&mut self, grant: Grant) -> bool {
        if self.epoch().is_some_and(|highest| grant.epoch <= highest) {
            return false;
        }
        *self = Self { grant: Some(grant), ..Self::default() };
        true
    }

    /// Takes back all grants up to `epoch`; one of a higher epoch stays.
    pub fn revoke(&mut self, epoch: u64) {
        if self.epoch().is_none_or(|held| held <= epoch) {
            let none = Grant { count: 0, window: Duration::ZERO, epoch, normal: true };
            *self = Self { grant: Some(none), denied: Some(Denied::Revoked), ..Self::default() };
        }
    }

    /// The child ended at `now` with exit code 0, which is not restarted where the grant says so.
    pub fn ended_normally(&mut self, now: Timestamp) -> Answer {
        match self.grant {
            Some(Grant { normal: false, .. }) if self.denied.is_none() => Answer::Stop(Denied::Never),
            _ => self.ended(now),
        }
    }

    /// The child ended at `now`, otherwise than with exit code 0.
    pub fn ended(&mut self, now: Timestamp) -> Answer {
        let Some(grant) = self.grant else { return Answer::Stop(Denied::Never) };
        if let Some(denied) = self.denied {
            return Answer::Stop(denied);
        }
        let intensity = Intensity { max_restarts: grant.count, period: grant.window };
        if !self.restarts.count(intensity, now) {
            self.denied = Some(Denied::Spent);
            return Answer::Stop(Denied::Spent);
        }
        self.spent += 1;
        Answer::Restart { epoch: grant.epoch, spent: self.spent }
    }

    /// The highest epoch seen; none before the first grant or revocation.
    pub fn epoch(&self) -> Option<u64> {
        self.grant.map(|grant| grant.epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn grant(count: u32, epoch: u64) -> Grant {
        Grant { count, window: Duration::from_secs(30), epoch, normal: true }
    }

    #[test]
    fn without_a_grant_nothing_is_restarted() {
        assert_eq!(Purse::default().ended(at(0)), Answer::Stop(Denied::Never));
    }

    #[test]
    fn a_grant_is_spent_by_one_end_too_many_and_stays_spent() {
        let mut purse = Purse::default();
        assert!(purse.give(grant(2, 7)));
        assert_eq!(purse.ended(at(0)), Answer::Restart { epoch: 7, spent: 1 });
        assert_eq!(purse.ended(at(10)), Answer::Restart { epoch: 7, spent: 2 });
        assert_eq!(purse.ended(at(20)), Answer::Stop(Denied::Spent));
        assert_eq!(purse.ended(at(9_000)), Answer::Stop(Denied::Spent));
        assert!(purse.give(grant(1, 8)));
        assert_eq!(purse.ended(at(9_001)), Answer::Restart { epoch: 8, spent: 1 });
    }

    #[test]
    fn ends_far_apart_do_not_spend_a_grant() {
        let mut purse = Purse::default();
        purse.give(grant(1, 1));
        for turn in 0..100 {
            assert_eq!(purse.ended(at(turn * 31)), Answer::Restart { epoch: 1, spent: turn + 1 });
        }
    }

    #[test]
    fn a_grant_that_comes_late_or_twice_is_without_effect() {
        let mut purse = Purse::default();
        purse.give(grant(1, 5));
        purse.ended(at(0));
        assert!(!purse.give(grant(9, 5)));
        assert!(!purse.give(grant(9, 4)));
        assert_eq!(purse.ended(at(1)), Answer::Stop(Denied::Spent));
    }

    #[test]
    fn what_is_revoked_stays_so_until_a_higher_epoch() {
        let mut purse = Purse::default();
        purse.give(grant(3, 5));
        purse.revoke(4);
        assert_eq!(purse.ended(at(0)), Answer::Restart { epoch: 5, spent: 1 });
        purse.revoke(6);
        assert_eq!(purse.ended(at(1)), Answer::Stop(Denied::Revoked));
        assert!(!purse.give(grant(3, 6)));
        assert!(purse.give(grant(3, 7)));
        assert_eq!(purse.ended(at(2)), Answer::Restart { epoch: 7, spent: 1 });
    }

    #[test]
    fn a_normal_end_is_restarted_only_where_the_grant_says_so() {
        let mut purse = Purse::default();
        purse.give(Grant { normal: false, ..grant(2, 1) });
        assert_eq!(purse.ended_normally(at(0)), Answer::Stop(Denied::Never));
        assert_eq!(purse.ended(at(1)), Answer::Restart { epoch: 1, spent: 1 });
        purse.give(grant(2, 2));
        assert_eq!(purse.ended_normally(at(2)), Answer::Restart { epoch: 2, spent: 1 });
    }

    #[test]
    fn a_purse_survives_a_restart_of_its_holder() {
        let mut purse = Purse::default();
        purse.give(grant(1, 1));
        purse.ended(at(0));
        let mut again: Purse = serde_json::from_str(&serde_json::to_string(&purse).unwrap()).unwrap();
        assert_eq!(again.ended(at(1)), Answer::Stop(Denied::Spent));
    }
}
