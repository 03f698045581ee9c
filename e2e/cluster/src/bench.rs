//! What Kontrol costs on a cluster, beside what the kubelet costs by itself in the same run.

mod seen;

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde::Serialize;
use serde_json::{Value, json};

use self::seen::Seen;
use crate::{
    Error, Result,
    clock::now,
    lab::{
        Lab, container,
        kontrol::{self, Signal, name_of, object, on, test_widget, wrapped_widget},
        probe,
    },
};

/// Names of what can be measured, in the order in which it is.
pub const ALL: [&str; 8] = [
    "apply_to_pod",
    "pod_overhead",
    "restart.container",
    "restart.pod",
    "restart.shim",
    "one_for_all",
    "failover",
    "node_loss",
];

/// One row: times in milliseconds.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// How often.
    pub n: usize,
    /// The median.
    pub p50: f64,
    /// The 99th percentile: the highest where there are fewer than a hundred.
    pub p99: f64,
    /// The highest.
    pub highest: f64,
}

impl Row {
    fn of(name: &str, times: &[Duration]) -> Self {
        let mut times: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1000.0).collect();
        times.sort_by(f64::total_cmp);
        let at = |index: usize| times.get(index).copied().unwrap_or(f64::NAN);
        let n = times.len();
        // The smallest time that 99 of 100 do not exceed.
        let rank = (n * 99).div_ceil(100).saturating_sub(1);
        Self {
            name: name.to_owned(),
            n,
            p50: f64::midpoint(at(n.saturating_sub(1) / 2), at(n / 2)),
            p99: at(rank),
            highest: at(n.saturating_sub(1)),
        }
    }
}

/// Measures what is named, each with its own number of rounds scaled by `n` (20 is what the bars ask for, or more).
pub async fn run(only: &[String], n: usize, say: &mut dyn FnMut(&str)) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for name in ALL.iter().filter(|name| only.is_empty() || only.iter().any(|only| only == *name)) {
        let lab = Lab::with_kontrol("bench").await?;
        lab.until_operators().await?;
        let measured = match *name {
            "apply_to_pod" => apply_to_pod(&lab, n * 10).await?,
            "pod_overhead" => pod_overhead(&lab, n).await?,
            "restart.container" => restart_container(&lab, n).await?,
            "restart.pod" => restart_pod(&lab, n).await?,
            "restart.shim" => restart_shim(&lab, n).await?,
            "one_for_all" => one_for_all(&lab, n / 4).await?,
            "failover" => failover(&lab, n / 4).await?,
            _ => node_loss(&lab, n / 7).await?,
        };
        for (what, times) in measured {
            let row = Row::of(&what, &times);
            say(&format!("{}: p50 {:.0} ms, p99 {:.0} ms, n = {}", row.name, row.p50, row.p99, row.n));
            rows.push(row);
        }
    }
    Ok(rows)
}

type Measured = Result<Vec<(String, Vec<Duration>)>>;

fn rows<const N: usize>(rows: [(&str, Vec<Duration>); N]) -> Vec<(String, Vec<Duration>)> {
    rows.into_iter().map(|(name, times)| (name.to_owned(), times)).collect()
}

/// From the request to the pod's creation as a watch tells it. The pods fit on no node, so that the machine is not busy with them.
async fn apply_to_pod(lab: &Lab, n: usize) -> Measured {
    let seen = Seen::watch(lab);
    let mut times = Vec::new();
    for round in 0..n {
        let spec = json!({"container": test_widget(&[]), "placement": {"nodeSelector": {"no": "node"}}});
        let name = format!("w{round}");
        let widget =
            serde_json::from_value(object("Widget", &name, &spec)).map_err(crate::error::json("a widget"))?;
        let asked = now();
        lab.objects("Widget").create(&PostParams::default(), &widget).await?;
        let created = seen.until(&format!("{name}-0-1"), |pod| pod.created).await?;
        times.push(created - asked);
        lab.objects("Widget").delete(&name, &DeleteParams::background()).await?;
    }
    Ok(rows([("k8s.apply_to_pod", times)]))
}

/// A widget of one replica that ends soon when it is asked to.
fn plain(name: &str) -> Value {
    object("Widget", name, &json!({"container": test_widget(&[]), "shutdown": {"grace": "1s"}}))
}

/// Applies such a widget, and gives its pod when it is ready.
async fn started(lab: &Lab, name: &str) -> Result<Pod> {
    lab.apply(&plain(name))?;
    Ok(lab.until_pods(name, name, 1).await?.remove(0))
}

/// A bare pod of the test widget's image beside a sidecar that does nothing.
fn bare(name: &str) -> Value {
    let mut pod = probe(name, None, &["serve", "8080"]);
    pod["spec"]["restartPolicy"] = json!("Always");
    let mut sidecar = container("sidecar", &["wait"]);
    sidecar["restartPolicy"] = json!("Always");
    pod["spec"]["initContainers"] = json!([sidecar]);
    pod
}

