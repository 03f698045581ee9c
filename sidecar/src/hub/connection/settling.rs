//! Settlements of one connection on their way into the log. One that the log has no room for at this moment is kept and tried again until it
//! is stored or its subscription has ended; meanwhile its lease goes on, for what its subscriber has settled is not to be delivered again.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use kontrol_core::{code::Code, time::Timestamp};
use kontrol_hub::{Consumer, Error, Nak, Receipt};
use kontrol_proto::v1::{self, link_settle::Outcome};
use tokio::{
    sync::{Notify, mpsc},
    time::sleep,
};

use super::Waiting;
use crate::{
    hub::refused,
    link::{Frame, Link},
};

/// The pause before a full log is asked again.
const FULL: Duration = Duration::from_millis(100);

/// See the module.
pub(super) struct Settling {
    now: Box<dyn Fn() -> Timestamp + Send + Sync>,
    link: Link,
    durable: mpsc::UnboundedSender<Waiting>,
    /// By stream and delivery: never more than what is in flight.
    kept: Mutex<BTreeMap<(u64, u64), Kept>>,
    came: Notify,
}

impl fmt::Debug for Settling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settling").field("kept", &self.kept).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Kept {
    consumer: Weak<Consumer>,
    settle: v1::LinkSettle,
}

/// When a refused settlement is to be tried again; none: it never will be stored.
fn again(error: &Error) -> Option<Duration> {
    match error {
        Error::Busy { retry_after } => Some(*retry_after),
        Error::StorageFull { .. } => Some(FULL),
        _ => None,
    }
}

/// Gives a settlement to the log. None: there is nothing to wait for.
fn settle(
    consumer: &Consumer,
    now: Timestamp,
    settle: &v1::LinkSettle,
) -> Result<Option<Receipt<()>>, Error> {
    let delivery = settle.delivery;
    match settle.outcome() {
        Outcome::Unspecified => Ok(None),
        Outcome::Progress => {
            // The end of a lease is told by whoever delivers.
            drop(consumer.progress(now, delivery));
            Ok(None)
        }
        Outcome::Ack => consumer.ack(now, delivery).map(Some),
        Outcome::Term => consumer.term(now, delivery, &settle.reason).map(Some),
        Outcome::Nak => {
            let delay = (settle.delay_ms > 0).then(|| Duration::from_millis(settle.delay_ms));
            let (counts, reason) = (settle.attempt_counts, settle.reason.as_str());
            consumer.nak(now, delivery, &Nak { delay, counts, reason }).map(Some)
        }
    }
}

impl Settling {
    /// Of a connection whose answers go by `durable`; run it.
    pub(super) fn new(
        now: impl Fn() -> Timestamp + Send + Sync + 'static,
        link: Link,
        durable: mpsc::UnboundedSender<Waiting>,
    ) -> Arc<Self> {
        Arc::new(Self { now: Box::new(now), link, durable, kept: Mutex::default(), came: Notify::new() })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(u64, u64), Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Settles a delivery of a stream, now or as soon as there is room.
    pub(super) fn settle(&self, stream: u64, consumer: &Arc<Consumer>, settle: v1::LinkSettle) {
        if let Some(error) = self.attempt(stream, consumer, &settle) {
            let delivery = settle.delivery;
            tracing::warn!(stream, delivery, %error, "a settlement has to wait");
            let kept = Kept { consumer: Arc::downgrade(consumer), settle };
            self.lock().insert((stream, delivery), kept);
            self.came.notify_one();
        }
    }

    /// Tries once. Returns why it has to be tried again.
    fn attempt(&self, stream: u64, consumer: &Consumer, wanted: &v1::LinkSettle) -> Option<Error> {
        let delivery = wanted.delivery;
        match settle(consumer, (self.now)(), wanted) {
            Ok(Some(receipt)) if wanted.confirm => {
                // The task that answers lives as long as the connection.
                drop(self.durable.send(Waiting::Settle { stream, delivery, receipt }));
                None
            }
            Ok(_) => None,
            Err(error) if again(&error).is_some() => Some(error),
            Err(error) => {
                match &error {
                    Error::UnknownDelivery { .. } => tracing::debug!(stream, delivery, "settled too late"),
                    error => tracing::warn!(stream, delivery, %error, "a settlement is not stored"),
                }
                if wanted.confirm {
                    refuse(&self.link, stream, delivery, &error);
                }
                None
            }
        }
    }

    /// Tries again what has to wait, until the connection ends.
    pub(super) async fn run(self: Arc<Self>) {
        let work = async {
            loop {
                match self.round() {
                    Some(pause) => sleep(pause).await,
                    None => self.came.notified().await,
                }
            }
        };
        tokio::select! {
            () = work => {}
            () = self.link.ended().cancelled() => {}
        }
    }

    /// Tries everything that is kept once. Returns when to do so again.
    fn round(&self) -> Option<Duration> {
        let mut next = None;
        self.lock().retain(|(stream, delivery), Kept { consumer, settle }| {
            let Some(consumer) = consumer.upgrade() else { return false };
            let Some(error) = self.attempt(*stream, &consumer, settle) else { return false };
            // It has refused for want of room, so the lease is there.
            drop(consumer.progress((self.now)(), *delivery));
            next = next.max(again(&error));
            true
        });
        next
    }
}

/// Says that a delivery is no longer its subscriber's, or that its settlement is refused.
pub(super) fn refuse(link: &Link, stream: u64, delivery: u64, error: &Error) {
    told(link, stream, &refused(&delivery.to_string(), error), delivery);
}

/// Says that a settlement was given to the log, and that it is not known whether it was stored.
pub(super) fn uncertain(link: &Link, stream: u64, delivery: u64, error: &Error) {
    let message = format!("the settlement of delivery {delivery} may or may not be stored: {error}");
    let error = crate::service::Error::new(Code::SettleUncertain, delivery.to_string(), message);
    told(link, stream, &error, delivery);
}

fn told(link: &Link, stream: u64, error: &crate::service::Error, delivery: u64) {
    let (status, problem) = (error.status.number(), Some(error.problem()));
    // A link that has ended has ended every lease.
    drop(link.push(stream, &Frame::Refused(v1::LinkRefused { delivery, status, problem })));
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use kontrol_core::spec::Storage;
    use kontrol_hub::{Config, Hub, Publish, Who, io::real::Folder};

    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_micros(millis * 1000)
    }

