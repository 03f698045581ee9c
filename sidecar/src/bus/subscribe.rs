//! Subscribing: credits, deliveries, settlements, and what becomes of them when the link breaks.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kontrol_core::code::Code;
use kontrol_proto::{Message, v1};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};

use super::{Bus, State};
use crate::{
    link::{Frame, Link},
    service::{Delivery, Error, Event, Outcome, Subscription, SubscriptionEvent},
};

/// An open subscription.
#[derive(Debug)]
pub(super) struct Entry {
    topic: String,
    name: String,
    /// Messages that may still be delivered.
    credits: u64,
    /// Added to the hub's numbers on this link, so that none is used twice.
    base: u64,
    /// The highest number given out.
    highest: u64,
    /// The stream on the present link; none: no link.
    stream: Option<u64>,
    /// Deliveries that are not settled.
    held: BTreeMap<u64, Held>,
    /// Deliveries whose settlements the widget waits to hear of, with their messages' sequences.
    confirming: BTreeMap<u64, u64>,
    opened: Option<oneshot::Sender<Result<(), Error>>>,
    /// Whether it was open on an earlier link.
    known: bool,
    events: mpsc::UnboundedSender<Result<SubscriptionEvent, Error>>,
}

/// A delivery that is not settled.
#[derive(Debug)]
struct Held {
    /// The message's place in the hub's log.
    sequence: u64,
    /// Whether the widget has taken it.
    taken: bool,
}

impl Entry {
    /// Settlements that the widget waits to hear of.
    pub(super) fn confirming(&self) -> u64 {
        self.confirming.len() as u64
    }

    /// A message comes again: the lease of its earlier delivery has ended, and what was said of that came too late. Says how many
    /// deliveries are no longer held.
    fn comes_again(&mut self, sequence: u64) -> u64 {
        let before = self.held.len();
        self.held.retain(|_, held| held.sequence != sequence);
        self.confirming.retain(|_, settled| *settled != sequence);
        (before - self.held.len()) as u64
    }

    /// Opens the subscription on a link.
    pub(super) fn open(&mut self, stream: u64, link: &Link) {
        let credits = u32::try_from(self.credits).unwrap_or(u32::MAX);
        let (topic, subscription) = (self.topic.clone(), self.name.clone());
        let frame = Frame::Subscribe(v1::LinkSubscribe { topic, subscription, credits });
        self.stream = link.push(stream, &frame).is_ok().then_some(stream);
        self.base = self.highest;
        if self.known {
            self.tell(Ok(SubscriptionEvent::Reopened));
        }
    }

    /// The link has ended, and with it every lease.
    pub(super) fn lost(&mut self) -> u64 {
        self.stream = None;
        let held = self.held.len() as u64;
        self.held.clear();
        self.confirming.clear();
        held
    }

    fn tell(&self, event: Result<SubscriptionEvent, Error>) {
        // A receiver that is gone is about to remove this entry.
        drop(self.events.send(event));
    }
}

/// What acknowledges and gives credit on a subscription.
#[derive(Clone, Debug)]
pub struct SubscriptionControl {
    bus: Arc<Bus>,
    id: u64,
    closed: Arc<AtomicBool>,
}

impl SubscriptionControl {
    /// Says what became of a delivery. With `confirm`, [`SubscriptionEvent::Settled`] follows when it is durable. Does not wait.
    pub fn settle(&self, delivery: u64, outcome: &Outcome, confirm: bool) -> Result<(), Error> {
        self.bus.settle(self.id, delivery, outcome, confirm)
    }

    /// Allows this many more messages. Does not wait.
    pub fn credit(&self, messages: u32) {
        self.bus.credit(self.id, messages);
    }

    /// The widget has taken a delivery. False: it is no longer to be worked on, since its lease is lost or the sidecar drains.
    pub(crate) fn take(&self, delivery: u64) -> bool {
        if self.bus.shared.is_draining() {
            self.give_back(delivery);
            return false;
        }
        let mut state = self.bus.lock();
        let held = state.subscriptions.get_mut(&self.id).and_then(|entry| entry.held.get_mut(&delivery));
        let Some(held) = held else {
            drop(state);
            // Its link or its lease has ended. Nobody will see it, so nobody else gives back the credit that it used.
            self.credit(1);
            return false;
        };
        held.taken = true;
        drop(state);
        self.bus.shared.stats.delivered.inc();
        true
    }

    /// Gives back a delivery that was not worked on; the attempt does not count.
    pub(crate) fn give_back(&self, delivery: u64) {
        let delay = Duration::from_millis(1);
        let outcome = Outcome::Nak { delay, reason: "not started".to_owned(), attempt_counts: false };
        // A delivery that is unknown by now has nothing to be given back.
        drop(self.settle(delivery, &outcome, false));
    }

    /// Ends the subscription: what was not taken goes back uncounted, what was taken and not settled counts unless the sidecar drains.
    pub(crate) fn close(&self) {
        if self.closed.swap(true, Ordering::Relaxed) {
            return;
        }
        self.bus.unsubscribe(self.id, None);
    }
}

