use kontrol_e2e_apiserver::ApiServer;
use kube::api::{Api, PostParams};
use serde_json::json;

use super::{map, maps, refusal};

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
