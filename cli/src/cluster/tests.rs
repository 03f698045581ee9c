//! Against an API server within the process, with what an operator has written there.

use kontrol_core::spec::Node;
use kontrol_e2e_apiserver::{ApiServer, Clock};
use kontrol_operator::view::Statuses as _;
use kontrol_plan::{Action, Instance, InstanceState, Observed, plan};
use serde_json::{Value, json};

use super::*;
use crate::args::Rollout;

const PATIENCE: Duration = Duration::from_secs(10);

/// A group whose operator has started everything, and one whose replicas scaling decides.
struct Cluster {
    server: ApiServer,
    now: Timestamp,
}

fn group(name: &str, widgets: &Value) -> Value {
    json!({
        "apiVersion": "kontrol.dev/v1alpha1", "kind": "WidgetGroup",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"strategy": "RestForOne", "widgets": widgets},
    })
}

fn rag() -> Value {
    json!([
        {"name": "store", "container": {"image": "store:1"}},
        {"name": "llm", "replicas": 2, "container": {"image": "llm:2"}, "endpoint": {}},
    ])
}

impl Cluster {
    fn new() -> Self {
        let server = ApiServer::new();
        drop(server.put(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})));
        let cluster = Self { now: Timestamp::from_micros(1_795_000_000_000_000), server };
        cluster.put(group("rag", &rag()));
        cluster.operate("rag");
        cluster
    }

    fn put(&self, object: Value) -> Value {
        self.server.put(object).unwrap()
    }

    /// What the operator does: it stamps out widgets, starts them, and writes what it has decided.
    fn operate(&self, name: &str) {
        let stored = self.server.get("widgetgroups.kontrol.dev", "shop", name).unwrap();
        let object: kontrol_crds::WidgetGroup = serde_json::from_value(stored.clone()).unwrap();
        let group = kontrol_crds::convert::group(&object, kontrol_crds::convert::Runtime::Cluster).unwrap();
        let templates = stored["spec"]["widgets"].as_array().unwrap();
        for template in templates {
            let mut spec = template.clone();
            spec.as_object_mut().unwrap().remove("name");
            let replicas = template["replicas"].as_u64().unwrap_or(1).to_string();
            self.put(json!({
                "apiVersion": "kontrol.dev/v1alpha1", "kind": "Widget",
                "metadata": {
                    "name": format!("{name}-{}", template["name"].as_str().unwrap()), "namespace": "shop",
                    "annotations": {"kontrol.dev/template-replicas": replicas},
                    "ownerReferences": [{
                        "apiVersion": "kontrol.dev/v1alpha1", "kind": "WidgetGroup", "name": name,
                        "uid": stored["metadata"]["uid"], "controller": true,
                    }],
                },
                "spec": spec,
            }));
        }
        let root = Node::Group(group);
        let mut observed = Observed::default();
        loop {
            let decided = plan(Some(&root), &observed, self.now);
            let still = decided.actions.is_empty() && decided.status == observed.status;
            observed.status = decided.status;
            if still {
                break;
            }
            for action in decided.actions {
                let Action::Start { instance, incarnation, epoch, revision, .. } = action else { continue };
                let (widget, ordinal) = (instance.widget.clone(), instance.ordinal);
                let running =
                    Instance::new(instance, (incarnation, epoch, revision), InstanceState::Ready, self.now);
                observed.instances.push(running);
                self.pod(&widget, ordinal, incarnation);
            }
        }
        let text = serde_json::to_string(&observed.status).unwrap();
        self.server.edit("widgetgroups.kontrol.dev", "shop", name, |object| {
            object["status"]["supervision"] = json!({"plan": text});
        });
    }

    fn pod(&self, widget: &kontrol_core::id::WidgetId, ordinal: u32, incarnation: u64) {
        let owner = format!("{}-{}", widget.group, widget.widget);
        let uid = self.stored("widgets", &owner)["metadata"]["uid"].clone();
        let name = format!("{owner}-{ordinal}-{incarnation}");
        self.put(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": name, "namespace": "shop",
                "ownerReferences": [{
                    "apiVersion": "kontrol.dev/v1alpha1", "kind": "Widget", "name": owner, "uid": uid,
                    "controller": true,
                }],
                "labels": {
                    "kontrol.dev/group": widget.group.to_string(), "kontrol.dev/widget": widget.widget.to_string(),
                    "kontrol.dev/ordinal": ordinal.to_string(), "kontrol.dev/incarnation": incarnation.to_string(),
                    "kontrol.dev/epoch": "0",
                },
            },
            "spec": {"nodeName": "a", "containers": [{"name": "widget", "image": "x"}]},
        }));
        self.server.edit("pods", "shop", &name, |pod| {
            pod["status"] = json!({
                "phase": "Running", "podIP": "10.0.0.7",
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-18T11:06:40Z"}],
                "containerStatuses": [{"name": "widget", "ready": true, "state": {"running": {"startedAt": "2026-11-18T11:06:40Z"}}}],
            });
        });
    }

    fn access(&self) -> Access {
        Access::new(self.server.client(), Some("shop".to_owned()), PATIENCE)
    }

    async fn known(&self) -> Known {
        Known::fetch(&self.access(), self.now).await.unwrap()
    }

    fn stored(&self, resource: &str, name: &str) -> Value {
        self.server.get(&format!("{resource}.kontrol.dev"), "shop", name).unwrap()
    }
}

