//! Durable publishes a second, one at a time and many in flight, against a bare append and `fdatasync` on the same file system, taken in
//! turns in one run.
//!
//! `cargo run -p kontrol-hub --release --example publish -- [FOLDER] [SECONDS]`

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement reads the clock and prints"
)]

use std::{
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use futures::{StreamExt, executor::block_on, stream::FuturesUnordered};
use hdrhistogram::Histogram;
use kontrol_core::{
    id::{Name, ObjectId},
    spec,
    time::Timestamp,
};
use kontrol_hub::{Config, Error, Hub, Publish, TopicConfig, io::real::Folder};

const EVENT: [u8; 256] = [b'x'; 256];

fn now() -> Timestamp {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    Timestamp::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

fn bare(folder: &Path, span: Duration) -> std::io::Result<Histogram<u64>> {
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(folder.join("bare"))?;
    let size = 64 << 20;
    file.write_all_at(&vec![0; size], 0)?;
    file.sync_all()?;
    let mut times = Histogram::new_with_bounds(1, 60_000_000_000, 3).map_err(std::io::Error::other)?;
    let (start, mut at) = (Instant::now(), 0);
    while start.elapsed() < span && at + 512 < size {
        let one = Instant::now();
        file.write_all_at(&EVENT, at as u64)?;
        file.sync_data()?;
        at += EVENT.len();
        times.saturating_record(u64::try_from(one.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    Ok(times)
}

async fn one(hub: &Hub, number: u64) -> Duration {
    let start = Instant::now();
    let id = number.to_string();
    let message = Publish {
        namespace: "default",
        topic: "bench",
        source: "/default/bench/publisher",
        id: &id,
        key: "",
        event: &EVENT,
    };
    loop {
        match hub.publish(now(), &[message]) {
            Ok(receipt) => {
                drop(receipt.await);
                return start.elapsed();
            }
            Err(Error::Busy { retry_after }) => std::thread::sleep(retry_after / 10),
            Err(error) => {
                println!("{error}");
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

async fn many(hub: &Hub, in_flight: u64, span: Duration, next: &mut u64) -> (Histogram<u64>, Duration) {
    let mut times = Histogram::new_with_bounds(1, 60_000_000_000, 3)
        .unwrap_or_else(|_| unreachable!("the bounds are in order"));
    let mut running = FuturesUnordered::new();
    let start = Instant::now();
    for _ in 0..in_flight {
        *next += 1;
        running.push(one(hub, *next));
    }
    while let Some(took) = running.next().await {
        times.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        if start.elapsed() < span {
            *next += 1;
            running.push(one(hub, *next));
        }
    }
    (times, start.elapsed())
}

fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default().to_owned()
}

fn say(what: &str, times: &Histogram<u64>, span: Duration) {
    let at = |percent| times.value_at_percentile(percent) as f64 / 1e6;
    let rate = times.len() as f64 / span.as_secs_f64();
    println!(
        "{what:14} {rate:10.0}/s   p50 {:.3} ms   p99 {:.3} ms   max {:.3} ms",
        at(50.0),
        at(99.0),
        at(100.0)
    );
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let span = Duration::from_secs(arguments.next().map_or(Ok(2), |text| text.parse())?);
    let folder = tempfile::tempdir_in(folder)?;
    let config = Config { spares: 6, ..Config::default() };
    let (hub, _) = Hub::open(Arc::new(Folder::open(&folder.path().join("hub"))?), config, now())?;
    println!("idle           {}", resident());
    let name = |text| Name::new(text);
    let topic = spec::Topic {
        id: ObjectId { namespace: name("default")?, name: name("bench")? },
        bus: name("default")?,
        retention: spec::Retention { age: Duration::from_secs(1) },
        key: None,
        buffer: spec::Buffer::default(),
        retry: spec::Retry::default(),
        dead_letter: None,
        dedup_window: Duration::from_mins(2),
        ack_timeout: Duration::from_secs(30),
        max_message: 1 << 20,
    };
    block_on(hub.configure(now(), &[TopicConfig { topic, subscriptions: Vec::new() }])?)?;
    let mut next = 0;
    for round in 1..=3 {
        println!("round {round}");
        let times = bare(folder.path(), span)?;
        say("bare", &times, Duration::from_secs_f64(times.len() as f64 * times.mean() / 1e9));
        for in_flight in [1, 16, 256, 1024] {
            let before = hub.stats();
            let (times, took) = block_on(many(&hub, in_flight, span, &mut next));
            say(&format!("{in_flight} in flight"), &times, took);
            let after = hub.stats();
            let syncs = (after.commits - before.commits) as f64 * 1_000.0
                / (after.published - before.published) as f64;
            println!(
                "               {syncs:.1} syncs for 1,000 messages, {} segments, {}",
                after.segments,
                resident()
            );
            hub.tick(now());
        }
    }
    hub.close()?;
    Ok(())
}
