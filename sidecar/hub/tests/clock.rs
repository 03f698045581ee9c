//! What a topic remembers when the wall clock at the hub's start is not where its log ends.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

mod support;

use std::time::Duration;

use kontrol_core::{spec, time::Timestamp};
use kontrol_hub::{
    Clock, Config, Hub, OpenError, Publish, TopicConfig,
    io::faulty::{Crash, Disk, Fault},
};
use support::{SEGMENT, at, consumer, disk, message, poll, publish, settle, topic};

const HOUR: Duration = Duration::from_hours(1);

/// A topic that keeps messages for an hour, and ids for two minutes.
fn short() -> TopicConfig {
    let mut short = topic("t", &["s"]);
    short.topic.retention.age = HOUR;
    short
}

/// A hub that was started when the wall clock said `wall`, and its clock.
fn start(disk: &Disk, wall: Timestamp) -> Result<(Hub, Clock), OpenError> {
    let storage = spec::Storage { size: 8 * SEGMENT, segment: SEGMENT };
    let (hub, recovery) = Hub::open_stepped(disk.mount(), Config { storage, ..Config::default() }, wall)?;
    let clock = Clock::new(wall, recovery.time);
    settle(&hub);
    Ok((hub, clock))
}

fn crash(disk: &Disk, hub: Hub) {
    drop(hub);
    disk.crash(Crash::Power);
}

fn first_life(disk: &Disk, wall: Timestamp) -> (Hub, Clock) {
    let (hub, clock) = start(disk, wall).unwrap();
    drop(hub.configure(clock.after(Duration::ZERO), &[short()]).unwrap());
    settle(&hub);
    (hub, clock)
}

#[test]
fn a_hub_whose_time_was_behind_keeps_its_messages_and_knows_their_ids_at_every_later_start() {
    let disk = disk();
    let (mut hub, clock) = first_life(&disk, at(0));
    assert!(!publish(&hub, clock.after(Duration::from_secs(5)), message("t", "a")).unwrap().duplicate);
    // The publisher had no answer. What other publishers send between the crashes changes nothing.
    for (later, other) in [(8, "b"), (16, "c"), (24, "d")] {
        crash(&disk, hub);
        let clock;
        (hub, clock) = start(&disk, at(0).plus(HOUR * later)).unwrap();
        let now = clock.after(Duration::from_secs(10));
        hub.tick(now);
        assert!(publish(&hub, now, message("t", "a")).unwrap().duplicate, "{later} hours later");
        assert!(!publish(&hub, now, message("t", other)).unwrap().duplicate);
    }
    crash(&disk, hub);
    let (hub, clock) = start(&disk, at(0).plus(HOUR * 32)).unwrap();
    let now = clock.after(Duration::from_secs(89));
    hub.tick(now);
    assert!(publish(&hub, now, message("t", "a")).unwrap().duplicate, "119 of 120 seconds");
    assert_eq!(poll(&consumer(&hub, "t", "s"), now), ["a", "b", "c", "d"]);
    let now = clock.after(Duration::from_secs(91));
    assert!(!publish(&hub, now, message("t", "a")).unwrap().duplicate, "121 of 120 seconds");
}

#[test]
fn a_wall_clock_that_was_set_back_prolongs_neither_a_window_nor_an_age() {
    let disk = disk();
    let (hub, clock) = first_life(&disk, at(0).plus(HOUR * 8));
    publish(&hub, clock.after(Duration::from_secs(5)), message("t", "a")).unwrap();
    crash(&disk, hub);
    let (hub, clock) = start(&disk, at(0)).unwrap();
    let now = |seconds| clock.after(Duration::from_secs(seconds));
    assert!(publish(&hub, now(119), message("t", "a")).unwrap().duplicate);
    assert!(!publish(&hub, now(121), message("t", "a")).unwrap().duplicate);
    hub.tick(now(3_599));
    assert_eq!(hub.signals(now(3_599))[0].dropped, 0);
    hub.tick(now(3_601));
    assert_eq!(hub.signals(now(3_601))[0].dropped, 1);
}

#[test]
fn a_crash_between_two_segments_dates_the_next_one_by_the_hubs_time() {
    // One life for each place at which the disk can stop while a segment is rolled.
    for after in 0..12 {
        let disk = disk();
        let (hub, clock) = first_life(&disk, at(0));
        let now = clock.after(Duration::from_secs(5));
        publish(&hub, now, message("t", "a")).unwrap();
        let event = [b'x'; 900];
        while hub.stats().segments < 2 {
            // Sent and not written: the commit that rolls is the one that stops.
            drop(hub.publish(now, &[Publish { event: &event, ..message("t", "") }]).unwrap());
            if hub.stats().segments < 2 {
                settle(&hub);
            }
        }
        disk.plan(after, Fault::Stop);
        settle(&hub);
        crash(&disk, hub);
        let (hub, _) = start(&disk, at(0).plus(HOUR * 8)).unwrap();
        crash(&disk, hub);
        let (hub, clock) = start(&disk, at(0).plus(HOUR * 16)).unwrap();
        let now = clock.after(Duration::from_secs(5));
        hub.tick(now);
        assert!(publish(&hub, now, message("t", "a")).unwrap().duplicate, "stopped at {after}");
    }
}
