use kontrol_e2e_apiserver::ApiServer;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::{map, maps, refusal};

#[tokio::test]
async fn a_created_object_has_an_id_a_version_and_a_time() {
    let server = ApiServer::new();
    let made = maps(&server).create(&PostParams::default(), &map("a", "1")).await.unwrap();
    assert!(made.metadata.uid.is_some() && made.metadata.creation_timestamp.is_some());
    assert_eq!(made.metadata.resource_version.as_deref(), Some(&*server.version().to_string()));
}

#[tokio::test]
async fn a_name_is_given_once() {
    let server = ApiServer::new();
    maps(&server).create(&PostParams::default(), &map("a", "1")).await.unwrap();
    let said = refusal(maps(&server).create(&PostParams::default(), &map("a", "1")).await);
    assert_eq!((said.code, said.reason.as_str()), (409, "AlreadyExists"));
}

#[tokio::test]
async fn a_replacement_of_an_old_version_is_a_conflict() {
    let server = ApiServer::new();
    let maps = maps(&server);
    let first = maps.create(&PostParams::default(), &map("a", "1")).await.unwrap();
    let mut second = first.clone();
    second.data = map("a", "2").data;
    maps.replace("a", &PostParams::default(), &second).await.unwrap();
    let said = refusal(maps.replace("a", &PostParams::default(), &first).await);
    assert_eq!((said.code, said.reason.as_str()), (409, "Conflict"));
}

#[tokio::test]
async fn a_write_that_changes_nothing_makes_no_version() {
    let server = ApiServer::new();
    let maps = maps(&server);
    let made = maps.create(&PostParams::default(), &map("a", "1")).await.unwrap();
    let again = maps.replace("a", &PostParams::default(), &made).await.unwrap();
    assert_eq!(again.metadata.resource_version, made.metadata.resource_version);
}

#[tokio::test]
async fn each_form_of_a_patch_patches() {
    let server = ApiServer::new();
    let maps = maps(&server);
    maps.create(&PostParams::default(), &map("a", "1")).await.unwrap();
    let merge = Patch::Merge(json!({"data": {"more": "2", "key": null}}));
    let merged = maps.patch("a", &PatchParams::default(), &merge).await.unwrap().data.unwrap();
    assert_eq!(merged.into_iter().collect::<Vec<_>>(), [("more".to_owned(), "2".to_owned())]);
    let uid = json!([{"op": "test", "path": "/metadata/name", "value": "b"}]);
    let patch: Patch<()> = Patch::Json(serde_json::from_value(uid).unwrap());
    assert_eq!(refusal(maps.patch("a", &PatchParams::default(), &patch).await).code, 422);
}

#[tokio::test]
async fn a_list_in_pages_shows_one_state() {
    let server = ApiServer::new();
    let maps = maps(&server);
    for name in ["a", "b", "c", "d", "e"] {
        maps.create(&PostParams::default(), &map(name, "1")).await.unwrap();
    }
    let first = maps.list(&ListParams::default().limit(2)).await.unwrap();
    maps.create(&PostParams::default(), &map("f", "1")).await.unwrap();
    let token = first.metadata.continue_.unwrap();
    let rest = maps.list(&ListParams::default().continue_token(&token)).await.unwrap();
    let names: Vec<_> =
        first.items.iter().chain(&rest.items).filter_map(|map| map.metadata.name.clone()).collect();
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
    assert_eq!(rest.metadata.resource_version, first.metadata.resource_version);
}

#[tokio::test]
async fn nothing_is_made_where_there_is_no_namespace_or_one_that_ends() {
    let server = ApiServer::new();
    let nowhere: Api<_> = Api::namespaced(server.client(), "nowhere");
    assert_eq!(refusal(nowhere.create(&PostParams::default(), &map("a", "1")).await).code, 404);
    server.put(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ending", "finalizers": ["a/b"]}})).unwrap();
    server.delete("namespaces", "", "ending").unwrap();
    let ending: Api<_> = Api::namespaced(server.client(), "ending");
    let said = refusal(ending.create(&PostParams::default(), &map("a", "1")).await);
    assert_eq!(said.code, 403);
    assert_eq!(said.details.unwrap().causes[0].reason, "NamespaceTerminating");
}

#[tokio::test]
async fn a_quota_is_kept() {
    let server = ApiServer::new();
    server
        .put(json!({
            "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few", "namespace": "default"},
            "spec": {"hard": {"count/configmaps": "1"}},
        }))
        .unwrap();
    let maps = maps(&server);
    maps.create(&PostParams::default(), &map("a", "1")).await.unwrap();
    let said = refusal(maps.create(&PostParams::default(), &map("b", "1")).await);
    assert!(said.code == 403 && said.message.contains("exceeded quota: few"), "{said:?}");
}
