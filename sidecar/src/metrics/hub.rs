//! The page of the hub.

use kontrol_hub::{Signal, Stats};

use super::page::Page;
use crate::hub::HubDoor;

/// What the hub counts and sees.
pub fn of_hub(door: &HubDoor) -> String {
    let mut page = Page::default();
    page.build();
    connections(&mut page, door);
    if let Some(hub) = door.hub() {
        log(&mut page, &hub.stats());
        subscriptions(&mut page, &door.signals());
    }
    page.process();
    page.text()
}

fn connections(page: &mut Page, door: &HubDoor) {
    let stats = &door.stats;
    page.gauge("kontrol_hub_connections", "Sidecars that are connected.", stats.connections.get() as f64);
    page.refusals(&stats.foreign_certificates, &stats.fenced, &stats.malformed_frames);
    page.counter("kontrol_hub_publish_refusals_total", "Publishes that were refused.", stats.refused.get());
    page.config(door.version());
}

fn log(page: &mut Page, stats: &Stats) {
    for (name, help, value) in [
        ("kontrol_hub_published_messages_total", "Messages that were stored.", stats.published),
        (
            "kontrol_hub_duplicates_total",
            "Publishes that found their message stored already.",
            stats.duplicates,
        ),
        (
            "kontrol_hub_forgotten_ids_total",
            "Ids forgotten before their dedup window ended, since there were too many.",
            stats.ids_forgotten,
        ),
        (
            "kontrol_hub_delivered_messages_total",
            "Messages that were handed to a subscriber.",
            stats.delivered,
        ),
        ("kontrol_hub_acknowledged_messages_total", "Deliveries that were acknowledged.", stats.acknowledged),
        (
            "kontrol_log_syncs_total",
            "Commits of the log, each one write and one sync; messages over syncs is the batch size.",
            stats.commits,
        ),
        ("kontrol_log_written_bytes_total", "Bytes that were written to the log.", stats.bytes),
    ] {
        page.counter(name, help, value);
    }
    page.gauge("kontrol_log_segments", "Segments of the log.", stats.segments as f64);
    page.gauge("kontrol_log_disk_bytes", "Bytes that the log takes on the disk.", stats.disk as f64);
}

fn subscriptions(page: &mut Page, signals: &[Signal]) {
    /// A figure of a subscription: its name, its help, whether it only grows, and how it is read.
    type Figure = (&'static str, &'static str, bool, fn(&Signal) -> f64);
    const FIGURES: [Figure; 8] = [
        ("kontrol_subscription_depth", "Messages that wait or are being worked on.", false, |s| {
            s.depth as f64
        }),
        ("kontrol_subscription_oldest_seconds", "The age of the oldest of them.", false, |s| {
            s.oldest.as_secs_f64()
        }),
        ("kontrol_subscription_growth", "Messages by which the depth grew in the last second.", false, |s| {
            s.growth
        }),
        ("kontrol_subscription_in_flight", "Messages that are being worked on.", false, |s| {
            s.in_flight as f64
        }),
        ("kontrol_subscription_delayed", "Messages that wait for their next attempt.", false, |s| {
            s.delayed as f64
        }),
        ("kontrol_subscription_consumers", "Subscribers that are connected.", false, |s| s.consumers as f64),
        ("kontrol_subscription_dead_lettered_total", "Messages given up.", true, |s| s.dead_lettered as f64),
        ("kontrol_subscription_dropped_total", "Messages dropped to make room.", true, |s| s.dropped as f64),
    ];
    for (name, help, grows, read) in FIGURES {
        let series = signals.iter().map(|signal| {
            let labels = vec![
                ("namespace", signal.namespace.as_str()),
                ("topic", signal.topic.as_str()),
                ("subscription", signal.subscription.as_str()),
            ];
            (labels, read(signal))
        });
        if grows { page.counters(name, help, series) } else { page.gauges(name, help, series) }
    }
}