#[tokio::test]
async fn the_tree_reads_as_it_does_on_a_laptop() {
    let cluster = Cluster::new();
    let tree = cluster.known().await.tree(cluster.now);
    assert!(tree.ready);
    assert_eq!(
        render::tree(&tree),
        "shop/rag  group   RestForOne  0 of 3 restarts in 30s  Ready\n\
         ├─ store  1 of 1              on a\n\
         └─ llm    2 of 2              on a  http://10.0.0.7:8080  http://10.0.0.7:8080\n"
    );
    let replica = &tree.roots[0].widgets[1].replicas[1];
    assert_eq!((replica.pod.as_str(), replica.in_flight), ("rag-llm-1-1", None), "loads are not known here");
}

#[tokio::test]
async fn why_says_what_a_pod_waits_for() {
    let cluster = Cluster::new();
    cluster.server.edit("pods", "shop", "rag-llm-0-1", |pod| {
        pod["status"]["containerStatuses"] = json!([{"name": "widget", "state": {
            "waiting": {"reason": "ImagePullBackOff", "message": "no such image"},
        }}]);
    });
    let known = cluster.known().await;
    let named = known.one(&cluster.access(), "rag/llm").unwrap();
    let answer = view::why(&known, &named, cluster.now);
    assert_eq!(answer.lines[0], "2 replicas: as its manifest says (spec.replicas)");
    let replica = answer.lines.iter().find(|line| line.starts_with("replica 0:")).unwrap();
    assert!(replica.ends_with("incarnation 1, epoch 0, on a: ImagePullBackOff: no such image"), "{replica}");
}

#[tokio::test]
async fn why_of_a_caller_names_whom_it_does_not_call() {
    let cluster = Cluster::new();
    let breaker = json!({"instance": "shop/rag/store/0", "reason": "5 failures in a row"});
    cluster.server.edit("widgets.kontrol.dev", "shop", "rag-llm", |widget| {
        let instance = |ordinal: u32| json!({
            "ordinal": ordinal, "name": format!("rag-llm-{ordinal}-1"), "state": "Ready", "incarnation": 1, "revision": "1",
        });
        widget["status"]["instances"] = json!([instance(0), instance(1)]);
        widget["status"]["instances"][1]["breakers"] = json!([breaker]);
    });
    let known = cluster.known().await;
    let named = known.one(&cluster.access(), "rag/llm").unwrap();
    let answer = view::why(&known, &named, cluster.now);
    let held: Vec<&String> = answer.lines.iter().filter(|line| line.contains("held back")).collect();
    assert_eq!(
        held,
        [
            "replica 1: its calls to rag/store/0 are held back, since its circuit breaker is open: 5 failures in a row"
        ]
    );
}

