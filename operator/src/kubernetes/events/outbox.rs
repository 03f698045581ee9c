//! Events on their way to the API server: those of one object one after the other, a few at a time, and no more than so many. Starts and
//! stops go the same way, and are what matters when much happens at once.

use std::collections::{BTreeSet, VecDeque};

use kontrol_core::time::Timestamp;

use super::Regarding;
use crate::kubernetes::request::{Outcome, Request};

/// Events that may wait.
const WAITING: usize = 256;
/// Events that may be under way at a time.
const AT_ONCE: usize = 4;

/// One event that is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Telling {
    /// What it is about.
    pub about: Regarding,
    /// How it is told.
    pub request: Request,
}

/// Events on their way.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: VecDeque<Telling>,
    under_way: BTreeSet<Regarding>,
    /// Nothing is sent before.
    not_before: Timestamp,
}

impl Outbox {
    /// Takes one; `false`: there are too many.
    pub fn put(&mut self, telling: Telling) -> bool {
        let fits = self.waiting.len() < WAITING;
        if fits {
            self.waiting.push_back(telling);
        }
        fits
    }

    /// The next one to be sent.
    pub fn next(&mut self, now: Timestamp) -> Option<Telling> {
        if now < self.not_before || self.under_way.len() >= AT_ONCE {
            return None;
        }
        let at = self.place()?;
        let telling = self.waiting.remove(at)?;
        self.under_way.insert(telling.about.clone());
        Some(telling)
    }

    /// Where the next one stands whose object has none under way.
    fn place(&self) -> Option<usize> {
        self.waiting.iter().position(|telling| !self.under_way.contains(&telling.about))
    }

    /// One was answered. What the API server has no time for is sent again when it has.
    pub fn answered(&mut self, telling: Telling, outcome: &Outcome, now: Timestamp) {
        self.under_way.remove(&telling.about);
        if let Outcome::Busy(after) = outcome {
            self.not_before = now.plus(*after);
            self.waiting.push_front(telling);
        }
    }

    /// When to go on if nothing happens before.
    pub fn wake(&self) -> Option<Timestamp> {
        (self.under_way.len() < AT_ONCE && self.place().is_some()).then_some(self.not_before)
    }

    /// Forgets what waits: another process tells from here on.
    pub fn clear(&mut self) {
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::kubernetes::{kind::Kind, object::Key, request::Verb};

    const NOW: Timestamp = Timestamp::from_micros(1_000_000);

    fn telling(of: usize, number: usize) -> Telling {
        let about =
            Regarding { kind: Kind::Widget, key: Key::new("default", &format!("w-{of}")), uid: "u".into() };
        let name = format!("e-{of}-{number}");
        Telling { about, request: Request::new(Verb::Create, Kind::Event, "default", &name) }
    }

    fn names(sent: &[Telling]) -> Vec<&str> {
        sent.iter().map(|telling| telling.request.name.as_str()).collect()
    }

    #[test]
    fn those_of_one_object_are_sent_one_after_the_other_and_a_few_at_a_time() {
        let mut outbox = Outbox::default();
        for (of, number) in [(0, 0), (0, 1), (1, 0), (2, 0), (3, 0), (4, 0)] {
            assert!(outbox.put(telling(of, number)));
        }
        let sent: Vec<Telling> = std::iter::from_fn(|| outbox.next(NOW)).collect();
        assert_eq!(names(&sent), ["e-0-0", "e-1-0", "e-2-0", "e-3-0"]);
        outbox.answered(sent[0].clone(), &Outcome::Done(String::new()), NOW);
        assert_eq!(outbox.next(NOW), Some(telling(0, 1)));
        assert_eq!((outbox.next(NOW), outbox.wake()), (None, None));
    }

    #[test]
    fn there_are_never_more_than_so_many() {
        let mut outbox = Outbox::default();
        let taken = (0..1000).filter(|of| outbox.put(telling(*of, 0))).count();
        assert_eq!(taken, WAITING);
    }

    #[test]
    fn what_the_api_server_has_no_time_for_is_sent_again_in_its_place() {
        let mut outbox = Outbox::default();
        outbox.put(telling(0, 0));
        outbox.put(telling(0, 1));
        let first = outbox.next(NOW).unwrap();
        outbox.answered(first, &Outcome::Busy(Duration::from_secs(2)), NOW);
        let later = NOW.plus(Duration::from_secs(2));
        assert_eq!((outbox.next(NOW), outbox.wake()), (None, Some(later)));
        assert_eq!(outbox.next(later), Some(telling(0, 0)));
    }
}
