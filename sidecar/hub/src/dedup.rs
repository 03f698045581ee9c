//! The ids that a topic remembers, so that a publish which is sent again is stored once.
//!
//! Two generations: ids go into the young one, and when that is old or full the old one is forgotten as a whole. So forgetting costs
//! nothing per id, and memory is bounded whatever the rate.

use std::{collections::HashMap, hash::BuildHasherDefault, time::Duration};

use kontrol_core::time::Timestamp;

/// The hash that stands for (source, id) in the log. Never 0, which stands for none.
pub(crate) fn id_hash(source: &str, id: &str) -> u128 {
    let mut hasher = xxhash_rust::xxh3::Xxh3Default::new();
    hasher.update(source.as_bytes());
    // No text has this byte: (a, bc) and (ab, c) differ.
    hasher.update(&[0xff]);
    hasher.update(id.as_bytes());
    hasher.digest128().max(1)
}

/// The hash that stands for an ordering key in the log. Never 0, which stands for none.
pub(crate) fn key_hash(key: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(key.as_bytes()).max(1)
}

/// The ids are hashes already.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Plain(u64);

impl std::hash::Hasher for Plain {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 ^= number;
    }

    fn write_u128(&mut self, number: u128) {
        #[expect(clippy::cast_possible_truncation, reason = "half of a hash is a hash")]
        let low = number as u64;
        self.0 ^= low;
    }
}

/// A map whose keys are hashes.
pub(crate) type HashedMap<K, V> = HashMap<K, V, BuildHasherDefault<Plain>>;

#[derive(Clone, Debug, Default)]
struct Generation {
    ids: HashedMap<u128, (u64, Timestamp)>,
    first: Option<(u64, Timestamp)>,
    last: Timestamp,
}

/// The ids of one topic.
#[derive(Clone, Debug)]
pub(crate) struct Dedup {
    window: Duration,
    half: usize,
    young: Generation,
    old: Generation,
    forgotten: u64,
}

impl Dedup {
    /// Remembers ids for `window`, and not more than `limit`.
    pub(crate) fn new(window: Duration, limit: usize) -> Self {
        Self {
            window,
            half: (limit / 2).max(1),
            young: Generation::default(),
            old: Generation::default(),
            forgotten: 0,
        }
    }

    /// Whether ids are remembered at all.
    pub(crate) const fn is_on(&self) -> bool {
        !self.window.is_zero()
    }

    /// Changes the window.
    pub(crate) const fn set_window(&mut self, window: Duration) {
        self.window = window;
    }

    /// The sequence of the first message with this id, if it came within the window.
    pub(crate) fn find(&self, id: u128, now: Timestamp) -> Option<u64> {
        let (sequence, time) = self.young.ids.get(&id).or_else(|| self.old.ids.get(&id))?;
        (now.since(*time) < self.window).then_some(*sequence)
    }

    /// Remembers an id.
    pub(crate) fn insert(&mut self, id: u128, sequence: u64, now: Timestamp) {
        let aged = self.young.first.is_some_and(|(_, time)| now.since(time) >= self.window);
        if aged || self.young.ids.len() >= self.half {
            self.turn(now);
        }
        self.young.first.get_or_insert((sequence, now));
        self.young.last = now;
        self.young.ids.insert(id, (sequence, now));
    }

    fn turn(&mut self, now: Timestamp) {
        if now.since(self.old.last) < self.window {
            self.forgotten += self.old.ids.len() as u64;
        }
        self.old = std::mem::take(&mut self.young);
    }

    /// Forgets what is older than the window, and returns the first sequence that the log must keep for what is left.
    pub(crate) fn needed(&mut self, now: Timestamp) -> Option<u64> {
        for generation in [&mut self.old, &mut self.young] {
            if generation.first.is_some() && now.since(generation.last) >= self.window {
                *generation = Generation::default();
            }
        }
        self.old.first.or(self.young.first).map(|(sequence, _)| sequence)
    }

    /// Ids forgotten before their window ended.
    pub(crate) const fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn an_id_is_found_within_its_window_and_not_after() {
        let mut dedup = Dedup::new(WINDOW, 100);
        dedup.insert(1, 5, at(0));
        assert_eq!(dedup.find(1, at(9)), Some(5));
        assert_eq!(dedup.find(1, at(10)), None);
        assert_eq!(dedup.needed(at(9)), Some(5));
        assert_eq!(dedup.needed(at(10)), None);
    }

    #[test]
    fn beyond_the_limit_the_oldest_are_forgotten_and_counted() {
        let mut dedup = Dedup::new(WINDOW, 4);
        for id in 1..=7 {
            dedup.insert(id, id.try_into().unwrap(), at(1));
        }
        assert_eq!(dedup.find(2, at(1)), None);
        assert!((5..=7).all(|id| dedup.find(id, at(1)).is_some()));
        assert_eq!(dedup.forgotten(), 4);
        assert_eq!(dedup.needed(at(1)), Some(5));
    }

    #[test]
    fn source_and_id_do_not_run_into_each_other() {
        assert_ne!(id_hash("a", "bc"), id_hash("ab", "c"));
        assert_ne!(id_hash("", ""), 0);
    }
}