    /// A hub whose segments are made by the test, with as many messages as it takes before there is another one.
    fn busy_hub(folder: &std::path::Path) -> Hub {
        let storage = Storage { size: 1 << 20, segment: 64 << 10 };
        let config = Config { storage, ..Config::default() };
        let folder = Arc::new(Folder::open(folder).unwrap());
        let (hub, _) = Hub::open_stepped(folder, config, at(0)).unwrap();
        let dead = v1::TopicConfig { namespace: "default".into(), name: "dead".into(), ..Default::default() };
        let orders = v1::TopicConfig {
            name: "orders".into(),
            dead_letter: "dead".into(),
            ack_timeout_ms: 1_000,
            subscriptions: vec!["workers".into()],
            ..dead.clone()
        };
        let topics = crate::hub::topics::all(vec![dead, orders]).unwrap();
        drop(hub.configure(at(0), &topics).unwrap());
        let (namespace, topic, source) = ("default", "orders", "/shop");
        let message = Publish { namespace, topic, source, id: "", key: "", event: &[7; 1000] };
        while hub.publish(at(0), &[message]).is_ok() {
            while hub.step() {}
        }
        hub
    }

    #[tokio::test]
    async fn a_settlement_that_the_log_has_no_room_for_is_stored_when_it_has_and_its_lease_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let hub = busy_hub(folder.path());
        let who = Who { instance: "default/shop/shop/0".into(), incarnation: 1 };
        let wake = Arc::new(|| {});
        let consumer = hub.subscribe("default", "orders", "workers", who, 1 << 20, wake).unwrap();
        let consumer = Arc::new(consumer);
        let (durable, mut confirmed) = mpsc::unbounded_channel();
        let clock = Arc::new(AtomicU64::new(0));
        let now = Arc::clone(&clock);
        let settling = Settling::new(move || at(now.load(Ordering::Relaxed)), Link::new(), durable);
        let mut held = consumer.poll(at(0), 1 << 20).unwrap().into_iter().map(|held| held.delivery);
        let late = loop {
            let delivery = held.next().expect("more messages than there is room to settle");
            let outcome = Outcome::Term.into();
            let term = v1::LinkSettle { delivery, outcome, confirm: true, ..Default::default() };
            settling.settle(7, &consumer, term);
            if confirmed.try_recv().is_err() {
                break delivery;
            }
        };
        clock.store(900, Ordering::Relaxed);
        assert_eq!(settling.round(), Some(Duration::from_millis(20)), "it is kept");
        hub.tick(at(1_500));
        assert!(!consumer.lapsed().contains(&late), "it is settled, not forgotten");
        while hub.step() || hub.step_folder() {}
        assert_eq!(settling.round(), None);
        let Ok(Waiting::Settle { delivery, receipt, .. }) = confirmed.try_recv() else {
            panic!("not stored")
        };
        assert_eq!(delivery, late);
        while hub.step() {}
        receipt.await.unwrap();
    }

    #[test]
    fn only_room_is_waited_for() {
        let retry_after = Duration::from_millis(20);
        assert_eq!(again(&Error::Busy { retry_after }), Some(retry_after));
        assert_eq!(again(&Error::StorageFull { used: 1, limit: 1 }), Some(FULL));
        for error in [Error::UnknownDelivery { delivery: 1 }, Error::Closing] {
            assert_eq!(again(&error), None);
        }
    }
}
