//! Since when the cluster is seen. While its API server is away nothing that starts is heard of, and kubelets are refused as well as we are.

use std::time::Duration;

use kontrol_core::time::Timestamp;

/// A gap that is shorter is none: a watch that is opened again misses nothing.
const GAP: Duration = Duration::from_secs(5);
/// A kubelet that was refused again and again asks again after so long at the latest.
const KUBELETS: Duration = Duration::from_mins(1);

/// What is known of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sight {
    /// When the API server was heard last before a watch broke, and first after that.
    gap: Option<(Timestamp, Option<Timestamp>)>,
    since: Timestamp,
}

impl Sight {
    /// The API server was heard. That ends its silence, though it may take a while until all is listed again.
    pub(super) fn heard(&mut self, now: Timestamp) {
        if let Some((_, heard)) = &mut self.gap {
            heard.get_or_insert(now);
        }
    }

    /// Takes note of whether pods are seen now; `heard` is when the API server was heard last.
    pub(super) fn note(&mut self, sees: bool, heard: Timestamp, now: Timestamp) {
        if !sees {
            self.gap.get_or_insert((heard, None));
        } else if let Some((from, to)) = self.gap.take()
            && to.unwrap_or(now).since(from) >= GAP
        {
            self.since = now.plus(KUBELETS);
        }
    }

    /// Since when all is seen that happens, and whoever was refused meanwhile is back; zero: it always was.
    pub(super) fn since(&self) -> Timestamp {
        self.since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn after_a_gap_all_is_seen_once_the_kubelets_are_back() {
        let mut sight = Sight::default();
        sight.note(true, at(1), at(1));
        assert_eq!(sight.since(), Timestamp::ZERO);
        for now in [2, 3, 30] {
            sight.note(false, at(1), at(now));
        }
        sight.heard(at(61));
        sight.note(true, at(62), at(62));
        assert_eq!(sight.since(), at(122));
    }

    #[test]
    fn a_watch_that_is_opened_again_leaves_no_gap() {
        let mut sight = Sight::default();
        for now in 1..100 {
            sight.note(now % 2 == 0, at(now), at(now));
        }
        assert_eq!(sight.since(), Timestamp::ZERO);
    }

    #[test]
    fn a_list_that_takes_long_is_no_gap_and_one_that_nobody_answers_for_long_is() {
        let mut sight = Sight::default();
        sight.note(false, at(1), at(1));
        sight.heard(at(2));
        sight.note(true, at(30), at(30));
        assert_eq!(sight.since(), Timestamp::ZERO);
        sight.note(false, at(40), at(345));
        sight.heard(at(346));
        sight.note(true, at(346), at(347));
        assert_eq!(sight.since(), at(407));
    }
}
