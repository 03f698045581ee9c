//! How soon a widget's own word changes how many of it are wanted.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use kontrol_proto::v1::{Health, ReportRequest, TreeRequest, TreeResponse, widget_client::WidgetClient};
use tonic::Streaming;

use super::{quiet::Busy, results::Row, stats::Samples};
use crate::{
    widget,
    world::{Manifest, World, widget_of},
};

const ROUNDS: usize = 20;

fn manifest() -> anyhow::Result<Manifest> {
    let scaling =
        "scaling: {min: 1, max: 2, target: {reported: {name: load, value: 3}}, upWindow: 0s, downWindow: 0s}";
    Manifest::group("bench", &[]).widget("worker", &["--reports=once"], &[scaling])
}

async fn report(world: &World, ordinal: u32, load: f64) -> anyhow::Result<()> {
    let door = widget::door(world.socket("bench", "worker", ordinal)).await?;
    let load = HashMap::from([("load".to_owned(), load)]);
    let request = ReportRequest { health: Health::Ready.into(), load, ..ReportRequest::default() };
    WidgetClient::new(door).report(request).await?;
    Ok(())
}

/// Waits on the stream of trees until so many replicas are wanted.
async fn decided(trees: &mut Streaming<TreeResponse>, replicas: u32) -> anyhow::Result<Instant> {
    let seen = async {
        loop {
            let tree = trees.message().await?.context("the stream of trees ended")?;
            if widget_of(&tree, "bench", "worker").is_some_and(|worker| worker.desired == replicas) {
                return Ok(Instant::now());
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), seen)
        .await
        .with_context(|| format!("{replicas} replicas were never decided"))?
}

/// `signal.to_decision`: from the report at the widget's door to the decision as a watcher of the trees sees it.
pub(super) fn to_decision() -> anyhow::Result<Vec<Row>> {
    super::runtime()?.block_on(async {
        let mut world = World::up(&manifest()?).await?;
        let mut trees = world.admin().await?.watch(TreeRequest {}).await?.into_inner();
        report(&world, 0, 3.0).await?;
        let busy = Busy::begin()?;
        let mut samples = Samples::default();
        for _ in 0..ROUNDS {
            let reported = Instant::now();
            report(&world, 0, 6.0).await?;
            samples.push(decided(&mut trees, 2).await? - reported);
            let both = |tree: &TreeResponse| {
                widget_of(tree, "bench", "worker").is_some_and(|worker| worker.ready == 2).then_some(())
            };
            world.wait("both replicas are ready", both).await?;
            // Nothing is lowered as long as a replica has not said what it bears.
            report(&world, 1, 0.0).await?;
            let reported = Instant::now();
            report(&world, 0, 3.0).await?;
            samples.push(decided(&mut trees, 1).await? - reported);
            let one = |tree: &TreeResponse| {
                widget_of(tree, "bench", "worker").is_some_and(|worker| worker.replicas.len() == 1).then_some(())
            };
            world.wait("one replica is left", one).await?;
        }
        let note = format!(
            "a number reported at the widget's door → another number of replicas seen on Admin.Watch, which tells at most ten times a second; {}",
            busy.end()?
        );
        Ok(vec![samples.row("signal.to_decision", "ms", note)])
    })
}
