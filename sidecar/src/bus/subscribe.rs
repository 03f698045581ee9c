//! Subscribing: credits, deliveries, settlements, and what becomes of them when the link breaks.

mod control;
mod window;

pub use control::SubscriptionControl;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

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
    /// Messages that the widget takes, and that the hub is asked for when `maxInFlight` leaves room.
    wanted: u64,
    /// Messages that the hub may still deliver.
    credits: u64,
    /// Added to the hub's numbers on this link, so that none is used twice.
    base: u64,
    /// The highest number given out.
    highest: u64,
    /// The stream on the present link; none: no link.
    stream: Option<u64>,
    /// Deliveries that are not settled, and whether the widget has taken them.
    held: BTreeMap<u64, bool>,
    /// Deliveries whose settlements the widget waits to hear of, and who waits for them beside.
    confirming: BTreeMap<u64, Option<Answer>>,
    opened: Option<oneshot::Sender<Result<(), Error>>>,
    /// Whether it was open on an earlier link.
    known: bool,
    events: mpsc::UnboundedSender<Result<SubscriptionEvent, Error>>,
}

/// Takes what became of a settlement.
type Answer = oneshot::Sender<Result<(), Error>>;

/// Whether a settlement is to be confirmed.
enum Confirm {
    No,
    /// By an event of the subscription.
    Told,
    /// The same, and to this one.
    Answered(Answer),
}

impl Entry {
    /// Settlements that the widget waits to hear of.
    pub(super) fn confirming(&self) -> u64 {
        self.confirming.len() as u64
    }

    /// Opens the subscription on a link, without credits yet.
    pub(super) fn open(&mut self, stream: u64, link: &Link) {
        let (topic, subscription) = (self.topic.clone(), self.name.clone());
        let frame = Frame::Subscribe(v1::LinkSubscribe { topic, subscription, credits: 0 });
        self.stream = link.push(stream, &frame).is_ok().then_some(stream);
        self.base = self.highest;
        if self.known {
            self.tell(Ok(SubscriptionEvent::Reopened));
        }
    }

    /// The link has ended, and with it every lease.
    pub(super) fn lost(&mut self) -> u64 {
        self.stream = None;
        self.wanted += std::mem::take(&mut self.credits);
        let held = self.held.len() as u64;
        self.held.clear();
        for (delivery, answer) in std::mem::take(&mut self.confirming) {
            let message = format!(
                "the link to the hub ended before it said what became of delivery {delivery}: unless it is settled, its message comes again"
            );
            self.refused(delivery, answer, Error::new(Code::UnknownDelivery, delivery.to_string(), message));
        }
        held
    }

    /// What was said of a delivery is not known to be durable.
    fn refused(&self, delivery: u64, answer: Option<Answer>, error: Error) {
        if let Some(answer) = answer {
            // Whoever asked may have gone since.
            drop(answer.send(Err(error.clone())));
        }
        self.tell(Ok(SubscriptionEvent::Refused(delivery, error)));
    }

    fn is_of(&self, topic: &str, name: &str) -> bool {
        self.topic == topic && self.name == name
    }

    fn tell(&self, event: Result<SubscriptionEvent, Error>) {
        // A receiver that is gone is about to remove this entry.
        drop(self.events.send(event));
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
            wanted: credits.into(),
            credits: 0,
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
            self.grant(&mut state, topic, &consume.subscription);
        }
        let control = SubscriptionControl::new(Arc::clone(self), id);
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

    fn settle(&self, id: u64, delivery: u64, outcome: &Outcome, confirm: Confirm) -> Result<(), Error> {
        let mut state = self.lock();
        let State { subscriptions, link, .. } = &mut *state;
        let unknown = || too_late(delivery);
        let entry = subscriptions.get_mut(&id).ok_or_else(unknown)?;
        if !entry.held.contains_key(&delivery) {
            return Err(unknown());
        }
        let (Some(stream), Some(link)) = (entry.stream, link.as_ref()) else { return Err(unknown()) };
        let frame =
            Frame::Settle(settlement(delivery - entry.base, outcome, !matches!(confirm, Confirm::No)));
        link.push(stream, &frame).map_err(|_| unknown())?;
        if outcome.is_final() {
            entry.held.remove(&delivery);
            match confirm {
                Confirm::No => None,
                Confirm::Told => entry.confirming.insert(delivery, None),
                Confirm::Answered(answer) => entry.confirming.insert(delivery, Some(answer)),
            };
            self.grant_beside(&mut state, id);
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

    /// Ends a subscription, telling its receiver why.
    fn unsubscribe(&self, id: u64, error: Option<Error>) {
        let mut state = self.lock();
        let State { subscriptions, link, streams, .. } = &mut *state;
        let Some(entry) = subscriptions.remove(&id) else { return };
        if let (Some(stream), Some(link)) = (entry.stream, link.as_ref()) {
            streams.remove(&stream);
            let drains = self.shared.is_draining();
            for delivery in
                entry.held.iter().filter(|(_, taken)| **taken && !drains).map(|(delivery, _)| *delivery)
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
        self.grant(&mut state, &entry.topic, &entry.name);
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
        let mut open = state.subscriptions.values().filter(|entry| entry.is_of(topic, name)).peekable();
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
                if let Some(answer) = entry.confirming.remove(&delivery).flatten() {
                    // Whoever asked may have gone since.
                    drop(answer.send(Ok(())));
                }
                entry.tell(Ok(SubscriptionEvent::Settled(delivery)));
            }
            Frame::Refused(v1::LinkRefused { delivery, status, problem }) => {
                let delivery = delivery + entry.base;
                let mut error = Error::from_wire(status, problem);
                if error.code == Code::UnknownDelivery {
                    // The hub has numbers of its own.
                    error = too_late(delivery);
                }
                if let Some(answer) = entry.confirming.remove(&delivery) {
                    entry.refused(delivery, answer, error);
                } else if entry.held.remove(&delivery).is_some() {
                    entry.tell(Ok(SubscriptionEvent::Lapsed(delivery)));
                    self.grant_beside(&mut state, id);
                    drop(state);
                    self.shared.stats.deliveries_in_flight.dec();
                    self.shared.touch();
                }
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
                        entry.held.insert(delivery, false);
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

fn too_late(delivery: u64) -> Error {
    let message = format!("delivery {delivery} is not held: it was settled, or its lease has ended");
    Error::new(Code::UnknownDelivery, delivery.to_string(), message)
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
