//! What cannot be done is said where it is looked for, and stops nobody else.

use kontrol_e2e_cluster::lab::{
    Lab,
    kontrol::{object, test_widget},
};
use serde_json::{Value, json};

async fn good_one_runs(lab: &Lab) {
    lab.apply(&object("Widget", "good", &json!({"container": test_widget(&[])}))).unwrap();
    lab.until_ready("Widget", "good").await.unwrap();
}

#[tokio::test]
async fn a_widget_that_a_cluster_cannot_run_says_so_and_stops_nobody() {
    let lab = Lab::with_kontrol("badobject").await.unwrap();
    let local = json!({"process": {"command": ["true"]}});
    lab.apply(&object("Widget", "local", &local)).unwrap();
    let accepted = lab.until_condition("Widget", "local", "Accepted", "False").await.unwrap();
    assert!(!accepted.reason.is_empty() && !accepted.message.is_empty(), "{accepted:?}");
    good_one_runs(&lab).await;
}

#[tokio::test]
async fn what_the_schema_refuses_is_refused_with_a_reason() {
    let lab = Lab::with_kontrol("refused").await.unwrap();
    let cases: [(&str, &str, Value, &str); 3] = [
        ("Widget", "none", json!({}), "a widget needs a way to run"),
        ("Widget", "negative", json!({"container": test_widget(&[]), "replicas": -1}), "spec.replicas"),
        (
            "Widget",
            &format!("a{}", "x".repeat(60)),
            json!({"container": test_widget(&[])}),
            "at most 59 characters",
        ),
    ];
    for (kind, name, spec, reason) in &cases {
        let refused = lab.apply(&object(kind, name, spec)).unwrap_err().to_string();
        assert!(refused.contains(reason), "{name}: {refused}");
    }
}

#[tokio::test]
async fn an_image_that_does_not_exist_is_named() {
    let lab = Lab::with_kontrol("noimage").await.unwrap();
    let container = json!({"image": "kontrol.local/no-such-image:dev", "imagePullPolicy": "Never"});
    lab.apply(&object("Widget", "pulls", &json!({"container": container}))).unwrap();
    let widget = lab
        .until_object("Widget", "pulls", "its status to name the image", |widget| {
            let status = &widget["status"];
            let said = format!("{}{}{}", status["instances"], status["conditions"], status["lastEnd"]);
            said.contains("no-such-image") || said.contains("ErrImageNeverPull") || said.contains("ImagePull")
        })
        .await
        .unwrap();
    assert_eq!(widget["status"]["readyReplicas"], 0);
    good_one_runs(&lab).await;
}

#[tokio::test]
async fn a_quota_that_is_used_up_is_said_and_the_widget_starts_when_there_is_room() {
    let lab = Lab::with_kontrol("quota").await.unwrap();
    let quota = |pods: u32| {
        json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "pods"},
               "spec": {"hard": {"pods": pods.to_string()}}})
    };
    lab.apply(&quota(0)).unwrap();
    lab.wait("the quota to be in force", async || {
        let quota = lab.api::<k8s_openapi::api::core::v1::ResourceQuota>().get("pods").await?;
        Ok(quota.status.and_then(|status| status.hard).ok_or("it is not"))
    })
    .await
    .unwrap();
    lab.apply(&object("Widget", "waits", &json!({"container": test_widget(&[])}))).unwrap();
    lab.until_object("Widget", "waits", "its status to name the quota", |widget| {
        widget["status"].to_string().contains("exceeded quota")
    })
    .await
    .unwrap();
    lab.apply(&quota(5)).unwrap();
    lab.until_ready("Widget", "waits").await.unwrap();
}

#[tokio::test]
async fn a_name_that_somebody_else_holds_is_said_and_theirs_is_not_touched() {
    let lab = Lab::with_kontrol("collision").await.unwrap();
    lab.apply(&object("Widget", "team-a", &json!({"container": test_widget(&[])}))).unwrap();
    let theirs = lab.until_ready("Widget", "team-a").await.unwrap();
    let widgets = ["a", "b"].map(|name| json!({"name": name, "container": test_widget(&[])}));
    lab.apply(&object("WidgetGroup", "team", &json!({"widgets": widgets}))).unwrap();
    let accepted = lab.until_condition("WidgetGroup", "team", "Accepted", "False").await.unwrap();
    assert_eq!(accepted.reason, "NameCollision");
    let after = lab.get("Widget", "team-a").await.unwrap();
    assert_eq!(theirs["spec"], after["spec"]);
    assert_eq!(theirs["metadata"]["uid"], after["metadata"]["uid"]);
    assert!(after["metadata"]["ownerReferences"].is_null());
}

#[tokio::test]
async fn a_namespace_that_is_being_deleted_goes_and_others_are_not_held_up() {
    let lab = Lab::with_kontrol("going").await.unwrap();
    let widgets = ["a", "b"].map(|name| json!({"name": name, "container": test_widget(&[])}));
    let spec = json!({"strategy": "OneForAll", "widgets": widgets});
    lab.apply(&object("WidgetGroup", "team", &spec)).unwrap();
    lab.until_ready("WidgetGroup", "team").await.unwrap();
    lab.cluster().kubectl(&["delete", "namespace", lab.namespace(), "--wait=false"]).unwrap();
    let other = Lab::with_kontrol("stays").await.unwrap();
    good_one_runs(&other).await;
    let namespaces = kube::Api::<k8s_openapi::api::core::v1::Namespace>::all(lab.client().clone());
    other
        .wait("the namespace to be gone", async || {
            let left = namespaces.get_opt(lab.namespace()).await?;
            Ok(left.map_or(Ok(()), |namespace| Err(namespace.status)))
        })
        .await
        .unwrap();
}
