use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    api::{DeleteParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams},
    runtime::watcher::{self, Event},
};
use serde_json::json;

use super::{OURS, PATIENCE, Place, map};

/// The next object that a watcher tells of; `done` at the end of what was there before.
async fn next(
    stream: &mut (impl futures::Stream<Item = Result<Event<ConfigMap>, watcher::Error>> + Unpin),
) -> (&'static str, String) {
    loop {
        let event = tokio::time::timeout(PATIENCE, stream.next()).await.unwrap().unwrap();
        let (kind, object) = match event {
            Ok(Event::InitApply(object)) => ("initial", object),
            Ok(Event::Apply(object)) => ("apply", object),
            Ok(Event::Delete(object)) => ("delete", object),
            Ok(Event::InitDone) => return ("done", String::new()),
            Ok(Event::Init) => continue,
            Err(error) => panic!("{error}"),
        };
        return (kind, object.metadata.name.unwrap());
    }
}

pub(crate) async fn a_watcher_sees_what_is_and_what_comes(place: &Place) {
    let maps = place.maps();
    maps.create(&PostParams::default(), &map("a", "1")).await.unwrap();
    let config = watcher::Config::default().labels(OURS);
    let mut stream = std::pin::pin!(watcher::watcher(place.maps(), config));
    assert_eq!(next(&mut stream).await, ("initial", "a".to_owned()));
    assert_eq!(next(&mut stream).await.0, "done");
    maps.create(&PostParams::default(), &map("b", "1")).await.unwrap();
    assert_eq!(next(&mut stream).await, ("apply", "b".to_owned()));
    for name in ["a", "b"] {
        maps.delete(name, &DeleteParams::default()).await.unwrap();
        assert_eq!(next(&mut stream).await, ("delete", name.to_owned()));
    }
}

pub(crate) async fn what_leaves_a_selection_is_told_as_deleted(place: &Place) {
    let maps = place.maps();
    let made = maps.create(&PostParams::default(), &map("a", "1")).await.unwrap();
    let version = made.metadata.resource_version.unwrap();
    let mut stream = maps.watch(&WatchParams::default().labels(OURS), &version).await.unwrap().boxed();
    let other = Patch::Merge(json!({"metadata": {"labels": {"scenario": "no"}}}));
    maps.patch("a", &PatchParams::default(), &other).await.unwrap();
    let event = stream.try_next().await.unwrap().unwrap();
    assert!(matches!(event, WatchEvent::Deleted(_)), "{event:?}");
}
