//! The handle.

use std::{future::Future, sync::Arc};

use kontrol_core::time::Timestamp;

use crate::{
    api::{Config, Delivery, Nak, Notify, Publish, Published, Recovery, Signal, Stats, TopicConfig, Who},
    error::{Error, Failure, OpenError},
    io::Io,
    receipt::Receipt,
};

/// The embedded hub. Cheap to clone; every clone is the same hub.
#[derive(Clone, Debug)]
pub struct Hub {}

impl Hub {
    /// Opens the log in the folder of `io`, recovers what it holds and starts the threads that write and prepare segments.
    pub fn open(io: Arc<dyn Io>, config: Config, now: Timestamp) -> Result<(Self, Recovery), OpenError> {
        let _ = (io, config, now);
        Err(OpenError::Config("the hub is not there yet".to_owned()))
    }

    /// Puts the topics in force; replaces what was there. Subscriptions and topics that are no longer declared are removed with all
    /// they hold. The configuration is kept in the log: a hub that starts again has its topics before anybody configures it.
    pub fn configure(&self, now: Timestamp, topics: &[TopicConfig]) -> Result<Receipt<()>, Error> {
        let _ = (now, topics);
        Err(Error::Closing)
    }

    /// Raises the fence of an instance: its consumers of a lower incarnation end, and none can come back.
    pub fn fence(&self, now: Timestamp, instance: &str, incarnation: u64) {
        let _ = (now, instance, incarnation);
    }

    /// Stores the messages in one write: all of them or none. The receipt resolves when they are durable, and not before they can be
    /// delivered.
    pub fn publish(&self, now: Timestamp, batch: &[Publish<'_>]) -> Result<Receipt<Vec<Published>>, Error> {
        let _ = (now, batch);
        Err(Error::Closing)
    }

    /// Opens a consumer of a durable subscription with its first credits. `notify` is called whenever [`Consumer::poll`] may have
    /// something to give; the first poll needs no notification.
    pub fn subscribe(
        &self,
        now: Timestamp,
        namespace: &str,
        topic: &str,
        subscription: &str,
        who: Who,
        credits: u64,
        notify: Notify,
    ) -> Result<Consumer, Error> {
        let _ = (now, namespace, topic, subscription, who, credits, notify);
        Err(Error::Closing)
    }

    /// Does what is due: leases that ended, delayed messages, retention, space that can be given back. Returns when it wants to be
    /// called again; `None`: nothing is due until something happens.
    pub fn tick(&self, now: Timestamp) -> Option<Timestamp> {
        let _ = now;
        None
    }

    /// What each subscription looks like now.
    pub fn signals(&self, now: Timestamp) -> Vec<Signal> {
        let _ = now;
        Vec::new()
    }

    /// What the log has done.
    pub fn stats(&self) -> Stats {
        Stats::default()
    }

    /// Resolves when the disk has refused: every waiter has had its error, and the process is to exit.
    pub fn failed(&self) -> impl Future<Output = Failure> + Send + 'static {
        std::future::pending()
    }

    /// Takes nothing new, writes what was accepted, and ends the threads. Blocks until that is done.
    pub fn close(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// A consumer of a subscription. Dropping it gives everything in flight back at once, without counting the attempts.
#[derive(Debug)]
pub struct Consumer {}

impl Consumer {
    /// Takes up to `max` messages, as far as credits reach; each delivery uses one credit and starts a lease. An error ends the
    /// consumer: it was fenced, its subscription was removed, or the hub failed.
    pub fn poll(&self, now: Timestamp, max: usize) -> Result<Vec<Delivery>, Error> {
        let _ = (now, max);
        Err(Error::Closing)
    }

    /// Adds credits.
    pub fn credit(&self, messages: u64) {
        let _ = messages;
    }

    /// The message is done; the receipt resolves when that is durable. It is not delivered again once this has returned, unless the
    /// hub crashes before the receipt resolves.
    pub fn ack(&self, now: Timestamp, delivery: u64) -> Result<Receipt<()>, Error> {
        let _ = (now, delivery);
        Err(Error::Closing)
    }

    /// The message is to be delivered again; if it was the last attempt, it is given up. The receipt resolves when the count of its
    /// attempts is durable.
    pub fn nak(&self, now: Timestamp, delivery: u64, nak: &Nak<'_>) -> Result<Receipt<()>, Error> {
        let _ = (now, delivery, nak);
        Err(Error::Closing)
    }

    /// The message is being worked on: its lease starts over.
    pub fn progress(&self, now: Timestamp, delivery: u64) -> Result<(), Error> {
        let _ = (now, delivery);
        Err(Error::Closing)
    }

    /// The message will never be done: it is given up at once, moved to the dead letter topic in the same write.
    pub fn term(&self, now: Timestamp, delivery: u64, reason: &str) -> Result<Receipt<()>, Error> {
        let _ = (now, delivery, reason);
        Err(Error::Closing)
    }
}