#[tokio::test]
async fn names_are_those_of_manifests_of_objects_and_of_pods() {
    let cluster = Cluster::new();
    let (known, access) = (cluster.known().await, cluster.access());
    for name in ["llm", "rag/llm", "shop/rag/llm", "rag-llm", "rag-llm-1", "rag-llm-1-1", "rag/llm-1"] {
        let named = known.one(&access, name).unwrap();
        assert_eq!(named.describe(), "widget shop/rag/llm", "{name}");
    }
    let refused = known.one(&access, "rag/lml").unwrap_err().text;
    assert!(refused.contains("in namespace shop; did you mean shop/rag/llm?"), "{refused}");
    let object = known.one(&access, "rag").unwrap();
    assert_eq!(object.describe(), "group shop/rag");
}

#[tokio::test]
async fn a_restart_is_asked_of_the_object_that_is_named() {
    let cluster = Cluster::new();
    let (known, access) = (cluster.known().await, cluster.access());
    for (name, resource, object) in [("rag", "widgetgroups", "rag"), ("rag/llm", "widgets", "rag-llm")] {
        let named = known.one(&access, name).unwrap();
        change::restart(&access, &known, &named, cluster.now).await.unwrap();
        let asked = cluster.stored(resource, object);
        assert_eq!(
            asked["metadata"]["annotations"]["kontrol.dev/restart-requested-at"],
            "2026-11-18T11:06:40.000000Z",
            "{name}"
        );
    }
}

#[tokio::test]
async fn replicas_are_set_where_no_scaling_decides_them() {
    let cluster = Cluster::new();
    let scaling = json!({"min": 0, "max": 3, "target": {"inFlight": 2}});
    cluster.put(group("auto", &json!([{"name": "a", "container": {"image": "a"}, "scaling": scaling}])));
    cluster.operate("auto");
    let (known, access) = (cluster.known().await, cluster.access());
    let (widget, before) = change::scale(&access, &known, "rag-llm", 5).await.unwrap();
    assert_eq!((widget.to_string().as_str(), before), ("shop/rag/llm", 2));
    assert_eq!(cluster.stored("widgets", "rag-llm")["spec"]["replicas"], 5);
    let known = cluster.known().await;
    let llm = "shop/rag/llm".parse().unwrap();
    assert_eq!(known.scaled(&llm).map(|scaled| scaled.manifest), Some(2));
    let refused = change::scale(&access, &known, "auto/a", 2).await.unwrap_err().text;
    assert!(refused.contains("decided by its scaling (class Kontrol)"), "{refused}");
    let refused = change::scale(&access, &known, "rag", 2).await.unwrap_err().text;
    assert!(refused.contains("scale one of its widgets: shop/rag/store, shop/rag/llm"), "{refused}");
}

#[tokio::test]
async fn a_right_that_is_missing_is_named() {
    let cluster = Cluster::new();
    cluster.server.deny("jane", "list", "pods");
    let access = Access::new(cluster.server.session("jane").client(), Some("shop".to_owned()), PATIENCE);
    let refused = look(&access).await.err().unwrap();
    assert_eq!(refused.outcome, Outcome::Failed);
    assert!(refused.text.starts_with("you may not list pods in namespace shop: ask for a Role"), "{refused}");
}

#[tokio::test]
async fn a_cluster_without_kontrol_is_told_apart_from_an_empty_one() {
    let bare = ApiServer::bare(Clock::from(jiff::Timestamp::UNIX_EPOCH));
    let access = Access::new(bare.client(), Some("default".to_owned()), PATIENCE);
    let refused = look(&access).await.err().unwrap();
    assert!(refused.text.contains("Kontrol is not installed there"), "{refused}");
    let access = Access::new(ApiServer::new().client(), Some("default".to_owned()), PATIENCE);
    assert!(look(&access).await.unwrap().tree(Timestamp::ZERO).roots.is_empty());
}

