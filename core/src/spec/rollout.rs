//! What decides about replicas on a cluster, and about new revisions everywhere.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What of a widget's container decides anything; the rest is rendered from the API types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a field of the manifest, and all combinations mean something"
)]
pub struct Container {
    /// Whether the shim starts the command, and starts it again in place under a grant. Default false.
    pub wrapped: bool,
    /// How many alternatives there are to the declared placement. The placement with index 0 is the declared one, those from 1 to this number are the
    /// alternatives, in order of preference. At most 8; default 0.
    pub alternatives: u32,
    /// How long a replica may find no node before the next alternative is tried. Default 30 s.
    pub unschedulable_after: Duration,
    /// Whether replicas have an identity of their own: a replacement waits until the old pod is gone. Default false.
    pub identity: bool,
    /// Whether a pod on a lost node is deleted by force, so that the replacement of an identity of its own need not wait. Default false.
    pub force_delete: bool,
    /// Whether external ends (out of memory, eviction, preemption, node loss, deletion by somebody else) count in the intensity. Default false.
    pub count_external: bool,
}

impl Default for Container {
    fn default() -> Self {
        Self {
            wrapped: false,
            alternatives: 0,
            unschedulable_after: Duration::from_secs(30),
            identity: false,
            force_delete: false,
            count_external: false,
        }
    }
}

/// A number of replicas, or a share of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Share {
    /// So many.
    Count(u32),
    /// So many of a hundred.
    Percent(u32),
}

impl Share {
    /// How many of `replicas` that is, a fraction rounded down.
    pub fn floor(self, replicas: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => narrow(u64::from(replicas) * u64::from(percent) / 100),
        }
    }

    /// How many of `replicas` that is, a fraction rounded up.
    pub fn ceil(self, replicas: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => narrow((u64::from(replicas) * u64::from(percent)).div_ceil(100)),
        }
    }
}

fn narrow(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// How a new revision is rolled out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rollout {
    /// How many replicas may be missing meanwhile; see [`Rollout::unavailable`]. Default 1.
    pub max_unavailable: Share,
    /// How many replicas there may be beyond the number desired; see [`Rollout::surge`]. Default 0.
    pub max_surge: Share,
    /// Whether the roll-out stands still where it is. Default false.
    pub paused: bool,
    /// How long it may make no progress before it has failed. Default 10 min.
    pub progress_deadline: Duration,
    /// Whether a roll-out that failed returns to the last good revision by itself. Default true.
    pub auto_rollback: bool,
}

impl Rollout {
    /// How many of `replicas` may be missing: a share is rounded down, and at least one may where there is no surge either, or nothing would move.
    pub fn unavailable(&self, replicas: u32) -> u32 {
        let least = u32::from(self.surge(replicas) == 0);
        self.max_unavailable.floor(replicas).max(least)
    }

    /// How many there may be beyond `replicas`: a share is rounded up.
    pub fn surge(&self, replicas: u32) -> u32 {
        self.max_surge.ceil(replicas)
    }
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            max_unavailable: Share::Count(1),
            max_surge: Share::Count(0),
            paused: false,
            progress_deadline: Duration::from_mins(10),
            auto_rollback: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_rounded_so_that_a_roll_out_keeps_what_it_promised() {
        let rollout = |unavailable, surge| Rollout {
            max_unavailable: unavailable,
            max_surge: surge,
            ..Rollout::default()
        };
        let quarter = rollout(Share::Percent(25), Share::Percent(25));
        assert_eq!((quarter.unavailable(10), quarter.surge(10)), (2, 3));
        assert_eq!((quarter.unavailable(1), quarter.surge(1)), (0, 1));
        assert_eq!((quarter.unavailable(u32::MAX), quarter.surge(0)), (1_073_741_823, 0));
        assert_eq!(rollout(Share::Count(3), Share::Count(0)).unavailable(2), 3);
    }

    #[test]
    fn a_roll_out_can_always_move() {
        for unavailable in [Share::Count(0), Share::Percent(0), Share::Percent(1)] {
            let rollout = Rollout { max_unavailable: unavailable, ..Rollout::default() };
            for replicas in 0..200 {
                assert!(rollout.unavailable(replicas) + rollout.surge(replicas) > 0);
            }
        }
    }
}
