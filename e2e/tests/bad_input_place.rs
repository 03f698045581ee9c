//! Places where a world cannot be, and what an earlier one left.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    process::{Command, Output},
};

use kontrol_e2e::world::{self, Manifest, World, alive, replica_of, until};

fn manifest() -> Manifest {
    Manifest::group("g", &[])
        .widget("w", &[], &["health: {report: {}}", "consumes: [{topic: t}]"])
        .unwrap()
        .topic("t", &[])
}

fn up(manifest: &std::path::Path, state: &std::path::Path) -> Output {
    let kontrol = world::programs().unwrap().join("kontrol");
    Command::new(kontrol).arg("up").arg(manifest).arg("--state-dir").arg(state).output().unwrap()
}

#[test]
fn a_state_folder_that_cannot_be_written_is_named() {
    let folder = world::folder().unwrap();
    let path = folder.path().join("world.yaml");
    fs::write(&path, manifest().to_string()).unwrap();
    let closed = folder.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o500)).unwrap();
    // Permissions are nothing to the superuser, but nobody makes folders in sysfs.
    let place = if fs::create_dir(closed.join("x")).is_ok() { "/sys/kernel".into() } else { closed };
    let state = place.join("state");
    let output = up(&path, &state);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains(&state.display().to_string()) && said.contains("KTL6"), "{said}");
}

#[tokio::test]
async fn a_second_up_in_one_place_says_who_is_there() {
    let world = World::up(&manifest()).await.unwrap();
    let output = up(&world.folder().join("world.yaml"), &world.state());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains(&world.pid().to_string()) && said.contains("kontrol down"), "{said}");
}

#[tokio::test]
async fn what_a_crash_left_is_gone_and_the_next_up_starts_anew_and_says_so() {
    let mut world = World::up(&manifest()).await.unwrap();
    let tree = world.ready().await.unwrap();
    let before = replica_of(&tree, "g", "w").unwrap().clone();
    let left = world.processes();
    assert!(left.len() >= 3, "widget, sidecar and hub: {left:?}");
    world.crash().unwrap();
    until("everything has died with kontrol", async || {
        Ok(left.iter().all(|(_, pid)| !alive(*pid)).then_some(()))
    })
    .await
    .unwrap();
    let mut world = world.again().unwrap();
    let tree = world.ready().await.unwrap();
    let after = replica_of(&tree, "g", "w").unwrap();
    assert!(after.incarnation > before.incarnation, "{} follows {}", after.incarnation, before.incarnation);
    assert_ne!(after.pid, before.pid);
    assert!(world.output().contains("earlier"), "{}", world.output());
}

#[test]
fn a_manifest_that_is_wrong_starts_nothing() {
    let folder = world::folder().unwrap();
    let path = folder.path().join("world.yaml");
    let text = manifest().to_string().replace("strategy", "stratgy").replace("consumes", "consums");
    fs::write(&path, text).unwrap();
    let state = folder.path().join("state");
    let output = up(&path, &state);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("world.yaml") && said.contains("consums") && said.contains("KTL1002"), "{said}");
    assert!(!state.join("status.json").exists());
}
