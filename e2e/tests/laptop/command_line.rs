//! What `kontrol` says to people, and to whom it listens, in a whole world.

use std::{
    fs,
    io::{BufRead, BufReader, ErrorKind, PipeWriter, Write},
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
};

use kontrol_e2e::world::{self, MANIFEST, Manifest, Signal, World, replica_of, signal};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

const READY: &str = "health: {report: {}}";

/// Writes until a pipe takes no more.
fn fill(pipe: &mut PipeWriter) {
    let flags = fcntl_getfl(&*pipe).unwrap();
    fcntl_setfl(&*pipe, flags | OFlags::NONBLOCK).unwrap();
    for size in [4096, 1] {
        while match pipe.write(&vec![b'.'; size]) {
            Ok(written) => written > 0,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                false
            }
        } {}
    }
    fcntl_setfl(&*pipe, flags).unwrap();
}

#[tokio::test]
async fn a_terminal_that_does_not_read_stops_no_supervision() {
    let folder = world::folder().unwrap();
    let manifest = Manifest::group("g", &[]).widget("w", &[], &[READY]).unwrap();
    fs::write(folder.path().join(MANIFEST), manifest.to_string()).unwrap();
    let (_reader, mut full) = std::io::pipe().unwrap();
    fill(&mut full);
    let mut world = World::start_with(folder, MANIFEST, &[], |up| {
        up.args(["--log", "trace"]).stdout(full.try_clone().unwrap()).stderr(full);
    })
    .unwrap();
    let before = replica_of(&world.ready().await.unwrap(), "g", "w").unwrap().clone();
    signal(before.pid, Signal::KILL).unwrap();
    world
        .wait("the widget runs again", |tree| {
            let after = replica_of(tree, "g", "w")?;
            (tree.ready && after.incarnation > before.incarnation).then_some(())
        })
        .await
        .unwrap();
    assert!(world.down().await.unwrap().success());
}

#[tokio::test]
async fn a_start_and_a_stop_in_the_ordinary_way_have_nothing_to_warn_of() {
    let rules = |more: &'static str| [READY, more];
    let manifest = Manifest::group("g", &[])
        .widget("a", &[], &rules("consumes: [{topic: t}]"))
        .unwrap()
        .widget("b", &[], &rules("produces: [{topic: t}]"))
        .unwrap()
        .widget("c", &[], &rules("consumes: [{topic: t}]"))
        .unwrap()
        .topic("t", &[]);
    for _ in 0..3 {
        let mut world = World::up(&manifest).await.unwrap();
        signal(world.pid(), Signal::INT).unwrap();
        assert!(world.ended().await.unwrap().success());
        let logs = world.log("");
        let matters = |line: &&str| line.contains(" warn ") || line.contains(" error ");
        let warnings: Vec<&str> = logs.lines().filter(matters).collect();
        assert!(logs.lines().count() > 10 && warnings.is_empty(), "{warnings:#?}\n{}", world.output());
        let said = world.output();
        assert!(!said.contains("WARN") && !said.contains("ERROR") && !said.contains(" ! "), "{said}");
    }
}

/// The exit code of a command, and what it said.
fn run(world: &World, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = world.kontrol(arguments).unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn a_name_that_is_not_there_is_refused_with_the_nearest_by_every_command() {
    let manifest = Manifest::group("prices", &[])
        .widget("pricer", &[], &[READY])
        .unwrap()
        .widget("ticker", &[], &[READY])
        .unwrap();
    let world = World::up(&manifest).await.unwrap();
    for command in
        [&["why", "pricr"][..], &["restart", "pricr"], &["scale", "pricr", "2"], &["logs", "pricr"]]
    {
        let (code, out, said) = run(&world, command);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{command:?}");
        let expected = "KTL6005: there is no \"pricr\" here; did you mean prices/pricer? There are prices, prices/pricer, \
                        prices/ticker\n";
        assert_eq!(said, expected, "{command:?}");
    }
    let (code, _, said) = run(&world, &["why", "pricer-7"]);
    assert_eq!(code, Some(1));
    assert_eq!(said, "KTL6005: default/prices/pricer has no replica 7: it has replica 0\n");
    assert_eq!(run(&world, &["why", "pricer-0"]).0, Some(0));
}

#[tokio::test]
async fn the_past_is_shown_as_far_as_it_is_asked_for() {
    let words: Vec<String> = ["sh", "-c", "echo one; echo two; exec sleep 1000"].map(str::to_owned).into();
    let mut world = World::up(&Manifest::group("g", &[]).command("w", &words, &[])).await.unwrap();
    world::until("both lines are stored", async || Ok(world.log("g.w.0.log").contains("two").then_some(())))
        .await
        .unwrap();
    let lines = |tail: &str| run(&world, &["logs", "g/w", "-n", tail]).1.lines().count();
    assert_eq!((lines("0"), lines("1"), lines("5")), (0, 1, 2));
    assert!(world.down().await.unwrap().success());
}

#[tokio::test]
async fn an_edit_that_this_machine_cannot_start_changes_nothing_until_it_can() {
    let folder = world::folder().unwrap();
    let tool = folder.path().join("tool");
    let command = |name: &str| Manifest::group("g", &[]).command("w", &[name.to_owned()], &[]).to_string();
    let sleeper = "#!/bin/sh\nexec sleep 1000\n";
    let executable = |path: &std::path::Path| {
        fs::write(path, sleeper).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    executable(&tool);
    fs::write(folder.path().join(MANIFEST), command("./tool")).unwrap();
    let mut world = World::start_at(folder, MANIFEST).unwrap();
    let before = replica_of(&world.ready().await.unwrap(), "g", "w").unwrap().pid;
    fs::write(world.folder().join(MANIFEST), command("./other")).unwrap();
    world::until("the edit is refused", async || Ok(world.output().contains("KTL6011").then_some(())))
        .await
        .unwrap();
    let said = world.output();
    assert!(
        said.contains(
            "KTL2001 WidgetGroup default/g, spec.widgets[0].process.command: ./other does not exist"
        ),
        "{said}"
    );
    assert_eq!(replica_of(&world.ready().await.unwrap(), "g", "w").unwrap().pid, before);
    executable(&world.folder().join("other"));
    let other = |tree: &_| {
        let after = replica_of(tree, "g", "w")?;
        (tree.ready && after.pid != before && after.incarnation == 2).then_some(())
    };
    world.wait("the edit is taken", other).await.unwrap();
    assert_eq!(world.output().matches("KTL6011").count(), 1, "{}", world.output());
}

#[tokio::test]
async fn what_is_followed_ends_when_nobody_reads_it_any_more() {
    let manifest = Manifest::group("g", &[]).widget("w", &[], &[READY]).unwrap();
    let world = World::up(&manifest).await.unwrap();
    let mut watch = Command::new(world::programs().unwrap().join("kontrol"))
        .args(["tree", "-w", "--state-dir"])
        .arg(world.state())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::new(watch.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.starts_with("g "), "{first}");
    assert_eq!(run(&world, &["restart", "w"]).0, Some(0));
    let ended = world::until("tree -w ends", async || Ok(watch.try_wait()?)).await;
    if ended.is_err() {
        watch.kill().unwrap();
    }
    assert!(ended.unwrap().success());
}
