use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::TokenReview;
use kontrol_e2e_apiserver::{ApiServer, Rules, Token};
use kube::{
    Api,
    api::{ListParams, PostParams},
};
use serde_json::json;

use super::{map, refusal};

async fn review(server: &ApiServer, token: &str, audience: &str) -> (bool, String) {
    let asked = json!({"spec": {"token": token, "audiences": [audience]}});
    let reviews: Api<TokenReview> = Api::all(server.client());
    let answer =
        reviews.create(&PostParams::default(), &serde_json::from_value(asked).unwrap()).await.unwrap();
    let status = answer.status.unwrap();
    (status.authenticated.unwrap_or_default(), status.error.unwrap_or_default())
}

#[tokio::test]
async fn a_token_is_good_for_its_audience_while_it_lasts() {
    let server = ApiServer::new();
    let good = Token {
        user: "system:serviceaccount:default:default".to_owned(),
        audiences: vec!["kontrol.dev".to_owned()],
        pod: None,
        expires: Timestamp::now() + SignedDuration::from_hours(1),
    };
    let old = Token { expires: Timestamp::now() - SignedDuration::from_hours(1), ..good.clone() };
    let gone = Token { pod: Some(("p".into(), "no-such-uid".into(), "n".into())), ..good.clone() };
    server.mint("good", good);
    server.mint("old", old);
    server.mint("gone", gone);
    assert!(review(&server, "good", "kontrol.dev").await.0);
    for (token, audience, why) in [
        ("forged", "kontrol.dev", "invalid bearer token"),
        ("good", "other", "audiences is invalid"),
        ("old", "kontrol.dev", "expired"),
        ("gone", "kontrol.dev", "invalidated"),
    ] {
        let (good, said) = review(&server, token, audience).await;
        assert!(!good && said.contains(why), "{token}: {said}");
    }
}

#[tokio::test]
async fn a_user_does_what_the_rules_allow_and_nothing_of_what_was_taken() {
    let server = ApiServer::new();
    let session = server.session("somebody");
    let role =
        json!({"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list", "create"]}]});
    server.set_rules("somebody", Rules::default().with(&role, None));
    let maps: Api<k8s_openapi::api::core::v1::ConfigMap> = Api::namespaced(session.client(), "default");
    maps.list(&ListParams::default()).await.unwrap();
    maps.create(&PostParams::default(), &map("a", "1")).await.unwrap();
    let said = refusal(maps.get("a").await);
    assert!(said.code == 403 && said.message.contains("cannot get resource \"configmaps\""), "{said:?}");
    server.deny("somebody", "list", "configmaps");
    assert_eq!(refusal(maps.list(&ListParams::default()).await).code, 403);
    server.allow_again("somebody");
    maps.list(&ListParams::default()).await.unwrap();
}

#[tokio::test]
async fn a_kubeconfig_leads_to_the_socket() {
    let server = ApiServer::new();
    server.put(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}})).unwrap();
    let listening = server.listen().await.unwrap();
    let mut config = kube::Config::new(listening.url().parse().unwrap());
    config.default_namespace = "default".to_owned();
    let client = kube::Client::try_from(config).unwrap();
    let maps: Api<k8s_openapi::api::core::v1::ConfigMap> = Api::default_namespaced(client.clone());
    maps.get("a").await.unwrap();
    assert_eq!(client.apiserver_version().await.unwrap().major, "1");
    assert!(listening.kubeconfig("default").contains(&listening.url()));
}
