use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::{OURS, Place, map, refusal};

pub(crate) async fn a_created_object_has_an_id_a_version_and_a_time(place: &Place) {
    let made = place.maps().create(&PostParams::default(), &map("a", "1")).await.unwrap();
    assert!(made.metadata.uid.is_some() && made.metadata.creation_timestamp.is_some());
    assert!(made.metadata.resource_version.unwrap().parse::<u64>().unwrap() > 0);
}

pub(crate) async fn a_name_is_given_once(place: &Place) {
    place.maps().create(&PostParams::default(), &map("a", "1")).await.unwrap();
    let said = refusal(place.maps().create(&PostParams::default(), &map("a", "1")).await);
    assert_eq!((said.code, said.reason.as_str()), (409, "AlreadyExists"));
}

pub(crate) async fn a_replacement_of_an_old_version_is_a_conflict(place: &Place) {
    let maps = place.maps();
    let first = maps.create(&PostParams::default(), &map("a", "1")).await.unwrap();
    let mut second = first.clone();
    second.data = map("a", "2").data;
    maps.replace("a", &PostParams::default(), &second).await.unwrap();
    let said = refusal(maps.replace("a", &PostParams::default(), &first).await);
    assert_eq!((said.code, said.reason.as_str()), (409, "Conflict"));
}

pub(crate) async fn a_write_that_changes_nothing_makes_no_version(place: &Place) {
    let maps = place.maps();
    let made = maps.create(&PostParams::default(), &map("a", "1")).await.unwrap();
    let again = maps.replace("a", &PostParams::default(), &made).await.unwrap();
    assert_eq!(again.metadata.resource_version, made.metadata.resource_version);
}

pub(crate) async fn each_form_of_a_patch_patches(place: &Place) {
    let maps = place.maps();
    maps.create(&PostParams::default(), &map("a", "1")).await.unwrap();
    let merge = Patch::Merge(json!({"data": {"more": "2", "key": null}}));
    let merged = maps.patch("a", &PatchParams::default(), &merge).await.unwrap().data.unwrap();
    assert_eq!(merged.into_iter().collect::<Vec<_>>(), [("more".to_owned(), "2".to_owned())]);
    let uid = json!([{"op": "test", "path": "/metadata/name", "value": "b"}]);
    let patch: Patch<()> = Patch::Json(serde_json::from_value(uid).unwrap());
    assert_eq!(refusal(maps.patch("a", &PatchParams::default(), &patch).await).code, 422);
}

pub(crate) async fn a_list_in_pages_shows_one_state(place: &Place) {
    let maps = place.maps();
    for name in ["a", "b", "c", "d", "e"] {
        maps.create(&PostParams::default(), &map(name, "1")).await.unwrap();
    }
    let first = maps.list(&ListParams::default().labels(OURS).limit(2)).await.unwrap();
    maps.create(&PostParams::default(), &map("f", "1")).await.unwrap();
    let token = first.metadata.continue_.unwrap();
    let rest = maps.list(&ListParams::default().labels(OURS).continue_token(&token)).await.unwrap();
    let names: Vec<_> =
        first.items.iter().chain(&rest.items).filter_map(|map| map.metadata.name.clone()).collect();
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
    assert_eq!(rest.metadata.resource_version, first.metadata.resource_version);
}
