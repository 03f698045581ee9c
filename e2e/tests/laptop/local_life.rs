//! A world from its start to its end, as a user of `kontrol up` has it.

use std::fs;

use kontrol_e2e::world::{
    MANIFEST, Manifest, Notices, Signal, What, World, alive, replica_of, signal, until, widget_of,
};
use kontrol_proto::v1::{CallRequest, TreeResponse, calls_client::CallsClient};

const READY: &str = "health: {report: {}}";

fn three(notify: &[&str]) -> anyhow::Result<Manifest> {
    Manifest::group("g", &["strategy: OneForOne"])
        .widget("a", notify, &[READY])?
        .widget("b", notify, &[READY])?
        .widget("c", notify, &[READY])
}

/// A world of three widgets that are ready, and have said so in their order.
async fn three_ready() -> (World, Notices) {
    let (world, notices) = World::heard(three).await.unwrap();
    assert_eq!(three_of(What::Reported, &notices).await, ["a", "b", "c"]);
    (world, notices)
}

/// Changes a manifest that is followed.
fn edit(world: &World, from: &str, to: &str) {
    let path = world.folder().join(MANIFEST);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replace(from, to)).unwrap();
}

/// Whether the process of a widget is the same in both trees.
fn same_process(before: &TreeResponse, after: &TreeResponse, name: &str) -> bool {
    let pid = |tree| replica_of(tree, "g", name).unwrap().pid;
    pid(before) == pid(after)
}

/// The names of the next three notices, which are all of this kind.
async fn three_of(what: What, notices: &Notices) -> Vec<String> {
    let mut names = Vec::new();
    for _ in 0..3 {
        let (notice, _) = notices.next().await.unwrap();
        assert_eq!(notice.what, what, "{notice}");
        names.push(notice.name);
    }
    names
}

#[tokio::test]
async fn a_world_starts_in_order_stops_in_reverse_and_leaves_nothing() {
    let (mut world, notices) = three_ready().await;
    let all = world.processes();
    assert!(all.len() >= 6, "three widgets and their sidecars: {all:?}");
    assert!(world.down().await.unwrap().success(), "{}", world.output());
    assert_eq!(three_of(What::Stopping, &notices).await, ["c", "b", "a"]);
    let left: Vec<_> = all.iter().filter(|(_, pid)| alive(*pid)).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn an_interrupt_drains_in_reverse_order() {
    let (mut world, notices) = three_ready().await;
    signal(world.pid(), Signal::INT).unwrap();
    assert_eq!(three_of(What::Stopping, &notices).await, ["c", "b", "a"]);
    world.ended().await.unwrap();
}

#[tokio::test]
async fn a_second_interrupt_waits_for_no_grace() {
    let rules = [READY, "shutdown: {policy: Graceful, grace: 10m}"];
    let of = |notify: &[&str]| {
        Manifest::group("g", &[]).widget("w", &[&["--ignore-term"], notify].concat(), &rules)
    };
    let (mut world, notices) = World::heard(of).await.unwrap();
    let all = world.processes();
    signal(world.pid(), Signal::INT).unwrap();
    notices.next_of(What::Stopping, "w").await.unwrap();
    signal(world.pid(), Signal::INT).unwrap();
    world.ended().await.unwrap();
    assert!(all.iter().all(|(_, pid)| !alive(*pid)));
}

#[tokio::test]
async fn a_changed_template_restarts_its_widget_alone() {
    let (mut world, notices) = three_ready().await;
    let before = world.ready().await.unwrap();
    edit(&world, "- name: b\n", "- name: b\n    endpoint: {}\n");
    let (stopping, _) = notices.next().await.unwrap();
    assert_eq!((stopping.what, stopping.name.as_str()), (What::Stopping, "b"));
    let (reported, _) = notices.next().await.unwrap();
    assert_eq!((reported.what, reported.name.as_str()), (What::Reported, "b"));
    let after = world.ready().await.unwrap();
    for (name, same) in [("a", true), ("b", false), ("c", true)] {
        assert_eq!(same_process(&before, &after, name), same, "{name}");
    }
}

#[tokio::test]
async fn a_manifest_that_became_wrong_changes_nothing_and_is_said() {
    let (mut world, _notices) = three_ready().await;
    let before = world.ready().await.unwrap();
    edit(&world, "OneForOne", "OneForNone");
    until("the mistake is said", async || Ok(world.output().contains("OneForNone").then_some(())))
        .await
        .unwrap();
    let after = world.ready().await.unwrap();
    for name in ["a", "b", "c"] {
        assert!(same_process(&before, &after, name), "{name}");
    }
}

#[tokio::test]
async fn users_scale_restart_and_ask_why() {
    let (mut world, notices) = three_ready().await;

    let scaled = world.kontrol(&["scale", "g/b", "2"]).unwrap();
    assert!(scaled.status.success(), "{}", String::from_utf8_lossy(&scaled.stderr));
    let two = |tree: &_| widget_of(tree, "g", "b").is_some_and(|b| b.ready == 2).then_some(());
    world.wait("two replicas of b are ready", two).await.unwrap();
    notices.next_of(What::Reported, "b").await.unwrap();

    let restarted = world.kontrol(&["restart", "g/a"]).unwrap();
    assert!(restarted.status.success(), "{}", String::from_utf8_lossy(&restarted.stderr));
    let (again, _) = notices.next_of(What::Reported, "a").await.unwrap();
    assert_eq!(again.incarnation, 2);

    world.ready().await.unwrap();
    signal(again.pid, Signal::KILL).unwrap();
    notices.next_of(What::Reported, "a").await.unwrap();
    world.ready().await.unwrap();
    let why = world.kontrol(&["why", "g/a"]).unwrap();
    let why = String::from_utf8_lossy(&why.stdout).into_owned();
    assert!(why.contains("SIGKILL"), "{why}");

    let tree = world.kontrol(&["tree", "-o", "json"]).unwrap();
    let tree: serde_json::Value = serde_json::from_slice(&tree.stdout).unwrap();
    assert!(tree.is_object() || tree.is_array());
}

#[tokio::test]
async fn a_sidecar_that_is_killed_comes_back_and_its_widget_stays() {
    let manifest = Manifest::group("g", &[])
        .widget("callee", &["--serve"], &["serves: [{method: echo}]"])
        .unwrap()
        .widget("caller", &["--reports=once"], &["calls: [{target: callee}]"])
        .unwrap();
    let mut world = World::up(&manifest).await.unwrap();
    let before = replica_of(&world.ready().await.unwrap(), "g", "caller").unwrap().clone();
    signal(before.sidecar_pid, Signal::KILL).unwrap();
    let back = world
        .wait("the sidecar is back", |tree| {
            let caller = replica_of(tree, "g", "caller")?;
            let back = caller.sidecar_pid != 0 && caller.sidecar_pid != before.sidecar_pid;
            (back && tree.ready).then(|| caller.clone())
        })
        .await
        .unwrap();
    assert_eq!((back.pid, back.incarnation), (before.pid, before.incarnation));
    let call = CallRequest {
        target: "callee".into(),
        method: "echo".into(),
        data: "still here".into(),
        ..CallRequest::default()
    };
    let reply = until("the new sidecar answers", async || {
        let Ok(door) = world.door("g", "caller").await else { return Ok(None) };
        Ok(CallsClient::new(door).call(call.clone()).await.ok())
    });
    assert_eq!(reply.await.unwrap().into_inner().data, "still here");
}
