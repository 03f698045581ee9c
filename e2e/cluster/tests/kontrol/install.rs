//! Kontrol is installed by its chart, and the first widget runs.

use k8s_openapi::api::core::v1::Pod;
use kontrol_e2e_cluster::lab::{
    Lab,
    kontrol::{SYSTEM, helm, label, name_of, object, test_widget},
    operator::operators,
};
use kube::api::ListParams;
use serde_json::json;

#[tokio::test]
async fn the_first_widget_becomes_ready_in_a_restricted_namespace() {
    let lab = Lab::with_kontrol("first").await.unwrap();
    lab.apply(&object("Widget", "hello", &json!({"container": test_widget(&[])}))).unwrap();
    let widget = lab.until_ready("Widget", "hello").await.unwrap();
    assert_eq!(widget["status"]["readyReplicas"], 1);
    assert_eq!(widget["status"]["instances"][0]["name"], "hello-0-1");
    let pods = lab.until_pods("hello", "hello", 1).await.unwrap();
    let pod = &pods[0];
    assert_eq!(name_of(pod), "hello-0-1");
    assert_eq!(label(pod, "epoch"), "0");
    let spec = pod.spec.as_ref().unwrap();
    assert_eq!((spec.hostname.as_deref(), spec.subdomain.as_deref()), (Some("hello-0"), Some("hello")));
    assert_eq!(spec.automount_service_account_token, Some(false));
    let sidecar = &spec.init_containers.as_ref().unwrap()[0];
    assert_eq!(
        (sidecar.name.as_str(), sidecar.restart_policy.as_deref()),
        ("kontrol-sidecar", Some("Always"))
    );
    let owner = &pod.metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!((owner.kind.as_str(), owner.name.as_str(), owner.controller), ("Widget", "hello", Some(true)));
}

#[tokio::test]
async fn a_group_starts_its_widgets_in_order_and_stops_with_them() {
    let lab = Lab::with_kontrol("group").await.unwrap();
    let widgets = ["one", "two", "three"].map(|name| json!({"name": name, "container": test_widget(&[])}));
    lab.apply(&object("WidgetGroup", "ordered", &json!({"widgets": widgets}))).unwrap();
    lab.until_ready("WidgetGroup", "ordered").await.unwrap();
    let mut created = Vec::new();
    for widget in ["one", "two", "three"] {
        let pod = lab.until_pods("ordered", widget, 1).await.unwrap().remove(0);
        // What its sidecar says of it: the kubelet's own word comes up to a second later.
        let ready = condition_time(&pod, "kontrol.dev/Ready");
        created.push((pod.metadata.creation_timestamp.unwrap().0, ready));
    }
    for pair in created.windows(2) {
        assert!(pair[0].1 <= pair[1].0, "a widget is started when the one before it is ready: {created:?}");
    }
    let widget = lab.get("Widget", "ordered-two").await.unwrap();
    assert_eq!(widget["metadata"]["ownerReferences"][0]["name"], "ordered");

    lab.kubectl(&["delete", "widgetgroup", "ordered", "--wait=false"]).unwrap();
    lab.wait("all that the group had to be gone", async || {
        let pods = lab.api::<Pod>().list(&ListParams::default()).await?.items;
        let widgets = lab.objects("Widget").list(&ListParams::default()).await?.items;
        Ok(if pods.is_empty() && widgets.is_empty() {
            Ok(())
        } else {
            Err(pods.iter().map(name_of).collect::<Vec<_>>())
        })
    })
    .await
    .unwrap();
}

fn condition_time(pod: &Pod, name: &str) -> k8s_openapi::jiff::Timestamp {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    conditions
        .into_iter()
        .find(|known| known.type_ == name)
        .and_then(|known| known.last_transition_time)
        .unwrap()
        .0
}

#[tokio::test]
async fn a_widget_is_found_by_its_stable_name() {
    let lab = Lab::with_kontrol("dns").await.unwrap();
    lab.apply(&object("Widget", "named", &json!({"container": test_widget(&[]), "replicas": 2}))).unwrap();
    lab.until_ready("Widget", "named").await.unwrap();
    let pods = lab.until_pods("named", "named", 2).await.unwrap();
    let address = pods[1].status.as_ref().and_then(|status| status.pod_ip.clone()).unwrap();
    lab.apply(&kontrol_e2e_cluster::lab::probe("asks", None, &["resolve", "named-1.named"])).unwrap();
    let output = lab.output("asks").await.unwrap();
    assert!(output.contains(&format!("named-1.named {address} ")), "{output}");
}

#[tokio::test]
async fn one_of_two_operators_leads_and_says_so() {
    let lab = Lab::with_kontrol("leads").await.unwrap();
    lab.until_operators().await.unwrap();
    assert_eq!(operators(lab.client()).await.unwrap().len(), 2);
}

#[tokio::test]
async fn helms_own_test_passes() {
    let lab = Lab::with_kontrol("helmtest").await.unwrap();
    let said = helm(lab.cluster(), &["test", "kontrol", "--namespace", SYSTEM, "--timeout", "60s"]).unwrap();
    assert!(said.contains("Succeeded"), "{said}");
}

#[tokio::test]
async fn a_widget_that_is_deleted_takes_its_pods_and_nothing_else() {
    let lab = Lab::with_kontrol("deleted").await.unwrap();
    for name in ["goes", "stays"] {
        lab.apply(&object("Widget", name, &json!({"container": test_widget(&[])}))).unwrap();
    }
    lab.until_ready("Widget", "goes").await.unwrap();
    lab.until_ready("Widget", "stays").await.unwrap();
    let before = lab.pods("stays", "stays").await.unwrap().remove(0);
    lab.kubectl(&["delete", "widget", "goes"]).unwrap();
    let pods = lab.api::<Pod>();
    lab.wait("its pod to be gone", async || {
        Ok(if pods.get_opt("goes-0-1").await?.is_none() { Ok(()) } else { Err("it is there") })
    })
    .await
    .unwrap();
    let after = lab.until_pods("stays", "stays", 1).await.unwrap().remove(0);
    assert_eq!(before.metadata.uid, after.metadata.uid);
}
