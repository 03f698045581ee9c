//! What a topic promises.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use kontrol_core::spec::Overflow;
use kontrol_hub::{
    Error, Nak, Publish, dead_letter,
    io::faulty::{Crash, Fault},
};
use support::{
    SEGMENT, at, configured, consumer, disk, message, name, open, poll, publish, settle, texts, topic, who,
};

#[test]
fn a_message_is_seen_only_when_it_is_durable() {
    let hub = configured(&disk(), &[topic("t", &["s"])]);
    let consumer = consumer(&hub, "t", "s");
    let mut receipt = hub.publish(at(1), &[message("t", "a")]).unwrap();
    assert!(receipt.try_take().is_none());
    assert_eq!(poll(&consumer, at(1)), [""; 0]);
    hub.step();
    assert!(receipt.try_take().unwrap().is_ok());
    assert_eq!(poll(&consumer, at(1)), ["a"]);
}

#[test]
fn an_id_is_stored_once_per_topic_and_source_also_over_a_restart() {
    let disk = disk();
    let hub = configured(&disk, &[topic("t", &["s"]), topic("u", &["s"])]);
    let first = publish(&hub, at(1), message("t", "a")).unwrap();
    let again = publish(&hub, at(2), message("t", "a")).unwrap();
    assert_eq!((again.sequence, again.duplicate), (first.sequence, true));
    let elsewhere = Publish { source: "/default/g/other", ..message("t", "a") };
    assert!(!publish(&hub, at(2), elsewhere).unwrap().duplicate);
    assert!(!publish(&hub, at(2), message("u", "a")).unwrap().duplicate);
    drop(hub);
    let hub = open(&disk);
    assert!(publish(&hub, at(60_000), message("t", "a")).unwrap().duplicate);
    assert!(!publish(&hub, at(120_001), message("t", "a")).unwrap().duplicate);
}

#[test]
fn a_duplicate_of_what_is_not_durable_yet_waits_for_it() {
    let hub = configured(&disk(), &[topic("t", &["s"])]);
    let mut receipts = [(); 2].map(|()| hub.publish(at(1), &[message("t", "a")]).unwrap());
    assert!(receipts[1].try_take().is_none());
    settle(&hub);
    let [first, second] = receipts.each_mut().map(|receipt| receipt.try_take().unwrap().unwrap().remove(0));
    assert_eq!((second.sequence, second.duplicate), (first.sequence, true));
    let twice = hub.publish(at(1), &[message("t", "b"), message("t", "b")]).unwrap();
    settle(&hub);
    let twice = twice.wait().unwrap();
    assert_eq!((twice[1].sequence, twice[1].duplicate), (twice[0].sequence, true));
}

#[test]
fn a_batch_is_stored_whole_or_not_at_all() {
    let hub = configured(&disk(), &[topic("t", &["s"]), topic("u", &["s"])]);
    let missing = hub.publish(at(1), &[message("t", "a"), message("nowhere", "a")]);
    assert!(matches!(missing, Err(Error::UnknownTopic { .. })));
    let large = Publish { event: &[0; 1_001], ..message("u", "a") };
    let refused = hub.publish(at(1), &[message("t", "a"), large]).unwrap_err();
    assert_eq!(refused, Error::TooLarge { topic: "u".into(), size: 1_001, limit: 1_000 });
    assert_eq!(refused.code().as_str(), "KTL3003");
    drop(hub.publish(at(1), &[message("t", "b"), message("u", "b")]).unwrap());
    settle(&hub);
    assert_eq!(poll(&consumer(&hub, "t", "s"), at(1)), ["b"]);
    assert_eq!(poll(&consumer(&hub, "u", "s"), at(1)), ["b"]);
}

#[test]
fn a_full_buffer_rejects_with_the_subscription_and_its_depth() {
    let mut full = topic("t", &["fast", "slow"]);
    full.topic.buffer.limit = 2;
    let hub = configured(&disk(), &[full]);
    let fast = consumer(&hub, "t", "fast");
    for id in ["a", "b"] {
        publish(&hub, at(1), message("t", id)).unwrap();
        fast.poll(at(1), 1).unwrap();
    }
    let refused = publish(&hub, at(1), message("t", "c")).unwrap_err();
    let expected = Error::Full { topic: "t".into(), subscription: "slow".into(), depth: 2, limit: 2 };
    assert_eq!(refused, expected);
    assert_eq!(refused.code().as_str(), "KTL3004");
    // What is in flight does not wait: there is room again.
    consumer(&hub, "t", "slow").poll(at(1), 1).unwrap();
    assert!(publish(&hub, at(1), message("t", "a")).unwrap().duplicate);
}

