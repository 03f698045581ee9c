//! Who receives from a subscription, and when to wake whom.

use std::collections::HashMap;

use super::{Consumer, Flight, Subscription};
use crate::{
    api::{Notify, Who},
    index::Index,
};

impl Subscription {
    /// Opens a consumer.
    pub(crate) fn open(&mut self, consumer: u64, who: Who, credits: u64, notify: Notify) {
        let deliveries = HashMap::new();
        let open = Consumer { who, credits, deliveries, lapsed: Vec::new(), notify, notified: false };
        self.consumers.insert(consumer, open);
    }

    /// Ends a consumer and gives back what it had in flight, without counting the attempts.
    pub(crate) fn close(&mut self, consumer: u64) {
        let Some(gone) = self.consumers.remove(&consumer) else { return };
        for sequence in gone.deliveries.into_values() {
            if self
                .flights
                .get(&sequence)
                .is_some_and(|flight| !flight.settling && flight.consumer == consumer)
            {
                self.give_back(sequence, None, false);
            }
        }
    }

    /// The lease of a flight has ended. Returns how to tell its consumer.
    pub(crate) fn lapse(&mut self, flight: &Flight) -> Option<Notify> {
        let consumer = self.consumers.get_mut(&flight.consumer)?;
        consumer.lapsed.push(flight.delivery);
        Some(consumer.notify.clone())
    }

    /// The deliveries of a consumer whose leases have ended since it last asked.
    pub(crate) fn lapsed(&mut self, consumer: u64) -> Vec<u64> {
        self.consumers
            .get_mut(&consumer)
            .map(|consumer| std::mem::take(&mut consumer.lapsed))
            .unwrap_or_default()
    }

    /// A consumer asks again: it is notified of what comes after.
    pub(crate) fn asked(&mut self, consumer: u64) {
        if let Some(consumer) = self.consumers.get_mut(&consumer) {
            consumer.notified = false;
        }
    }

    /// Collects whom to notify that there is something to deliver.
    pub(crate) fn notices(&mut self, index: &Index, visible: u64, out: &mut Vec<Notify>) {
        let fresh = || index.at(self.cursor).is_some_and(|entry| entry.sequence < visible);
        if self.consumers.is_empty() || (self.ready.is_empty() && !fresh()) {
            return;
        }
        for consumer in self.consumers.values_mut() {
            if consumer.credits > 0 && !consumer.notified {
                consumer.notified = true;
                out.push(consumer.notify.clone());
            }
        }
    }

    /// How to reach one consumer.
    pub(crate) fn notify_of(&self, consumer: u64) -> Option<Notify> {
        self.consumers.get(&consumer).map(|consumer| consumer.notify.clone())
    }

    /// Collects everybody, because the consumers end.
    pub(crate) fn all_notices(&self, out: &mut Vec<Notify>) {
        out.extend(self.consumers.values().map(|consumer| consumer.notify.clone()));
    }
}
