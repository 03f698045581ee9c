use kontrol_crds::Widget;
use kontrol_e2e_apiserver::ApiServer;
use kube::{
    Api, ResourceExt,
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
async fn unknown_fields_go_and_defaults_come() {
    let server = ApiServer::new();
    let made = widgets(&server)
        .create(&PostParams::default(), &widget(&json!({"process": {"command": ["w"]}, "colour": "red"})))
        .await
        .unwrap();
    assert!(made.data["spec"]["colour"].is_null());
    assert_eq!(made.data["spec"]["replicas"], 1);
}

#[tokio::test]
async fn what_the_schema_or_a_rule_refuses_is_refused_with_its_message() {
    let server = ApiServer::new();
    for (spec, said) in [
        (json!({"process": {"command": ["w"]}, "replicas": -1}), "spec.replicas"),
        (json!({"process": {"command": ["w"]}, "restart": "Sometimes"}), "Unsupported value"),
        (
            json!({"process": {"command": ["w"]}, "health": {"http": {"path": "/x"}}}),
            "needs the widget's endpoint",
        ),
    ] {
        let refused = refusal(widgets(&server).create(&PostParams::default(), &widget(&spec)).await);
        assert!(refused.code == 422 && refused.message.contains(said), "{refused:?}");
    }
}

#[tokio::test]
async fn spec_and_status_are_written_apart_and_the_generation_counts_the_spec() {
    let server = ApiServer::new();
    let widgets = widgets(&server);
    widgets.create(&PostParams::default(), &widget(&json!({"process": {"command": ["w"]}}))).await.unwrap();
    let both = Patch::Merge(json!({"spec": {"replicas": 2}, "status": {"replicas": 7}}));
    let spec = widgets.patch("w", &PatchParams::default(), &both).await.unwrap();
    assert_eq!((&spec.data["spec"]["replicas"], &spec.data["status"]["replicas"]), (&json!(2), &Value::Null));
    assert_eq!(spec.metadata.generation, Some(2));
    let status = widgets.patch_status("w", &PatchParams::default(), &both).await.unwrap();
    assert_eq!(
        (&status.data["spec"]["replicas"], &status.data["status"]["replicas"]),
        (&json!(2), &json!(7))
    );
    assert_eq!(status.metadata.generation, Some(2));
}

#[tokio::test]
async fn the_scale_of_a_widget_is_read_and_written() {
    let server = ApiServer::new();
    let widgets = widgets(&server);
    widgets.create(&PostParams::default(), &widget(&json!({"process": {"command": ["w"]}}))).await.unwrap();
    let scale = Patch::Merge(json!({"spec": {"replicas": 3}}));
    let scaled = widgets.patch_scale("w", &PatchParams::default(), &scale).await.unwrap();
    assert_eq!(scaled.spec.unwrap().replicas, Some(3));
    assert_eq!(widgets.get("w").await.unwrap().data["spec"]["replicas"], 3);
}

#[tokio::test]
async fn an_update_of_a_custom_object_names_its_version() {
    let server = ApiServer::new();
    let widgets = widgets(&server);
    let mut made = widgets
        .create(&PostParams::default(), &widget(&json!({"process": {"command": ["w"]}})))
        .await
        .unwrap();
    made.metadata.resource_version = None;
    let name = made.name_any();
    assert_eq!(refusal(widgets.replace(&name, &PostParams::default(), &made).await).code, 422);
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
