//! A sidecar as it runs in a pod: its identity, what it tells of its place, its admin pages, and the shim beside it.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    time::{Duration, Instant},
};

use kontrol_core::wrapped::{Ended, Order, State, Why};
use kontrol_proto::v1::{self, session_response::Message, widget_client::WidgetClient};

use crate::support::{self, World, eventually, operator::POD_TOKEN, serve, soon, topic, web::get};

const INSTANCE: &str = "default/rag/llm/0";

fn config() -> v1::SidecarConfig {
    v1::SidecarConfig { version: 1, incarnation: 3, serves: vec![serve("answer")], ..Default::default() }
}

fn token(world: &World, text: &str) -> PathBuf {
    let path = world.path().join("service-account");
    fs::write(&path, format!("{POD_TOKEN}{text}\n")).unwrap();
    path
}

#[tokio::test]
async fn a_pod_proves_itself_with_its_token_and_tells_where_it_is() {
    let world = World::new().await;
    world.operator.configure(INSTANCE, Message::Sidecar(config()));
    let options = [
        ("KONTROL_INCARNATION", "3"),
        ("KONTROL_ADVERTISE", "10.7.0.5"),
        ("KONTROL_PEER", "0.0.0.0:0"),
        ("KONTROL_ADMIN", "0.0.0.0:0"),
        ("KONTROL_NODE", "node-1"),
        ("KONTROL_POD", "rag-llm-0-3"),
        ("KONTROL_POD_UID", "5f0c"),
    ];
    let sidecar = world.pod(INSTANCE, &token(&world, "1"), &options).await;
    assert_eq!(world.operator.tokens(), ["1"]);
    let hello = &sidecar.hello;
    assert_eq!(
        (hello.node.as_str(), hello.pod.as_str(), hello.pod_uid.as_str()),
        ("node-1", "rag-llm-0-3", "5f0c")
    );
    assert_eq!((hello.incarnation, hello.version.as_str()), (3, env!("CARGO_PKG_VERSION")));
    assert!(hello.peer.starts_with("10.7.0.5:") && hello.admin.starts_with("10.7.0.5:"), "{hello:?}");
    world.operator.applied(INSTANCE, 1).await;

    // The kubelet and Prometheus come by an address that is not loopback's name.
    let admin = hello.admin.replace("10.7.0.5", "127.0.0.1");
    let page = async |path: &str| {
        support::web::send("GET", &format!("http://{admin}{path}"), &[("host", &hello.admin)], "").await
    };
    assert_eq!(page("/healthz").await.status, 200);
    assert_eq!(page("/readyz").await.status, 200);
    assert_eq!(page("/metrics").await.status, 200);
    for elsewhere in ["/", "/v1/state", "/debug", "/metrics/more"] {
        assert_eq!(page(elsewhere).await.status, 404, "{elsewhere}");
    }
}

#[tokio::test]
async fn a_token_that_the_kubelet_has_renewed_is_read_again_and_no_session_is_dropped_for_it() {
    let world = World::new().await;
    world.operator.authority.live(6);
    world.operator.configure(INSTANCE, Message::Sidecar(config()));
    let path = token(&world, "1");
    let _sidecar = world.pod(INSTANCE, &path, &[]).await;
    fs::write(&path, format!("{POD_TOKEN}2")).unwrap();
    eventually("a session with the renewed certificate", || async {
        (world.operator.sessions(INSTANCE) > 1).then_some(())
    })
    .await;
    assert_eq!(world.operator.tokens(), ["1", "2"]);
    assert!(!world.operator.was_without(INSTANCE), "the new session opens before the old one ends");
}

#[tokio::test]
async fn a_sidecar_that_has_no_proof_is_not_started() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_kontrol-sidecar"))
        .args(["run", "--instance", INSTANCE, "--socket", "/nowhere", "--state-dir", "/nowhere"])
        .args(["--control", "127.0.0.1:1", "--ca-file", "/nowhere"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("--join-token-file"));
}

/// A shim, as far as a sidecar sees it.
struct Shim {
    listener: UnixListener,
    state: State,
}

