//! Widgets on fake nodes, and pods that are nobody's business.

use std::{ops::Range, time::Duration};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::{Node, Pod};
use kontrol_e2e_cluster::lab::{
    Lab, container,
    kontrol::{name_of, object},
    operator::leader,
};
use kube::{
    Api,
    api::{ListParams, PostParams},
};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::figures;

/// Requests under way at once.
const AT_ONCE: usize = 32;
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

/// Makes widgets of one replica each, and waits until the operator has all of them running; gives the time from the first request.
pub(crate) async fn widgets(
    lab: &Lab,
    numbers: Range<usize>,
    say: &dyn Fn(&str),
) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let widgets = lab.objects("Widget");
    let spec = json!({
        "container": {"image": "example/widget:1", "imagePullPolicy": "Never"},
        // Nobody but a sidecar could say that it is ready, and most have none here.
        "start": {"when": "Running"},
        "placement": {
            "nodeSelector": {"type": "kwok"},
            "tolerations": [{"key": "kwok.x-k8s.io/node", "operator": "Exists"}],
        },
    });
    let wanted = numbers.end;
    let make = async |number: usize| {
        let widget = serde_json::from_value(object("Widget", &format!("w{number}"), &spec))?;
        widgets.create(&PostParams::default(), &widget).await?;
        anyhow::Ok(())
    };
    stream::iter(numbers.clone()).map(make).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    let deadline =
        Instant::now() + PATIENCE_PER_THOUSAND * u32::try_from(numbers.len().div_ceil(1000)).unwrap_or(1);
    let mut told = Instant::now();
    loop {
        let leader = leader(lab.client()).await?;
        let seen = match &leader {
            Some(pod) => figures::scrape(pod).await.map_or(0.0, |text| {
                figures::sum(&text, "kontrol_operator_trees", |labels| labels.contains("state=\"Ready\""))
            }),
            None => 0.0,
        };
        if seen >= wanted as f64 {
            return Ok(began.elapsed());
        }
        anyhow::ensure!(
            Instant::now() < deadline,
            "{seen} of {wanted} widgets run after {:?}; the leader is {:?}",
            began.elapsed(),
            leader.as_ref().map(name_of)
        );
        if told.elapsed() > Duration::from_secs(10) {
            told = Instant::now();
            say(&format!("{seen} of {wanted} run after {:.0} s", began.elapsed().as_secs_f64()));
        }
        sleep(Duration::from_millis(250)).await;
    }
}
