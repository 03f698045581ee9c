//! What acknowledges and gives credit on a subscription.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::oneshot;

use super::entry::{Confirm, uncertain};
use crate::{
    bus::Bus,
    service::{Error, Outcome},
};

/// What acknowledges and gives credit on a subscription.
#[derive(Clone, Debug)]
pub struct SubscriptionControl {
    bus: Arc<Bus>,
    id: u64,
    closed: Arc<AtomicBool>,
}

impl SubscriptionControl {
    pub(super) fn new(bus: Arc<Bus>, id: u64) -> Self {
        Self { bus, id, closed: Arc::default() }
    }

    /// Says what became of a delivery. With `confirm`, [`SubscriptionEvent::Settled`] follows when it is durable, or
    /// [`SubscriptionEvent::Refused`]. Does not wait.
    pub fn settle(&self, delivery: u64, outcome: &Outcome, confirm: bool) -> Result<(), Error> {
        self.bus.settle(self.id, delivery, outcome, if confirm { Confirm::Told } else { Confirm::No })
    }

    /// Says what became of a delivery, and resolves when that is durable; [`UnknownDelivery`](kontrol_core::code::Code::UnknownDelivery) if it came too late,
    /// [`SettleUncertain`](kontrol_core::code::Code::SettleUncertain) if it may or may not be stored; after another error the delivery is still held. The same is told on the
    /// subscription.
    pub fn confirm(
        &self,
        delivery: u64,
        outcome: &Outcome,
    ) -> Result<impl Future<Output = Result<(), Error>> + use<>, Error> {
        let (answer, answered) = oneshot::channel();
        self.bus.settle(self.id, delivery, outcome, Confirm::Answered(answer))?;
        Ok(
            async move { answered.await.unwrap_or_else(|_| Err(uncertain(delivery, "the subscription ended"))) },
        )
    }

    /// Allows this many more messages, which come as far as `maxInFlight` lets them. Does not wait.
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
        let taken = state.subscriptions.get_mut(&self.id).is_some_and(|entry| entry.take(delivery));
        if !taken {
            drop(state);
            // Its link or its lease has ended. Nobody will see it, so nobody else gives back the credit that it used.
            self.credit(1);
            return false;
        }
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