impl Shim {
    fn new(world: &World) -> (PathBuf, Self) {
        let path = world.path().join("shim.sock");
        let listener = UnixListener::bind(&path).unwrap();
        (path, Self { listener, state: State { shim: 1, pid: 7, ..State::default() } })
    }

    async fn accept(&self) -> (UnixStream, BufReader<UnixStream>) {
        let listener = self.listener.try_clone().unwrap();
        let accept = tokio::task::spawn_blocking(move || listener.accept().unwrap().0);
        let stream = soon("the sidecar connects", accept).await.unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut stream = stream;
        self.tell(&mut stream);
        (stream.try_clone().unwrap(), BufReader::new(stream))
    }

    fn tell(&self, stream: &mut UnixStream) {
        let mut line = serde_json::to_vec(&self.state).unwrap();
        line.push(b'\n');
        stream.write_all(&line).unwrap();
    }
}

async fn order(reader: BufReader<UnixStream>) -> (Order, BufReader<UnixStream>) {
    let read = tokio::task::spawn_blocking(move || {
        let (mut reader, mut line) = (reader, String::new());
        reader.read_line(&mut line).unwrap();
        (serde_json::from_str(&line).unwrap(), reader)
    });
    soon("an order", read).await.unwrap()
}

#[tokio::test]
async fn grants_go_to_the_shim_and_restarts_to_the_operator() {
    let world = World::new().await;
    let (path, mut shim) = Shim::new(&world);
    let grant = v1::RestartGrant { epoch: 2, count: 3, window_ms: 30_000, ..Default::default() };
    let wrapped = v1::SidecarConfig { grant: Some(grant), ..config() };
    world.operator.configure(INSTANCE, Message::Sidecar(wrapped.clone()));
    let options = [("KONTROL_SHIM_SOCKET", path.to_str().unwrap())];
    let mut sidecar = world.pod(INSTANCE, &token(&world, "1"), &options).await;
    let (mut stream, reader) = shim.accept().await;
    let (first, reader) = order(reader).await;
    assert_eq!(first, Order::Give { epoch: 2, count: 3, window_ms: 30_000, only_failures: false });

    // A process that serves, and ends.
    let mut calls = v1::calls_client::CallsClient::new(sidecar.channel().await);
    let (up, stream_up) = tokio::sync::mpsc::channel(4);
    let open = v1::serve_request::Action::Open(v1::serve_request::Open { concurrency: 1 });
    up.send(v1::ServeRequest { action: Some(open) }).await.unwrap();
    let served = calls.serve(tokio_stream::wrappers::ReceiverStream::new(stream_up)).await.unwrap();
    let mut served = served.into_inner();
    let end = Ended { code: None, signal: Some(11), at_micros: 5, left: 1, denied: None };
    shim.state = State {
        pid: 0,
        restarts: 1,
        last_end: Some(end.clone()),
        epoch: Some(2),
        spent: 1,
        open: true,
        ..shim.state
    };
    shim.tell(&mut stream);
    let gone = soon("the dead process's stream ends", async {
        loop {
            match served.message().await {
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return true,
            }
        }
    });
    assert!(gone.await);
    shim.state.pid = 8;
    shim.tell(&mut stream);
    let signals = world.operator.signals(INSTANCE, |signals| signals.widget_pid == 8).await;
    let last = signals.last_end.unwrap();
    assert_eq!(
        (signals.restarts, last.how, last.restarted),
        (1, Some(v1::widget_end::How::Signal(11)), true)
    );
    assert_eq!(signals.purse, Some(v1::Purse { epoch: 2, spent: 1, open: true }));
    assert_eq!(signals.incarnation, 3, "a restart in place is no new incarnation");

    // The sidecar is another one; the shim is the same.
    sidecar.kill();
    let _sidecar = world.pod(INSTANCE, &token(&world, "2"), &options).await;
    let (mut stream, again) = shim.accept().await;
    let (repeated, again) = order(again).await;
    assert_eq!(repeated, first);
    world.operator.signals(INSTANCE, |signals| signals.restarts == 1 && signals.widget_pid == 8).await;

    let revoked = v1::RestartGrant { epoch: 2, revoked: true, ..Default::default() };
    let next = v1::SidecarConfig { version: 2, grant: Some(revoked), ..wrapped };
    world.operator.configure(INSTANCE, Message::Sidecar(next));
    assert_eq!(order(again).await.0, Order::Revoke { epoch: 2 });
    shim.state = State {
        pid: 0,
        last_end: Some(Ended { denied: Some(Why::Revoked), ..end }),
        open: false,
        ..shim.state
    };
    shim.tell(&mut stream);
    let signals = world.operator.signals(INSTANCE, |signals| signals.widget_pid == 0).await;
    let last = signals.last_end.unwrap();
    assert_eq!((signals.restarts, last.restarted, last.denied.as_str()), (1, false, "revoked"));
    drop(reader);
}

