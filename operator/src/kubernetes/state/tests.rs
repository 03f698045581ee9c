//! Facts about the state, against a cluster of a few lines that does what it is asked and says so.

#![allow(clippy::needless_pass_by_value, reason = "tests write their objects where they use them")]

mod beside;
mod blind;
mod breakers;
mod denied;
mod evicted;
mod hubs;
mod inherited;
mod kept;
mod lost;
mod references;
mod removal;
mod reports;
mod resting;
mod rollouts;
mod sessions;
mod strangers;
mod told;

use std::{collections::BTreeMap, time::Duration};

use kontrol_proto::v1;
use serde_json::{Value, json};

use super::*;
use crate::kubernetes::{request::Verb, sources};

/// An API server without rules.
struct Cluster {
    state: State,
    objects: BTreeMap<(Kind, String, String), Value>,
    version: u64,
    now: Timestamp,
    /// All that was asked, in order.
    asked: Vec<Request>,
    /// Answers that are given in the place of the next ones of a verb and kind.
    answers: Vec<(Verb, Kind, Outcome)>,
    /// All that was told on sessions, in order.
    told: Vec<Configuration>,
}

impl Cluster {
    /// One whose lists are complete and that is led.
    fn new() -> Self {
        let mut cluster = Self::unled();
        cluster.list_all();
        cluster.state.take(Input::Leads(true), cluster.now);
        cluster
    }

    fn unled() -> Self {
        let options = Arc::new(Options::default());
        let state = State::new(Arc::clone(&options), sources(&options));
        Self {
            state,
            objects: BTreeMap::new(),
            version: 10,
            now: Timestamp::from_micros(1_795_000_000_000_000),
            asked: Vec::new(),
            answers: Vec::new(),
            told: Vec::new(),
        }
    }

    fn list_all(&mut self) {
        for source in sources(&Options::default()) {
            let seen = Seen::Listed { version: self.version, keys: BTreeSet::new() };
            self.state.take(Input::Watch(source, seen), self.now);
        }
    }

    fn source(kind: Kind) -> Source {
        sources(&Options::default()).into_iter().find(|source| source.kind == kind).unwrap()
    }

    /// Writes an object, as a user does, and lets the watch say so.
    fn put(&mut self, kind: Kind, name: &str, fields: Value) {
        let key = (kind, "default".to_owned(), name.to_owned());
        let base = json!({"metadata": {"name": name, "namespace": "default", "uid": format!("u-{name}"), "generation": 1}});
        let mut object = self.objects.remove(&key).unwrap_or(base);
        merge(&mut object, &fields);
        self.keep(key, object);
    }

    fn keep(&mut self, key: (Kind, String, String), mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert(key.clone(), object.clone());
        if sources(&Options::default()).iter().any(|source| source.kind == key.0) {
            let seen = Seen::Is(object.to_string());
            self.state.take(Input::Watch(Self::source(key.0), seen), self.now);
        }
        object
    }

    fn remove(&mut self, kind: Kind, name: &str) {
        if let Some(mut object) = self.objects.remove(&(kind, "default".to_owned(), name.to_owned())) {
            self.version += 1;
            object["metadata"]["resourceVersion"] = json!(self.version.to_string());
            self.state.take(Input::Watch(Self::source(kind), Seen::Removed(object.to_string())), self.now);
        }
    }

    /// Does what is asked until nothing more is.
    fn run(&mut self) {
        for _ in 0..200 {
            let effects = self.state.step(self.now);
            if effects.is_empty() && self.state.settled(self.now) {
                return;
            }
            for effect in effects {
                match effect {
                    Effect::Ask(ticket, request) => {
                        self.asked.push(request.clone());
                        let outcome = self.answer(&request);
                        self.state.take(Input::Answer(ticket, outcome), self.now);
                    }
                    Effect::Tell(_, message) => self.told.push(message),
                    _ => {}
                }
            }
        }
        panic!("it never settles: {:?}", self.asked.last());
    }