#[test]
fn a_full_buffer_that_drops_the_oldest_tells_the_publisher() {
    let mut ring = topic("t", &["s"]);
    ring.topic.buffer.limit = 2;
    ring.topic.buffer.overflow = Overflow::DropOldest;
    ring.topic.dead_letter = Some(name("dead"));
    let hub = configured(&disk(), &[ring, topic("dead", &["d"])]);
    for id in ["a", "b"] {
        assert_eq!(publish(&hub, at(1), message("t", id)).unwrap().dropped, 0);
    }
    let third = publish(&hub, at(1), message("t", "c")).unwrap();
    assert_eq!((third.dropped, third.dropped_by), (1, vec!["s".to_owned()]));
    assert_eq!(poll(&consumer(&hub, "t", "s"), at(1)), ["b", "c"]);
    assert_eq!(poll(&consumer(&hub, "dead", "d"), at(1)), ["a"]);
    let signal = hub.signals(at(1)).into_iter().find(|signal| signal.subscription == "s").unwrap();
    assert_eq!((signal.dropped, signal.dead_lettered, signal.depth), (0, 1, 2), "a dead letter is not lost");
}

#[test]
fn a_full_buffer_that_drops_the_oldest_without_a_dead_letter_topic_counts_it_as_lost() {
    let mut ring = topic("t", &["s"]);
    ring.topic.buffer.limit = 1;
    ring.topic.buffer.overflow = Overflow::DropOldest;
    let hub = configured(&disk(), &[ring]);
    publish(&hub, at(1), message("t", "a")).unwrap();
    assert_eq!(publish(&hub, at(1), message("t", "b")).unwrap().dropped, 1);
    let signal = hub.signals(at(1)).remove(0);
    assert_eq!((signal.dropped, signal.dead_lettered, signal.depth), (1, 0, 1));
}

#[test]
fn a_publish_is_not_refused_for_the_size_of_the_dead_letters_that_it_makes() {
    let mut ring = topic("t", &["a", "b", "c"]);
    ring.topic.buffer.limit = 1;
    ring.topic.buffer.overflow = Overflow::DropOldest;
    ring.topic.dead_letter = Some(name("dead"));
    ring.topic.max_message = SEGMENT;
    let hub = configured(&disk(), &[ring, topic("dead", &["d"])]);
    let large = vec![b'x'; usize::try_from(SEGMENT / 8).unwrap()];
    publish(&hub, at(1), Publish { event: &large, ..message("t", "1") }).unwrap();
    let next = publish(&hub, at(1), Publish { event: &large, ..message("t", "2") }).unwrap();
    assert_eq!(next.dropped, 3);
    let signals = hub.signals(at(1));
    let sum = |count: fn(&kontrol_hub::Signal) -> u64| signals.iter().map(count).sum::<u64>();
    assert_eq!(sum(|signal| signal.dropped) + sum(|signal| signal.dead_lettered), 3);
    assert!(sum(|signal| signal.dropped) > 0);
}

#[test]
fn a_broken_consumer_gives_back_at_once_and_the_attempt_with_it() {
    let hub = configured(&disk(), &[topic("t", &["s"])]);
    publish(&hub, at(1), message("t", "a")).unwrap();
    for _ in 0..10 {
        let breaking = consumer(&hub, "t", "s");
        let deliveries = breaking.poll(at(2), 9).unwrap();
        assert_eq!((deliveries[0].attempt, deliveries[0].max_attempts), (1, 3));
    }
}

#[test]
fn a_lease_that_ends_counts_as_an_attempt_and_progress_starts_it_over() {
    let hub = configured(&disk(), &[topic("t", &["s"])]);
    publish(&hub, at(0), message("t", "a")).unwrap();
    let consumer = consumer(&hub, "t", "s");
    let first = consumer.poll(at(0), 1).unwrap().remove(0);
    assert_eq!(hub.tick(at(0)), Some(at(1_000)));
    consumer.progress(at(20_000), first.delivery).unwrap();
    hub.tick(at(40_000));
    assert_eq!(poll(&consumer, at(40_000)), [""; 0]);
    hub.tick(at(50_000));
    let second = consumer.poll(at(50_000), 1).unwrap().remove(0);
    assert_eq!(second.attempt, 2);
    let late = consumer.ack(at(50_000), first.delivery).unwrap_err();
    assert_eq!(late, Error::UnknownDelivery { delivery: first.delivery });
}

