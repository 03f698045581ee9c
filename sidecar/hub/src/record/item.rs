//! What records say.

use super::{Header, Kind, u32_at, u64_at};
use crate::index::{Entry, Place};

/// One fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item<'a> {
    /// A message of a topic. Its sequence is that of the record, plus the number of messages before it in the record.
    Message {
        /// The topic.
        topic: u32,
        /// The hash of the ordering key; 0: none.
        key: u64,
        /// The hash of (source, id); 0: not deduplicated.
        id: u128,
        /// Extension attributes to be added, as [`extensions`] writes them.
        extensions: &'a [u8],
        /// The event.
        event: &'a [u8],
    },
    /// A subscription is done with a message.
    Settled {
        /// The subscription.
        subscription: u32,
        /// The message.
        sequence: u64,
    },
    /// A message was tried this often in a subscription.
    Tried {
        /// The subscription.
        subscription: u32,
        /// The message.
        sequence: u64,
        /// Attempts that count.
        attempts: u32,
    },
    /// A topic is declared, or declared anew.
    Topic {
        /// Its number.
        topic: u32,
        /// Its configuration, JSON.
        config: &'a [u8],
    },
    /// A topic is no longer declared.
    TopicRemoved {
        /// Its number.
        topic: u32,
    },
    /// A subscription is declared.
    Subscription {
        /// Its number.
        subscription: u32,
        /// Its topic.
        topic: u32,
        /// Its name.
        name: &'a str,
    },
    /// A subscription is no longer declared.
    SubscriptionRemoved {
        /// Its number.
        subscription: u32,
    },
    /// Where a subscription stands: all messages up to the floor are settled, and those of the set.
    Floor {
        /// The subscription.
        subscription: u32,
        /// The floor.
        floor: u64,
        /// Settled sequences above it, as [`sequences`] writes them.
        settled: &'a [u8],
    },
    /// The numbers that were given out, so that none is given twice.
    Numbers {
        /// The next topic's.
        topic: u32,
        /// The next subscription's.
        subscription: u32,
    },
}

fn field(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(bytes);
}

impl Item<'_> {
    /// Appends the item.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Message { topic, key, id, extensions, event } => {
                out.push(1);
                out.extend_from_slice(&topic.to_le_bytes());
                out.extend_from_slice(&key.to_le_bytes());
                out.extend_from_slice(&id.to_le_bytes());
                field(out, extensions);
                field(out, event);
            }
            Self::Settled { subscription, sequence } => {
                out.push(2);
                out.extend_from_slice(&subscription.to_le_bytes());
                out.extend_from_slice(&sequence.to_le_bytes());
            }
            Self::Tried { subscription, sequence, attempts } => {
                out.push(3);
                out.extend_from_slice(&subscription.to_le_bytes());
                out.extend_from_slice(&sequence.to_le_bytes());
                out.extend_from_slice(&attempts.to_le_bytes());
            }
            Self::Topic { topic, config } => {
                out.push(4);
                out.extend_from_slice(&topic.to_le_bytes());
                field(out, config);
            }
            Self::TopicRemoved { topic } => {
                out.push(5);
                out.extend_from_slice(&topic.to_le_bytes());
            }
            Self::Subscription { subscription, topic, name } => {
                out.push(6);
                out.extend_from_slice(&subscription.to_le_bytes());
                out.extend_from_slice(&topic.to_le_bytes());
                field(out, name.as_bytes());
            }
            Self::SubscriptionRemoved { subscription } => {
                out.push(7);
                out.extend_from_slice(&subscription.to_le_bytes());
            }
            Self::Floor { subscription, floor, settled } => {
                out.push(8);
                out.extend_from_slice(&subscription.to_le_bytes());
                out.extend_from_slice(&floor.to_le_bytes());
                field(out, settled);
            }
            Self::Numbers { topic, subscription } => {
                out.push(9);
                out.extend_from_slice(&topic.to_le_bytes());
                out.extend_from_slice(&subscription.to_le_bytes());
            }
        }
    }
}

/// The items of a record's body. `None` where the body is none: a record whose checksum holds was written by another version.
#[derive(Debug)]
pub(crate) struct Items<'a>(&'a [u8]);

