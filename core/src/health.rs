//! A replica's health, folded from three sources: its process, its own word (a report, or the answer to a probe), and its silence.
//!
//! ```text
//!   started ──► Starting ──ready──► Ready ◄──ready / not ready──► NotReady
//!                  │                  │                              │
//!                  └──────── nothing good or bad for `timeout` ──────┴──► Hung      "failed" ──► Failed
//!                  ▲                                                       │
//!                  └──────────────── a word, never ready before ───────────┘
//! ```
//!
//! *Not ready* is a word of life: the widget is busy loading, or has asked for a pause. It gets no calls and is not restarted. Only
//! *silence* is hung: a process that runs and neither reports nor answers for `timeout`. *Failed* is the widget's own verdict that
//! it is beyond repair; it is restarted as if it had ended.
//!
//! A probe that is answered with anything but 2xx says *not ready* (it lives); one that gets no answer says nothing, and silence
//! adds up. For one that has been ready, hung is final for the incarnation: it is about to be replaced, and a late word does not undo
//! that decision. One that has not been ready yet may be silent while it loads: how long a start may take is another rule, and a late
//! word is heard. A widget without `health` is ready as soon as it runs.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// What a widget says of itself, by report or by the answer to a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Word {
    /// Alive and able to work.
    Ready,
    /// Alive and not able to work.
    NotReady,
    /// Beyond repair.
    Failed,
}

/// What a replica's health comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Verdict {
    /// Its process runs and it has not been ready yet.
    Starting,
    /// It is able to work.
    Ready,
    /// It was ready and is not able to work at the moment.
    NotReady,
    /// It has said nothing for longer than its health allows.
    Hung,
    /// It has said that it is beyond repair.
    Failed,
}

impl Verdict {
    /// The verdict's name, for metrics and events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::NotReady => "notReady",
            Self::Hung => "hung",
            Self::Failed => "failed",
        }
    }
}

/// The health of one incarnation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fold {
    /// How long silence may last; none for a widget without `health`.
    timeout: Option<Duration>,
    verdict: Verdict,
    /// Whether it has been ready.
    was_ready: bool,
    /// When the process started or last gave a word.
    heard: Timestamp,
}

impl Fold {
    /// A process that started at `now`. `timeout` is that of the widget's `health`; none where it has no such field.
    pub fn started(timeout: Option<Duration>, now: Timestamp) -> Self {
        let verdict = if timeout.is_some() { Verdict::Starting } else { Verdict::Ready };
        Self { timeout, verdict, was_ready: timeout.is_none(), heard: now }
    }

    /// The widget gave a word. It counts without `health` too: a widget may report without being obliged to.
    pub fn word(&mut self, word: Word, now: Timestamp) -> Verdict {
        self.at(now);
        if self.is_final() {
            return self.verdict;
        }
        self.heard = self.heard.max(now);
        self.was_ready |= word == Word::Ready;
        self.verdict = match word {
            Word::Ready => Verdict::Ready,
            Word::NotReady if self.was_ready => Verdict::NotReady,
            Word::NotReady => Verdict::Starting,
            Word::Failed => Verdict::Failed,
        };
        self.verdict
    }

    /// The verdict at `now`, with silence counted.
    pub fn at(&mut self, now: Timestamp) -> Verdict {
        if self.deadline().is_some_and(|deadline| now >= deadline) {
            self.verdict = Verdict::Hung;
        }
        self.verdict
    }

    /// Whether no word changes the verdict any more: the replica is to be replaced.
    pub fn is_final(&self) -> bool {
        self.verdict == Verdict::Failed || (self.verdict == Verdict::Hung && self.was_ready)
    }

    /// Whether it has been ready.
    pub fn was_ready(&self) -> bool {
        self.was_ready
    }

    /// When silence will make it hung; none where it never does, or where it is hung or failed already.
    pub fn deadline(&self) -> Option<Timestamp> {
        let over = matches!(self.verdict, Verdict::Hung | Verdict::Failed);
        let timeout = self.timeout.filter(|_| !over)?;
        Some(self.heard.plus(timeout))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Option<Duration> = Some(Duration::from_secs(15));

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn a_widget_is_ready_when_it_says_so() {
        let mut fold = Fold::started(TIMEOUT, at(0));
        assert_eq!(fold.at(at(1)), Verdict::Starting);
        assert_eq!(fold.word(Word::NotReady, at(2)), Verdict::Starting);
        assert_eq!(fold.word(Word::Ready, at(3)), Verdict::Ready);
        assert_eq!(fold.word(Word::NotReady, at(4)), Verdict::NotReady);
        assert_eq!(fold.word(Word::Ready, at(5)), Verdict::Ready);
    }

    #[test]
    fn without_health_it_is_ready_as_soon_as_it_runs_and_never_hung() {
        let mut fold = Fold::started(None, at(0));
        assert_eq!(fold.at(at(100_000)), Verdict::Ready);
        assert_eq!(fold.deadline(), None);
        assert_eq!(fold.word(Word::NotReady, at(100_001)), Verdict::NotReady);
    }

    #[test]
    fn silence_makes_it_hung_and_a_word_of_any_kind_ends_silence() {
        let mut fold = Fold::started(TIMEOUT, at(0));
        fold.word(Word::NotReady, at(14));
        assert_eq!(fold.deadline(), Some(at(29)));
        assert_eq!(fold.at(at(28)), Verdict::Starting);
        assert_eq!(fold.at(at(29)), Verdict::Hung);
    }

    #[test]
    fn silence_before_it_was_ready_is_ended_by_a_late_word() {
        let mut fold = Fold::started(TIMEOUT, at(0));
        assert_eq!(fold.at(at(15)), Verdict::Hung);
        assert!(!fold.is_final());
        assert_eq!(fold.word(Word::NotReady, at(40)), Verdict::Starting);
        assert_eq!(fold.deadline(), Some(at(55)));
        assert_eq!(fold.at(at(55)), Verdict::Hung);
        assert_eq!(fold.word(Word::Ready, at(56)), Verdict::Ready);
    }

    #[test]
    fn hung_after_it_was_ready_and_failed_are_final() {
        let mut hung = Fold::started(TIMEOUT, at(0));
        hung.word(Word::Ready, at(1));
        assert_eq!(hung.word(Word::Ready, at(16)), Verdict::Hung);
        assert!(hung.is_final());
        let mut failed = Fold::started(TIMEOUT, at(0));
        assert_eq!(failed.word(Word::Failed, at(1)), Verdict::Failed);
        assert_eq!(failed.word(Word::Ready, at(2)), Verdict::Failed);
        assert_eq!(failed.deadline(), None);
    }
}
