use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use k8s_openapi::api::core::v1::Pod;
use kontrol_e2e_apiserver::{ApiServer, Clock, Ended, Kubelet, Machine};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

fn put(server: &ApiServer, name: &str, more: &Value) {
    let mut spec = json!({
        "containers": [{"name": "widget", "image": "w"}],
        "initContainers": [{"name": "sidecar", "image": "s", "restartPolicy": "Always"}],
    });
    for (field, value) in more.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec});
    server.put(pod).unwrap();
}

fn cluster() -> (ApiServer, Kubelet) {
    let server = ApiServer::new();
    let kubelet = Kubelet::new(&server);
    kubelet.add(&Machine::named("a").with("nvidia.com/gpu", 1));
    kubelet.add(&Machine::named("b"));
    (server, kubelet)
}

fn pod(server: &ApiServer, name: &str) -> Value {
    server.get("pods", "default", name).unwrap_or_default()
}

fn condition(pod: &Value, kind: &str) -> (String, String) {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    let found = conditions.into_iter().find(|one| one["type"] == kind).cloned().unwrap_or_default();
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    (text("status"), text("message"))
}

#[tokio::test]
async fn a_pod_runs_and_is_a_pod_of_the_typed_api() {
    let (server, kubelet) = cluster();
    put(&server, "p", &json!({}));
    kubelet.settle();
    let pod = pod(&server, "p");
    assert_eq!(condition(&pod, "Ready").0, "True");
    let typed: k8s_openapi::api::core::v1::Pod = serde_json::from_value(pod).unwrap();
    assert_eq!(typed.status.unwrap().init_container_statuses.unwrap()[0].started, Some(true));
}

#[tokio::test]
async fn a_container_restarts_at_once_and_then_after_a_back_off() {
    let micros = Arc::new(AtomicI64::new(0));
    let clock = Arc::clone(&micros);
    let server = ApiServer::bare(Clock::new(move || {
        jiff::Timestamp::from_microsecond(clock.load(Ordering::Relaxed)).unwrap()
    }));
    let kubelet = Kubelet::new(&server);
    kubelet.add(&Machine::named("a"));
    put(&server, "p", &json!({}));
    kubelet.settle();
    let restarts =
        |server: &ApiServer| pod(server, "p")["status"]["containerStatuses"][0]["restartCount"].clone();
    kubelet.end("default", "p", "widget", &Ended::code(1));
    assert_eq!(restarts(&server), 1);
    kubelet.end("default", "p", "widget", &Ended::code(1));
    kubelet.settle();
    assert_eq!(
        pod(&server, "p")["status"]["containerStatuses"][0]["state"]["waiting"]["reason"],
        "CrashLoopBackOff"
    );
    assert_eq!(condition(&pod(&server, "p"), "Ready").0, "False");
    micros.store(11_000_000, Ordering::Relaxed);
    kubelet.settle();
    assert_eq!(restarts(&server), 2);
    assert_eq!(condition(&pod(&server, "p"), "Ready").0, "True");
}

#[tokio::test]
async fn a_pod_with_a_gate_is_ready_when_somebody_opens_it() {
    let (server, kubelet) = cluster();
    kubelet.set_closed_gates(true);
    put(&server, "p", &json!({"readinessGates": [{"conditionType": "example.com/Open"}]}));
    kubelet.settle();
    assert_eq!(condition(&pod(&server, "p"), "ContainersReady").0, "True");
    assert_eq!(condition(&pod(&server, "p"), "Ready").0, "False");
    let pods: Api<Pod> = Api::namespaced(server.client(), "default");
    let open = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "status": {"conditions": [{"type": "example.com/Open", "status": "True"}]},
    });
    pods.patch_status("p", &PatchParams::apply("opener").force(), &Patch::Apply(open)).await.unwrap();
    kubelet.settle();
    assert_eq!(condition(&pod(&server, "p"), "Ready").0, "True");
    assert_eq!(condition(&pod(&server, "p"), "ContainersReady").0, "True");
}

#[tokio::test]
async fn a_pod_that_is_never_restarted_ends_with_its_container() {
    let (server, kubelet) = cluster();
    for (name, code, phase) in [("well", 0, "Succeeded"), ("ill", 3, "Failed")] {
        put(&server, name, &json!({"restartPolicy": "Never"}));
        kubelet.settle();
        kubelet.end("default", name, "widget", &Ended::code(code));
        assert_eq!(pod(&server, name)["status"]["phase"], phase);
    }
}

#[tokio::test]
async fn a_pod_that_no_node_takes_says_what_lacks() {
    let (server, kubelet) = cluster();
    let gpu = json!({"containers": [{"name": "w", "image": "w", "resources": {"limits": {"nvidia.com/gpu": "1"}}}]});
    put(&server, "first", &gpu);
    kubelet.settle();
    assert_eq!(pod(&server, "first")["spec"]["nodeName"], "a");
    put(&server, "second", &gpu);
    kubelet.settle();
    let (scheduled, why) = condition(&pod(&server, "second"), "PodScheduled");
    assert_eq!(
        (scheduled.as_str(), why.as_str()),
        ("False", "0/2 nodes are available: 2 Insufficient nvidia.com/gpu.")
    );
    server.delete("pods", "default", "first").unwrap();
    kubelet.settle();
    assert_eq!(pod(&server, "second")["spec"]["nodeName"], "a");
}

#[tokio::test]
async fn a_pod_goes_when_its_kubelet_says_so() {
    let (server, kubelet) = cluster();
    put(&server, "p", &json!({}));
    kubelet.settle();
    kubelet.set_slow_deletes(true);
    server.delete("pods", "default", "p").unwrap();
    kubelet.settle();
    assert!(pod(&server, "p")["metadata"]["deletionTimestamp"].is_string());
    kubelet.set_slow_deletes(false);
    kubelet.settle();
    assert!(pod(&server, "p").is_null());
}

#[tokio::test]
async fn nothing_happens_on_a_lost_node() {
    let (server, kubelet) = cluster();
    put(&server, "p", &json!({}));
    kubelet.settle();
    let node = pod(&server, "p")["spec"]["nodeName"].as_str().unwrap().to_owned();
    kubelet.lose(&node);
    server.delete("pods", "default", "p").unwrap();
    kubelet.settle();
    assert!(!pod(&server, "p").is_null());
    kubelet.find(&node);
    kubelet.settle();
    assert!(pod(&server, "p").is_null());
}

#[tokio::test]
async fn an_eviction_fails_the_pod_and_says_by_whom() {
    let (server, kubelet) = cluster();
    put(&server, "p", &json!({}));
    kubelet.settle();
    kubelet.evict("default", "p");
    let pod = pod(&server, "p");
    assert_eq!((&pod["status"]["phase"], &pod["status"]["reason"]), (&json!("Failed"), &json!("Evicted")));
    assert_eq!(condition(&pod, "DisruptionTarget").0, "True");
}

#[tokio::test]
async fn a_running_kubelet_acts_by_itself() {
    let (server, kubelet) = cluster();
    let _running = kubelet.run();
    put(&server, "p", &json!({}));
    let ready = |server: &ApiServer| condition(&pod(server, "p"), "Ready").0 == "True";
    assert!(server.until(Duration::from_secs(5), ready).await);
}
