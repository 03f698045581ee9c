use kube::{
    ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::{Place, refusal};

fn widget(spec: &Value) -> kube::api::DynamicObject {
    let object = json!({"apiVersion": "kontrol.dev/v1alpha1", "kind": "Widget", "metadata": {"name": "w"}, "spec": spec});
    serde_json::from_value(object).unwrap()
}

pub(crate) async fn unknown_fields_go_and_defaults_come(place: &Place) {
    let made = place
        .widgets()
        .create(&PostParams::default(), &widget(&json!({"process": {"command": ["w"]}, "colour": "red"})))
        .await
        .unwrap();
    assert!(made.data["spec"]["colour"].is_null());
    assert_eq!(made.data["spec"]["replicas"], 1);
}

pub(crate) async fn what_the_schema_or_a_rule_refuses_is_refused_with_its_message(place: &Place) {
    for (spec, said) in [
        (json!({"process": {"command": ["w"]}, "replicas": -1}), "spec.replicas"),
        (json!({"process": {"command": ["w"]}, "restart": "Sometimes"}), "Unsupported value"),
        (
            json!({"process": {"command": ["w"]}, "health": {"http": {"path": "/x"}}}),
            "needs the widget's endpoint",
        ),
    ] {
        let refused = refusal(place.widgets().create(&PostParams::default(), &widget(&spec)).await);
        assert!(refused.code == 422 && refused.message.contains(said), "{refused:?}");
    }
}

pub(crate) async fn spec_and_status_are_written_apart_and_the_generation_counts_the_spec(place: &Place) {
    let widgets = place.widgets();
    widgets.create(&PostParams::default(), &widget(&json!({"process": {"command": ["w"]}}))).await.unwrap();
    let both = Patch::Merge(json!({"spec": {"replicas": 2}, "status": {"replicas": 7}}));
    let spec = widgets.patch("w", &PatchParams::default(), &both).await.unwrap();
    assert_eq!((&spec.data["spec"]["replicas"], &spec.data["status"]["replicas"]), (&json!(2), &Value::Null));
    assert_eq!(spec.metadata.generation, Some(2));
    let status =
        place.widgets_by(&place.operator).patch_status("w", &PatchParams::default(), &both).await.unwrap();
    assert_eq!(
        (&status.data["spec"]["replicas"], &status.data["status"]["replicas"]),
        (&json!(2), &json!(7))
    );
    assert_eq!(status.metadata.generation, Some(2));
}

pub(crate) async fn the_scale_of_a_widget_is_read_and_written(place: &Place) {
    let widgets = place.widgets();
    widgets.create(&PostParams::default(), &widget(&json!({"process": {"command": ["w"]}}))).await.unwrap();
    let scale = Patch::Merge(json!({"spec": {"replicas": 3}}));
    let scaled = widgets.patch_scale("w", &PatchParams::default(), &scale).await.unwrap();
    assert_eq!(scaled.spec.unwrap().replicas, Some(3));
    assert_eq!(widgets.get("w").await.unwrap().data["spec"]["replicas"], 3);
}

pub(crate) async fn an_update_of_a_custom_object_names_its_version(place: &Place) {
    let widgets = place.widgets();
    let mut made = widgets
        .create(&PostParams::default(), &widget(&json!({"process": {"command": ["w"]}})))
        .await
        .unwrap();
    made.metadata.resource_version = None;
    let name = made.name_any();
    assert_eq!(refusal(widgets.replace(&name, &PostParams::default(), &made).await).code, 422);
}
