//! What becomes of widgets when a node is lost, and when it only seems to be.

use std::{cell::RefCell, collections::BTreeSet, time::Duration};

use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod};
use kontrol_e2e_cluster::{
    Result,
    lab::{
        Lab, is_ready,
        kontrol::{name_of, node_of, number, object, on, restarts, test_widget},
        operator::leader,
        web::{address, figure, get, value},
    },
};
use kube::Api;
use serde_json::{Value, json};

/// Where the operator listens to sidecars.
const CONTROL: u16 = 7400;

/// A widget of two replicas that keep apart: `ScheduleAnyway` where they can, `DoNotSchedule` whatever comes.
fn spread(otherwise: &str) -> Value {
    let spread = json!({"topologySpread": [{
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": otherwise,
    }]});
    json!({"container": test_widget(&[]), "replicas": 2, "placement": spread, "shutdown": {"grace": "1s"}})
}

/// A lab with the widget `pair`, ready: its pod on `node1`, and the one on `node0`.
pub(crate) async fn pair(name: &str, otherwise: &str) -> (Lab, Pod, Pod) {
    let lab = Lab::with_kontrol(name).await.unwrap();
    lab.until_operators().await.unwrap();
    lab.apply(&object("Widget", "pair", &spread(otherwise))).unwrap();
    lab.until_ready("Widget", "pair").await.unwrap();
    let (there, other) = on_both(&lab, "node1").await;
    (lab, there, other)
}

/// The pods of the widget, which are to be on both nodes: the one on `node` first.
pub(crate) async fn on_both(lab: &Lab, node: &str) -> (Pod, Pod) {
    let mut pods = lab.until_pods("pair", "pair", 2).await.unwrap();
    let nodes: BTreeSet<String> = pods.iter().map(node_of).collect();
    assert_eq!(nodes.len(), 2, "one replica on each node");
    let at = pods.iter().position(|pod| node_of(pod) == node).unwrap();
    let there = pods.remove(at);
    (there, pods.remove(0))
}

/// The pod that runs on `node0` in the place of a lost one, and is ready; else what is there.
pub(crate) fn replacement(pods: &[Pod], lost: &Pod) -> Result<Pod, Vec<(String, String, bool)>> {
    let replaces = |pod: &&Pod| {
        number(pod, "ordinal") == number(lost, "ordinal") && node_of(pod) == "node0" && is_ready(pod)
    };
    let seen = || pods.iter().map(|pod| (name_of(pod), node_of(pod), is_ready(pod))).collect();
    pods.iter().find(replaces).cloned().ok_or_else(seen)
}

/// Waits until a pod whose incarnation is over is gone.
pub(crate) async fn until_gone(lab: &Lab, pod: &Pod) {
    lab.wait("the pod of the old incarnation to be gone", async || {
        let left = lab.api::<Pod>().get_opt(&name_of(pod)).await?;
        Ok(if left.is_none() { Ok(()) } else { Err(name_of(pod)) })
    })
    .await
    .unwrap();
}

/// How many nodes the leader calls suspect, and how many lost; none: it cannot be asked.
async fn not_well(lab: &Lab) -> Result<Option<(u64, u64)>> {
    let Some(leader) = leader(lab.client()).await? else { return Ok(None) };
    let metrics = get(&address(&leader, 7401), "/metrics").await.unwrap_or_default();
    let nodes = |health: &str| value(&metrics, &format!("kontrol_operator_nodes{{health=\"{health}\"}}"));
    Ok(nodes("Suspect").zip(nodes("Lost")))
}

/// Whether the sidecar of a pod has a session with the operator; none: it cannot be asked.
async fn is_connected(pod: &Pod) -> Option<bool> {
    Some(figure(&address(pod, 7413), "kontrol_control_connected ").await.ok()?? == 1)
}

/// When the kubelet of a node renewed its lease last.
async fn renewed(lab: &Lab, node: &str) -> Result<String> {
    let leases = Api::<Lease>::namespaced(lab.client().clone(), "kube-node-lease");
    let lease = leases.get(node).await?;
    Ok(format!("{:?}", lease.spec.and_then(|spec| spec.renew_time)))
}

/// Waits until the leader calls every node well.
async fn until_well(lab: &Lab) {
    lab.wait("every node to be well in the leader's eyes", async || {
        let seen = not_well(lab).await?;
        Ok(if seen == Some((0, 0)) { Ok(()) } else { Err(seen) })
    })
    .await
    .unwrap();
}