impl Bus {
    /// Opens a subscription of the widget; waits for the hub until `deadline`.
    pub async fn subscribe(
        self: &Arc<Self>,
        topic: &str,
        subscription: &str,
        credits: u32,
        deadline: Instant,
    ) -> Result<Subscription, Error> {
        let config = self.shared.config();
        if config.version == 0 {
            return Err(self.not_configured(topic));
        }
        if self.shared.is_draining() {
            return Err(draining(topic));
        }
        let Some(consume) = config.consume(topic, subscription) else {
            let message = if subscription.is_empty() {
                format!("{} declares no subscription of {topic} under consumes", self.shared.widget)
            } else {
                format!(
                    "{} declares no subscription {subscription} of {topic} under consumes",
                    self.shared.widget
                )
            };
            return Err(Error::new(Code::SubscriptionNotFound, topic, message));
        };
        let (events, receiver) = mpsc::unbounded_channel();
        let (opened, open) = oneshot::channel();
        let id = self.shared.next_id();
        let mut entry = Entry {
            topic: topic.to_owned(),
            name: consume.subscription.clone(),
            credits: credits.into(),
            base: 0,
            highest: 0,
            stream: None,
            held: BTreeMap::new(),
            confirming: BTreeMap::new(),
            opened: Some(opened),
            known: false,
            events,
        };
        {
            let mut state = self.lock();
            if let Some(link) = state.link.clone() {
                let stream = self.shared.next_id();
                entry.open(stream, &link);
                state.streams.insert(stream, id);
            }
            state.subscriptions.insert(id, entry);
        }
        let control = SubscriptionControl { bus: Arc::clone(self), id, closed: Arc::default() };
        // From here on, dropping it closes it.
        let subscription = Subscription {
            topic: topic.to_owned(),
            name: consume.subscription.clone(),
            events: receiver,
            control,
        };
        match timeout_at(deadline, open).await {
            Ok(Ok(Ok(()))) => Ok(subscription),
            Ok(Ok(Err(error))) => Err(error),
            Ok(Err(_)) | Err(_) => Err(self.away(topic)),
        }
    }

    fn settle(&self, id: u64, delivery: u64, outcome: &Outcome, confirm: bool) -> Result<(), Error> {
        let mut state = self.lock();
        let State { subscriptions, link, .. } = &mut *state;
        let unknown = || {
            let message = format!("delivery {delivery} is not held: it was settled, or its lease has ended");
            Error::new(Code::UnknownDelivery, delivery.to_string(), message)
        };
        let entry = subscriptions.get_mut(&id).ok_or_else(unknown)?;
        let sequence = entry.held.get(&delivery).ok_or_else(unknown)?.sequence;
        let (Some(stream), Some(link)) = (entry.stream, link.as_ref()) else { return Err(unknown()) };
        let frame = Frame::Settle(settlement(delivery - entry.base, outcome, confirm));
        link.push(stream, &frame).map_err(|_| unknown())?;
        if outcome.is_final() {
            entry.held.remove(&delivery);
            if confirm {
                entry.confirming.insert(delivery, sequence);
            }
            drop(state);
            let stats = &self.shared.stats;
            stats.deliveries_in_flight.dec();
            match outcome {
                Outcome::Ack => stats.acked.inc(),
                Outcome::Nak { .. } => stats.naked.inc(),
                Outcome::Term { .. } => stats.termed.inc(),
                Outcome::Progress => {}
            }
            self.shared.touch();
        }
        Ok(())
    }

    fn credit(&self, id: u64, messages: u32) {
        if self.shared.is_draining() {
            return;
        }
        let mut state = self.lock();
        let State { subscriptions, link, .. } = &mut *state;
        let Some(entry) = subscriptions.get_mut(&id) else { return };
        entry.credits += u64::from(messages);
        if let (Some(stream), Some(link)) = (entry.stream, link.as_ref()) {
            // A link that has just ended gets the whole credit anew when it is back.
            drop(link.push(stream, &Frame::Credit(v1::LinkCredit { messages })));
        }
    }

    /// Ends a subscription, telling its receiver why.
    fn unsubscribe(&self, id: u64, error: Option<Error>) {
        let mut state = self.lock();
        let State { subscriptions, link, streams, .. } = &mut *state;
        let Some(entry) = subscriptions.remove(&id) else { return };
        if let (Some(stream), Some(link)) = (entry.stream, link.as_ref()) {
            streams.remove(&stream);
            let drains = self.shared.is_draining();
            for delivery in
                entry.held.iter().filter(|(_, held)| held.taken && !drains).map(|(delivery, _)| *delivery)
            {
                let reason = "the widget went away while it worked on the message".to_owned();
                let outcome = Outcome::Nak { delay: Duration::from_millis(1), reason, attempt_counts: true };
                drop(link.push(stream, &Frame::Settle(settlement(delivery - entry.base, &outcome, false))));
            }
            drop(link.push(stream, &Frame::Cancel(v1::LinkCancel {})));
        }
        let held = entry.held.len() as u64;
        if let Some(error) = error {
            entry.tell(Err(error));
        }
        drop(state);
        (0..held).for_each(|_| self.shared.stats.deliveries_in_flight.dec());
        self.shared.touch();
    }

