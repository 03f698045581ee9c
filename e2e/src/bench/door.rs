//! What a durable publish costs through a sidecar's door: the publisher's Unix socket, its sidecar, mutual TLS, the hub.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use kontrol_proto::{
    Bytes,
    v1::{
        Event, PublishRequest, PublishStreamRequest, publish_stream_response::Outcome,
        topics_client::TopicsClient,
    },
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::{
    disk::Bare,
    machine::Metrics,
    quiet::Busy,
    results::Row,
    stats::{self, Samples, median},
};
use crate::world::{Manifest, World};

const ROUNDS: usize = 5;
const LENGTH: Duration = Duration::from_secs(1);

/// What the hub counts.
pub(super) const COMMITS: &str = "kontrol_log_syncs_total";
pub(super) const PUBLISHED: &str = "kontrol_hub_published_messages_total";

pub(super) fn publish_request(id: String) -> PublishRequest {
    let data = Bytes::from_static(&[0x5a; 256]);
    PublishRequest { topic: "load".into(), event: Some(Event { id, data, ..Event::default() }) }
}

fn manifest() -> anyhow::Result<Manifest> {
    let group = Manifest::group("bench", &[]).widget(
        "publisher",
        &["--reports=once"],
        &["produces: [{topic: load}]"],
    )?;
    Ok(group.topic("load", &[]))
}

async fn unary(
    client: &mut TopicsClient<Channel>,
    round: usize,
    samples: &mut Samples,
) -> anyhow::Result<()> {
    let started = Instant::now();
    for count in 0.. {
        if started.elapsed() > LENGTH {
            break;
        }
        let request = publish_request(format!("u.{round}.{count}"));
        let sent = Instant::now();
        let published = client.publish(request).await?.into_inner();
        samples.push(sent.elapsed());
        ensure!(!published.duplicate, "a new id was taken for a duplicate");
    }
    Ok(())
}

/// Keeps `in_flight` events on their way on one stream; acknowledgements a second.
async fn stream(
    client: &mut TopicsClient<Channel>,
    in_flight: usize,
    round: usize,
    samples: &mut Samples,
) -> anyhow::Result<f64> {
    let (requests, outgoing) = mpsc::channel(in_flight);
    let mut answers = client.publish_stream(ReceiverStream::new(outgoing)).await?.into_inner();
    let mut sent = HashMap::with_capacity(in_flight);
    let mut next = 0_u64;
    let mut add = async |sent: &mut HashMap<u64, Instant>| {
        let publish = Some(publish_request(format!("s.{in_flight}.{round}.{next}")));
        sent.insert(next, Instant::now());
        requests.send(PublishStreamRequest { tag: next, publish }).await?;
        next += 1;
        anyhow::Ok(())
    };
    for _ in 0..in_flight {
        add(&mut sent).await?;
    }
    let started = Instant::now();
    let mut acknowledged = 0_u32;
    while !sent.is_empty() {
        let answer = answers.message().await?.context("the publish stream ended")?;
        let Some(Outcome::Published(_)) = answer.outcome else {
            anyhow::bail!("refused: {:?}", answer.outcome)
        };
        let at = sent.remove(&answer.tag).context("an answer to nothing")?;
        if started.elapsed() < LENGTH {
            samples.push(at.elapsed());
            acknowledged += 1;
            add(&mut sent).await?;
        }
    }
    Ok(f64::from(acknowledged) / LENGTH.as_secs_f64())
}

/// `hub.publish_1_grpc` and `hub.publish_256_grpc`, against a bare append and `fdatasync` on the same file system.
pub(super) fn publish() -> anyhow::Result<Vec<Row>> {
    super::runtime()?.block_on(async {
        let world = World::up(&manifest()?).await?;
        let hub = world.process("hub", None).await?;
        let mut client = TopicsClient::new(world.door("bench", "publisher").await?);
        let mut bare = Bare::create(world.folder())?;
        let (mut floor, mut single, mut one, mut many) =
            (Samples::default(), Samples::default(), Samples::default(), Samples::default());
        let (mut bare_rates, mut rates, mut syncs) = (Vec::new(), Vec::new(), Vec::new());
        let busy = Busy::begin()?;
        for round in 0..ROUNDS {
            let started = Instant::now();
            bare.append(2_000, &mut floor)?;
            bare_rates.push(2_000.0 / started.elapsed().as_secs_f64());
            stream(&mut client, 1, round, &mut one).await?;
            unary(&mut client, round, &mut single).await?;
            let before = Metrics::of(hub)?;
            rates.push(stream(&mut client, 256, round, &mut many).await?);
            let after = Metrics::of(hub)?;
            let counted = |name| Ok::<_, anyhow::Error>(after.sum(name)? - before.sum(name)?);
            syncs.push(counted(COMMITS)? * 1e3 / counted(PUBLISHED)?.max(1.0));
        }
        let busy = busy.end()?;
        let floor = floor.row("bare append + fdatasync", "ms", "");
        let mut one = one.row("hub.publish_1_grpc", "ms", "").against(&floor);
        one.note = format!(
            "through a sidecar's door and mTLS, 256 B, one at a time on a PublishStream: D50 + {:.3} ms; by unary Publish p50 {:.3}, p99 {:.3}; {busy}",
            one.p50 - floor.p50,
            single.percentile(50.0),
            single.percentile(99.0),
        );
        let note = format!(
            "through a sidecar's door and mTLS, 256 B, 256 in flight on one PublishStream, acknowledgements a second in {ROUNDS} rounds: \
             each after p50 {:.3} ms, p99 {:.3} ms; {:.1} syncs per 1,000 acknowledgements",
            many.percentile(50.0),
            many.percentile(99.0),
            median(syncs)
        );
        let bare = stats::rates("bare append + fdatasync, one at a time", &bare_rates, "");
        Ok(vec![one, stats::rates("hub.publish_256_grpc", &rates, note).against(&bare)])
    })
}