/// From a pod's creation to its Ready, both as a watch tells them.
async fn pod_overhead(lab: &Lab, n: usize) -> Measured {
    let seen = Seen::watch(lab);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..n {
        let name = format!("w{round}");
        lab.apply(&plain(&name))?;
        let pod = format!("{name}-0-1");
        ours.push(seen.until(&pod, |pod| pod.ready).await? - seen.until(&pod, |pod| pod.created).await?);
        lab.objects("Widget").delete(&name, &DeleteParams::background()).await?;
        let pod = format!("bare{round}");
        lab.apply(&bare(&pod))?;
        theirs.push(seen.until(&pod, |pod| pod.ready).await? - seen.until(&pod, |pod| pod.created).await?);
        lab.api::<Pod>().delete(&pod, &DeleteParams::default()).await?;
    }
    Ok(rows([
        ("pod with our sidecar: created → Ready", ours),
        ("pod with a no-op sidecar: created → Ready", theirs),
    ]))
}

/// From the end of a fresh pod's container to the kubelet's word that it runs again.
async fn restart_container(lab: &Lab, n: usize) -> Measured {
    let seen = Seen::watch(lab);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..n {
        let name = format!("w{round}");
        let pod = started(lab, &name).await?;
        let ended = now();
        lab.signal(&pod, "widget", "SIGUSR1")?;
        ours.push(seen.until(&name_of(&pod), |pod| pod.restarted).await? - ended);
        lab.objects("Widget").delete(&name, &DeleteParams::background()).await?;
        let name = format!("bare{round}");
        lab.apply(&bare(&name))?;
        let pod = lab.ready(&name).await?;
        let ended = now();
        lab.signal(&pod, "probe", "SIGKILL")?;
        theirs.push(seen.until(&name, |pod| pod.restarted).await? - ended);
        lab.api::<Pod>().delete(&name, &DeleteParams::default()).await?;
    }
    Ok(rows([("k8s.restart.container", ours), ("the kubelet alone, the first restart", theirs)]))
}

/// From the end that the kubelet would answer with a pause to the next pod's Ready.
async fn restart_pod(lab: &Lab, n: usize) -> Measured {
    let seen = Seen::watch(lab);
    let (mut created, mut ready) = (Vec::new(), Vec::new());
    for round in 0..n {
        let name = format!("w{round}");
        let pod = started(lab, &name).await?;
        lab.signal(&pod, "widget", "SIGUSR1")?;
        seen.until(&name_of(&pod), |pod| pod.restarted).await?;
        let pod = lab.ready(&name_of(&pod)).await?;
        let ended = now();
        lab.signal(&pod, "widget", "SIGUSR1")?;
        let next = format!("{name}-0-2");
        created.push(seen.until(&next, |pod| pod.created).await? - ended);
        ready.push(seen.until(&next, |pod| pod.ready).await? - ended);
        lab.objects("Widget").delete(&name, &DeleteParams::background()).await?;
    }
    Ok(rows([
        ("k8s.restart.pod: second end → next pod created", created),
        ("k8s.restart.pod: second end → next pod Ready", ready),
    ]))
}

/// From a wrapped widget's end to another process in its place, by the processes of this machine.
async fn restart_shim(lab: &Lab, n: usize) -> Measured {
    let mut times = Vec::new();
    let spec = json!({"container": wrapped_widget(&[]), "shutdown": {"grace": "1s"},
                      "intensity": {"maxRestarts": 1000, "period": "1s"}});
    lab.apply(&object("Widget", "inner", &spec))?;
    let pod = lab.until_pods("inner", "inner", 1).await?.remove(0);
    for _ in 0..n {
        let before = lab.child(&pod, "widget", "kontrol-test-widget")?;
        let ended = now();
        lab.signal_child(&pod, "widget", "kontrol-test-widget", Signal::KILL)?;
        let begun = now();
        loop {
            let child = lab.child(&pod, "widget", "kontrol-test-widget");
            if child.is_ok_and(|child| child != before) {
                break;
            }
            if begun.elapsed() > crate::lab::PATIENCE {
                return Err(Error::Invalid(format!("{} was not started again", name_of(&pod))));
            }
        }
        times.push(ended.elapsed());
        lab.until_object("Widget", "inner", "the widget to be ready again", |widget| {
            widget["status"]["readyReplicas"] == 1
        })
        .await?;
    }
    Ok(rows([("wrapped: end → another process (with the look-up of both)", times)]))
}

