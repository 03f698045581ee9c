//! What an idle sidecar and an idle hub keep in memory.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use kontrol_proto::v1::{
    CallRequest, SubscribeRequest,
    calls_client::CallsClient,
    subscribe_request::{Action, Open},
    topics_client::TopicsClient,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{results::Row, stats::Samples};
use crate::world::{Manifest, World, replica_of, resident};

const WORLDS: usize = 3;
const AFTER: Duration = Duration::from_mins(1);

fn manifest() -> anyhow::Result<Manifest> {
    let rules = ["calls: [{target: callee}]", "consumes: [{topic: load}]"];
    let group = Manifest::group("bench", &[])
        .widget("callee", &["--serve"], &["serves: [{method: echo}]"])?
        .widget("caller", &["--reports=once"], &rules)?;
    Ok(group.topic("load", &[]))
}

/// `sidecar.rss_idle` and `hub.rss_idle`: `VmRSS` a minute after the start, with one peer and one subscription open.
pub(super) fn idle() -> anyhow::Result<Vec<Row>> {
    super::runtime()?.block_on(async {
        let (mut sidecars, mut hubs) = (Samples::default(), Samples::default());
        let mut worlds = Vec::new();
        for _ in 0..WORLDS {
            let mut world = World::up(&manifest()?).await?;
            let tree = world.ready().await?;
            let sidecar = replica_of(&tree, "bench", "caller").context("no caller")?.sidecar_pid;
            let door = world.door("bench", "caller").await?;
            let (requests, outgoing) = mpsc::channel(1);
            let open = Open { topic: "load".into(), subscription: String::new(), credits: 16 };
            requests.send(SubscribeRequest { action: Some(Action::Open(open)) }).await?;
            let mut subscription = TopicsClient::new(door.clone()).subscribe(ReceiverStream::new(outgoing)).await?.into_inner();
            subscription.message().await?.context("the subscription did not open")?;
            let request = CallRequest { target: "callee".into(), method: "echo".into(), ..CallRequest::default() };
            CallsClient::new(door).call(request).await?;
            let hub = world.process("hub", None).await?;
            worlds.push((world, sidecar, hub, Instant::now(), requests, subscription));
        }
        for (_, sidecar, hub, started, ..) in &worlds {
            // The time is part of what is measured: what was needed for the start has been given back by then.
            tokio::time::sleep((*started + AFTER).saturating_duration_since(Instant::now())).await;
            sidecars.push_value(resident(*sidecar)?);
            hubs.push_value(resident(*hub)?);
        }
        let note = |what| format!("VmRSS of {what} 60 s after start, one peer and one subscription open, mTLS on; one in each of {WORLDS} worlds");
        Ok(vec![
            sidecars.row("sidecar.rss_idle", "MiB", note("a sidecar")),
            hubs.row("hub.rss_idle", "MiB", note("the hub")),
        ])
    })
}
