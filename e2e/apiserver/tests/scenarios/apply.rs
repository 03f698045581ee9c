use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::{Place, map, refusal};

fn entries(data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data})
}

async fn apply(place: &Place, manager: &str, data: &Value) -> Result<Value, kube::Error> {
    let patch = Patch::Apply(entries(data));
    let applied = place.maps().patch("a", &PatchParams::apply(manager), &patch).await?;
    Ok(serde_json::to_value(applied.data).unwrap())
}

pub(crate) async fn each_manager_has_its_own_fields(place: &Place) {
    apply(place, "one", &json!({"x": "1"})).await.unwrap();
    let both = apply(place, "two", &json!({"y": "2"})).await.unwrap();
    assert_eq!(both, json!({"x": "1", "y": "2"}));
}

pub(crate) async fn what_a_manager_no_longer_names_goes_unless_another_holds_it(place: &Place) {
    apply(place, "one", &json!({"x": "1", "y": "2"})).await.unwrap();
    apply(place, "two", &json!({"y": "2"})).await.unwrap();
    let left = apply(place, "one", &json!({"z": "3"})).await.unwrap();
    assert_eq!(left, json!({"y": "2", "z": "3"}));
}

pub(crate) async fn a_field_of_another_manager_is_changed_by_force_alone(place: &Place) {
    apply(place, "one", &json!({"x": "1"})).await.unwrap();
    let said = refusal(apply(place, "two", &json!({"x": "2"})).await);
    assert_eq!(said.code, 409);
    assert!(said.message.contains("conflict with \"one\": .data.x"), "{}", said.message);
    let patch = Patch::Apply(entries(&json!({"x": "2"})));
    let forced = place.maps().patch("a", &PatchParams::apply("two").force(), &patch).await.unwrap();
    assert_eq!(forced.data.unwrap()["x"], "2");
    // It is no longer the first one's: leaving it out removes nothing.
    assert_eq!(apply(place, "one", &json!({"w": "0"})).await.unwrap(), json!({"w": "0", "x": "2"}));
}

pub(crate) async fn applying_the_same_again_makes_no_version(place: &Place) {
    apply(place, "one", &json!({"x": "1"})).await.unwrap();
    let first = place.maps().get("a").await.unwrap();
    apply(place, "one", &json!({"x": "1"})).await.unwrap();
    let second = place.maps().get("a").await.unwrap();
    assert_eq!(first.metadata.resource_version, second.metadata.resource_version);
}

pub(crate) async fn an_update_takes_the_fields_that_it_changes(place: &Place) {
    apply(place, "one", &json!({"x": "1"})).await.unwrap();
    let mut object = place.maps().get("a").await.unwrap();
    object.data.as_mut().unwrap().insert("x".into(), "2".into());
    place.maps().replace("a", &PostParams::default(), &object).await.unwrap();
    assert_eq!(refusal(apply(place, "one", &json!({"x": "1"})).await).code, 409);
    place.maps().create(&PostParams::default(), &map("b", "1")).await.unwrap();
}

pub(crate) async fn lists_with_keys_merge_item_by_item(place: &Place) {
    let services: kube::Api<k8s_openapi::api::core::v1::Service> =
        kube::Api::namespaced(place.client.clone(), &place.namespace);
    let service = |port: u16, name: &str| {
        Patch::Apply(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
            "spec": {"ports": [{"port": port, "name": name, "protocol": "TCP"}]},
        }))
    };
    services.patch("s", &PatchParams::apply("one"), &service(80, "http")).await.unwrap();
    let both = services.patch("s", &PatchParams::apply("two"), &service(81, "more")).await.unwrap();
    let ports = |service: k8s_openapi::api::core::v1::Service| -> Vec<i32> {
        service.spec.unwrap().ports.unwrap().into_iter().map(|port| port.port).collect()
    };
    assert_eq!(ports(both), [80, 81]);
    let left = services.patch("s", &PatchParams::apply("one"), &service(82, "other")).await.unwrap();
    assert_eq!(ports(left), [81, 82]);
}
