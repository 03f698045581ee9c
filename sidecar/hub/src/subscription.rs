//! One durable subscription of a topic: what is settled, what is in flight and under which lease, what waits and for what. Pure: time is
//! an argument, and what has to be written comes back to the caller.
//!
//! ```text
//!              cursor                    lease ends, nak, consumer gone
//!   index ───────┬──► in flight ──────────────────┐
//!                │        │ ack                   ▼
//!                │        ▼              ready · delayed (retry)
//!                └──► behind its key ──► in flight when the key is free
//! ```
//!
//! A message is *settled* from the moment its settlement is appended to the log, and its key is *free* when that is durable: no later
//! message of a key is seen before the settlement of an earlier one can no longer be lost.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use kontrol_core::time::Timestamp;

use crate::{
    api::{Notify, Who},
    dedup::HashedMap,
    index::{Entry, Index},
};

mod consumers;
mod figures;

/// Why a message that was passed by the cursor is not in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parked {
    /// It can be delivered.
    Ready,
    /// It waits for its retry.
    Delayed(Timestamp),
    /// An earlier message of its key is not settled.
    Behind,
}

/// A message in the hands of a consumer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flight {
    /// The consumer.
    pub(crate) consumer: u64,
    /// The number of the delivery.
    pub(crate) delivery: u64,
    /// Which attempt it is, from 1.
    pub(crate) attempt: u32,
    /// When its lease ends.
    pub(crate) deadline: Timestamp,
    key: u64,
    settling: bool,
}

/// An open consumer.
pub(crate) struct Consumer {
    /// Who it is.
    pub(crate) who: Who,
    /// Messages that it still takes.
    pub(crate) credits: u64,
    /// Its deliveries in flight.
    pub(crate) deliveries: HashMap<u64, u64>,
    /// Its deliveries whose leases have ended, and that it was not told of.
    lapsed: Vec<u64>,
    notify: Notify,
    notified: bool,
}

/// One durable subscription.
pub(crate) struct Subscription {
    /// Its number in the log.
    pub(crate) id: u32,
    /// Its name.
    pub(crate) name: String,
    /// All messages up to here are settled.
    floor: u64,
    /// Settled messages above the floor.
    settled: BTreeSet<u64>,
    /// Attempts that count, of messages that are not settled.
    attempts: HashMap<u64, u32>,
    /// The position in the index of the next message that was never looked at.
    cursor: u64,
    parked: BTreeMap<u64, Parked>,
    ready: BTreeSet<u64>,
    delayed: BTreeSet<(Timestamp, u64)>,
    /// Keys of which a message is in flight or to be delivered next, and the later messages of each.
    keys: HashedMap<u64, VecDeque<u64>>,
    flights: HashMap<u64, Flight>,
    leases: BTreeSet<(Timestamp, u64)>,
    settling: u64,
    depth: u64,
    /// Messages that the publish which is being planned drops here.
    pub(crate) planned: usize,
    /// The open consumers.
    pub(crate) consumers: HashMap<u64, Consumer>,
    /// Messages given up.
    pub(crate) dead_lettered: u64,
    /// Messages lost.
    pub(crate) dropped: u64,
    /// Depths at earlier times, for the growth.
    samples: VecDeque<(Timestamp, u64)>,
}

impl Subscription {
    /// A subscription that has settled nothing above `floor`.
    pub(crate) fn new(id: u32, name: String) -> Self {
        Self {
            id,
            name,
            floor: 0,
            settled: BTreeSet::new(),
            attempts: HashMap::new(),
            cursor: 0,
            parked: BTreeMap::new(),
            ready: BTreeSet::new(),
            delayed: BTreeSet::new(),
            keys: HashedMap::default(),
            flights: HashMap::new(),
            leases: BTreeSet::new(),
            settling: 0,
            depth: 0,
            planned: 0,
            consumers: HashMap::new(),
            dead_lettered: 0,
            dropped: 0,
            samples: VecDeque::new(),
        }
    }

    // What the log says.

    /// All messages up to here are settled.
    pub(crate) const fn floor(&self) -> u64 {
        self.floor
    }

    /// Settled messages above the floor, ascending.
    pub(crate) fn settled_above(&self) -> impl Iterator<Item = u64> {
        self.settled.iter().copied()
    }

    /// The attempts of messages that were tried.
    pub(crate) fn attempts(&self) -> impl Iterator<Item = (u64, u32)> {
        self.attempts.iter().map(|(sequence, attempts)| (*sequence, *attempts))
    }

    /// Takes over where a checkpoint says that it stands.
    pub(crate) fn restore(&mut self, floor: u64, settled: impl IntoIterator<Item = u64>) {
        self.floor = floor;
        self.settled = settled.into_iter().collect();
    }

