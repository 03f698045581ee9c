//! Whole worlds that share one lease: who acts, who is found by sidecars, and what a late renewal costs.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use kontrol_e2e_apiserver::{ApiServer, Call, Fault, Session, fault};
use kontrol_operator::kubernetes::{Options, World, metrics::Metrics};
use serde_json::{Value, json};
use tokio::{net::TcpStream, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

pub(crate) const LEASES: &str = "leases.coordination.k8s.io";
pub(crate) const NAMESPACE: &str = "kontrol-system";
/// Longer than anything here takes, on a machine that is busy.
const PATIENCE: Duration = Duration::from_mins(1);

/// One replica of the operator.
pub(crate) struct Replica {
    pub(crate) session: Session,
    pub(crate) metrics: Arc<Metrics>,
    control: String,
    pub(crate) stop: CancellationToken,
    pub(crate) task: JoinSet<()>,
}

/// An address that stays free until it is used: no connection of another test is made from this loopback address.
fn free() -> SocketAddr {
    static COUNT: AtomicU8 = AtomicU8::new(2);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let own = Ipv4Addr::new(127, high, low, COUNT.fetch_add(1, Ordering::Relaxed));
    TcpListener::bind((own, 0)).unwrap().local_addr().unwrap()
}

impl Replica {
    pub(crate) fn start(server: &ApiServer, name: &str) -> Self {
        drop(tracing_subscriber::fmt().with_ansi(false).try_init());
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"containers": [{"name": "operator", "image": "kontrol-operator", "ports": []}]},
        });
        server.put(pod).unwrap();
        let control = free().to_string();
        let options = Options {
            pod_name: name.to_owned(),
            control: control.clone(),
            admin: "127.0.0.1:0".to_owned(),
            ..Options::default()
        };
        let session = server.session("system:serviceaccount:kontrol-system:kontrol-operator");
        let own = session.clone();
        let world = World::new(session.client(), options).elected_by(move || Ok(own.client()));
        let (metrics, stop) = (world.metrics(), CancellationToken::new());
        let asked = stop.clone();
        let mut task = JoinSet::new();
        task.spawn(async move { world.run(asked).await.unwrap() });
        Self { session, metrics, control, stop, task }
    }

    pub(crate) fn acts(&self) -> bool {
        self.metrics.leader.get() == 1
    }

    pub(crate) async fn until(&self, what: &str, so: impl Fn(&Self) -> bool) {
        #[allow(clippy::disallowed_methods, reason = "a test's deadline")]
        let end = Instant::now() + PATIENCE;
        while !so(self) {
            #[allow(clippy::disallowed_methods, reason = "a test's deadline")]
            let now = Instant::now();
            let calls = self.lease_calls();
            let last = calls.get(calls.len().saturating_sub(6)..).unwrap_or_default();
            assert!(now < end, "{what}; acts: {}, last calls: {last:?}", self.acts());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn is_reached(&self) -> bool {
        TcpStream::connect(&self.control).await.is_ok()
    }

    fn lease_calls(&self) -> Vec<String> {
        self.session.calls().iter().filter(|call| call.resource == LEASES).map(Call::line).collect()
    }
}

pub(crate) fn labelled(server: &ApiServer, name: &str) -> bool {
    let pod = server.get("pods", NAMESPACE, name).unwrap_or_default();
    pod["metadata"]["labels"]["kontrol.dev/leader"] == "true"
}

fn holder(server: &ApiServer) -> Value {
    server.get(LEASES, NAMESPACE, "kontrol-operator").unwrap_or_default()["spec"]["holderIdentity"].clone()
}

/// How often a pod was given the label, or had it taken.
fn labellings(server: &ApiServer, name: &str) -> usize {
    let of = |object: &Option<Arc<Value>>| {
        object.as_ref().map(|object| object["metadata"]["labels"]["kontrol.dev/leader"].clone())
    };
    let changes = server.changes(0);
    changes
        .iter()
        .filter(|change| change.resource == "pods" && change.name == name && change.before.is_some())
        .filter(|change| of(&change.before) != of(&change.after))
        .count()
}

fn no_lease_answers(session: &Session) {
    session.set_faults(Arc::new(|call| (call.resource == LEASES).then_some(Fault::ErrorBefore)));
}

#[tokio::test]
async fn a_lapse_stops_acting_and_keeps_port_and_label() {
    let server = ApiServer::new();
    let leader = Replica::start(&server, "operator-a");
    leader.until("it leads", |leader| leader.acts() && labelled(&server, "operator-a")).await;
    no_lease_answers(&leader.session);
    leader.until("acting stops", |leader| !leader.acts()).await;
    // A busy machine may have made it lapse before.
    assert!(leader.metrics.lapses.get() >= 1);
    assert!(labelled(&server, "operator-a") && leader.is_reached().await);
    leader.session.set_faults(fault::none());
    leader.until("acting goes on", Replica::acts).await;
    assert!(leader.is_reached().await);
    assert_eq!(labellings(&server, "operator-a"), 1);
    leader.stop.cancel();
    leader.task.join_all().await;
    assert!(!labelled(&server, "operator-a"));
    assert_eq!(holder(&server), "");
}

#[tokio::test]
async fn another_holder_that_is_seen_takes_port_and_label() {
    let server = ApiServer::new();
    let leader = Replica::start(&server, "operator-a");
    leader.until("it leads", |leader| leader.acts() && labelled(&server, "operator-a")).await;
    server.edit(LEASES, NAMESPACE, "kontrol-operator", |lease| lease["spec"]["holderIdentity"] = "b".into());
    leader.until("it no longer leads", |leader| !leader.acts() && !labelled(&server, "operator-a")).await;
    assert!(!leader.is_reached().await);
}

#[tokio::test]
async fn who_dies_is_followed_within_its_lease_and_loses_the_label() {
    let server = ApiServer::new();
    let first = Replica::start(&server, "operator-a");
    first.until("it leads", |first| first.acts() && labelled(&server, "operator-a")).await;
    let second = Replica::start(&server, "operator-b");
    second.until("it watches", |second| second.session.watching() > 10).await;
    let renewals = first.lease_calls().len();
    first.until("it has just renewed", |first| first.lease_calls().len() > renewals).await;
    first.session.cut();
    let began = kontrol_operator::clock::instant();
    second.until("it leads", |second| second.acts() && labelled(&server, "operator-b")).await;
    let took = began.elapsed();
    second.until("the label is taken from the one before", |_| !labelled(&server, "operator-a")).await;
    println!("followed after {} ms", took.as_millis());
    assert!(took < Duration::from_secs(20), "{took:?}");
}

#[tokio::test]
async fn who_is_told_to_end_hands_over_at_once() {
    let server = ApiServer::new();
    let first = Replica::start(&server, "operator-a");
    first.until("it leads", |first| first.acts() && labelled(&server, "operator-a")).await;
    let second = Replica::start(&server, "operator-b");
    second.until("it watches", |second| second.session.watching() > 10).await;
    first.stop.cancel();
    second.until("it leads", |second| second.acts() && labelled(&server, "operator-b")).await;
    first.task.join_all().await;
    assert!(!labelled(&server, "operator-a") && labelled(&server, "operator-b"));
}

#[tokio::test]
async fn a_leader_whose_label_somebody_took_sets_it_again() {
    let server = ApiServer::new();
    let leader = Replica::start(&server, "operator-a");
    leader.until("it leads", |leader| leader.acts() && labelled(&server, "operator-a")).await;
    // As a request of one that led before does, when it comes late.
    server.edit("pods", NAMESPACE, "operator-a", |pod| {
        pod["metadata"]["labels"].as_object_mut().unwrap().remove("kontrol.dev/leader");
    });
    assert!(!labelled(&server, "operator-a"));
    leader.until("it can be found", |_| labelled(&server, "operator-a")).await;
}

#[tokio::test]
async fn what_is_under_way_when_another_takes_the_lease_is_given_up() {
    let server = ApiServer::new();
    let leader = Replica::start(&server, "operator-a");
    leader.until("it leads", |leader| leader.acts() && labelled(&server, "operator-a")).await;
    let trust = "configmaps";
    leader
        .session
        .set_faults(Arc::new(move |call| (call.resource == trust).then_some(Fault::Slow(PATIENCE))));
    let spec = json!({"container": {"image": "example/widget:1", "command": ["run"]}});
    let metadata = json!({"name": "w", "namespace": "default"});
    let widget =
        json!({"apiVersion": "kontrol.dev/v1alpha1", "kind": "Widget", "metadata": metadata, "spec": spec});
    server.put(widget).unwrap();
    leader
        .until("it writes", |leader| leader.session.calls().iter().any(|call| call.resource == trust))
        .await;
    server.edit(LEASES, NAMESPACE, "kontrol-operator", |lease| lease["spec"]["holderIdentity"] = "b".into());
    let given_up = |leader: &Replica| leader.metrics.failures.with_label_values(&["apply", "failed"]).get();
    leader.until("it is given up", |leader| !leader.acts() && given_up(leader) > 0).await;
    assert!(server.get(trust, "default", "kontrol-trust").is_none());
}