    fn answer(&mut self, request: &Request) -> Outcome {
        let scripted =
            self.answers.iter().position(|(verb, kind, _)| *verb == request.verb && *kind == request.kind);
        if let Some(at) = scripted {
            return self.answers.remove(at).2;
        }
        let key = (request.kind, request.namespace.clone().unwrap_or_default(), request.name.clone());
        if request.verb == Verb::Delete {
            self.remove(request.kind, &request.name);
            return Outcome::Done(json!({"kind": "Status"}).to_string());
        }
        if request.verb == Verb::Get {
            let found = self.objects.get(&key).map(|object| Outcome::Done(object.to_string()));
            return found.unwrap_or_else(|| Outcome::Gone("there is none".to_owned()));
        }
        if request.verb == Verb::Create && self.objects.contains_key(&key) {
            return Outcome::Exists(format!("{} already exists", request.name));
        }
        let base = json!({"metadata": {"uid": format!("u-{}", request.name), "generation": 1}});
        let mut object = self.objects.remove(&key).unwrap_or(base);
        let written = request.body["metadata"]["resourceVersion"].as_str();
        if written.is_some_and(|version| object["metadata"]["resourceVersion"] != version) {
            self.objects.insert(key, object);
            return Outcome::Conflict("the object has been modified".to_owned());
        }
        let mut body = request.body.clone();
        if request.verb == Verb::Apply {
            // Conditions are told apart by their type; a merge patch would replace all of them.
            let others = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
            if let Some(applied) = body["status"].get_mut("conditions").and_then(Value::as_array_mut) {
                let of = |one: &Value| one["type"].clone();
                let kept = others.into_iter().filter(|other| applied.iter().all(|one| of(one) != of(other)));
                let kept: Vec<Value> = kept.collect();
                applied.extend(kept);
            }
        }
        merge(&mut object, &body);
        Outcome::Done(self.keep(key, object).to_string())
    }

    fn names(&self, kind: Kind) -> Vec<&str> {
        self.objects.keys().filter(|(known, ..)| *known == kind).map(|(.., name)| name.as_str()).collect()
    }

    fn asked_for(&self, verb: Verb, kind: Kind) -> Vec<&Request> {
        self.asked.iter().filter(|request| request.verb == verb && request.kind == kind).collect()
    }

    /// A pod runs and is ready.
    fn ready(&mut self, pod: &str) {
        let running = json!({"name": "widget", "state": {"running": {"startedAt": "2026-11-18T11:06:41Z"}}});
        self.put(Kind::Pod, pod, json!({
            "spec": {"nodeName": "node0"},
            "status": {
                "phase": "Running", "containerStatuses": [running],
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-18T11:06:41Z"}],
            },
        }));
    }

    /// The container of a pod has ended.
    fn end(&mut self, pod: &str, code: i32) {
        let ended = json!({"name": "widget", "state": {"terminated": {"exitCode": code, "finishedAt": "2026-11-18T11:06:42Z"}}});
        self.put(
            Kind::Pod,
            pod,
            json!({"status": {"phase": "Failed", "containerStatuses": [ended], "conditions": []}}),
        );
    }

    fn status(&self, kind: Kind, name: &str) -> &Value {
        &self.objects[&(kind, "default".to_owned(), name.to_owned())]["status"]
    }

    /// Lets time pass, and does what is to be done then.
    fn pass(&mut self, time: Duration) {
        let end = self.now.plus(time);
        while self.now < end {
            self.run();
            let wake = self.state.wake().filter(|wake| *wake > self.now);
            self.now = wake.into_iter().chain([end]).min().unwrap_or(end);
        }
        self.run();
    }

    fn condition(&self, kind: Kind, name: &str, condition: &str) -> Value {
        let object = &self.objects[&(kind, "default".to_owned(), name.to_owned())];
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.into_iter().find(|known| known["type"] == condition).unwrap_or_default()
    }
}