#[tokio::test]
async fn a_sidecar_speaks_to_the_hub_of_its_bus_and_to_no_other() {
    let world = World::new().await;
    let (bus, other) = ("default/hub/main", "default/rag/other/0");
    let hub = world.hub_of(bus, vec![topic("orders", &["workers"])], "127.0.0.1:0").await;
    assert_eq!(hub.hello.subject, bus);
    let told = |subject: &str| v1::SidecarConfig {
        hub: hub.hello.peer.clone(),
        hub_subject: subject.to_owned(),
        produces: vec!["orders".into()],
        topics: vec![topic("orders", &["workers"])],
        ..config()
    };
    world.operator.configure(INSTANCE, Message::Sidecar(told(bus)));
    world.operator.configure(other, Message::Sidecar(told("default/hub/another")));
    let path = token(&world, "1");
    let (right, wrong) = (world.pod(INSTANCE, &path, &[]).await, world.pod(other, &path, &[]).await);
    let metric = async |process: &support::Process, line: &str| {
        let page = get(&format!("http://{}/metrics", process.hello.admin)).await.body;
        page.lines().any(|found| found == line).then_some(())
    };
    eventually("the hub is connected", || metric(&right, "kontrol_hub_connected 1")).await;
    let refused = r#"kontrol_link_refusals_total{reason="foreign_certificate"} 0"#;
    eventually("the hub of another bus is refused", || async {
        let none = metric(&wrong, refused).await;
        let page = get(&format!("http://{}/metrics", wrong.hello.admin)).await.body;
        (none.is_none() && page.contains("kontrol_link_refusals_total")).then_some(())
    })
    .await;
    assert!(metric(&wrong, "kontrol_hub_connected 0").await.is_some());
}

#[tokio::test]
#[allow(clippy::disallowed_methods, reason = "tests measure")]
async fn a_sidecar_is_ready_soon_after_it_is_started() {
    let world = World::new().await;
    world.operator.configure(INSTANCE, Message::Sidecar(config()));
    let path = token(&world, "1");
    let mut times = Vec::new();
    for _ in 0..10 {
        let before = Instant::now();
        let mut sidecar = world.pod(INSTANCE, &path, &[]).await;
        let page = format!("http://{}/readyz", sidecar.hello.admin);
        eventually("ready", || async { (get(&page).await.status == 200).then_some(()) }).await;
        times.push(before.elapsed());
        sidecar.kill();
        fs::remove_dir_all(world.path().join(INSTANCE.replace('/', "."))).unwrap();
    }
    times.sort();
    println!("start to ready, with certificate and configuration: p50 {:?}, max {:?}", times[5], times[9]);
    assert!(times[5] < Duration::from_secs(2), "{times:?}");
}

#[tokio::test]
async fn a_sidecar_that_comes_back_while_the_operator_is_away_serves_on_what_it_kept() {
    let mut world = World::new().await;
    world.operator.configure(INSTANCE, Message::Sidecar(config()));
    let path = token(&world, "1");
    let admin = ("KONTROL_ADMIN", "127.0.0.1:0");
    let mut sidecar = world.pod(INSTANCE, &path, &[admin]).await;
    world.operator.applied(INSTANCE, 1).await;
    sidecar.kill();
    world.operator.stop();
    let alone = world.sidecar_alone(INSTANCE);
    let channel = eventually("the door is open", || alone.try_channel()).await;
    let state = WidgetClient::new(channel).state(v1::StateRequest {}).await.unwrap().into_inner();
    assert_eq!((state.config_version, state.incarnation), (1, 3));
}
