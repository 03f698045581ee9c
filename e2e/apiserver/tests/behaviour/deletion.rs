use kontrol_e2e_apiserver::ApiServer;
use serde_json::json;

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