/// A group of ten over two nodes; in every other fault the operator is killed. A fault that restarts more or less than once is an error.
async fn one_for_all(lab: &Lab, n: usize) -> Measured {
    let widgets: Vec<Value> = (0..10)
        .map(|number| {
            json!({"name": format!("w{number}"), "container": test_widget(&[]), "shutdown": {"grace": "1s"},
                   "placement": on(["node0", "node1"][number % 2])})
        })
        .collect();
    let spec = json!({"strategy": "OneForAll", "intensity": {"maxRestarts": 1000, "period": "1s"}, "widgets": widgets});
    lab.apply(&object("WidgetGroup", "team", &spec))?;
    lab.until_ready("WidgetGroup", "team").await?;
    let incarnations = async || -> Result<BTreeSet<(String, u64)>> {
        let pods = lab.api::<Pod>().list(&ListParams::default()).await?.items;
        let alive = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
        Ok(alive.map(|pod| (kontrol::label(pod, "widget"), kontrol::number(pod, "incarnation"))).collect())
    };
    let (mut quiet, mut killed) = (Vec::new(), Vec::new());
    let mut expected: BTreeSet<(String, u64)> = incarnations().await?;
    for fault in 1..=n {
        lab.until_operators().await?;
        let victim = format!("w{}", fault % 10);
        let pod = lab.until_pods("team", &victim, 1).await?.remove(0);
        let ended = now();
        lab.api::<Pod>().delete(&name_of(&pod), &DeleteParams::default()).await?;
        if fault % 2 == 0 {
            lab.kill_leader().await?;
        }
        let what = format!("fault {fault} to be over");
        lab.until_object("WidgetGroup", "team", &what, |group| {
            let all = group["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let ready = all.iter().any(|known| known["type"] == "Ready" && known["status"] == "True");
            ready && group["status"]["epoch"].as_u64() == u64::try_from(fault).ok()
        })
        .await?;
        if fault % 2 == 0 { &mut killed } else { &mut quiet }.push(ended.elapsed());
        expected = expected.into_iter().map(|(widget, incarnation)| (widget, incarnation + 1)).collect();
        let found = incarnations().await?;
        if found != expected {
            return Err(Error::Invalid(format!("fault {fault} restarted {found:?}, not {expected:?}")));
        }
    }
    Ok(rows([
        ("k8s.one_for_all: fault → ten pods Ready, each restarted once", quiet),
        ("the same, with the operator killed in it", killed),
    ]))
}

/// From the leader's end to the next one's first action: the pod that was deleted just before comes again.
async fn failover(lab: &Lab, n: usize) -> Measured {
    let seen = Seen::watch(lab);
    let mut times = Vec::new();
    lab.apply(&plain("hello"))?;
    for _ in 0..n {
        lab.until_operators().await?;
        let pod = lab.until_pods("hello", "hello", 1).await?.remove(0);
        let ended = now();
        lab.kill_leader().await?;
        lab.api::<Pod>().delete(&name_of(&pod), &DeleteParams::default()).await?;
        let next = format!("hello-0-{}", kontrol::number(&pod, "incarnation") + 1);
        times.push(seen.until(&next, |pod| pod.created).await? - ended);
        seen.until(&next, |pod| pod.ready).await?;
    }
    Ok(rows([("k8s.failover: leader killed → next action", times)]))
}

/// From a node's end to the replacement's creation and to its Ready on the other node.
async fn node_loss(lab: &Lab, n: usize) -> Measured {
    let seen = Seen::watch(lab);
    let (mut created, mut ready) = (Vec::new(), Vec::new());
    for round in 0..n {
        let name = format!("pair{round}");
        let spread = json!({"topologySpread": [{
            "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
        }]});
        let spec = json!({"container": test_widget(&[]), "replicas": 2, "placement": spread, "shutdown": {"grace": "1s"}});
        lab.apply(&object("Widget", &name, &spec))?;
        let pods = lab.until_pods(&name, &name, 2).await?;
        let lost = pods.iter().find(|pod| kontrol::node_of(pod) == "node1");
        let lost = lost.ok_or_else(|| Error::Invalid("no replica stands on node1".to_owned()))?;
        let ended = now();
        lab.cluster().node_kill("node1")?;
        let next = format!("{name}-{}-2", kontrol::number(lost, "ordinal"));
        let measured = async {
            created.push(seen.until(&next, |pod| pod.created).await? - ended);
            ready.push(seen.until(&next, |pod| pod.ready).await? - ended);
            Ok(())
        };
        let measured: Result<()> = measured.await;
        lab.cluster().node_restart("node1")?;
        lab.cluster().wait_for_node("node1", true, Duration::from_mins(2))?;
        measured?;
        lab.until_pods(&name, &name, 2).await?;
        lab.objects("Widget").delete(&name, &DeleteParams::background()).await?;
        lab.until_operators().await?;
    }
    Ok(rows([
        ("k8s.node_loss: power gone → replacement created", created),
        ("power gone → replacement Ready", ready),
    ]))
}
