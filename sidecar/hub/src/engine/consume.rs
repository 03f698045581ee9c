//! Delivering messages, and what becomes of them.

use bytes::Bytes;
use kontrol_core::{backoff, time::Timestamp};

use super::{Engine, Landing, publish::find_message};
use crate::{
    api::{Delivery, Nak, Notify, Who},
    error::Error,
    index::Entry,
    log::Purpose,
    receipt::Receipt,
    record::item::{self, Item},
    subscription::Flight,
};

/// Names an open consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handle {
    /// Unique within one run of the hub.
    pub(crate) consumer: u64,
    /// Its subscription.
    pub(crate) subscription: u32,
}

impl Engine {
    /// Opens a consumer.
    pub(crate) fn subscribe(
        &mut self,
        (namespace, topic, subscription): (&str, &str, &str),
        who: Who,
        credits: u64,
        notify: Notify,
    ) -> Result<Handle, Error> {
        self.check()?;
        let number = self.state.find(namespace, topic).ok_or_else(|| Error::UnknownTopic {
            namespace: namespace.to_owned(),
            topic: topic.to_owned(),
        })?;
        self.raise_fence(&who.instance, who.incarnation)?;
        let consumer = self.next_consumer;
        let subscriptions = self.state.topics.get_mut(&number).map(|topic| topic.subscriptions.iter_mut());
        let found = subscriptions.into_iter().flatten().find(|known| known.name == subscription);
        let Some(found) = found else {
            return Err(Error::UnknownSubscription {
                topic: topic.to_owned(),
                subscription: subscription.to_owned(),
            });
        };
        found.open(consumer, who, credits, notify);
        self.next_consumer += 1;
        Ok(Handle { consumer, subscription: found.id })
    }

    /// Ends consumers of a lower incarnation, or refuses one that is itself lower.
    fn raise_fence(&mut self, instance: &str, incarnation: u64) -> Result<(), Error> {
        let fence = self.fences.get(instance).copied().unwrap_or(0);
        if incarnation < fence {
            return Err(Error::Fenced { instance: instance.to_owned(), incarnation, fence });
        }
        if incarnation > fence {
            self.fence(instance, incarnation);
        }
        Ok(())
    }

    /// Raises the fence of an instance.
    pub(crate) fn fence(&mut self, instance: &str, fence: u64) {
        if self.fences.get(instance).is_some_and(|known| *known >= fence) {
            return;
        }
        self.fences.insert(instance.to_owned(), fence);
        let visible = self.log.durable();
        for topic in self.state.topics.values_mut() {
            for subscription in &mut topic.subscriptions {
                let fenced: Vec<_> = subscription
                    .consumers
                    .iter()
                    .filter(|(_, open)| open.who.instance == instance && open.who.incarnation < fence)
                    .map(|(consumer, open)| (*consumer, open.who.incarnation))
                    .collect();
                for (consumer, incarnation) in fenced {
                    let reason = Error::Fenced { instance: instance.to_owned(), incarnation, fence };
                    self.ended.insert(consumer, reason);
                    self.notices.extend(subscription.notify_of(consumer));
                    subscription.close(consumer);
                }
                subscription.notices(&topic.index, visible, &mut self.notices);
            }
        }
    }

    /// Ends a consumer; what it had in flight is delivered again at once, and the attempts do not count.
    pub(crate) fn unsubscribe(&mut self, handle: Handle) {
        self.ended.remove(&handle.consumer);
        let visible = self.log.durable();
        if let Some((topic, at)) = self.state.subscription(handle.subscription) {
            let subscription = &mut topic.subscriptions[at];
            subscription.close(handle.consumer);
            subscription.notices(&topic.index, visible, &mut self.notices);
        }
    }

    /// Adds credits.
    pub(crate) fn credit(&mut self, handle: Handle, messages: u64) {
        let visible = self.log.durable();
        if let Some((topic, at)) = self.state.subscription(handle.subscription) {
            let subscription = &mut topic.subscriptions[at];
            if let Some(consumer) = subscription.consumers.get_mut(&handle.consumer) {
                consumer.credits = consumer.credits.saturating_add(messages);
            }
            subscription.notices(&topic.index, visible, &mut self.notices);
        }
    }

