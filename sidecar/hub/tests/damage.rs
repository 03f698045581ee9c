//! Bits that flip, files that are cut or gone: damage to what was durable is named, and never served.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

mod support;

use kontrol_hub::{
    OpenError,
    io::faulty::{Crash, Disk},
};
use support::{SEGMENT, at, configured, consumer, disk, message, poll, publish, settle, topic, try_open};

const IDS: [&str; 3] = ["one", "two", "three"];

/// A log with three messages, of which the second is acknowledged, and nothing that is not provable.
fn small() -> Disk {
    let disk = disk();
    let hub = configured(&disk, &[topic("t", &["s"])]);
    for id in IDS {
        publish(&hub, at(0), message("t", id)).unwrap();
    }
    let take = consumer(&hub, "t", "s");
    let deliveries = take.poll(at(0), 9).unwrap();
    drop(take.ack(at(0), deliveries[1].delivery).unwrap());
    settle(&hub);
    hub.step_idle();
    settle(&hub);
    drop((take, hub));
    disk.crash(Crash::Process);
    disk
}

/// Whether the damage was named, or did not matter: everything that was durable is there.
fn is_harmless(disk: &Disk, what: &str) -> bool {
    match try_open(disk) {
        Err(OpenError::Corrupt { file, reason, .. }) => {
            assert_eq!(file, "0000000001.log", "{what}: {reason}");
            false
        }
        Err(error) => panic!("{what}: {error}"),
        Ok((hub, _)) => {
            assert_eq!(poll(&consumer(&hub, "t", "s"), at(1)), ["one", "three"], "{what}");
            true
        }
    }
}

#[test]
fn every_bit_flip_in_what_is_provable_is_named_and_no_other_matters() {
    let whole = small();
    let mut named = 0;
    let mut last_named = 0;
    for byte in 0..2_000 {
        // Each bit of each byte is under the same checksum; one a byte, in turns, is enough here.
        let bit = byte * 8 + byte % 8;
        let disk = whole.copy();
        disk.flip("0000000001.log", bit);
        if !is_harmless(&disk, &format!("bit {bit}")) {
            named += 1;
            last_named = byte;
        }
    }
    // From the first byte on there is no gap; what follows is the last mark, and nothing.
    assert_eq!(named, last_named + 1);
    assert!(named > 600, "{named}");
}

#[test]
fn a_segment_that_was_cut_off_is_named() {
    let whole = small();
    for size in (0..usize::try_from(SEGMENT).unwrap()).step_by(97) {
        let disk = whole.copy();
        disk.truncate("0000000001.log", size);
        match try_open(&disk) {
            Err(OpenError::Corrupt { .. } | OpenError::Io { .. }) => {}
            Err(error) => panic!("{size}: {error}"),
            Ok(_) => panic!("{size} bytes were taken for a whole segment"),
        }
    }
}

#[test]
fn a_segment_that_is_gone_is_named() {
    let disk = disk();
    let hub = configured(&disk, &[topic("t", &["s"])]);
    for id in 0..60 {
        let text = id.to_string();
        let event = [b'x'; 900];
        let large = kontrol_hub::Publish { event: &event, ..message("t", &text) };
        publish(&hub, at(0), large).unwrap();
    }
    drop(hub);
    disk.crash(Crash::Process);
    disk.remove("0000000002.log");
    let Err(OpenError::Corrupt { file, reason, .. }) = try_open(&disk) else { panic!("not named") };
    assert_eq!((file.as_str(), reason.as_str()), ("0000000002.log", "the file is missing"));
}

#[test]
fn a_torn_tail_is_cut_and_what_was_written_over_it_stands() {
    let disk = disk();
    let hub = configured(&disk, &[topic("t", &["s"])]);
    publish(&hub, at(0), message("t", "kept")).unwrap();
    let torn = hub.publish(at(0), &[message("t", "torn")]).unwrap();
    disk.plan(1, kontrol_hub::io::faulty::Fault::Stop);
    hub.step();
    drop((torn, hub));
    disk.crash(Crash::Process);
    let (hub, recovery) = try_open(&disk).unwrap();
    assert!(recovery.cut.is_some());
    publish(&hub, at(0), message("t", "after")).unwrap();
    drop(hub);
    disk.crash(Crash::Power);
    let (hub, recovery) = try_open(&disk).unwrap();
    assert_eq!(recovery.cut, None);
    assert_eq!(poll(&consumer(&hub, "t", "s"), at(0)), ["kept", "after"]);
}