    /// Ends every subscription: the widget that held them has been replaced.
    pub(super) fn replace_widget(&self) {
        let ids: Vec<_> = self.lock().subscriptions.keys().copied().collect();
        for id in ids {
            let message = "the widget has been replaced by a new incarnation";
            self.unsubscribe(id, Some(Error::new(Code::StaleIncarnation, "", message)));
        }
    }

    /// Whether anybody receives from a subscription, and how many deliveries are held.
    pub fn subscription_state(&self, topic: &str, name: &str) -> Option<u32> {
        let state = self.lock();
        let mut open = state
            .subscriptions
            .values()
            .filter(|entry| entry.topic == topic && entry.name == name)
            .peekable();
        open.peek()?;
        Some(open.map(|entry| u32::try_from(entry.held.len()).unwrap_or(u32::MAX)).sum())
    }

    /// A frame of the hub on a subscription's stream.
    pub(super) fn subscription_frame(&self, stream: u64, frame: Frame) -> Result<(), Error> {
        let mut state = self.lock();
        let Some(id) = state.streams.get(&stream).copied() else { return Ok(()) };
        let link = state.link.clone();
        let Some(entry) = state.subscriptions.get_mut(&id) else { return Ok(()) };
        match frame {
            Frame::Subscribed(_) => {
                entry.known = true;
                if let Some(opened) = entry.opened.take() {
                    drop(opened.send(Ok(())));
                }
            }
            Frame::Settled(v1::LinkSettled { delivery }) => {
                let delivery = delivery + entry.base;
                entry.confirming.remove(&delivery);
                entry.tell(Ok(SubscriptionEvent::Settled(delivery)));
            }
            Frame::Failure(v1::LinkFailure { status, problem }) => {
                let error = Error::from_wire(status, problem);
                // Going down is the hub's business, not the subscription's end: the next link opens it again.
                if matches!(error.code, Code::HubDraining | Code::StorageFailed) {
                    return Ok(());
                }
                if let Some(opened) = entry.opened.take() {
                    drop(opened.send(Err(error.clone())));
                }
                drop(state);
                self.lock().streams.remove(&stream);
                self.unsubscribe(id, Some(error));
            }
            Frame::Deliver(deliver) => {
                if entry.credits == 0 {
                    let message = "the hub delivered more than it had credit for";
                    return Err(Error::new(Code::OutOfOrder, entry.topic.as_str(), message));
                }
                entry.credits -= 1;
                let delivery = deliver.delivery + entry.base;
                entry.highest = entry.highest.max(delivery);
                match Event::decode(deliver.event) {
                    Ok(event) => {
                        // A first attempt follows no other.
                        let again = deliver.attempt > 1;
                        let ended = if again { entry.comes_again(deliver.sequence) } else { 0 };
                        entry.held.insert(delivery, Held { sequence: deliver.sequence, taken: false });
                        entry.tell(Ok(SubscriptionEvent::Delivery(Box::new(Delivery {
                            delivery,
                            topic: entry.topic.clone(),
                            sequence: deliver.sequence,
                            attempt: deliver.attempt,
                            max_attempts: deliver.max_attempts,
                            event,
                        }))));
                        drop(state);
                        self.shared.stats.deliveries_in_flight.inc();
                        (0..ended).for_each(|_| self.shared.stats.deliveries_in_flight.dec());
                        self.shared.touch();
                    }
                    Err(error) => {
                        let reason = format!("the stored event cannot be read: {error}");
                        let settle = settlement(deliver.delivery, &Outcome::Term { reason }, false);
                        entry.credits += 1;
                        if let Some(link) = link {
                            drop(link.push(stream, &Frame::Settle(settle)));
                            drop(link.push(stream, &Frame::Credit(v1::LinkCredit { messages: 1 })));
                        }
                    }
                }
            }
            other => {
                let message = format!("a frame of kind {} makes no sense on a subscription", other.kind());
                return Err(Error::new(Code::OutOfOrder, entry.topic.as_str(), message));
            }
        }
        Ok(())
    }
}

fn settlement(delivery: u64, outcome: &Outcome, confirm: bool) -> v1::LinkSettle {
    use v1::link_settle::Outcome as Wire;
    let mut settle = v1::LinkSettle { delivery, confirm, ..Default::default() };
    match outcome {
        Outcome::Ack => settle.set_outcome(Wire::Ack),
        Outcome::Progress => settle.set_outcome(Wire::Progress),
        Outcome::Nak { delay, reason, attempt_counts } => {
            settle.set_outcome(Wire::Nak);
            settle.delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
            settle.reason.clone_from(reason);
            settle.attempt_counts = *attempt_counts;
        }
        Outcome::Term { reason } => {
            settle.set_outcome(Wire::Term);
            settle.reason.clone_from(reason);
        }
    }
    settle
}

pub(crate) fn draining(subject: &str) -> Error {
    Error::new(Code::SidecarDraining, subject, "the sidecar is shutting down and takes no more work")
}
