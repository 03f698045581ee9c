use kontrol_crds::Widget;
use kontrol_e2e_apiserver::ApiServer;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::refusal;

fn widgets(server: &ApiServer) -> Api<kube::api::DynamicObject> {
    let resource = kube::api::ApiResource::erase::<Widget>(&());
    Api::namespaced_with(server.client(), "default", &resource)
}

fn widget(spec: &Value) -> kube::api::DynamicObject {
    let object = json!({"apiVersion": "kontrol.dev/v1alpha1", "kind": "Widget", "metadata": {"name": "w"}, "spec": spec});
    serde_json::from_value(object).unwrap()
}

#[tokio::test]
async fn an_older_definition_drops_what_it_does_not_know() {
    let server = ApiServer::new();
    server.edit("customresourcedefinitions.apiextensions.k8s.io", "", "widgets.kontrol.dev", |definition| {
        let schema = &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        schema["properties"]["status"]["properties"].as_object_mut().unwrap().remove("replicas");
    });
    let widgets = widgets(&server);
    widgets.create(&PostParams::default(), &widget(&json!({"process": {"command": ["w"]}}))).await.unwrap();
    let status = Patch::Merge(json!({"status": {"replicas": 7}}));
    let written = widgets.patch_status("w", &PatchParams::default(), &status).await.unwrap();
    assert!(written.data["status"]["replicas"].is_null());
}

#[tokio::test]
async fn the_metadata_of_a_custom_object_is_kept_whole() {
    let server = ApiServer::new();
    let owner =
        json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "1", "controller": true}]);
    server.set_collecting(false);
    let mut object = widget(&json!({"process": {"command": ["w"]}}));
    object.metadata.owner_references = Some(serde_json::from_value(owner.clone()).unwrap());
    let made = widgets(&server).create(&PostParams::default(), &object).await.unwrap();
    assert_eq!(serde_json::to_value(made.metadata.owner_references).unwrap(), owner);
}

#[tokio::test]
async fn what_was_wrong_before_and_has_not_changed_is_let_pass() {
    let server = ApiServer::new();
    let widgets = widgets(&server);
    widgets.create(&PostParams::default(), &widget(&json!({"process": {"command": ["w"]}}))).await.unwrap();
    server
        .edit("widgets.kontrol.dev", "default", "w", |widget| widget["spec"]["restart"] = "Sometimes".into());
    let status = Patch::Merge(json!({"status": {"replicas": 7}}));
    widgets.patch_status("w", &PatchParams::default(), &status).await.unwrap();
    let other = Patch::Merge(json!({"spec": {"replicas": -1}}));
    assert_eq!(refusal(widgets.patch("w", &PatchParams::default(), &other).await).code, 422);
}
