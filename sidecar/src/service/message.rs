//! Publishing and subscribing, as the doors see them.

use std::time::Duration;

use kontrol_proto::v1;
use tokio::sync::mpsc;

use super::Error;

/// A `CloudEvents` 1.0 event. The envelope is the wire's own message: it is encoded once at the publisher's door and decoded once at the
/// subscriber's, and nobody between looks inside.
pub use kontrol_proto::v1::Event;

/// A message that is durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// The event's id, given or drawn.
    pub id: String,
    /// Its place in the hub's log; of the first one where it is a duplicate.
    pub sequence: u64,
    /// Whether the same (topic, source, id) was stored before.
    pub duplicate: bool,
    /// Messages that had to make room under `DropOldest`, in this topic and in those that routes lead to.
    pub dropped: u64,
    /// The subscriptions that dropped them; one that a route leads to with its topic before it, as `topic/subscription`.
    pub dropped_by: Vec<String>,
}

/// One message, delivered.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// Names this delivery within its subscription.
    pub delivery: u64,
    /// The topic.
    pub topic: String,
    /// The message's place in the hub's log.
    pub sequence: u64,
    /// 1 for the first attempt.
    pub attempt: u32,
    /// The attempt after which the message goes to the dead letter topic.
    pub max_attempts: u32,
    /// The message.
    pub event: Event,
}

/// What became of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Ack,
    /// To be delivered again.
    Nak {
        /// After this; zero: after the topic's backoff.
        delay: Duration,
        /// Why, for the dead letter and for people.
        reason: String,
        /// Whether the attempt counts against the topic's retries; a drain gives it back.
        attempt_counts: bool,
    },
    /// Being worked on: its lease starts over. Not final.
    Progress,
    /// Never to be done: to the dead letter topic, without further attempts.
    Term {
        /// Why.
        reason: String,
    },
}

impl Outcome {
    /// Whether nothing more is expected for the delivery.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Progress)
    }
}

/// What a subscription receives.
#[derive(Clone, Debug, PartialEq)]
pub enum SubscriptionEvent {
    /// A message.
    Delivery(Box<Delivery>),
    /// A settlement that asked for confirmation is durable.
    Settled(u64),
    /// A settlement that asked for confirmation came too late ([`UnknownDelivery`](kontrol_core::code::Code::UnknownDelivery)); or it is not known whether it is durable
    /// ([`SettleUncertain`](kontrol_core::code::Code::SettleUncertain)), and the message comes again unless it is; or it was refused, and the delivery can be settled again.
    Refused(u64, Error),
    /// The lease of a delivery has ended before it was settled: the message is delivered again, or was given up.
    Lapsed(u64),
    /// The subscription was lost (the hub went away) and is open again: deliveries named before are no longer known, and what was not
    /// acknowledged comes again.
    Reopened,
}

/// A durable subscription that is open. Dropped, it gives back what was not settled; the attempt then counts only where a delivery was
/// handed out by [`Subscription::next`].
#[derive(Debug)]
pub struct Subscription {
    pub(crate) topic: String,
    pub(crate) name: String,
    pub(crate) events: mpsc::UnboundedReceiver<Result<SubscriptionEvent, Error>>,
    pub(crate) control: crate::bus::SubscriptionControl,
}

impl Subscription {
    /// The topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The subscription's name: the one asked for, or the one the widget declares for the topic.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The next event, as far as credits reach. An error is the end: the incarnation has changed, the sidecar drains, the subscription
    /// is unknown. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<SubscriptionEvent, Error>> {
        loop {
            match self.events.recv().await? {
                // Lost with its link, or given back since the sidecar drains: it comes again, here or elsewhere.
                Ok(SubscriptionEvent::Delivery(delivery)) if !self.control.take(delivery.delivery) => {}
                event => return Some(event),
            }
        }
    }

    /// What acknowledges and gives credit, cheap to clone, so that it can live apart from the receiver.
    pub fn control(&self) -> crate::bus::SubscriptionControl {
        self.control.clone()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.control.close();
    }
}

impl From<Published> for v1::PublishResponse {
    fn from(published: Published) -> Self {
        let Published { id, sequence, duplicate, dropped, dropped_by } = published;
        Self { id, sequence, duplicate, dropped, dropped_by }
    }
}
