//! Storing messages.

use kontrol_core::{limits, spec::Overflow, time::Timestamp};

use super::{Engine, Landing};
use crate::{
    api::{Publish, Published, dead_letter},
    dedup::{id_hash, key_hash},
    error::Error,
    index::Entry,
    log::Purpose,
    receipt::Receipt,
    record::{
        self,
        item::{Item, Items, put_extensions},
    },
};

/// Bytes of a reason that a dead letter carries; what a widget says beyond them is cut off.
const REASON: usize = 1 << 10;

/// What is to become of one message of a batch.
#[derive(Debug)]
pub(super) struct Plan {
    topic: u32,
    key: u64,
    id: u128,
    outcome: Outcome,
    victims: Vec<Victim>,
}

#[derive(Clone, Copy, Debug)]
enum Outcome {
    /// It is stored.
    New,
    /// It is a duplicate of a stored message.
    Of(u64),
    /// It is a duplicate of the message that is the `nth` new one of its batch.
    Within(u64),
}

/// A message that is dropped to make room.
#[derive(Clone, Copy, Debug)]
struct Victim {
    subscription: u32,
    sequence: u64,
}

impl Engine {
    /// Stores all messages of a batch in one record, or none.
    pub(crate) fn publish(
        &mut self,
        now: Timestamp,
        batch: &[Publish<'_>],
    ) -> Result<Receipt<Vec<Published>>, Error> {
        self.check()?;
        let now = self.log.clock(now);
        let mut plans = std::mem::take(&mut self.plans);
        let mut body = std::mem::take(&mut self.body);
        plans.clear();
        body.clear();
        let result =
            self.plan(now, batch, &mut plans).and_then(|()| self.store(now, batch, &plans, &mut body));
        for plan in &plans {
            if let Some(topic) = self.state.topics.get_mut(&plan.topic) {
                topic.planned = 0;
                topic.subscriptions.iter_mut().for_each(|subscription| subscription.planned = 0);
            }
        }
        self.plans = plans;
        self.body = body;
        result
    }

    /// Decides about each message; changes nothing but the plans and the counts of what is planned.
    fn plan(&mut self, now: Timestamp, batch: &[Publish<'_>], plans: &mut Vec<Plan>) -> Result<(), Error> {
        for message in batch {
            let id = self.state.find(message.namespace, message.topic);
            let known = id.and_then(|id| self.state.topics.get_mut(&id).map(|topic| (id, topic)));
            let (number, topic) = known.ok_or_else(|| Error::UnknownTopic {
                namespace: message.namespace.to_owned(),
                topic: message.topic.to_owned(),
            })?;
            let size = message.event.len() as u64;
            let limit = topic.config.max_message.min(limits::largest_message(self.config.storage.segment));
            if size > limit {
                return Err(Error::TooLarge { topic: message.topic.to_owned(), size, limit });
            }
            let deduplicated = topic.dedup.is_on() && !message.id.is_empty();
            let id = if deduplicated { id_hash(message.source, message.id) } else { 0 };
            let ordered = topic.config.key.is_some() && !message.key.is_empty();
            let key = if ordered { key_hash(message.key) } else { 0 };
            let first = if deduplicated { topic.dedup.find(id, now) } else { None };
            let within = || {
                let mut nth = 0;
                plans.iter().find_map(|plan| {
                    let is_new = matches!(plan.outcome, Outcome::New);
                    nth += u64::from(is_new);
                    (is_new && plan.topic == number && plan.id == id).then(|| nth - 1)
                })
            };
            let outcome = match first {
                Some(sequence) => Outcome::Of(sequence),
                None if deduplicated && batch.len() > 1 => within().map_or(Outcome::New, Outcome::Within),
                None => Outcome::New,
            };
            let mut victims = Vec::new();
            if matches!(outcome, Outcome::New) {
                let buffer = topic.config.buffer;
                for subscription in &mut topic.subscriptions {
                    let depth = subscription.waits() + topic.planned - subscription.planned as u64;
                    if depth < buffer.limit {
                        continue;
                    }
                    match buffer.overflow {
                        Overflow::RejectNew => {
                            plans.push(Plan { topic: number, key, id, outcome, victims });
                            return Err(Error::Full {
                                topic: message.topic.to_owned(),
                                subscription: subscription.name.clone(),
                                depth,
                                limit: buffer.limit,
                            });
                        }
                        Overflow::DropOldest => {
                            let oldest = subscription.waiting(&topic.index).nth(subscription.planned);
                            if let Some(sequence) = oldest {
                                subscription.planned += 1;
                                victims.push(Victim { subscription: subscription.id, sequence });
                            }
                        }
                    }
                }
                topic.planned += 1;
            }
            plans.push(Plan { topic: number, key, id, outcome, victims });
        }
        Ok(())
    }

    /// Writes what was planned into one record and puts it in force.
    fn store(
        &mut self,
        now: Timestamp,
        batch: &[Publish<'_>],
        plans: &[Plan],
        body: &mut Vec<u8>,
    ) -> Result<Receipt<Vec<Published>>, Error> {
        let base = self.log.sequence();
        let mut messages = 0;
        for (plan, message) in plans.iter().zip(batch) {
            if matches!(plan.outcome, Outcome::New) {
                let Plan { topic, key, id, .. } = *plan;
                Item::Message { topic, key, id, extensions: &[], event: message.event }.put(body);
                messages += 1;
            }
        }
        let new = messages;
        let mut letters = Vec::new();
        for victim in plans.iter().flat_map(|plan| &plan.victims) {
            let letter = self.put_victim(*victim, body)?;
            messages += u64::from(letter.is_some());
            letters.push(letter);
        }
        if messages == 0 {
            return Ok(self.only_duplicates(plans));
        }
        if body.len() > self.log.largest_body() {
            let (topic, limit) = (batch[0].topic.to_owned(), self.log.largest_body() as u64);
            return Err(Error::TooLarge { topic, size: body.len() as u64, limit });
        }
        let place = self.append(now, body, messages, Purpose::Publish)?;

        let mut results = Vec::with_capacity(plans.len());
        let mut next = base;
        let mut lettered = letters.iter().map(Option::is_some);
        for plan in plans {
            let mut result = Published::default();
            match plan.outcome {
                Outcome::Of(sequence) => (result.sequence, result.duplicate) = (sequence, true),
                Outcome::Within(nth) => (result.sequence, result.duplicate) = (base + nth, true),
                Outcome::New => {
                    result.sequence = next;
                    result.dropped = plan.victims.len() as u64;
                    for (victim, lettered) in plan.victims.iter().zip(&mut lettered) {
                        result.dropped_by.extend(self.drop_victim(*victim, lettered));
                    }
                    self.arrive(
                        plan.topic,
                        Entry { sequence: next, time: now, key: plan.key, place },
                        plan.id,
                    );
                    next += 1;
                }
            }
            self.stats.duplicates += u64::from(result.duplicate);
            results.push(result);
        }
        for (at, (topic, key)) in letters.into_iter().flatten().enumerate() {
            let sequence = base + new + at as u64;
            self.arrive(topic, Entry { sequence, time: now, key, place }, 0);
        }
        self.stats.published += new;
        Ok(self.receipt(results))
    }

    fn only_duplicates(&mut self, plans: &[Plan]) -> Receipt<Vec<Published>> {
        let mut last = 0;
        let published = |plan: &Plan| {
            let Outcome::Of(sequence) = plan.outcome else { return Published::default() };
            last = last.max(sequence);
            Published { sequence, duplicate: true, ..Published::default() }
        };
        let results: Vec<_> = plans.iter().map(published).collect();
        self.stats.duplicates += results.len() as u64;
        Receipt::when(if results.is_empty() { None } else { self.log.pending_for(last) }, results)
    }

    /// A message was appended to a topic.
    pub(super) fn arrive(&mut self, topic: u32, entry: Entry, id: u128) {
        if let Some(known) = self.state.topics.get_mut(&topic) {
            known.arrived(entry);
            if id != 0 {
                known.dedup.insert(id, entry.sequence, entry.time);
            }
        }
        self.touch(topic);
    }

    /// Settles a message that makes room, and moves it to the dead letter topic if there is one; returns that topic and the message's key. Where
    /// the record has no room for the letter, the message is lost: a publisher is not refused for what it did not send.
    fn put_victim(&mut self, victim: Victim, body: &mut Vec<u8>) -> Result<Option<(u32, u64)>, Error> {
        let Victim { subscription, sequence } = victim;
        Item::Settled { subscription, sequence }.put(body);
        let settled = body.len();
        let letter = self.put_letter(subscription, sequence, "dropped: the buffer was full", body)?;
        if letter.is_some() && body.len() > self.log.largest_body() {
            tracing::warn!(sequence, "a record has no room for a dead letter: the message is dropped");
            body.truncate(settled);
            return Ok(None);
        }
        Ok(letter)
    }

    /// Puts in force that a message has made room; returns the subscription's name. Moved to a dead letter topic, it is not lost.
    fn drop_victim(&mut self, victim: Victim, lettered: bool) -> Option<String> {
        let Victim { subscription, sequence } = victim;
        let (topic, at) = self.state.subscription(subscription)?;
        let dropping = &mut topic.subscriptions[at];
        if lettered {
            dropping.dead_lettered += 1;
        } else {
            dropping.dropped += 1;
        }
        let name = dropping.name.clone();
        let key = dropping.settle(sequence, &topic.index);
        topic.trim();
        self.gathering.landings.extend(key.map(|key| Landing::Key { subscription, key }));
        Some(name)
    }

    /// Adds a copy of a message for the dead letter topic of its subscription; returns that topic and the message's key. `None`: there
    /// is no such topic.
    pub(super) fn put_letter(
        &mut self,
        subscription: u32,
        sequence: u64,
        reason: &str,
        body: &mut Vec<u8>,
    ) -> Result<Option<(u32, u64)>, Error> {
        let Some((topic, at)) = self.state.subscription(subscription) else { return Ok(None) };
        let Some(entry) = topic.index.find(sequence).copied() else { return Ok(None) };
        let name = topic.subscriptions[at].name.clone();
        let attempts = topic.subscriptions[at].tried(sequence);
        let from = topic.config.id.clone();
        let letters = topic.config.dead_letter.clone();
        let letters = letters.and_then(|letters| self.state.find(from.namespace.as_str(), letters.as_str()));
        let Some(letters) = letters else { return Ok(None) };
        let bytes = self.read(&entry)?;
        let (event, _) = find_message(&bytes, &entry).ok_or_else(|| self.damaged(&entry))?;
        let mut extensions = Vec::new();
        let pairs = [
            (dead_letter::TOPIC, from.to_string()),
            (dead_letter::SUBSCRIPTION, name),
            (dead_letter::REASON, reason[..reason.floor_char_boundary(REASON)].to_owned()),
            (dead_letter::ATTEMPTS, attempts.to_string()),
            (dead_letter::SEQUENCE, sequence.to_string()),
        ];
        for (name, value) in &pairs {
            put_extensions(&mut extensions, &[(name, value)]);
        }
        Item::Message { topic: letters, key: entry.key, id: 0, extensions: &extensions, event }.put(body);
        Ok(Some((letters, entry.key)))
    }

    /// Reads the record of a message. A disk that does not give back what was durable ends the hub.
    pub(super) fn read(&mut self, entry: &Entry) -> Result<Vec<u8>, Error> {
        self.log.read(entry.place).map_err(|error| {
            self.fail(&format!("message {} cannot be read: {error}", entry.sequence));
            self.check().err().unwrap_or(Error::Closing)
        })
    }

    pub(super) fn damaged(&mut self, entry: &Entry) -> Error {
        let file = crate::segment::name(entry.place.epoch);
        self.fail(&format!("{file} is damaged at byte {}: message {}", entry.place.offset, entry.sequence));
        self.check().err().unwrap_or(Error::Closing)
    }
}

/// The event and the extensions of a message within its record.
pub(super) fn find_message<'a>(bytes: &'a [u8], entry: &Entry) -> Option<(&'a [u8], &'a [u8])> {
    let (header, body, _) = record::parse(bytes, entry.place.epoch, entry.place.offset).ok()?;
    let mut left = entry.sequence.checked_sub(header.sequence)?;
    for item in Items::of(body) {
        if let Item::Message { event, extensions, .. } = item? {
            if left == 0 {
                return Some((event, extensions));
            }
            left -= 1;
        }
    }
    None
}
