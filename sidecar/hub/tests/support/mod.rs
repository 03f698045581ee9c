//! A hub without threads on a disk in memory, and topics to try it with.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::{sync::Arc, time::Duration};

use kontrol_core::{
    id::{Name, ObjectId},
    spec,
    time::Timestamp,
};
use kontrol_hub::{
    Config, Consumer, Delivery, Error, Hub, OpenError, Publish, Published, Recovery, TopicConfig, Who,
    io::faulty::{Disk, Omit},
};

pub(crate) const SEGMENT: u64 = 16 << 10;

pub(crate) fn disk() -> Disk {
    Disk::new(1, Omit { sync: false, sync_dir: false })
}

pub(crate) fn at(milliseconds: u64) -> Timestamp {
    Timestamp::from_micros(1_000_000_000 + milliseconds * 1_000)
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(crate) fn topic(topic: &str, subscriptions: &[&str]) -> TopicConfig {
    let topic = spec::Topic {
        id: ObjectId { namespace: name("default"), name: name(topic) },
        bus: name("default"),
        retention: spec::Retention::default(),
        key: None,
        buffer: spec::Buffer::default(),
        retry: spec::Retry {
            limit: 2,
            backoff: spec::Backoff { jitter_percent: 0, ..spec::Backoff::default() },
        },
        dead_letter: None,
        dedup_window: Duration::from_mins(2),
        ack_timeout: Duration::from_secs(30),
        max_message: 1_000,
    };
    TopicConfig { topic, subscriptions: subscriptions.iter().map(|name| (*name).to_owned()).collect() }
}

pub(crate) fn try_open(disk: &Disk) -> Result<(Hub, Recovery), OpenError> {
    let storage = spec::Storage { size: 8 * SEGMENT, segment: SEGMENT };
    Hub::open_stepped(disk.mount(), Config { storage, ..Config::default() }, at(0))
}

pub(crate) fn open(disk: &Disk) -> Hub {
    let (hub, _) = try_open(disk).unwrap();
    settle(&hub);
    hub
}

/// Lets everything that was started become durable.
pub(crate) fn settle(hub: &Hub) {
    while hub.step() || hub.step_folder() {}
}

pub(crate) fn configured(disk: &Disk, topics: &[TopicConfig]) -> Hub {
    let hub = open(disk);
    drop(hub.configure(at(0), topics).unwrap());
    settle(&hub);
    hub
}

pub(crate) fn message<'a>(topic: &'a str, id: &'a str) -> Publish<'a> {
    Publish { namespace: "default", topic, source: "/default/g/w", id, key: "", event: id.as_bytes() }
}

pub(crate) fn publish(hub: &Hub, now: Timestamp, message: Publish<'_>) -> Result<Published, Error> {
    let mut receipt = hub.publish(now, &[message])?;
    settle(hub);
    Ok(receipt.try_take().unwrap()?.remove(0))
}

pub(crate) fn who(incarnation: u64) -> Who {
    Who { instance: "default/g/w/0".to_owned(), incarnation }
}

pub(crate) fn consumer(hub: &Hub, topic: &str, subscription: &str) -> Consumer {
    hub.subscribe("default", topic, subscription, who(1), 1_000, Arc::new(|| ())).unwrap()
}

pub(crate) fn texts(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(|delivery| String::from_utf8_lossy(&delivery.event).into_owned()).collect()
}

pub(crate) fn poll(consumer: &Consumer, now: Timestamp) -> Vec<String> {
    texts(&consumer.poll(now, 100).unwrap())
}
