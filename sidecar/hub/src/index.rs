//! Where the messages of a topic lie that some subscription has not settled. Lives in memory alone: a scan of the log makes it anew.

use std::collections::VecDeque;

use kontrol_core::time::Timestamp;

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// The segment.
    pub(crate) epoch: u32,
    /// The record's first byte.
    pub(crate) offset: u32,
    /// The record's length.
    pub(crate) length: u32,
}

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its sequence.
    pub(crate) sequence: u64,
    /// When it was stored.
    pub(crate) time: Timestamp,
    /// The hash of its ordering key; 0: none.
    pub(crate) key: u64,
    /// The record it is in.
    pub(crate) place: Place,
}

/// The messages of one topic, ascending.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    entries: VecDeque<Entry>,
    /// How many entries were removed at the front: positions are counted from the first entry that ever was.
    base: u64,
}

impl Index {
    /// Adds the newest message.
    pub(crate) fn push(&mut self, entry: Entry) {
        self.entries.push_back(entry);
    }

    /// The oldest message.
    pub(crate) fn front(&self) -> Option<&Entry> {
        self.entries.front()
    }

    /// Removes the oldest message.
    pub(crate) fn pop_front(&mut self) {
        if self.entries.pop_front().is_some() {
            self.base += 1;
        }
        // A backlog that was worked off leaves no memory behind.
        if self.entries.capacity() > 1024 && self.entries.len() < self.entries.capacity() / 8 {
            self.entries.shrink_to(self.entries.len() * 2);
        }
    }

    /// The message at a position; positions before the first count as the first.
    pub(crate) fn at(&self, position: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(position.saturating_sub(self.base)).ok()?)
    }

    /// The position of the oldest message.
    pub(crate) const fn start(&self) -> u64 {
        self.base
    }

    /// The position of the first message above a sequence.
    pub(crate) fn above(&self, sequence: u64) -> u64 {
        self.base + self.entries.partition_point(|entry| entry.sequence <= sequence) as u64
    }

    /// The message with this sequence.
    pub(crate) fn find(&self, sequence: u64) -> Option<&Entry> {
        let at = self.entries.binary_search_by_key(&sequence, |entry| entry.sequence).ok()?;
        self.entries.get(at)
    }

    /// The messages, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// The messages from a position on.
    pub(crate) fn from(&self, position: u64) -> impl Iterator<Item = &Entry> {
        let skip = usize::try_from(position.saturating_sub(self.base)).unwrap_or(usize::MAX);
        self.entries.range(skip.min(self.entries.len())..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(sequence: u64) -> Entry {
        let place = Place { epoch: 1, offset: 0, length: 32 };
        Entry { sequence, time: Timestamp::ZERO, key: 0, place }
    }

    #[test]
    fn positions_stay_when_the_front_goes() {
        let mut index = Index::default();
        for sequence in [3, 5, 9] {
            index.push(entry(sequence));
        }
        index.pop_front();
        assert_eq!(index.at(1), Some(&entry(5)));
        assert_eq!(index.at(0), Some(&entry(5)));
        assert_eq!((index.above(5), index.above(9)), (2, 3));
        assert_eq!(index.find(9), Some(&entry(9)));
        assert_eq!(index.find(3), None);
        assert_eq!(index.from(2).count(), 1);
    }
}
