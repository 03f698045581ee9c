use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kontrol_e2e_apiserver::{ApiServer, Fault, fault};
use kube::{Api, api::PostParams};

use super::map;

async fn create(server: &ApiServer, fault: Fault) -> (Result<ConfigMap, kube::Error>, bool) {
    let session = server.session("operator");
    session.set_faults(fault::nth_write(0, fault));
    let api: Api<ConfigMap> = Api::namespaced(session.plain_client(), "default");
    let answer = api.create(&PostParams::default(), &map("a", "1")).await;
    (answer, server.get("configmaps", "default", "a").is_some())
}

#[tokio::test]
async fn each_fault_answers_and_writes_as_it_says() {
    for (fault, code, written) in [
        (Fault::Conflict, Some(409), false),
        (Fault::TooMany(1), Some(429), false),
        (Fault::ErrorBefore, Some(500), false),
        (Fault::ErrorAfter, Some(500), true),
        (Fault::LostBefore, None, false),
        (Fault::LostAfter, None, true),
        (Fault::Crash, None, true),
    ] {
        let (answer, there) = create(&ApiServer::new(), fault.clone()).await;
        let said = match answer {
            Err(kube::Error::Api(status)) => Some(status.code),
            Err(_) => None,
            Ok(_) => panic!("{fault:?} was no fault"),
        };
        assert_eq!((said, there), (code, written), "{fault:?}");
    }
}

#[tokio::test]
async fn nothing_that_a_crashed_process_sends_is_heard() {
    let server = ApiServer::new();
    let session = server.session("operator");
    session.set_faults(fault::nth_write(0, Fault::Crash));
    let api: Api<ConfigMap> = Api::namespaced(session.client(), "default");
    assert!(api.create(&PostParams::default(), &map("a", "1")).await.is_err());
    assert!(session.until_cut(Duration::from_secs(1)).await);
    assert!(api.create(&PostParams::default(), &map("b", "1")).await.is_err());
    assert!(server.get("configmaps", "default", "b").is_none());
}

#[tokio::test]
async fn a_client_tries_again_after_too_many_requests() {
    let server = ApiServer::new();
    let session = server.session("operator");
    session.set_faults(fault::nth_call(0, Fault::TooMany(1)));
    let api: Api<ConfigMap> = Api::namespaced(session.client(), "default");
    api.create(&PostParams::default(), &map("a", "1")).await.unwrap();
    assert_eq!(session.writes(), 2);
}

#[test]
fn a_seed_draws_the_same_faults_each_time_and_others_than_its_neighbour() {
    let draw = |seed| {
        let faults = fault::seeded(seed, 300, 100, &[Fault::Conflict, Fault::ErrorAfter]);
        let call = |index| kontrol_e2e_apiserver::Call {
            index,
            writes: index,
            verb: "patch",
            resource: String::new(),
            subresource: String::new(),
            namespace: String::new(),
            name: String::new(),
        };
        (0..200).map(|index| faults(&call(index))).collect::<Vec<_>>()
    };
    assert_eq!(draw(7), draw(7));
    assert_ne!(draw(7), draw(8));
    let drawn = draw(7).into_iter().flatten().count();
    assert!((10..60).contains(&drawn), "{drawn}");
}
