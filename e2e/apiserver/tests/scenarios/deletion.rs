use kube::api::{DeleteParams, PostParams, Preconditions};
use serde_json::json;

use super::{Place, map, refusal, until};

pub(crate) async fn a_finalizer_keeps_an_object_until_it_is_taken_away(place: &Place) {
    let maps = place.maps();
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

pub(crate) async fn a_precondition_on_the_id_guards_a_namesake(place: &Place) {
    place.maps().create(&PostParams::default(), &map("a", "1")).await.unwrap();
    let other = Preconditions { uid: Some("other".into()), resource_version: None };
    let params = DeleteParams { preconditions: Some(other), ..DeleteParams::default() };
    assert_eq!(refusal(place.maps().delete("a", &params).await).code, 409);
}

pub(crate) async fn what_loses_its_owner_is_removed_and_what_is_orphaned_is_not(place: &Place) {
    let maps = place.maps();
    for (number, (params, stays)) in [
        (DeleteParams::background(), false),
        (DeleteParams::foreground(), false),
        (DeleteParams::orphan(), true),
    ]
    .into_iter()
    .enumerate()
    {
        let [owner, child] = ["owner", "child"].map(|name| format!("{name}-{number}"));
        let made = maps.create(&PostParams::default(), &map(&owner, "1")).await.unwrap();
        let mut object = map(&child, "1");
        let reference = json!([{
            "apiVersion": "v1", "kind": "ConfigMap", "name": owner, "uid": made.metadata.uid,
            "controller": true, "blockOwnerDeletion": true,
        }]);
        object.metadata.owner_references = Some(serde_json::from_value(reference).unwrap());
        maps.create(&PostParams::default(), &object).await.unwrap();
        maps.delete(&owner, &params).await.unwrap();
        until(async || {
            let above = maps.get_opt(&owner).await.unwrap();
            let below = maps.get_opt(&child).await.unwrap();
            let owners = below.iter().flat_map(|below| &below.metadata.owner_references);
            let held = owners.flatten().count() > 0;
            let done = above.is_none() && below.is_some() == stays && !held;
            if done { Ok(()) } else { Err(format!("{params:?}: {above:?} {below:?}")) }
        })
        .await;
    }
}