    /// The attempts of a message so far, the one under way included.
    pub(crate) fn tried(&self, sequence: u64) -> u32 {
        let counted = self.attempts.get(&sequence).copied().unwrap_or(0);
        self.flights.get(&sequence).map_or(counted, |flight| flight.attempt)
    }

    /// Takes over the attempts of a message.
    pub(crate) fn set_attempts(&mut self, sequence: u64, attempts: u32) {
        if !self.is_settled(sequence) {
            self.attempts.insert(sequence, attempts);
        }
    }

    /// Whether the message is settled.
    pub(crate) fn is_settled(&self, sequence: u64) -> bool {
        sequence <= self.floor || self.settled.contains(&sequence)
    }

    /// A message was appended to the topic.
    pub(crate) fn arrived(&mut self, sequence: u64) {
        if !self.is_settled(sequence) {
            self.depth += 1;
        }
    }

    /// A settlement was appended to the log. Returns the key that is free when it is durable, if the message held one and was not in
    /// flight: that of a flight is freed by [`Subscription::landed`].
    pub(crate) fn settle(&mut self, sequence: u64, index: &Index) -> Option<u64> {
        if self.is_settled(sequence) {
            return None;
        }
        self.depth = self.depth.saturating_sub(1);
        self.attempts.remove(&sequence);
        self.settled.insert(sequence);
        self.raise_floor(index);
        if let Some(flight) = self.flights.get_mut(&sequence)
            && !flight.settling
        {
            flight.settling = true;
            self.settling += 1;
            self.leases.remove(&(flight.deadline, sequence));
            return None;
        }
        self.unpark(sequence, index)
    }

    /// Takes over a settlement while the index misses messages: no floor can be told from it.
    pub(crate) fn settle_unseen(&mut self, sequence: u64) {
        if !self.is_settled(sequence) {
            self.attempts.remove(&sequence);
            self.settled.insert(sequence);
        }
    }

    fn raise_floor(&mut self, index: &Index) {
        let mut position = index.above(self.floor);
        while let Some(entry) = index.at(position) {
            if !self.settled.remove(&entry.sequence) {
                break;
            }
            self.floor = entry.sequence;
            position += 1;
        }
    }

    /// Removes a waiting message from where it waits; returns its key if it held it.
    fn unpark(&mut self, sequence: u64, index: &Index) -> Option<u64> {
        let parked = self.parked.remove(&sequence)?;
        let key = index.find(sequence).map_or(0, |entry| entry.key);
        match parked {
            Parked::Ready => {
                self.ready.remove(&sequence);
            }
            Parked::Delayed(due) => {
                self.delayed.remove(&(due, sequence));
            }
            Parked::Behind => {
                if let Some(behind) = self.keys.get_mut(&key) {
                    behind.retain(|other| *other != sequence);
                }
                return None;
            }
        }
        (key != 0).then_some(key)
    }

    /// The index was made anew: the cursor goes to the first message that was never looked at.
    pub(crate) fn place_cursor(&mut self, position: u64) {
        self.cursor = position;
    }

    /// Where the cursor stands.
    pub(crate) const fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Counts its messages anew. What the index no longer has is settled.
    pub(crate) fn recount(&mut self, index: &Index) {
        if let Some(front) = index.front() {
            self.floor = self.floor.max(front.sequence.saturating_sub(1));
            let floor = self.floor;
            self.settled.retain(|sequence| *sequence > floor);
        }
        self.depth = index.iter().filter(|entry| !self.is_settled(entry.sequence)).count() as u64;
        self.raise_floor(index);
    }

    // Delivering.

    /// The next message that can be delivered, among those below `visible`.
    fn next(&mut self, index: &Index, visible: u64) -> Option<Entry> {
        while let Some(sequence) = self.ready.pop_first() {
            self.parked.remove(&sequence);
            if let Some(entry) = index.find(sequence) {
                return Some(*entry);
            }
        }
        self.cursor = self.cursor.max(index.start());
        loop {
            let entry = *index.at(self.cursor)?;
            if entry.sequence >= visible {
                return None;
            }
            self.cursor += 1;
            if self.is_settled(entry.sequence) {
                continue;
            }
            if entry.key != 0 {
                if let Some(behind) = self.keys.get_mut(&entry.key) {
                    behind.push_back(entry.sequence);
                    self.parked.insert(entry.sequence, Parked::Behind);
                    continue;
                }
                self.keys.insert(entry.key, VecDeque::new());
            }
            return Some(entry);
        }
    }