    fn check_consumer(&mut self, handle: Handle) -> Result<(), Error> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone().into());
        }
        if self.closed {
            return Err(Error::Closing);
        }
        if let Some(reason) = self.ended.get(&handle.consumer) {
            return Err(reason.clone());
        }
        let open = self.state.subscription(handle.subscription);
        let open =
            open.is_some_and(|(topic, at)| topic.subscriptions[at].consumers.contains_key(&handle.consumer));
        if open { Ok(()) } else { Err(Error::Closing) }
    }

    /// Hands out up to `max` messages.
    pub(crate) fn deliver(
        &mut self,
        now: Timestamp,
        handle: Handle,
        max: usize,
    ) -> Result<Vec<Delivery>, Error> {
        self.check_consumer(handle)?;
        let now = self.log.clock(now);
        let mut deliveries = Vec::new();
        self.expire(handle.subscription, now);
        let visible = self.log.durable();
        while deliveries.len() < max {
            let Some((topic, at)) = self.state.subscription(handle.subscription) else { break };
            let subscription = &mut topic.subscriptions[at];
            subscription.asked(handle.consumer);
            let deadline = now.plus(topic.config.ack_timeout);
            let max_attempts = topic.config.retry.limit.saturating_add(1);
            let number = self.next_delivery;
            let next = subscription.deliver(handle.consumer, number, deadline, &topic.index, visible);
            let Some((entry, attempt)) = next else { break };
            self.next_delivery += 1;
            let bytes = self.read(&entry)?;
            let found = find_message(&bytes, &entry).map(|(event, extensions)| {
                let start = event.as_ptr() as usize - bytes.as_ptr() as usize;
                (start..start + event.len(), item::extensions(extensions))
            });
            let Some((range, extensions)) = found else { return Err(self.damaged(&entry)) };
            deliveries.push(Delivery {
                delivery: number,
                sequence: entry.sequence,
                stored: entry.time,
                attempt,
                max_attempts,
                event: Bytes::from(bytes).slice(range),
                extensions,
            });
            self.due(deadline);
        }
        self.stats.delivered += deliveries.len() as u64;
        Ok(deliveries)
    }

    fn flight(&mut self, handle: Handle, delivery: u64) -> Result<(u64, Flight), Error> {
        self.check_consumer(handle)?;
        let found = self.state.subscription(handle.subscription);
        let found = found.and_then(|(topic, at)| topic.subscriptions[at].flight(handle.consumer, delivery));
        found.ok_or(Error::UnknownDelivery { delivery })
    }

    /// Settles a message for good.
    pub(crate) fn ack(
        &mut self,
        now: Timestamp,
        handle: Handle,
        delivery: u64,
    ) -> Result<Receipt<()>, Error> {
        let (sequence, _) = self.flight(handle, delivery)?;
        let subscription = handle.subscription;
        self.append_item(now, &Item::Settled { subscription, sequence }, Purpose::Settle)?;
        self.settled(subscription, sequence);
        self.stats.acknowledged += 1;
        Ok(self.receipt(()))
    }

    /// A settlement was appended: puts it in force, and what follows from it when it is durable.
    pub(super) fn settled(&mut self, subscription: u32, sequence: u64) {
        let Some((topic, at)) = self.state.subscription(subscription) else { return };
        let settled = &mut topic.subscriptions[at];
        let in_flight = settled.is_in_flight(sequence);
        let key = settled.settle(sequence, &topic.index);
        topic.trim();
        if in_flight {
            self.gathering.landings.push(Landing::Flight { subscription, sequence });
        } else if let Some(key) = key {
            self.gathering.landings.push(Landing::Key { subscription, key });
        }
    }

    /// Takes a message back: to be tried again after a pause, or to be given up.
    pub(crate) fn nak(
        &mut self,
        now: Timestamp,
        handle: Handle,
        delivery: u64,
        nak: &Nak<'_>,
    ) -> Result<Receipt<()>, Error> {
        let (sequence, flight) = self.flight(handle, delivery)?;
        let now = self.log.clock(now);
        let jitter = self.random();
        let Some((topic, _)) = self.state.subscription(handle.subscription) else {
            return Err(Error::UnknownDelivery { delivery });
        };
        if nak.counts && flight.attempt > topic.config.retry.limit {
            return self.give_up(now, handle.subscription, sequence, nak.reason);
        }
        let pause = nak.delay.unwrap_or_else(|| {
            let counted = flight.attempt - 1;
            backoff::pause(&topic.config.retry.backoff, counted, jitter)
        });
        let due = (!pause.is_zero()).then(|| now.plus(pause));
        if nak.counts {
            self.note_attempt(now, handle.subscription, sequence, flight.attempt)?;
        }
        self.gave_back(handle.subscription, sequence, due, nak.counts);
        Ok(self.receipt(()))
    }

    /// Writes down how often a message was tried. In a full hub the count lives in memory alone.
    fn note_attempt(
        &mut self,
        now: Timestamp,
        subscription: u32,
        sequence: u64,
        attempts: u32,
    ) -> Result<(), Error> {
        match self.append_item(now, &Item::Tried { subscription, sequence, attempts }, Purpose::Publish) {
            Ok(_) | Err(Error::Busy { .. } | Error::StorageFull { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn gave_back(&mut self, subscription: u32, sequence: u64, due: Option<Timestamp>, counts: bool) {
        let visible = self.log.durable();
        if let Some((topic, at)) = self.state.subscription(subscription) {
            let waiting = &mut topic.subscriptions[at];
            waiting.give_back(sequence, due, counts);
            waiting.notices(&topic.index, visible, &mut self.notices);
        }
        if let Some(due) = due {
            self.due(due);
        }
    }

    /// The deliveries of a consumer whose leases have ended since it last asked.
    pub(crate) fn lapsed(&mut self, handle: Handle) -> Vec<u64> {
        let found = self.state.subscription(handle.subscription);
        found.map(|(topic, at)| topic.subscriptions[at].lapsed(handle.consumer)).unwrap_or_default()
    }

    /// Starts a lease over.
    pub(crate) fn progress(&mut self, now: Timestamp, handle: Handle, delivery: u64) -> Result<(), Error> {
        let (sequence, _) = self.flight(handle, delivery)?;
        let now = self.log.clock(now);
        if let Some((topic, at)) = self.state.subscription(handle.subscription) {
            let deadline = now.plus(topic.config.ack_timeout);
            topic.subscriptions[at].extend(sequence, deadline);
        }
        Ok(())
    }

    /// Gives a message up at once.
    pub(crate) fn term(
        &mut self,
        now: Timestamp,
        handle: Handle,
        delivery: u64,
        reason: &str,
    ) -> Result<Receipt<()>, Error> {
        let (sequence, _) = self.flight(handle, delivery)?;
        self.give_up(now, handle.subscription, sequence, reason)
    }

    /// Settles a message and moves it to the dead letter topic, in one record. Where segments are so small that the letter fits into none, the
    /// message is dropped: otherwise it would come back for ever.
    fn give_up(
        &mut self,
        now: Timestamp,
        subscription: u32,
        sequence: u64,
        reason: &str,
    ) -> Result<Receipt<()>, Error> {
        let now = self.log.clock(now);
        let mut body = std::mem::take(&mut self.body);
        body.clear();
        Item::Settled { subscription, sequence }.put(&mut body);
        let settled = body.len();
        let mut letter = self.put_letter(subscription, sequence, reason, &mut body);
        if body.len() > self.log.largest_body() && matches!(letter, Ok(Some(_))) {
            tracing::warn!(sequence, "a dead letter is larger than a segment takes: it is dropped");
            body.truncate(settled);
            letter = Ok(None);
        }
        let first = self.log.sequence();
        let placed = letter.and_then(|letter| {
            let messages = u64::from(letter.is_some());
            self.append(now, &body, messages, Purpose::Settle).map(|place| (letter, place))
        });
        self.body = body;
        let (letter, place) = placed?;
        self.settled(subscription, sequence);
        if let Some((topic, at)) = self.state.subscription(subscription) {
            let given_up = &mut topic.subscriptions[at];
            given_up.dead_lettered += 1;
            given_up.dropped += u64::from(letter.is_none());
        }
        if let Some((letters, key)) = letter {
            self.arrive(letters, Entry { sequence: first, time: now, key, place }, 0);
        }
        Ok(self.receipt(()))
    }

    /// Ends the leases that are due: an attempt that nobody spoke for counts, and the message is delivered again at once.
    pub(super) fn end_leases(&mut self, now: Timestamp, subscription: u32) {
        loop {
            let Some((topic, at)) = self.state.subscription(subscription) else { return };
            let limit = topic.config.retry.limit;
            let Some((sequence, flight)) = topic.subscriptions[at].overdue(now) else { return };
            let ended = if flight.attempt > limit {
                self.give_up(now, subscription, sequence, "its lease ended").map(drop)
            } else {
                let noted = self.note_attempt(now, subscription, sequence, flight.attempt);
                noted.map(|()| self.gave_back(subscription, sequence, None, true))
            };
            let Some((topic, at)) = self.state.subscription(subscription) else { return };
            if ended.is_ok() {
                self.notices.extend(topic.subscriptions[at].lapse(&flight));
            } else {
                // Nothing can be written now: the lease goes on, and the next tick tries again.
                topic.subscriptions[at].extend(sequence, now.plus(std::time::Duration::from_secs(1)));
            }
        }
    }
}