/// A merge patch.
fn merge(into: &mut Value, patch: &Value) {
    let (Value::Object(fields), Value::Object(changes)) = (&mut *into, patch) else {
        *into = patch.clone();
        return;
    };
    for (name, value) in changes {
        if value.is_null() {
            fields.remove(name);
        } else {
            merge(fields.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

fn container() -> Value {
    json!({"image": "example/llm:1", "command": ["llm"]})
}

fn lone() -> Cluster {
    let mut cluster = Cluster::new();
    cluster.put(Kind::Widget, "llm", json!({"spec": {"container": container()}}));
    cluster
}

/// Removes the Widget of [`lone`] and makes it again: what it owned is still there.
fn make_again(cluster: &mut Cluster) {
    cluster.remove(Kind::Widget, "llm");
    cluster.run();
    cluster.asked.clear();
    let again = json!({"spec": {"container": container()}, "metadata": {"uid": "u-2"}});
    cluster.put(Kind::Widget, "llm", again);
    cluster.run();
}

fn group(strategy: &str) -> Cluster {
    let mut cluster = Cluster::new();
    let widgets = json!([{"name": "a", "container": container()}, {"name": "b", "container": container()}]);
    cluster.put(Kind::WidgetGroup, "rag", json!({"spec": {"strategy": strategy, "widgets": widgets}}));
    cluster
}

#[test]
fn the_decision_is_written_before_the_pod_is_made_and_with_the_version_it_was_made_from() {
    let mut cluster = lone();
    cluster.run();
    let order: Vec<_> =
        cluster.asked.iter().map(|request| (request.verb, request.kind, request.manager)).collect();
    let at = |wanted| order.iter().position(|known| *known == wanted).unwrap();
    let template = at((Verb::Apply, Kind::ControllerRevision, "kontrol-rollout"));
    let decision = at((Verb::Merge, Kind::Widget, "kontrol-plan"));
    let pod = at((Verb::Create, Kind::Pod, "kontrol-reconciler"));
    assert!(template < decision && decision < pod, "{order:?}");
    assert!(cluster.asked[decision].body["metadata"]["resourceVersion"].is_string());
    assert_eq!(cluster.names(Kind::Pod), ["llm-0-1"]);
}

#[test]
fn what_stands_as_it_should_is_written_no_more() {
    let mut cluster = lone();
    cluster.run();
    cluster.ready("llm-0-1");
    cluster.run();
    assert_eq!(cluster.condition(Kind::Widget, "llm", "Ready")["status"], "True");
    cluster.asked.clear();
    cluster.state.take(Input::Leads(false), cluster.now);
    cluster.state.take(Input::Leads(true), cluster.now);
    cluster.run();
    assert_eq!(cluster.asked, []);
}

#[test]
fn nothing_is_done_by_who_does_not_lead_or_has_not_seen_everything() {
    let mut cluster = Cluster::unled();
    cluster.put(Kind::Widget, "llm", json!({"spec": {"container": container()}}));
    cluster.state.take(Input::Leads(true), cluster.now);
    cluster.run_until_idle();
    assert_eq!(cluster.asked, []);
    let mut cluster = Cluster::unled();
    cluster.list_all();
    cluster.put(Kind::Widget, "llm", json!({"spec": {"container": container()}}));
    cluster.run_until_idle();
    assert_eq!(cluster.asked, []);
}

impl Cluster {
    /// Steps once, where nothing is expected to be asked.
    fn run_until_idle(&mut self) {
        for effect in self.state.step(self.now) {
            if let Effect::Ask(_, request) = effect {
                self.asked.push(request);
            }
        }
    }
}

#[test]
fn silence_of_the_api_server_ends_nothing() {
    let mut cluster = lone();
    cluster.run();
    cluster.ready("llm-0-1");
    cluster.run();
    cluster.asked.clear();
    let pods = Cluster::source(Kind::Pod);
    cluster.state.take(Input::Watch(pods.clone(), Seen::Broken("no route".into())), cluster.now);
    cluster.put(Kind::Widget, "llm", json!({"spec": {"replicas": 3}}));
    cluster.run_until_idle();
    assert_eq!(cluster.asked, []);
    cluster.state.take(Input::Watch(pods, Seen::Alive), cluster.now);
    cluster.run();
    assert_eq!(cluster.names(Kind::Pod), ["llm-0-1", "llm-1-1", "llm-2-1"]);
}

#[test]
fn a_conflict_makes_no_pod_and_is_decided_again() {
    let mut cluster = lone();
    cluster.answers.push((Verb::Merge, Kind::Widget, Outcome::Conflict("modified".into())));
    for effect in cluster.state.step(cluster.now) {
        let Effect::Ask(ticket, request) = effect else { continue };
        let outcome = cluster.answer(&request);
        cluster.state.take(Input::Answer(ticket, outcome), cluster.now);
    }
    assert!(cluster.names(Kind::Pod).is_empty());
    cluster.run();
    cluster.now = cluster.now.plus(Duration::from_mins(1));
    cluster.run();
    assert_eq!(cluster.names(Kind::Pod), ["llm-0-1"]);
}

#[test]
fn a_group_stamps_out_its_widgets_and_starts_them_in_order() {
    let mut cluster = group("OneForAll");
    cluster.run();
    assert_eq!(cluster.names(Kind::Widget), ["rag-a", "rag-b"]);
    assert_eq!(cluster.names(Kind::Pod), ["rag-a-0-1"]);
    cluster.ready("rag-a-0-1");
    cluster.run();
    assert_eq!(cluster.names(Kind::Pod), ["rag-a-0-1", "rag-b-0-1"]);
    let child = &cluster.objects[&(Kind::Widget, "default".into(), "rag-a".into())];
    assert_eq!(child["metadata"]["ownerReferences"][0]["kind"], "WidgetGroup");
    assert_eq!(child["spec"]["replicas"], 1);
}

#[test]
fn one_fault_is_one_restart_of_all_though_the_leader_changes_in_the_middle() {
    let mut cluster = group("OneForAll");
    cluster.run();
    cluster.ready("rag-a-0-1");
    cluster.run();
    cluster.ready("rag-b-0-1");
    cluster.run();
    cluster.end("rag-a-0-1", 3);
    // The decision is written, and its writer is gone before the first act.
    for effect in cluster.state.step(cluster.now) {
        let Effect::Ask(ticket, request) = effect else { continue };
        let outcome = cluster.answer(&request);
        cluster.state.take(Input::Answer(ticket, outcome), cluster.now);
    }
    cluster.state.take(Input::Leads(false), cluster.now);
    cluster.state.take(Input::Leads(true), cluster.now);
    cluster.run();
    assert_eq!(cluster.names(Kind::Pod), ["rag-a-0-2"]);
    cluster.ready("rag-a-0-2");
    cluster.run();
    assert_eq!(cluster.names(Kind::Pod), ["rag-a-0-2", "rag-b-0-2"]);
    let group = &cluster.objects[&(Kind::WidgetGroup, "default".into(), "rag".into())];
    assert_eq!(group["status"]["epoch"], 1);
}

#[test]
fn a_pod_that_somebody_deleted_is_followed_by_the_next_incarnation() {
    let mut cluster = lone();
    cluster.run();
    cluster.ready("llm-0-1");
    cluster.run();
    cluster.remove(Kind::Pod, "llm-0-1");
    cluster.run();
    assert_eq!(cluster.names(Kind::Pod), ["llm-0-2"]);
    let object = &cluster.objects[&(Kind::Widget, "default".into(), "llm".into())];
    assert_eq!(object["status"]["lastEnd"]["reason"], "Deleted");
}

#[test]
fn a_bad_object_says_so_and_stops_nobody() {
    let mut cluster = lone();
    cluster.put(
        Kind::Widget,
        "bad",
        json!({"spec": {"container": container(), "start": {"timeout": "soon"}}}),
    );
    cluster.run();
    assert_eq!(cluster.names(Kind::Pod), ["llm-0-1"]);
    let accepted = cluster.condition(Kind::Widget, "bad", "Accepted");
    assert_eq!((accepted["status"].as_str(), accepted["reason"].as_str()), (Some("False"), Some("Invalid")));
}

#[test]
fn a_spec_that_became_bad_leaves_what_runs_as_it_is() {
    let mut cluster = lone();
    cluster.run();
    cluster.ready("llm-0-1");
    cluster.run();
    cluster.put(
        Kind::Widget,
        "llm",
        json!({"spec": {"start": {"timeout": "soon"}}, "metadata": {"generation": 2}}),
    );
    cluster.run();
    assert_eq!(cluster.names(Kind::Pod), ["llm-0-1"]);
    assert_eq!(cluster.condition(Kind::Widget, "llm", "Accepted")["status"], "False");
    // It is supervised by the last spec that could be read.
    cluster.end("llm-0-1", 1);
    cluster.run();
    assert_eq!(cluster.names(Kind::Pod), ["llm-0-2"]);
}

#[test]
fn a_widget_of_somebody_else_is_not_touched() {
    let mut cluster = Cluster::new();
    let theirs = json!({"metadata": {"uid": "theirs"}, "spec": {"container": container(), "replicas": 0}});
    cluster.put(Kind::Widget, "rag-a", theirs);
    cluster.run();
    cluster.asked.clear();
    let widgets = json!([{"name": "a", "container": container()}]);
    cluster.put(Kind::WidgetGroup, "rag", json!({"spec": {"widgets": widgets}}));
    cluster.run();
    assert_eq!(cluster.condition(Kind::WidgetGroup, "rag", "Accepted")["reason"], "NameCollision");
    let touched = cluster.asked.iter().filter(|request| request.kind == Kind::Widget);
    assert_eq!(touched.count(), 0);
    assert!(cluster.asked_for(Verb::Create, Kind::Pod).is_empty());
}

#[test]
fn what_the_api_server_refuses_for_good_is_an_end_with_its_words() {
    let mut cluster = lone();
    let refused = Outcome::Invalid("spec.containers[0].image: Required value".into());
    cluster.answers.push((Verb::Create, Kind::Pod, refused));
    cluster.run();
    // A root whose first start failed pauses before it is started again.
    assert!(cluster.names(Kind::Pod).is_empty());
    cluster.now = cluster.now.plus(Duration::from_secs(11));
    cluster.run();
    assert_eq!(cluster.names(Kind::Pod), ["llm-0-2"]);
    let object = &cluster.objects[&(Kind::Widget, "default".into(), "llm".into())];
    assert_eq!(object["status"]["lastEnd"]["reason"], "NotStarted");
    assert!(object["status"]["lastEnd"]["message"].as_str().unwrap().contains("Required value"));
}

#[test]
fn a_busy_api_server_is_given_the_time_that_it_asks_for() {
    let mut cluster = lone();
    cluster.answers.push((Verb::Create, Kind::Pod, Outcome::Busy(Duration::from_secs(7))));
    cluster.run();
    assert!(cluster.names(Kind::Pod).is_empty());
    cluster.now = cluster.now.plus(Duration::from_secs(6));
    cluster.run();
    assert!(cluster.names(Kind::Pod).is_empty());
    cluster.now = cluster.now.plus(Duration::from_secs(1));
    cluster.run();
    assert_eq!(cluster.names(Kind::Pod), ["llm-0-1"]);
}

#[test]
fn a_group_that_is_removed_stops_its_widgets_in_reverse_and_then_goes() {
    let mut cluster = group("OneForOne");
    cluster.run();
    cluster.ready("rag-a-0-1");
    cluster.run();
    cluster.ready("rag-b-0-1");
    cluster.run();
    cluster.asked.clear();
    let deleting = json!({"metadata": {"deletionTimestamp": "2026-11-18T11:07:00Z"}});
    cluster.put(Kind::WidgetGroup, "rag", deleting);
    cluster.run();
    let stops: Vec<&str> =
        cluster.asked_for(Verb::Delete, Kind::Pod).iter().map(|request| request.name.as_str()).collect();
    assert_eq!(stops, ["rag-b-0-1", "rag-a-0-1"]);
    let last = cluster.asked.last().unwrap();
    assert_eq!((last.kind, &last.body["metadata"]["finalizers"]), (Kind::WidgetGroup, &json!([])));
}

#[test]
fn every_removal_names_the_object_that_was_seen() {
    let mut cluster = lone();
    cluster.run();
    cluster.ready("llm-0-1");
    cluster.run();
    cluster.end("llm-0-1", 1);
    cluster.run();
    for request in cluster.asked_for(Verb::Delete, Kind::Pod) {
        assert_eq!(request.body["preconditions"]["uid"], format!("u-{}", request.name));
    }
    assert!(!cluster.asked_for(Verb::Delete, Kind::Pod).is_empty());
}

#[test]
fn a_supervisor_takes_a_running_group_over_without_a_restart() {
    let mut cluster = group("OneForOne");
    cluster.run();
    cluster.ready("rag-a-0-1");
    cluster.run();
    cluster.ready("rag-b-0-1");
    cluster.run();
    cluster.put(Kind::Supervisor, "top", json!({"spec": {"children": [{"group": "rag"}]}}));
    cluster.run();
    assert_eq!(cluster.names(Kind::Pod), ["rag-a-0-1", "rag-b-0-1"]);
    let group = &cluster.objects[&(Kind::WidgetGroup, "default".into(), "rag".into())];
    assert_eq!(group["status"]["supervision"], Value::Null);
    assert_eq!(cluster.condition(Kind::Supervisor, "top", "Ready")["status"], "True");
}