    /// Hands the next message to a consumer, if it has credits.
    pub(crate) fn deliver(
        &mut self,
        consumer: u64,
        delivery: u64,
        deadline: Timestamp,
        index: &Index,
        visible: u64,
    ) -> Option<(Entry, u32)> {
        if self.consumers.get(&consumer).is_none_or(|consumer| consumer.credits == 0) {
            return None;
        }
        let entry = self.next(index, visible)?;
        let attempt = self.attempts.get(&entry.sequence).copied().unwrap_or(0) + 1;
        let flight = Flight { consumer, delivery, attempt, deadline, key: entry.key, settling: false };
        self.flights.insert(entry.sequence, flight);
        self.leases.insert((deadline, entry.sequence));
        if let Some(consumer) = self.consumers.get_mut(&consumer) {
            consumer.credits -= 1;
            consumer.deliveries.insert(delivery, entry.sequence);
        }
        Some((entry, attempt))
    }

    /// The flight of a delivery that its consumer can still settle.
    pub(crate) fn flight(&self, consumer: u64, delivery: u64) -> Option<(u64, Flight)> {
        let sequence = *self.consumers.get(&consumer)?.deliveries.get(&delivery)?;
        let flight = self.flights.get(&sequence)?;
        (flight.delivery == delivery && !flight.settling).then_some((sequence, *flight))
    }

    /// The settlement of a message is durable: its flight has ended.
    pub(crate) fn landed(&mut self, sequence: u64) {
        let Some(flight) = self.flights.remove(&sequence) else { return };
        self.settling -= u64::from(flight.settling);
        self.forget_delivery(&flight);
        self.free(flight.key);
    }

    fn forget_delivery(&mut self, flight: &Flight) {
        if let Some(consumer) = self.consumers.get_mut(&flight.consumer) {
            consumer.deliveries.remove(&flight.delivery);
        }
    }

    /// The key's message is settled for good: the next one of the key can be delivered.
    pub(crate) fn free(&mut self, key: u64) {
        if key == 0 {
            return;
        }
        let Some(behind) = self.keys.get_mut(&key) else { return };
        if let Some(next) = behind.pop_front() {
            self.parked.insert(next, Parked::Ready);
            self.ready.insert(next);
        } else {
            self.keys.remove(&key);
        }
    }

    /// Ends a flight: the message is to be delivered again, at `due` or at once. With `counts`, this attempt was one.
    pub(crate) fn give_back(&mut self, sequence: u64, due: Option<Timestamp>, counts: bool) {
        let Some(flight) = self.flights.remove(&sequence) else { return };
        self.leases.remove(&(flight.deadline, sequence));
        self.forget_delivery(&flight);
        if counts {
            self.attempts.insert(sequence, flight.attempt);
        }
        if let Some(due) = due {
            self.parked.insert(sequence, Parked::Delayed(due));
            self.delayed.insert((due, sequence));
        } else {
            self.parked.insert(sequence, Parked::Ready);
            self.ready.insert(sequence);
        }
    }

    /// Starts the lease of a flight over.
    pub(crate) fn extend(&mut self, sequence: u64, deadline: Timestamp) {
        if let Some(flight) = self.flights.get_mut(&sequence) {
            self.leases.remove(&(flight.deadline, sequence));
            flight.deadline = deadline;
            self.leases.insert((deadline, sequence));
        }
    }

    /// A flight whose lease has ended.
    pub(crate) fn overdue(&self, now: Timestamp) -> Option<(u64, Flight)> {
        let (_, sequence) = self.leases.first().filter(|(deadline, _)| *deadline <= now)?;
        self.flights.get(sequence).map(|flight| (*sequence, *flight))
    }

    /// Makes delayed messages ready whose time has come.
    pub(crate) fn wake_delayed(&mut self, now: Timestamp) {
        while let Some((due, sequence)) = self.delayed.first().copied().filter(|(due, _)| *due <= now) {
            self.delayed.remove(&(due, sequence));
            self.parked.insert(sequence, Parked::Ready);
            self.ready.insert(sequence);
        }
    }

    /// When something is due: a lease or a retry.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        let lease = self.leases.first().map(|(due, _)| *due);
        let retry = self.delayed.first().map(|(due, _)| *due);
        lease.into_iter().chain(retry).min()
    }

    /// Whether the message is in flight.
    pub(crate) fn is_in_flight(&self, sequence: u64) -> bool {
        self.flights.contains_key(&sequence)
    }

    /// The messages that wait, oldest first.
    pub(crate) fn waiting<'a>(&'a self, index: &'a Index) -> impl Iterator<Item = u64> + 'a {
        let passed = self.parked.keys().copied();
        let ahead = index
            .from(self.cursor)
            .map(|entry| entry.sequence)
            .filter(|sequence| !self.is_settled(*sequence));
        passed.chain(ahead)
    }
}
