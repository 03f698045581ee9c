//! Widgets on fake nodes, and pods that are nobody's business.

use std::{ops::Range, time::Duration};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::{Node, Pod};
use kontrol_e2e_cluster::lab::{Lab, container, kontrol::object, operator::leader};
use kube::{
    Api,
    api::{ListParams, PostParams},
};
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use crate::figures;

/// Requests under way at once.
const AT_ONCE: usize = 50;
/// Widgets that are declared and do not run yet.
const AHEAD: usize = 300;
/// How long the operator may take for a thousand widgets.
const PATIENCE_PER_THOUSAND: Duration = Duration::from_mins(3);

/// The names of the fake nodes.
pub(crate) async fn fake_nodes(lab: &Lab) -> anyhow::Result<Vec<String>> {
    let fake = ListParams::default().labels("type=kwok");
    let nodes = Api::<Node>::all(lab.client().clone()).list(&fake).await?.items;
    anyhow::ensure!(
        !nodes.is_empty(),
        "the cluster has no fake nodes; `kontrol-cluster up --kwok 20` adds them to it"
    );
    Ok(nodes.into_iter().filter_map(|node| node.metadata.name).collect())
}

/// Makes pods that have their node from the start, and that nothing plays a kubelet for.
pub(crate) async fn foreign(lab: &Lab, nodes: &[String], numbers: Range<usize>) -> anyhow::Result<()> {
    let pods = lab.api::<Pod>();
    let make = async |number: usize| {
        let pod = serde_json::from_value(json!({
            "metadata": {"name": format!("foreign-{number}"), "annotations": {"kwok.x-k8s.io/status": "custom"}},
            "spec": {
                "nodeName": nodes.get(number % nodes.len()),
                "automountServiceAccountToken": false,
                "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [container("work", &["wait"])],
            },
        }))?;
        pods.create(&PostParams::default(), &pod).await?;
        anyhow::Ok(())
    };
    stream::iter(numbers).map(make).buffer_unordered(AT_ONCE).try_collect().await
}

/// Makes widgets of one replica each, never more than a few ahead of those that run, and waits until the operator has all of them running; gives the
/// time from the first request.
pub(crate) async fn widgets(
    lab: &Lab,
    numbers: Range<usize>,
    say: &dyn Fn(&str),
) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let (before, wanted) = (numbers.start, numbers.end);
    let (told, ready) = watch::channel(before);
    let objects = lab.objects("Widget");
    // Whoever plays kubelet and scheduler is not to drown, or its nodes fall silent: nodes are given up then, and widgets fail to start.
    let make = |number: usize| {
        let (objects, mut ready) = (objects.clone(), ready.clone());
        async move {
            ready.wait_for(|ready| number < ready + AHEAD).await?;
            let widget = serde_json::from_value(object("Widget", &format!("w{number}"), &spec()))?;
            objects.create(&PostParams::default(), &widget).await?;
            anyhow::Ok(())
        }
    };
    let making = stream::iter(numbers).map(make).buffer_unordered(AT_ONCE).try_collect::<()>();
    let counting = count(lab, &told, wanted, say);
    let all = async { tokio::try_join!(making, counting) };
    let patience = PATIENCE_PER_THOUSAND * u32::try_from((wanted - before).div_ceil(1000)).unwrap_or(1);
    match timeout(patience, all).await {
        Ok(done) => done.map(|_| began.elapsed()),
        Err(_) => anyhow::bail!("{} of {wanted} widgets run after {patience:?}", *told.borrow()),
    }
}

/// A widget for a fake node. Nobody but a sidecar could say that it is ready, and most have none here.
fn spec() -> Value {
    json!({
        "container": {"image": "example/widget:1", "imagePullPolicy": "Never"},
        "start": {"when": "Running", "timeout": "10m"},
        "placement": {
            "nodeSelector": {"type": "kwok"},
            "tolerations": [{"key": "kwok.x-k8s.io/node", "operator": "Exists"}],
        },
    })
}

/// Tells how many widgets the leader calls ready, until all are.
async fn count(
    lab: &Lab,
    told: &watch::Sender<usize>,
    wanted: usize,
    say: &dyn Fn(&str),
) -> anyhow::Result<()> {
    let (began, mut said) = (Instant::now(), Instant::now());
    loop {
        // Where nobody leads just now, nobody has fewer.
        if let Some(leader) = leader(lab.client()).await?
            && let Ok(text) = figures::scrape(&leader).await
        {
            let ready =
                figures::sum(&text, "kontrol_operator_trees", |labels| labels.contains("state=\"Ready\""));
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of trees")]
            told.send_replace(ready as usize);
        }
        let ready = *told.borrow();
        if ready >= wanted {
            return Ok(());
        }
        if said.elapsed() > Duration::from_secs(10) {
            said = Instant::now();
            say(&format!("{ready} of {wanted} run after {:.0} s", began.elapsed().as_secs_f64()));
        }
        sleep(Duration::from_millis(250)).await;
    }
}
