//! Subscribing: credits, deliveries, settlements, and what becomes of them when the link breaks.

mod control;
mod entry;
#[cfg(test)]
mod tests;
mod window;

pub use control::SubscriptionControl;
pub(super) use entry::Entry;

use std::{sync::Arc, time::Duration};

use kontrol_core::code::Code;
use kontrol_proto::{Message, v1};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};

use self::entry::{Confirm, Refusal};
use super::{Bus, State};
use crate::{
    link::Frame,
    service::{Delivery, Error, Event, Outcome, Subscription, SubscriptionEvent},
};

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
        let mut entry = Entry::new(topic, &consume.subscription, credits, opened, events);
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
            let counts = matches!(confirm, Confirm::No);
            entry.said(delivery, outcome, confirm);
            self.grant_beside(&mut state, id);
            drop(state);
            if counts {
                self.count(outcome);
            }
            self.shared.stats.deliveries_in_flight.dec();
            self.shared.touch();
        }
        Ok(())
    }

    fn count(&self, outcome: &Outcome) {
        let stats = &self.shared.stats;
        match outcome {
            Outcome::Ack => stats.acked.inc(),
            Outcome::Nak { .. } => stats.naked.inc(),
            Outcome::Term { .. } => stats.termed.inc(),
            Outcome::Progress => {}
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
            let message = "the widget has been replaced by a new process";
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
                if let Some(outcome) = entry.settled(delivery + entry.base) {
                    drop(state);
                    self.count(&outcome);
                }
            }
            Frame::Refused(v1::LinkRefused { delivery, status, problem }) => {
                let delivery = delivery + entry.base;
                let mut error = Error::from_wire(status, problem);
                if error.code == Code::UnknownDelivery {
                    // The hub has numbers of its own.
                    error = too_late(delivery);
                }
                match entry.refused(delivery, error) {
                    Refusal::Told => {}
                    Refusal::Back => {
                        drop(state);
                        self.shared.stats.deliveries_in_flight.inc();
                        self.shared.touch();
                    }
                    Refusal::Lapsed => {
                        self.grant_beside(&mut state, id);
                        drop(state);
                        self.shared.stats.deliveries_in_flight.dec();
                        self.shared.touch();
                    }
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

/// The delivery is settled, or its lease has ended: nothing can be said of it any more.
pub(crate) fn too_late(delivery: u64) -> Error {
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