#[tokio::test]
async fn a_bad_object_is_told_of_and_the_others_are_shown() {
    let cluster = Cluster::new();
    cluster.put(group("odd", &json!([{"name": "a", "container": {"image": "a"}}])));
    cluster.server.edit("widgetgroups.kontrol.dev", "shop", "odd", |object| {
        object["spec"]["widgets"][0]["calls"] = json!([{"target": "not a name"}]);
    });
    let known = cluster.known().await;
    let tree = known.tree(cluster.now);
    assert_eq!(tree.roots.len(), 1);
    let notes = known.notes(&cluster.access(), &tree);
    assert!(notes[0].starts_with("! WidgetGroup shop/odd: "), "{notes:?}");
}

#[tokio::test]
async fn a_roll_out_is_halted_and_undone_in_the_template_of_its_group() {
    let cluster = Cluster::new();
    let access = cluster.access();
    for (number, image) in [(1, "llm:1"), (2, "llm:2")] {
        cluster.put(json!({
            "apiVersion": "apps/v1", "kind": "ControllerRevision",
            "metadata": {
                "name": format!("rag-llm-{number}"), "namespace": "shop",
                "labels": {"kontrol.dev/widget-object": "rag-llm"},
            },
            "revision": number,
            "data": {"container": {"image": image}, "endpoint": {}},
        }));
    }
    let run = async |rollout| rollout::run(&access, rollout).await;
    run(Rollout::Pause { name: "rag/llm".into() }).await.unwrap();
    assert_eq!(cluster.stored("widgetgroups", "rag")["spec"]["widgets"][1]["rollout"]["paused"], true);
    run(Rollout::Resume { name: "rag/llm".into() }).await.unwrap();
    run(Rollout::Undo { name: "rag/llm".into(), to_revision: 0 }).await.unwrap();
    let template = &cluster.stored("widgetgroups", "rag")["spec"]["widgets"][1];
    assert_eq!((&template["container"]["image"], &template["replicas"]), (&json!("llm:1"), &json!(2)));
    let refused = run(Rollout::Undo { name: "rag/llm".into(), to_revision: 7 }).await.unwrap_err();
    assert!(
        refused.text.contains("there is no revision 7") && refused.text.ends_with("there are 1, 2"),
        "{refused}"
    );
    let refused = run(Rollout::Undo { name: "rag".into(), to_revision: 0 }).await.unwrap_err();
    assert!(refused.text.contains("name one of its widgets"), "{refused}");
}

#[tokio::test]
async fn logs_of_a_widget_are_those_of_all_its_pods_in_their_order() {
    let cluster = Cluster::new();
    let log = |pod: &str, text: &str| cluster.server.set_log("shop", pod, "widget", text);
    log("rag-llm-0-1", "2026-11-21T20:00:00Z one\n2026-11-21T20:00:02Z three\n");
    log("rag-llm-1-1", "2026-11-21T20:00:01Z two\n");
    log("rag-store-0-1", "2026-11-21T20:00:00Z other\n");
    let read = async |name: &str| {
        let wanted = logs::Wanted { name: Some(name.to_owned()), follow: false, tail: 10, sidecars: false };
        let mut lines = Vec::new();
        let mut take = |line: v1::LogLine| {
            lines.push(format!("{} {}", line.source, line.text));
            true
        };
        logs::show(&cluster.access(), &wanted, &mut take).await.unwrap();
        lines
    };
    assert_eq!(read("rag/llm").await, ["shop/rag/llm-0 one", "shop/rag/llm-1 two", "shop/rag/llm-0 three"]);
    assert_eq!(read("rag/llm-1").await, ["shop/rag/llm-1 two"]);
    assert_eq!(read("rag-llm-1-1").await, ["shop/rag/llm-1 two"]);
}