/// Whether a widget waits for a node that is lost.
fn waits_for_node(widget: &Value) -> bool {
    let conditions = widget["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions
        .iter()
        .any(|known| known["type"] == "Ready" && known["status"] == "False" && known["reason"] == "NodeLost")
}

#[tokio::test]
async fn breaks_a_nodes_power_and_its_replica_is_replaced_on_the_other_node_and_one_with_an_identity_waits() {
    let lab = Lab::with_kontrol("lost").await.unwrap();
    lab.until_operators().await.unwrap();
    lab.apply(&object("Widget", "pair", &spread("ScheduleAnyway"))).unwrap();
    let own = json!({"container": test_widget(&[]), "identity": {"stable": true}, "placement": on("node1")});
    lab.apply(&object("Widget", "own", &own)).unwrap();
    lab.until_ready("Widget", "pair").await.unwrap();
    lab.until_ready("Widget", "own").await.unwrap();
    let (lost, stays) = on_both(&lab, "node1").await;
    let own = lab.until_pods("own", "own", 1).await.unwrap().remove(0);
    lab.cluster().node_kill("node1").unwrap();
    let replaced = lab
        .wait("the replica to be ready on the other node", async || {
            Ok(replacement(&lab.pods("pair", "pair").await?, &lost))
        })
        .await;
    let widget = lab.get("Widget", "pair").await;
    let waits =
        lab.until_object("Widget", "own", "the other widget to wait for its node", waits_for_node).await;
    let kept = lab.pods("own", "own").await;
    lab.cluster().node_restart("node1").unwrap();
    lab.cluster().wait_for_node("node1", true, Duration::from_mins(2)).unwrap();
    let replaced = replaced.unwrap();
    assert_eq!(number(&replaced, "incarnation"), number(&lost, "incarnation") + 1);
    assert_eq!(widget.unwrap()["status"]["lastEnd"]["reason"], "NodeLost");
    let waits = waits.unwrap();
    assert_eq!(waits["status"]["lastEnd"], Value::Null, "nobody knows whether it has ended");
    let kept: Vec<_> = kept.unwrap().into_iter().map(|pod| pod.metadata.uid).collect();
    assert!(matches!(&kept[..], [uid] if *uid == own.metadata.uid), "neither deleted nor replaced: {kept:?}");
    // What comes back with the node has an old incarnation, and goes.
    let after = lab.until_pods("pair", "pair", 2).await.unwrap();
    let names: BTreeSet<String> = after.iter().map(name_of).collect();
    assert_eq!(names, BTreeSet::from([name_of(&replaced), name_of(&stays)]));
    until_gone(&lab, &lost).await;
    // The one that was waited for is started again by its kubelet.
    lab.wait("the one with an identity to run again in its pod", async || {
        let pods = lab.pods("own", "own").await?;
        let seen = |pod: &Pod| (name_of(pod), restarts(pod, "widget"), is_ready(pod));
        let again = |pod: &Pod| {
            pod.metadata.uid == own.metadata.uid && restarts(pod, "widget") > restarts(&own, "widget")
        };
        Ok(match pods.as_slice() {
            [pod] if again(pod) && is_ready(pod) => Ok(()),
            other => Err(other.iter().map(seen).collect::<Vec<_>>()),
        })
    })
    .await
    .unwrap();
    lab.until_ready("Widget", "own").await.unwrap();
    lab.until_operators().await.unwrap();
}

#[tokio::test]
async fn breaks_a_nodes_cable_for_a_moment_and_nothing_is_replaced() {
    let (lab, cut, stays) = pair("moment", "ScheduleAnyway").await;
    lab.cluster().node_partition("node1").unwrap();
    // Less than it takes to give a node up.
    tokio::time::sleep(Duration::from_millis(500)).await;
    lab.cluster().node_heal("node1").unwrap();
    lab.until_operators().await.unwrap();
    let after = lab.until_pods("pair", "pair", 2).await.unwrap();
    let uids: BTreeSet<_> = after.iter().map(|pod| pod.metadata.uid.clone()).collect();
    assert_eq!(uids, BTreeSet::from([cut.metadata.uid, stays.metadata.uid]));
}

#[tokio::test]
async fn breaks_the_sessions_of_a_node_alone_and_nothing_is_replaced() {
    let (lab, silent, stays) = pair("muted", "ScheduleAnyway").await;
    until_well(&lab).await;
    let before = renewed(&lab, "node1").await.unwrap();
    lab.cluster().node_mute("node1", CONTROL).unwrap();
    // A sidecar gives its session up five seconds after it asked in vain; a node could be given up after three.
    let lost = RefCell::new(BTreeSet::new());
    let lasted = lab
        .wait(
            "the sidecar to have given its session up, and the kubelet to have renewed its lease",
            async || {
                let nodes = not_well(&lab).await?;
                lost.borrow_mut().extend(nodes.map(|(_, lost)| lost));
                let seen = (is_connected(&silent).await, renewed(&lab, "node1").await?);
                Ok(if seen.0 == Some(false) && seen.1 != before { Ok(()) } else { Err(seen) })
            },
        )
        .await;
    let there = is_connected(&stays).await;
    lab.cluster().mend().unwrap();
    lasted.unwrap();
    assert_eq!(there, Some(true), "the sidecar on the other node was heard");
    assert_eq!(
        lost.into_inner(),
        BTreeSet::from([0]),
        "the leader called no node lost as often as it was asked"
    );
    lab.wait("the sidecar to have a session again", async || {
        let seen = is_connected(&silent).await;
        Ok(if seen == Some(true) { Ok(()) } else { Err(seen) })
    })
    .await
    .unwrap();
    until_well(&lab).await;
    let after = lab.until_pods("pair", "pair", 2).await.unwrap();
    let uids: BTreeSet<_> = after.iter().map(|pod| pod.metadata.uid.clone()).collect();
    assert_eq!(uids, BTreeSet::from([silent.metadata.uid, stays.metadata.uid]));
    let widget = lab.until_ready("Widget", "pair").await.unwrap();
    assert_eq!(widget["status"]["lastEnd"], Value::Null);
}