#[test]
fn a_consumer_is_told_of_each_lease_that_ends_also_of_the_last_one() {
    let hub = configured(&disk(), &[topic("t", &["s"])]);
    publish(&hub, at(0), message("t", "a")).unwrap();
    let count = Arc::new(AtomicU32::new(0));
    let counted = count.clone();
    let notify = Arc::new(move || {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    // Without credit for the next attempt, nothing but the end of the lease is there to be told.
    let take = hub.subscribe("default", "t", "s", who(1), 1, notify).unwrap();
    for attempt in 1..=3 {
        let now = u64::from(attempt) * 40_000;
        let held = take.poll(at(now), 9).unwrap().remove(0);
        assert_eq!((held.attempt, take.lapsed()), (attempt, Vec::new()));
        let told = count.load(Ordering::Relaxed);
        hub.tick(at(now + 30_000));
        assert_eq!(take.lapsed(), [held.delivery]);
        assert!(count.load(Ordering::Relaxed) > told);
        settle(&hub);
        take.credit(1);
    }
    assert_eq!(hub.signals(at(200_000))[0].dead_lettered, 1);
}

#[test]
fn retries_wait_for_the_backoff_and_the_last_one_ends_in_the_dead_letter_topic() {
    let disk = disk();
    let mut retried = topic("t", &["s"]);
    retried.topic.dead_letter = Some(name("dead"));
    let hub = configured(&disk, &[retried, topic("dead", &["d"])]);
    let stored = publish(&hub, at(0), message("t", "a")).unwrap();
    let nak = Nak { delay: None, counts: true, reason: "no memory" };
    let take = consumer(&hub, "t", "s");
    let first = take.poll(at(0), 1).unwrap().remove(0);
    drop(take.nak(at(0), first.delivery, &nak).unwrap());
    hub.tick(at(999));
    assert_eq!(poll(&take, at(999)), [""; 0]);
    hub.tick(at(1_000));
    let second = take.poll(at(1_000), 1).unwrap().remove(0);
    // The count outlives the hub.
    drop(take.nak(at(1_000), second.delivery, &nak).unwrap());
    settle(&hub);
    drop((take, hub));
    let hub = open(&disk);
    let take = consumer(&hub, "t", "s");
    let third = take.poll(at(2_000), 1).unwrap().remove(0);
    assert_eq!(third.attempt, 3);
    drop(take.nak(at(2_000), third.delivery, &nak).unwrap());
    settle(&hub);
    let letters = consumer(&hub, "dead", "d").poll(at(2_000), 9).unwrap();
    assert_eq!(texts(&letters), ["a"]);
    let expected = [
        (dead_letter::TOPIC, "default/t".to_owned()),
        (dead_letter::SUBSCRIPTION, "s".to_owned()),
        (dead_letter::REASON, "no memory".to_owned()),
        (dead_letter::ATTEMPTS, "3".to_owned()),
        (dead_letter::SEQUENCE, stored.sequence.to_string()),
    ];
    assert_eq!(letters[0].extensions, expected.map(|(name, value)| (name.to_owned(), value)));
    hub.tick(at(100_000));
    assert_eq!(poll(&take, at(100_000)), [""; 0]);
}

#[test]
fn a_terminated_message_is_dead_at_once_and_the_letter_comes_with_its_settlement() {
    let disk = disk();
    let mut deadly = topic("t", &["s"]);
    deadly.topic.dead_letter = Some(name("dead"));
    let hub = configured(&disk, &[deadly, topic("dead", &["d"])]);
    publish(&hub, at(0), message("t", "a")).unwrap();
    let take = consumer(&hub, "t", "s");
    let first = take.poll(at(0), 1).unwrap().remove(0);
    let before = hub.stats().commits;
    drop(take.term(at(0), first.delivery, "poison").unwrap());
    settle(&hub);
    assert_eq!(hub.stats().commits, before + 1);
    drop((take, hub));
    disk.crash(Crash::Power);
    let hub = open(&disk);
    assert_eq!(poll(&consumer(&hub, "t", "s"), at(0)), [""; 0]);
    assert_eq!(poll(&consumer(&hub, "dead", "d"), at(0)), ["a"]);
}

#[test]
fn a_reason_of_any_length_is_cut_to_what_a_dead_letter_carries() {
    let disk = disk();
    let mut deadly = topic("t", &["s"]);
    deadly.topic.dead_letter = Some(name("dead"));
    let hub = configured(&disk, &[deadly, topic("dead", &["d"])]);
    publish(&hub, at(0), Publish { event: &[b'x'; 1_000], ..message("t", "a") }).unwrap();
    let take = consumer(&hub, "t", "s");
    let first = take.poll(at(0), 1).unwrap().remove(0);
    let reason = format!("a{}", "é".repeat(100_000));
    drop(take.term(at(0), first.delivery, &reason).unwrap());
    settle(&hub);
    drop((take, hub));
    let letters = consumer(&open(&disk), "dead", "d").poll(at(0), 1).unwrap();
    let cut = &letters[0].extensions.iter().find(|(name, _)| name == dead_letter::REASON).unwrap().1;
    assert_eq!(cut, &reason[..1_023]);
}

#[test]
fn messages_of_a_key_come_one_after_the_other_and_other_keys_go_on() {
    let mut keyed = topic("t", &["s"]);
    keyed.topic.key = Some("subject".to_owned());
    let hub = configured(&disk(), &[keyed]);
    for (id, key) in [("a1", "a"), ("a2", "a"), ("b1", "b"), ("x", "")] {
        publish(&hub, at(0), Publish { key, ..message("t", id) }).unwrap();
    }
    let take = consumer(&hub, "t", "s");
    let first = take.poll(at(0), 9).unwrap();
    assert_eq!(texts(&first), ["a1", "b1", "x"]);
    // A retry holds its key back.
    let nak = Nak { delay: Some(Duration::from_secs(5)), counts: false, reason: "" };
    drop(take.nak(at(0), first[0].delivery, &nak).unwrap());
    settle(&hub);
    assert_eq!(poll(&take, at(1_000)), [""; 0]);
    hub.tick(at(5_000));
    let again = take.poll(at(5_000), 9).unwrap();
    assert_eq!(texts(&again), ["a1"]);
    // The next one comes when the acknowledgement is durable, not before.
    drop(take.ack(at(5_000), again[0].delivery).unwrap());
    assert_eq!(poll(&take, at(5_000)), [""; 0]);
    settle(&hub);
    assert_eq!(poll(&take, at(5_000)), ["a2"]);
}

#[test]
fn an_older_incarnation_is_fenced_off() {
    let hub = configured(&disk(), &[topic("t", &["s"])]);
    publish(&hub, at(0), message("t", "a")).unwrap();
    let old = consumer(&hub, "t", "s");
    let held = old.poll(at(0), 1).unwrap().remove(0);
    hub.fence("default/g/w/0", 2);
    assert!(matches!(old.ack(at(0), held.delivery), Err(Error::Fenced { fence: 2, .. })));
    let back = hub.subscribe("default", "t", "s", who(1), 1, Arc::new(|| ()));
    assert_eq!(back.unwrap_err().code().as_str(), "KTL4012");
    let new = hub.subscribe("default", "t", "s", who(2), 1, Arc::new(|| ())).unwrap();
    assert_eq!(poll(&new, at(0)), ["a"]);
}

#[test]
fn a_subscription_that_is_declared_later_starts_with_the_oldest_message_of_the_log_also_over_a_restart() {
    let disk = disk();
    let hub = configured(&disk, &[topic("t", &[])]);
    for id in ["a", "b"] {
        publish(&hub, at(0), message("t", id)).unwrap();
    }
    drop(hub.configure(at(1), &[topic("t", &["s"])]).unwrap());
    let first = consumer(&hub, "t", "s");
    let deliveries = first.poll(at(1), 9).unwrap();
    assert_eq!(texts(&deliveries), ["a", "b"]);
    drop(first.ack(at(1), deliveries[0].delivery).unwrap());
    drop(hub.publish(at(1), &[message("t", "c")]).unwrap());
    // Not even what is not written yet is missing from the index that is made anew.
    drop(hub.configure(at(1), &[topic("t", &["s", "later"])]).unwrap());
    settle(&hub);
    let last = first.poll(at(1), 9).unwrap();
    assert_eq!(texts(&last), ["c"]);
    let later = consumer(&hub, "t", "later");
    assert_eq!(poll(&later, at(1)), ["a", "b", "c"]);
    drop(first.ack(at(1), last[0].delivery).unwrap());
    settle(&hub);
    drop((first, later, hub));
    disk.crash(Crash::Power);
    let hub = open(&disk);
    assert_eq!(poll(&consumer(&hub, "t", "s"), at(1)), ["b"]);
    assert_eq!(poll(&consumer(&hub, "t", "later"), at(1)), ["a", "b", "c"]);
}

#[test]
fn what_is_no_longer_declared_ends_its_consumers() {
    let hub = configured(&disk(), &[topic("t", &["s", "z"])]);
    let ending = consumer(&hub, "t", "s");
    drop(hub.configure(at(1), &[topic("t", &["z"])]).unwrap());
    assert!(matches!(ending.poll(at(1), 1), Err(Error::UnknownSubscription { .. })));
    drop(hub.configure(at(1), &[]).unwrap());
    assert!(matches!(publish(&hub, at(1), message("t", "a")), Err(Error::UnknownTopic { .. })));
}

#[test]
fn messages_older_than_the_retention_are_dropped_and_counted() {
    let mut short = topic("t", &["s"]);
    short.topic.retention.age = Duration::from_secs(10);
    let hub = configured(&disk(), &[short]);
    publish(&hub, at(0), message("t", "a")).unwrap();
    publish(&hub, at(8_000), message("t", "b")).unwrap();
    hub.tick(at(11_000));
    assert_eq!(poll(&consumer(&hub, "t", "s"), at(11_000)), ["b"]);
    assert_eq!(hub.signals(at(11_000))[0].dropped, 1);
}

#[test]
fn consumers_are_notified_once_until_they_ask() {
    let hub = configured(&disk(), &[topic("t", &["s"])]);
    let count = Arc::new(AtomicU32::new(0));
    let counted = count.clone();
    let notify = Arc::new(move || {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    let take = hub.subscribe("default", "t", "s", who(1), 1, notify).unwrap();
    for id in ["a", "b"] {
        publish(&hub, at(0), message("t", id)).unwrap();
    }
    assert_eq!(count.load(Ordering::Relaxed), 1);
    // One credit, one message; the next credit brings the next notification.
    assert_eq!(poll(&take, at(0)), ["a"]);
    assert_eq!(poll(&take, at(0)), [""; 0]);
    take.credit(1);
    assert_eq!(count.load(Ordering::Relaxed), 2);
    assert_eq!(poll(&take, at(0)), ["b"]);
}

#[test]
fn a_full_disk_refuses_publishing_but_not_settling_and_recovers_by_itself() {
    let disk = disk();
    let mut open_ended = topic("t", &["s"]);
    open_ended.topic.dedup_window = Duration::ZERO;
    let hub = configured(&disk, &[open_ended]);
    disk.plan(0, Fault::NoSpace);
    let event = [b'x'; 900];
    let refused = loop {
        match publish(&hub, at(0), Publish { event: &event, ..message("t", "") }) {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, Error::StorageFull { .. }), "{refused}");
    assert_eq!(refused.code().as_str(), "KTL3005");
    let take = consumer(&hub, "t", "s");
    for delivery in take.poll(at(1), 1_000).unwrap() {
        drop(take.ack(at(1), delivery.delivery).unwrap());
    }
    settle(&hub);
    hub.tick(at(2));
    settle(&hub);
    publish(&hub, at(2), Publish { event: &event, ..message("t", "") }).unwrap();
    assert_eq!(hub.failure(), None);
}

#[test]
fn a_sync_that_fails_ends_the_hub_and_everybody_is_told() {
    let disk = disk();
    let hub = configured(&disk, &[topic("t", &["s"])]);
    let mut receipt = hub.publish(at(0), &[message("t", "a")]).unwrap();
    disk.plan(2, Fault::Broken);
    settle(&hub);
    let failed = receipt.try_take().unwrap().unwrap_err();
    assert_eq!(failed.code().as_str(), "KTL3013");
    assert!(matches!(hub.publish(at(0), &[message("t", "b")]), Err(Error::Failed(_))));
    assert_eq!(futures::executor::block_on(hub.failed()), hub.failure().unwrap());
}
