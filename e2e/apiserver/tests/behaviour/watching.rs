use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kontrol_e2e_apiserver::ApiServer;
use kube::{
    api::{PostParams, WatchEvent, WatchParams},
    runtime::watcher::{self, Event},
};
use serde_json::json;

use super::{map, maps};

/// The next object that a watcher tells of, past the marks of a list.
async fn next(
    stream: &mut (impl futures::Stream<Item = Result<Event<ConfigMap>, watcher::Error>> + Unpin),
) -> (&'static str, String) {
    loop {
        let event = tokio::time::timeout(Duration::from_mins(10), stream.next()).await.unwrap().unwrap();
        let (kind, object) = match event {
            Ok(Event::InitApply(object)) => ("initial", object),
            Ok(Event::Apply(object)) => ("apply", object),
            Ok(Event::Delete(object)) => ("delete", object),
            Ok(Event::InitDone) => return ("done", String::new()),
            Ok(Event::Init) | Err(_) => continue,
        };
        return (kind, object.metadata.name.unwrap());
    }
}

#[tokio::test]
async fn both_ways_of_a_watcher_see_what_is_and_what_comes() {
    for config in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let server = ApiServer::new();
        maps(&server).create(&PostParams::default(), &map("a", "1")).await.unwrap();
        let mut stream = std::pin::pin!(watcher::watcher(maps(&server), config));
        assert_eq!(next(&mut stream).await, ("initial", "a".to_owned()));
        assert_eq!(next(&mut stream).await.0, "done");
        maps(&server).create(&PostParams::default(), &map("b", "1")).await.unwrap();
        assert_eq!(next(&mut stream).await, ("apply", "b".to_owned()));
        server.delete("configmaps", "default", "a").unwrap();
        assert_eq!(next(&mut stream).await, ("delete", "a".to_owned()));
    }
}

#[tokio::test]
async fn a_watch_from_a_forgotten_version_is_told_so() {
    let server = ApiServer::new();
    server.put(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}})).unwrap();
    server.compact();
    let mut stream = maps(&server).watch(&WatchParams::default(), "101").await.unwrap().boxed();
    let event = stream.try_next().await.unwrap().unwrap();
    let WatchEvent::Error(status) = event else { panic!("{event:?}") };
    assert_eq!((status.code, status.reason.as_str()), (410, "Expired"));
}

#[tokio::test]
async fn a_watcher_comes_back_after_its_watch_was_dropped_and_its_history_forgotten() {
    let server = ApiServer::new();
    let session = server.session("operator");
    let api = kube::Api::<ConfigMap>::namespaced(session.client(), "default");
    let mut stream = std::pin::pin!(watcher::watcher(api, watcher::Config::default()));
    assert_eq!(next(&mut stream).await.0, "done");
    for broken in [false, true] {
        let name = format!("a-{broken}");
        session.hold("configmaps");
        maps(&server).create(&PostParams::default(), &map(&name, "1")).await.unwrap();
        session.drop_watches(broken);
        server.compact();
        session.release();
        while next(&mut stream).await.1 != name {}
    }
}

#[tokio::test]
async fn a_held_session_sees_the_past_until_it_is_released() {
    let server = ApiServer::new();
    let session = server.session("operator");
    session.hold("configmaps");
    maps(&server).create(&PostParams::default(), &map("a", "1")).await.unwrap();
    let api = kube::Api::<ConfigMap>::namespaced(session.client(), "default");
    let old = api.list(&kube::api::ListParams::default().match_any()).await.unwrap();
    assert!(old.items.is_empty());
    let new = api.list(&kube::api::ListParams::default()).await.unwrap();
    assert_eq!(new.items.len(), 1, "a list that asks for the newest state is not old");
    session.release();
    let old = api.list(&kube::api::ListParams::default().match_any()).await.unwrap();
    assert_eq!(old.items.len(), 1);
}