impl<'a> Items<'a> {
    /// Reads a body.
    pub(crate) const fn of(body: &'a [u8]) -> Self {
        Self(body)
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4).map(|bytes| u32_at(bytes, 0))
    }

    fn u64(&mut self) -> Option<u64> {
        self.take(8).map(|bytes| u64_at(bytes, 0))
    }

    fn u128(&mut self) -> Option<u128> {
        let bytes = self.take(16)?;
        Some(u128::from(u64_at(bytes, 0)) | u128::from(u64_at(bytes, 8)) << 64)
    }

    fn field(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    fn item(&mut self) -> Option<Item<'a>> {
        Some(match self.take(1)?[0] {
            1 => Item::Message {
                topic: self.u32()?,
                key: self.u64()?,
                id: self.u128()?,
                extensions: self.field()?,
                event: self.field()?,
            },
            2 => Item::Settled { subscription: self.u32()?, sequence: self.u64()? },
            3 => Item::Tried { subscription: self.u32()?, sequence: self.u64()?, attempts: self.u32()? },
            4 => Item::Topic { topic: self.u32()?, config: self.field()? },
            5 => Item::TopicRemoved { topic: self.u32()? },
            6 => Item::Subscription {
                subscription: self.u32()?,
                topic: self.u32()?,
                name: std::str::from_utf8(self.field()?).ok()?,
            },
            7 => Item::SubscriptionRemoved { subscription: self.u32()? },
            8 => Item::Floor { subscription: self.u32()?, floor: self.u64()?, settled: self.field()? },
            9 => Item::Numbers { topic: self.u32()?, subscription: self.u32()? },
            _ => return None,
        })
    }
}

impl<'a> Iterator for Items<'a> {
    /// An item, or that there is something which is none.
    type Item = Option<Item<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        // Nothing but padding is left.
        if self.0.first().is_none_or(|tag| *tag == 0) {
            return None;
        }
        let item = self.item();
        if item.is_none() {
            self.0 = &[];
        }
        Some(item)
    }
}

/// Tells of each message in a record: its topic, and what the index keeps of it.
pub(crate) fn each_message(header: &Header, body: &[u8], place: Place, mut each: impl FnMut(u32, Entry)) {
    if header.kind != Kind::Data {
        return;
    }
    let mut sequence = header.sequence;
    for item in Items::of(body).flatten() {
        if let Item::Message { topic, key, .. } = item {
            each(topic, Entry { sequence, time: header.time, key, place });
            sequence += 1;
        }
    }
}

/// Writes extension attributes.
pub(crate) fn put_extensions(out: &mut Vec<u8>, pairs: &[(&str, &str)]) {
    for (name, value) in pairs {
        field(out, name.as_bytes());
        field(out, value.as_bytes());
    }
}

/// Reads what [`put_extensions`] wrote.
pub(crate) fn extensions(bytes: &[u8]) -> Vec<(String, String)> {
    let mut rest = Items(bytes);
    let mut pairs = Vec::new();
    while let (Some(name), Some(value)) = (rest.field(), rest.field()) {
        pairs.push((String::from_utf8_lossy(name).into_owned(), String::from_utf8_lossy(value).into_owned()));
    }
    pairs
}

/// Writes ascending numbers as runs: the gap since the last run and the run's length, seven bits a byte.
pub(crate) fn put_sequences(out: &mut Vec<u8>, floor: u64, sequences: impl Iterator<Item = u64>) {
    fn put(out: &mut Vec<u8>, mut number: u64) {
        while number >= 0x80 {
            out.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        out.push((number & 0x7f) as u8);
    }
    let mut end = floor;
    let mut run: Option<(u64, u64)> = None;
    for sequence in sequences {
        match &mut run {
            Some((_, last)) if *last + 1 == sequence => *last = sequence,
            _ => {
                if let Some((first, last)) = run.replace((sequence, sequence)) {
                    put(out, first - end);
                    put(out, last - first);
                    end = last;
                }
            }
        }
    }
    if let Some((first, last)) = run {
        put(out, first - end);
        put(out, last - first);
    }
}

/// Reads what [`put_sequences`] wrote.
pub(crate) fn sequences(floor: u64, mut bytes: &[u8]) -> Vec<u64> {
    fn get(bytes: &mut &[u8]) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = bytes.split_first()?;
            *bytes = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }
    let mut found = Vec::new();
    let mut end = floor;
    while let (Some(gap), Some(more)) = (get(&mut bytes), get(&mut bytes)) {
        let first = end.saturating_add(gap);
        end = first.saturating_add(more);
        found.extend(first..=end);
    }
    found
}
