//! One sidecar's connection: its publishes, its subscriptions, and what became of its deliveries.

mod settling;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use bytes::{BufMut, Bytes, BytesMut};
use kontrol_core::code::Code;
use kontrol_hub::{Consumer, Hub, Publish, Published, Receipt, Who};
use kontrol_proto::{Message, v1};
use tokio::sync::{Notify, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::settling::{Settling, refuse, uncertain};
use super::{HubStats, Time, refused};
use crate::{
    link::{Frame, FrameError, Inbound, Link, Peer, SendError},
    service::Error,
};

/// Subscriptions that one connection may hold.
const SUBSCRIPTIONS: usize = 256;
/// Deliveries that are taken from the log at once.
const BATCH: usize = 64;

/// See the module.
#[derive(Debug)]
pub struct FromSidecar {
    hub: Hub,
    time: Time,
    link: Link,
    namespace: String,
    source: String,
    who: Who,
    tasks: TaskTracker,
    durable: mpsc::UnboundedSender<Waiting>,
    settling: Arc<Settling>,
    consumers: HashMap<u64, Subscribed>,
    stats: Arc<HubStats>,
}

/// What is answered when it is durable; in the order of the log, so that one sync's answers leave together.
enum Waiting {
    Publish(u64, Receipt<Vec<Published>>),
    Settle { stream: u64, delivery: u64, receipt: Receipt<()> },
}

#[derive(Debug)]
struct Subscribed {
    consumer: Arc<Consumer>,
    closed: CancellationToken,
}

impl Drop for Subscribed {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}

impl FromSidecar {
    pub(super) fn new(
        (hub, time): (Hub, Time),
        peer: &Peer,
        link: Link,
        tasks: TaskTracker,
        stats: Arc<HubStats>,
    ) -> Result<Self, Error> {
        let subject = peer.subject.as_str();
        let foreign =
            || Error::new(Code::ForeignCertificate, subject, format!("{subject} is no instance of a widget"));
        let (widget, _) = subject.rsplit_once('/').ok_or_else(foreign)?;
        let (namespace, _) = widget.split_once('/').ok_or_else(foreign)?;
        stats.connections.inc();
        let (durable, waiting) = mpsc::unbounded_channel();
        tasks.spawn(answer(link.clone(), waiting));
        let settling = Settling::new(move || time.now(), link.clone(), durable.clone());
        tasks.spawn(Arc::clone(&settling).run());
        Ok(Self {
            hub,
            time,
            link,
            namespace: namespace.to_owned(),
            source: format!("/{widget}"),
            who: Who { instance: subject.to_owned(), incarnation: peer.incarnation },
            tasks,
            durable,
            settling,
            consumers: HashMap::new(),
            stats,
        })
    }

    fn publish(&self, stream: u64, publish: &v1::LinkPublish) {
        let batch: Vec<_> = publish
            .records
            .iter()
            .map(|record| Publish {
                namespace: &self.namespace,
                topic: &record.topic,
                source: &self.source,
                id: &record.id,
                key: &record.key,
                event: &record.event,
            })
            .collect();
        match self.hub.publish(self.time.now(), &batch) {
            // The task that answers lives as long as the connection.
            Ok(receipt) => drop(self.durable.send(Waiting::Publish(stream, receipt))),
            Err(error) => {
                self.stats.refused.inc();
                let topic = batch.first().map_or("", |record| record.topic);
                drop(self.link.fail(stream, &refused(topic, &error)));
            }
        }
    }

    fn subscribe(&mut self, stream: u64, subscribe: &v1::LinkSubscribe) -> Result<(), Error> {
        let v1::LinkSubscribe { topic, subscription, credits } = subscribe;
        if self.consumers.len() >= SUBSCRIPTIONS || self.consumers.contains_key(&stream) {
            let message = format!("stream {stream} cannot be opened: it is open, or {SUBSCRIPTIONS} are");
            return Err(Error::new(Code::OutOfOrder, topic.as_str(), message));
        }
        let wake = Arc::new(Notify::new());
        let notify = {
            let wake = Arc::clone(&wake);
            Arc::new(move || wake.notify_one())
        };
        let who = self.who.clone();
        let consumer =
            self.hub.subscribe(&self.namespace, topic, subscription, who, u64::from(*credits), notify);
        match consumer {
            Err(error) => drop(self.link.fail(stream, &refused(subscription, &error))),
            Ok(consumer) => {
                drop(self.link.push(stream, &Frame::Subscribed(v1::LinkSubscribed {})));
                let (consumer, closed) = (Arc::new(consumer), CancellationToken::new());
                let delivering = Delivering {
                    consumer: Arc::clone(&consumer),
                    time: self.time,
                    link: self.link.clone(),
                    settling: Arc::clone(&self.settling),
                    stream,
                    wake,
                    closed: closed.clone(),
                    topic: topic.clone(),
                };
                self.tasks.spawn(delivering.run());
                self.consumers.insert(stream, Subscribed { consumer, closed });
            }
        }
        Ok(())
    }

    fn settle(&self, stream: u64, settle: v1::LinkSettle) {
        if let Some(Subscribed { consumer, .. }) = self.consumers.get(&stream) {
            self.settling.settle(stream, consumer, settle);
        }
    }
}

impl Drop for FromSidecar {
    fn drop(&mut self) {
        self.stats.connections.dec();
    }
}

impl Inbound for FromSidecar {
    fn frame(&mut self, stream: u64, frame: Frame) -> Result<(), Error> {
        match frame {
            Frame::Publish(publish) => self.publish(stream, &publish),
            Frame::Subscribe(subscribe) => self.subscribe(stream, &subscribe)?,
            Frame::Settle(settle) => self.settle(stream, settle),
            Frame::Credit(credit) => {
                if let Some(Subscribed { consumer, .. }) = self.consumers.get(&stream) {
                    consumer.credit(credit.messages.into());
                }
            }
            Frame::Cancel(_) => drop(self.consumers.remove(&stream)),
            other => {
                let message = format!("a frame of kind {} makes no sense to a hub", other.kind());
                return Err(Error::new(Code::OutOfOrder, self.who.instance.as_str(), message));
            }
        }
        Ok(())
    }

    fn incarnation(&mut self, incarnation: u64) -> Result<(), Error> {
        // What the old one held is cancelled by its sidecar, and ended by the fence where it is not.
        self.who.incarnation = incarnation;
        Ok(())
    }
}

/// Answers for what has become durable, until the connection ends.
async fn answer(link: Link, mut waiting: mpsc::UnboundedReceiver<Waiting>) {
    loop {
        let next = tokio::select! {
            next = waiting.recv() => next,
            () = link.ended().cancelled() => None,
        };
        let Some(next) = next else { return };
        match next {
            Waiting::Publish(stream, receipt) => match receipt.await {
                Ok(published) => {
                    let stored = published.into_iter().map(stored).collect();
                    drop(link.push(stream, &Frame::Published(v1::LinkPublished { stored })));
                }
                Err(error) => drop(link.fail(stream, &refused("", &error))),
            },
            Waiting::Settle { stream, delivery, receipt } => match receipt.await {
                Ok(()) => drop(link.push(stream, &Frame::Settled(v1::LinkSettled { delivery }))),
                Err(error) => uncertain(&link, stream, delivery, &error),
            },
        }
    }
}

fn stored(published: Published) -> v1::LinkStored {
    let Published { sequence, duplicate, dropped, dropped_by } = published;
    v1::LinkStored { sequence, duplicate, dropped, dropped_by }
}

/// Takes messages from one subscription to its consumer.
struct Delivering {
    consumer: Arc<Consumer>,
    time: Time,
    link: Link,
    settling: Arc<Settling>,
    stream: u64,
    wake: Arc<Notify>,
    closed: CancellationToken,
    topic: String,
}

impl Delivering {
    async fn run(self) {
        tokio::select! {
            () = self.closed.cancelled() => {}
            () = self.link.ended().cancelled() => {}
            () = self.deliver() => {}
        }
    }

    async fn deliver(&self) {
        loop {
            self.link.room().await;
            for delivery in self.consumer.lapsed() {
                let ended = kontrol_hub::Error::UnknownDelivery { delivery };
                refuse(&self.link, self.stream, delivery, &ended);
            }
            match self.consumer.poll(self.time.now(), BATCH) {
                Ok(deliveries) if deliveries.is_empty() => self.wake.notified().await,
                Ok(deliveries) => {
                    for delivery in deliveries {
                        let frame = Frame::Deliver(v1::LinkDeliver {
                            delivery: delivery.delivery,
                            sequence: delivery.sequence,
                            attempt: delivery.attempt,
                            max_attempts: delivery.max_attempts,
                            event: extended(delivery.event, &delivery.extensions),
                        });
                        // A batch of large messages is more than may wait on a link.
                        self.link.room().await;
                        match self.link.push(self.stream, &frame) {
                            Ok(()) => {}
                            Err(SendError::Closed) => return,
                            Err(SendError::Frame(error)) => self.unsendable(delivery.delivery, &error),
                        }
                    }
                }
                Err(error) => {
                    // A connection that has ended has given everything back.
                    drop(self.link.fail(self.stream, &refused(&self.topic, &error)));
                    return;
                }
            }
        }
    }
}

impl Delivering {
    /// No frame holds the message, now or later: it is given up, and the credit that it took is given back.
    fn unsendable(&self, delivery: u64, error: &FrameError) {
        tracing::warn!(topic = self.topic, delivery, %error, "a message cannot be delivered: it is given up");
        let outcome = v1::link_settle::Outcome::Term.into();
        let settle = v1::LinkSettle { delivery, outcome, reason: error.to_string(), ..Default::default() };
        self.settling.settle(self.stream, &self.consumer, settle);
        self.consumer.credit(1);
    }
}

/// The event with the hub's own extension attributes: an encoded message may be extended by appending another.
fn extended(event: Bytes, extensions: &[(String, String)]) -> Bytes {
    if extensions.is_empty() {
        return event;
    }
    let added: BTreeMap<_, _> = extensions.iter().cloned().collect();
    let added = v1::Event { extensions: added.into_iter().collect(), ..Default::default() };
    let mut out = BytesMut::with_capacity(event.len() + added.encoded_len());
    out.put(event);
    added.encode_raw(&mut out);
    out.freeze()
}
