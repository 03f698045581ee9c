//! What becomes of widgets when a node is drained, and how many of them a drain may take.

use k8s_openapi::api::{core::v1::Pod, policy::v1::PodDisruptionBudget};
use kontrol_e2e_cluster::{
    Result,
    lab::{
        Lab,
        kontrol::{name_of, node_of},
    },
};
use kube::{
    Api, Client, Config,
    api::EvictParams,
    config::{KubeConfigOptions, Kubeconfig},
};

use crate::node::{on_both, pair};

#[tokio::test]
async fn breaks_off_a_node_by_a_drain_and_its_replica_moves() {
    let (lab, moved, stays) = pair("drain", "ScheduleAnyway").await;
    let drained = lab.cluster().kubectl(&[
        "drain",
        "node1",
        "--ignore-daemonsets",
        "--delete-emptydir-data",
        "--pod-selector",
        "kontrol.dev/widget=pair",
        "--timeout=60s",
    ]);
    let after = lab.until_pods("pair", "pair", 2).await;
    lab.cluster().kubectl(&["uncordon", "node1"]).unwrap();
    drained.unwrap();
    let after = after.unwrap();
    assert!(after.iter().all(|pod| node_of(pod) == "node0"));
    assert!(after.iter().any(|pod| pod.metadata.uid == stays.metadata.uid), "the other one stays");
    assert!(after.iter().all(|pod| name_of(pod) != name_of(&moved)));
    let widget = lab.until_ready("Widget", "pair").await.unwrap();
    assert_eq!(widget["status"]["lastEnd"]["reason"], "Evicted", "{:#}", widget["status"]["lastEnd"]);
}

/// What a budget of disruptions has counted.
#[derive(Debug, PartialEq, Eq)]
struct Counted {
    /// The pods that it is about.
    pods: i32,
    /// Those of them that are ready.
    healthy: i32,
    /// How many must stay so.
    must_stay: i32,
}

/// Waits until the widget's budget of disruptions has counted so.
async fn until_counted(lab: &Lab, widget: &str, wanted: &Counted) -> Result<()> {
    let budgets = lab.api::<PodDisruptionBudget>();
    let what = format!("the budget to have counted {wanted:?}");
    lab.wait(&what, async || {
        let status = budgets.get(widget).await?.status.unwrap_or_default();
        let counted = Counted {
            pods: status.expected_pods.unwrap_or_default(),
            healthy: status.current_healthy.unwrap_or_default(),
            must_stay: status.desired_healthy.unwrap_or_default(),
        };
        Ok(if counted == *wanted { Ok(()) } else { Err(counted) })
    })
    .await
}

/// The pods of the test, for a client that takes the word of a budget for an answer and does not ask again.
async fn asked_once(lab: &Lab) -> Api<Pod> {
    let config = Kubeconfig::read_from(lab.cluster().kubeconfig()).unwrap();
    let mut config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap();
    config.default_retry = false;
    Api::namespaced(Client::try_from(config).unwrap(), lab.namespace())
}

/// Evicts the one on `node1`, for which there is no room then, and when the budget has counted that, tries to evict the other one. Gives
/// the answer.
async fn evict_both(lab: &Lab, pods: &Api<Pod>, away: &Pod, stays: &Pod) -> Result<kube::Result<()>> {
    pods.evict(&name_of(away), &EvictParams::default()).await?;
    lab.wait("the next one to have no place", async || {
        let ready = lab.condition("Widget", "pair", "Ready").await?;
        Ok(if ready.reason == "Unschedulable" { Ok(()) } else { Err(ready) })
    })
    .await?;
    until_counted(lab, "pair", &Counted { pods: 2, healthy: 1, must_stay: 1 }).await?;
    Ok(pods.evict(&name_of(stays), &EvictParams::default()).await.map(drop))
}

#[tokio::test]
async fn breaks_off_a_node_and_the_other_replica_is_not_evicted_as_long_as_the_first_has_no_place() {
    let (lab, away, stays) = pair("budget", "DoNotSchedule").await;
    until_counted(&lab, "pair", &Counted { pods: 2, healthy: 2, must_stay: 1 }).await.unwrap();
    let pods = asked_once(&lab).await;
    lab.cluster().kubectl(&["cordon", "node1"]).unwrap();
    let refused = evict_both(&lab, &pods, &away, &stays).await;
    lab.cluster().kubectl(&["uncordon", "node1"]).unwrap();
    let Err(kube::Error::Api(status)) = refused.unwrap() else { panic!("it was evicted") };
    assert_eq!(status.code, 429, "{status:?}");
    assert!(status.message.contains("disruption budget"), "{status:?}");
    let (again, stayed) = on_both(&lab, "node1").await;
    assert_ne!(name_of(&again), name_of(&away));
    assert_eq!(stayed.metadata.uid, stays.metadata.uid);
    let widget = lab.until_ready("Widget", "pair").await.unwrap();
    assert_eq!(widget["status"]["lastEnd"]["reason"], "Evicted", "{:#}", widget["status"]["lastEnd"]);
}
