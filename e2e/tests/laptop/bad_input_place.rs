//! Places where a world cannot be, and what an earlier one left.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    process::{Command, Output},
};

use kontrol_e2e::world::{self, Manifest, Signal, World, alive, replica_of, signal, until};

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

/// A folder whose path has no room for a socket.
fn deep() -> tempfile::TempDir {
    tempfile::Builder::new().prefix(&"x".repeat(120)).tempdir().unwrap()
}

#[tokio::test]
async fn a_world_is_found_by_its_folder_however_long_its_path_and_wherever_temporary_files_go() {
    let mut world = World::start(deep(), &manifest()).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let tree = || {
        let mut kontrol = Command::new(world::programs().unwrap().join("kontrol"));
        kontrol
            .args(["tree", "-o", "json", "--state-dir"])
            .arg(world.state())
            .env("TMPDIR", elsewhere.path());
        serde_json::from_slice::<serde_json::Value>(&kontrol.output().unwrap().stdout).unwrap_or_default()
    };
    until("its tree is shown", async || Ok((tree()["ready"] == true).then_some(()))).await.unwrap();
    signal(world.pid(), Signal::INT).unwrap();
    assert!(world.ended().await.unwrap().success(), "{}", world.output());
}

#[test]
fn a_place_without_room_for_sockets_is_refused_with_the_limit_and_the_way_out() {
    let folder = deep();
    let path = folder.path().join("world.yaml");
    fs::write(&path, manifest().to_string()).unwrap();
    let kontrol = world::programs().unwrap().join("kontrol");
    let output = Command::new(kontrol).arg("up").arg(&path).env("TMPDIR", folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("KTL6002: ") && said.contains("100") && said.contains("--state-dir"), "{said}");
}
