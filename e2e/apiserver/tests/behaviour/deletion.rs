use kontrol_e2e_apiserver::ApiServer;
use kube::api::{DeleteParams, PostParams, Preconditions};
use serde_json::json;

use super::{map, maps, refusal};

#[tokio::test]
async fn a_finalizer_keeps_an_object_until_it_is_taken_away() {
    let server = ApiServer::new();
    let maps = maps(&server);
    let mut held = map("a", "1");
    held.metadata.finalizers = Some(vec!["kontrol.dev/test".to_owned()]);
    maps.create(&PostParams::default(), &held).await.unwrap();
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    let mut object = maps.get("a").await.unwrap();
    assert!(object.metadata.deletion_timestamp.is_some());
    object.metadata.finalizers = None;
    maps.replace("a", &PostParams::default(), &object).await.unwrap();
    assert_eq!(refusal(maps.get("a").await).code, 404);
}

#[tokio::test]
async fn a_precondition_on_the_id_guards_a_namesake() {
    let server = ApiServer::new();
    maps(&server).create(&PostParams::default(), &map("a", "1")).await.unwrap();
    let other = Preconditions { uid: Some("other".into()), resource_version: None };
    let params = DeleteParams { preconditions: Some(other), ..DeleteParams::default() };
    assert_eq!(refusal(maps(&server).delete("a", &params).await).code, 409);
}

#[tokio::test]
async fn what_loses_its_owner_is_removed_and_what_is_orphaned_is_not() {
    for (params, left) in
        [(DeleteParams::background(), 0), (DeleteParams::foreground(), 0), (DeleteParams::orphan(), 1)]
    {
        let server = ApiServer::new();
        let owner = maps(&server).create(&PostParams::default(), &map("owner", "1")).await.unwrap();
        let mut child = map("owned", "1");
        let reference = json!([{
            "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.metadata.uid,
            "controller": true, "blockOwnerDeletion": true,
        }]);
        child.metadata.owner_references = Some(serde_json::from_value(reference).unwrap());
        maps(&server).create(&PostParams::default(), &child).await.unwrap();
        maps(&server).delete("owner", &params).await.unwrap();
        assert!(server.get("configmaps", "default", "owner").is_none());
        assert_eq!(server.list("configmaps", "default").len(), left, "{params:?}");
    }
}

#[tokio::test]
async fn a_namespace_takes_its_content_with_it() {
    let server = ApiServer::new();
    server.put(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}})).unwrap();
    server
        .put(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "n"}}))
        .unwrap();
    server.delete("namespaces", "", "n").unwrap();
    assert!(server.list("configmaps", "n").is_empty());
    assert!(server.get("namespaces", "", "n").is_none());
}
