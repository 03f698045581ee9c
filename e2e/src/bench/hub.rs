//! What a durable publish costs in process.

use std::{
    cell::RefCell,
    path::Path,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use kontrol_core::{
    id::{Name, ObjectId},
    spec,
    time::Timestamp,
};
use kontrol_hub::{Config, Hub, Publish, TopicConfig, io::real::Folder};
use tokio::task::LocalSet;

use super::{
    disk::Bare,
    quiet::Busy,
    results::Row,
    stats::{self, Samples, median},
};
use crate::world;

const ROUNDS: usize = 5;
const BODY: [u8; 256] = [0x5a; 256];

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::ZERO.plus(since)
}

fn topic(name: &str) -> anyhow::Result<TopicConfig> {
    Ok(TopicConfig {
        topic: spec::Topic {
            id: ObjectId { namespace: Name::new("default")?, name: Name::new(name)? },
            bus: Name::new("default")?,
            retention: spec::Retention::default(),
            key: None,
            buffer: spec::Buffer { limit: u64::MAX, overflow: spec::Overflow::RejectNew },
            retry: spec::Retry::default(),
            dead_letter: None,
            dedup_window: Duration::from_mins(2),
            ack_timeout: Duration::from_secs(30),
            max_message: 1 << 20,
        },
        subscriptions: Vec::new(),
    })
}

fn open(folder: &Path) -> anyhow::Result<Hub> {
    let io = Arc::new(Folder::open(folder)?);
    let (hub, _) = Hub::open(io, Config::default(), now())?;
    hub.configure(now(), &[topic("bench")?])?.wait()?;
    Ok(hub)
}

/// Publishes from `in_flight` tasks for `length`; the latencies, and acknowledgements a second.
async fn load(
    hub: &Hub,
    in_flight: usize,
    round: usize,
    length: Duration,
    samples: &Rc<RefCell<Samples>>,
) -> anyhow::Result<f64> {
    let started = Instant::now();
    let local = LocalSet::new();
    let mut tasks = Vec::new();
    for task in 0..in_flight {
        let (hub, samples) = (hub.clone(), Rc::clone(samples));
        tasks.push(local.spawn_local(async move {
            let mut count = 0_u64;
            while started.elapsed() < length {
                let id = format!("{round}.{task}.{count}");
                let message = Publish {
                    namespace: "default",
                    topic: "bench",
                    source: "/default/bench/bench",
                    id: &id,
                    key: "",
                    event: &BODY,
                };
                let sent = Instant::now();
                hub.publish(now(), &[message])?.await?;
                samples.borrow_mut().push(sent.elapsed());
                count += 1;
            }
            Ok::<u64, kontrol_hub::Error>(count)
        }));
    }
    local
        .run_until(async {
            let mut acknowledged = 0;
            for task in tasks {
                acknowledged += task.await??;
            }
            Ok(acknowledged as f64 / started.elapsed().as_secs_f64())
        })
        .await
}

/// `hub.publish_1` and `hub.publish_256`, against a bare append and `fdatasync` on the same file system.
pub(super) fn publish() -> anyhow::Result<Vec<Row>> {
    let folder = world::folder()?;
    let hub = open(folder.path())?;
    let runtime = super::runtime()?;
    let mut bare = Bare::create(folder.path())?;
    let mut floor = Samples::default();
    let (one, many) = (Rc::new(RefCell::new(Samples::default())), Rc::new(RefCell::new(Samples::default())));
    let busy = Busy::begin()?;
    let (mut bare_rates, mut rates, mut syncs) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let started = Instant::now();
        bare.append(2_000, &mut floor)?;
        bare_rates.push(2_000.0 / started.elapsed().as_secs_f64());
        runtime.block_on(load(&hub, 1, 2 * round, Duration::from_secs(1), &one))?;
        let before = hub.stats();
        let rate = runtime.block_on(load(&hub, 256, 2 * round + 1, Duration::from_secs(1), &many))?;
        let after = hub.stats();
        rates.push(rate);
        syncs.push(
            (after.commits - before.commits) as f64 * 1e3
                / (after.published - before.published).max(1) as f64,
        );
    }
    hub.close()?;
    let floor = floor.row("bare append + fdatasync", "ms", "");
    let mut one = one.borrow().row("hub.publish_1", "ms", "").against(&floor);
    one.note =
        format!("in process, 256 B, one at a time: D50 + {:.3} ms; {}", one.p50 - floor.p50, busy.end()?);
    let many = many.borrow();
    let note = format!(
        "in process, 256 B, 256 in flight, acknowledgements a second in {ROUNDS} rounds: each after p50 {:.3} ms, p99 {:.3} ms; \
         {:.1} syncs per 1,000 acknowledgements",
        many.percentile(50.0),
        many.percentile(99.0),
        median(syncs)
    );
    let bare = stats::rates("bare append + fdatasync, one at a time", &bare_rates, "");
    Ok(vec![one, stats::rates("hub.publish_256", &rates, note).against(&bare)])
}
