//! Widgets that cannot start, do not get ready or do not end as they should, in a whole world.
#![allow(clippy::disallowed_methods, reason = "a test measures time itself")]

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};

use kontrol_e2e::world::{
    self, Manifest, Notice, Notices, Signal, What, World, alive, children, replica_of, signal, until,
};

/// Rules of a group that tries once and then says why not.
const ONCE: [&str; 2] = ["intensity: {maxRestarts: 0, period: 30s}", "whenExhausted: {policy: Stop}"];

const READY: &str = "health: {report: {}}";

/// A world of one widget with these arguments and rules, which is ready, and what it said then.
async fn one(arguments: &[&str], rules: &[&str]) -> (World, Notices, Notice) {
    let of = |notify: &[&str]| Manifest::group("g", &[]).widget("w", &[arguments, notify].concat(), rules);
    let (world, notices) = World::heard(of).await.unwrap();
    let (said, _) = notices.next_of(What::Reported, "w").await.unwrap();
    (world, notices, said)
}

/// Starts a world whose only widget cannot start, and waits until it has given up; all that `kontrol why` says of it.
async fn why_not(manifest: &Manifest) -> String {
    let mut world = World::start(world::folder().unwrap(), manifest).unwrap();
    world.wait("the group stands still", |tree| tree.roots.first()?.stalled.then_some(())).await.unwrap();
    let why = world.kontrol(&["why", "g/w"]).unwrap();
    assert!(why.status.success(), "{}", String::from_utf8_lossy(&why.stderr));
    format!("{}\n{}", String::from_utf8_lossy(&why.stdout), world.output())
}

#[tokio::test]
async fn a_command_that_does_not_exist_is_named() {
    let why = why_not(&Manifest::group("g", &ONCE).command("w", &["no-such-program".into()], &[])).await;
    assert!(why.contains("no-such-program") && why.contains("not found"), "{why}");
}

#[tokio::test]
async fn a_command_that_is_not_executable_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("plain");
    fs::write(&plain, "no program").unwrap();
    fs::set_permissions(&plain, fs::Permissions::from_mode(0o644)).unwrap();
    let command = [plain.display().to_string()];
    let why = why_not(&Manifest::group("g", &ONCE).command("w", &command, &[])).await;
    assert!(why.contains("plain") && why.contains("not executable"), "{why}");
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let endpoint = format!("endpoint: {{port: {port}}}");
    let manifest = Manifest::group("g", &ONCE).widget("w", &[], &[&endpoint]).unwrap();
    let why = why_not(&manifest).await;
    assert!(why.contains("port taken") && why.contains(&port.to_string()), "{why}");
}

#[tokio::test]
async fn a_widget_that_never_gets_ready_has_failed_its_start() {
    let rules = [READY, "start: {timeout: 1s}"];
    let manifest = Manifest::group("g", &ONCE).widget("w", &["--reports=never"], &rules).unwrap();
    let why = why_not(&manifest).await;
    assert!(why.contains("not ready in time"), "{why}");
}

#[tokio::test]
async fn a_widget_that_ignores_sigterm_is_killed_after_its_grace() {
    let rules = [READY, "shutdown: {policy: Graceful, grace: 1s}"];
    let (mut world, notices, widget) = one(&["--ignore-term"], &rules).await;
    let begun = Instant::now();
    assert!(world.down().await.unwrap().success(), "{}", world.output());
    assert!(begun.elapsed() >= Duration::from_secs(1), "it was given no grace");
    assert_eq!(notices.next_of(What::Stopping, "w").await.unwrap().0.pid, widget.pid);
    assert!(!alive(widget.pid));
}

#[tokio::test]
async fn children_that_a_widget_leaves_behind_are_ended() {
    let (_world, notices, first) = one(&["--leave-children=3"], &[READY]).await;
    let left = children(first.pid);
    assert_eq!(left.len(), 3);
    signal(first.pid, Signal::KILL).unwrap();
    let (second, _) = notices.next_of(What::Reported, "w").await.unwrap();
    assert_eq!(second.incarnation, first.incarnation + 1);
    assert!(left.iter().all(|child| !alive(*child)), "a child outlived its widget's replacement");
}

#[tokio::test]
async fn a_hung_widget_is_restarted() {
    let rules = ["health: {report: {}, timeout: 3s, interval: 1s}", "shutdown: {policy: Brutal}"];
    let (mut world, notices, first) = one(&[], &rules).await;
    // A process that is stopped says nothing and ends at no signal but the one that cannot be ignored.
    signal(first.pid, Signal::STOP).unwrap();
    let (second, _) = notices.next_of(What::Reported, "w").await.unwrap();
    assert_eq!(second.incarnation, first.incarnation + 1);
    until("the hung process is gone", async || Ok((!alive(first.pid)).then_some(()))).await.unwrap();
    let tree = world.ready().await.unwrap();
    assert_eq!(replica_of(&tree, "g", "w").unwrap().incarnation, second.incarnation);
}

#[tokio::test]
async fn children_of_a_widget_die_with_kontrol_itself() {
    let (mut world, _notices, widget) = one(&["--leave-children=3"], &[READY]).await;
    let mut family = children(widget.pid);
    assert_eq!(family.len(), 3);
    family.push(widget.pid);
    world.crash().unwrap();
    let gone = async || Ok(family.iter().all(|pid| !alive(*pid)).then_some(()));
    let ended = until("the family is gone", gone).await;
    // What outlived its world would outlive the test.
    for pid in family.into_iter().filter(|pid| alive(*pid)) {
        signal(pid, Signal::KILL).unwrap();
    }
    ended.unwrap();
}
