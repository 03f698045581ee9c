//! Pods: from a Widget to its pod, what the sidecar adds, and the rungs that the kubelet has a part in.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    row::{Row, times},
    seen::Seen,
};
use crate::{
    Result,
    clock::now,
    lab::{
        Lab, container,
        kontrol::{name_of, object, test_widget},
        probe,
    },
};

/// From the request to the pod's creation as a watch tells it. The pods fit on no node, so that the machine is not busy with them.
pub(super) async fn apply_to_pod(lab: &Lab, n: usize) -> Result<Vec<Row>> {
    let seen = Seen::watch(lab);
    let mut taken = Vec::new();
    for round in 0..n {
        let spec = json!({"container": test_widget(&[]), "placement": {"nodeSelector": {"no": "node"}}});
        let name = format!("w{round}");
        let widget =
            serde_json::from_value(object("Widget", &name, &spec)).map_err(crate::error::json("a widget"))?;
        let asked = now();
        lab.objects("Widget").create(&PostParams::default(), &widget).await?;
        let created = seen.until(&format!("{name}-0-1"), |pod| pod.created).await?;
        taken.push(created - asked);
        lab.objects("Widget").delete(&name, &DeleteParams::background()).await?;
    }
    Ok(times([("k8s.apply_to_pod", taken)]))
}

/// A widget of one replica that ends soon when it is asked to.
pub(super) fn plain(name: &str) -> Value {
    object("Widget", name, &json!({"container": test_widget(&[]), "shutdown": {"grace": "1s"}}))
}

/// Applies such a widget, and gives its pod when it is ready.
async fn started(lab: &Lab, name: &str) -> Result<Pod> {
    lab.apply(&plain(name))?;
    Ok(lab.until_pods(name, name, 1).await?.remove(0))
}

/// A bare pod beside a sidecar that does nothing.
fn bare(name: &str) -> Value {
    let mut pod = probe(name, None, &["serve", "8080"]);
    pod["spec"]["restartPolicy"] = json!("Always");
    let mut sidecar = container("sidecar", &["wait"]);
    sidecar["restartPolicy"] = json!("Always");
    pod["spec"]["initContainers"] = json!([sidecar]);
    pod
}

/// The same pod, with the same volumes and resources, whose programs do nothing: what the kubelet asks for a pod of this shape.
fn twin(pod: &Pod, name: &str) -> Result<Value> {
    let mut spec = serde_json::to_value(&pod.spec).map_err(crate::error::json("a pod"))?;
    for absent in ["readinessGates", "nodeName", "hostname", "subdomain"] {
        spec.as_object_mut().map(|spec| spec.remove(absent));
    }
    for (list, arguments) in [("initContainers", ["wait"].as_slice()), ("containers", &["serve", "8080"])] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            let idle = self::container("", &[]);
            container["image"] = idle["image"].clone();
            container["imagePullPolicy"] = idle["imagePullPolicy"].clone();
            container["args"] = json!(arguments);
            container.as_object_mut().map(|container| container.remove("livenessProbe"));
        }
    }
    Ok(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}))
}

/// From a pod's creation to its Ready, both as a watch tells them. One pod at a time: the one before is gone when the next one is made.
pub(super) async fn pod_overhead(lab: &Lab, n: usize) -> Result<Vec<Row>> {
    let seen = Seen::watch(lab);
    let took = async |pod: &str| {
        Ok::<_, crate::Error>(
            seen.until(pod, |pod| pod.ready).await? - seen.until(pod, |pod| pod.created).await?,
        )
    };
    let (mut ours, mut twins, mut bares) = (Vec::new(), Vec::new(), Vec::new());
    lab.apply(&plain("w"))?;
    for incarnation in 1..=n {
        let pod = format!("w-0-{incarnation}");
        if incarnation > 1 {
            lab.patch("Widget", "w", &json!({"spec": {"replicas": 1}})).await?;
        }
        ours.push(took(&pod).await?);
        let model = lab.api::<Pod>().get(&pod).await?;
        lab.patch("Widget", "w", &json!({"spec": {"replicas": 0}})).await?;
        seen.until(&pod, |pod| pod.gone).await?;
        let (a_twin, a_bare) = (format!("twin{incarnation}"), format!("bare{incarnation}"));
        let idle = [(twin(&model, &a_twin)?, a_twin, &mut twins), (bare(&a_bare), a_bare, &mut bares)];
        for (pod, name, times) in idle {
            lab.apply(&pod)?;
            times.push(took(&name).await?);
            lab.api::<Pod>().delete(&name, &DeleteParams::default()).await?;
            seen.until(&name, |pod| pod.gone).await?;
        }
    }
    Ok(times([
        ("pod with our sidecar: created → Ready", ours),
        ("the same pod with a no-op sidecar: created → Ready", twins),
        ("a pod without volumes, with a no-op sidecar: created → Ready", bares),
    ]))
}

/// A moment within the second in which the kubelet looks at its containers once: those of all rounds lie evenly in it. An end right after the
/// kubelet's own word would always come at the same moment, another one for each of two pods that are compared.
async fn any_moment(round: usize) {
    const GOLDEN_RATIO: f64 = 0.618_033_988_75;
    sleep(Duration::from_secs_f64((round as f64 * GOLDEN_RATIO).fract())).await;
}

/// From the end of a fresh pod's container to the kubelet's word that it runs again.
pub(super) async fn restart_container(lab: &Lab, n: usize) -> Result<Vec<Row>> {
    let seen = Seen::watch(lab);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..n {
        let name = format!("w{round}");
        let pod = started(lab, &name).await?;
        any_moment(round).await;
        let ended = now();
        lab.signal(&pod, "widget", "SIGUSR1")?;
        ours.push(seen.until(&name_of(&pod), |pod| pod.restarted).await? - ended);
        lab.objects("Widget").delete(&name, &DeleteParams::background()).await?;
        let name = format!("bare{round}");
        lab.apply(&bare(&name))?;
        let pod = lab.ready(&name).await?;
        any_moment(round).await;
        let ended = now();
        lab.signal(&pod, "probe", "SIGKILL")?;
        theirs.push(seen.until(&name, |pod| pod.restarted).await? - ended);
        lab.api::<Pod>().delete(&name, &DeleteParams::default()).await?;
    }
    Ok(times([("k8s.restart.container", ours), ("the kubelet alone, the first restart", theirs)]))
}

/// From the end that the kubelet would answer with a pause to the next pod's Ready.
pub(super) async fn restart_pod(lab: &Lab, n: usize) -> Result<Vec<Row>> {
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
    Ok(times([
        ("k8s.restart.pod: second end → next pod created", created),
        ("k8s.restart.pod: second end → next pod Ready", ready),
    ]))
}
