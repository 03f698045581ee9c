//! The hub on the disk, with its threads.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

use std::{
    path::Path,
    sync::{Arc, mpsc},
    time::Duration,
};

use kontrol_core::{
    id::{Name, ObjectId},
    spec::{Storage, Topic},
    time::Timestamp,
};
use kontrol_hub::{Config, Hub, OpenError, Publish, TopicConfig, Who, io::real::Folder};

fn topic(name: &str) -> TopicConfig {
    let id = ObjectId { namespace: Name::new("default").unwrap(), name: Name::new(name).unwrap() };
    let topic = Topic {
        id,
        bus: Name::new("default").unwrap(),
        retention: kontrol_core::spec::Retention::default(),
        key: None,
        buffer: kontrol_core::spec::Buffer::default(),
        retry: kontrol_core::spec::Retry::default(),
        dead_letter: None,
        dedup_window: Duration::from_mins(2),
        ack_timeout: Duration::from_secs(30),
        max_message: 1 << 20,
    };
    TopicConfig { topic, subscriptions: vec!["s".to_owned()] }
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_micros(1_000_000 * seconds)
}

fn config() -> Config {
    Config { storage: Storage { size: 1 << 20, segment: 64 << 10 }, ..Config::default() }
}

fn open(path: &Path) -> Result<Hub, OpenError> {
    Hub::open(Arc::new(Folder::open(path).unwrap()), config(), at(1)).map(|(hub, _)| hub)
}

fn message(id: &str) -> Publish<'_> {
    Publish { namespace: "default", topic: "t", source: "s", id, key: "", event: id.as_bytes() }
}

#[test]
fn what_was_published_is_delivered_after_a_restart_and_what_was_acknowledged_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let hub = open(folder.path()).unwrap();
    hub.configure(at(1), &[topic("t")]).unwrap().wait().unwrap();
    for id in ["a", "b", "c"] {
        let published = hub.publish(at(2), &[message(id)]).unwrap().wait().unwrap();
        assert!(!published[0].duplicate);
    }
    assert!(hub.publish(at(3), &[message("b")]).unwrap().wait().unwrap()[0].duplicate);
    let who = Who { instance: "default/g/w/0".to_owned(), incarnation: 1 };
    let (told, hears) = mpsc::channel();
    let notify = Arc::new(move || told.send(()).unwrap_or_default());
    let consumer = hub.subscribe("default", "t", "s", who.clone(), 10, notify).unwrap();
    let deliveries = consumer.poll(at(4), 2).unwrap();
    assert_eq!(deliveries.iter().map(|d| &d.event[..]).collect::<Vec<_>>(), [b"a", b"b"]);
    consumer.ack(at(4), deliveries[0].delivery).unwrap().wait().unwrap();
    assert_eq!(consumer.poll(at(4), 9).unwrap().len(), 1);
    hub.publish(at(5), &[message("d")]).unwrap().wait().unwrap();
    hears.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(consumer.poll(at(5), 9).unwrap()[0].event, "d");
    drop(consumer);
    hub.close().unwrap();
    drop(hub);

    let hub = open(folder.path()).unwrap();
    let consumer = hub.subscribe("default", "t", "s", who, 10, Arc::new(|| ())).unwrap();
    let events: Vec<_> = consumer.poll(at(6), 9).unwrap().into_iter().map(|d| d.event).collect();
    assert_eq!(events, ["b", "c", "d"]);
    assert!(hub.publish(at(7), &[message("a")]).unwrap().wait().unwrap()[0].duplicate);
}

#[test]
fn a_hub_that_is_closed_notes_how_far_its_time_has_come() {
    let folder = tempfile::tempdir().unwrap();
    let hub = open(folder.path()).unwrap();
    hub.configure(at(1), &[topic("t")]).unwrap().wait().unwrap();
    hub.tick(at(600));
    hub.close().unwrap();
    drop(hub);
    let (_hub, recovery) =
        Hub::open(Arc::new(Folder::open(folder.path()).unwrap()), config(), at(9_000)).unwrap();
    assert_eq!(recovery.time, at(600));
}

#[test]
fn two_hubs_never_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let hub = open(folder.path()).unwrap();
    assert!(matches!(open(folder.path()), Err(OpenError::Locked)));
    drop(hub);
    open(folder.path()).unwrap();
}

#[test]
fn segments_are_rolled_and_recycled_while_messages_flow() {
    let folder = tempfile::tempdir().unwrap();
    let hub = open(folder.path()).unwrap();
    let mut config = topic("t");
    config.topic.dedup_window = Duration::ZERO;
    hub.configure(at(1), &[config]).unwrap().wait().unwrap();
    let who = Who { instance: "default/g/w/0".to_owned(), incarnation: 1 };
    let consumer = hub.subscribe("default", "t", "s", who, u64::MAX, Arc::new(|| ())).unwrap();
    let event = vec![b'x'; 4 << 10];
    let mut delivered = 0;
    // Ten times as much as the storage holds.
    let mut now = 10;
    let mut refused = 0;
    while delivered < 2_560 {
        now += 1;
        match hub.publish(at(now), &[Publish { event: &event, ..message("") }]) {
            Ok(receipt) => drop(receipt.wait().unwrap()),
            Err(error) => {
                refused += 1;
                assert!(refused < 1_000_000, "{error}");
            }
        }
        for delivery in consumer.poll(at(now), 10).unwrap() {
            delivered += 1;
            consumer.ack(at(now), delivery.delivery).unwrap().wait().unwrap();
        }
        hub.tick(at(now));
    }
    assert!(hub.stats().disk <= 1 << 20);
}
