use kontrol_core::id::Name;

use super::*;
use crate::{
    control::{Event as Word, Reason, SessionId, Upward},
    kubernetes::pod::PodOf,
    view::View as _,
};

const HUB: &str = "kontrol-hub-default";
const QUOTA: &str = "persistentvolumeclaims \"kontrol-hub-default\" is forbidden: exceeded quota: few";

/// A namespace with a topic.
fn talking() -> Cluster {
    let mut cluster = Cluster::new();
    cluster.put(Kind::Topic, "t", json!({"spec": {}}));
    cluster
}

impl Cluster {
    /// The next so many requests are answered so.
    fn answer_so(&mut self, times: usize, verb: Verb, kind: Kind, outcome: &Outcome) {
        for _ in 0..times {
            self.answers.push((verb, kind, outcome.clone()));
        }
    }

    fn position(&self, verb: Verb, kind: Kind) -> Option<usize> {
        self.asked.iter().rposition(|request| (request.verb, request.kind) == (verb, kind))
    }

    /// The companion of a pod opens its session; the effects of it.
    fn open(&mut self, pod: &str, subject: &str, number: u64) -> (SessionId, Vec<Effect>) {
        let (id, session) = Session::unheard(number);
        let hello =
            v1::Hello { subject: subject.into(), pod_uid: format!("u-{pod}"), ..v1::Hello::default() };
        self.state.take(Input::Control(Word::Opened { id, hello, session }), self.now);
        (id, self.step())
    }

    /// Steps once; the effects, the requests among them done.
    fn step(&mut self) -> Vec<Effect> {
        let effects = self.state.step(self.now);
        for effect in &effects {
            let Effect::Ask(ticket, request) = effect else { continue };
            let outcome = self.answer(request);
            self.state.take(Input::Answer(*ticket, outcome), self.now);
        }
        effects
    }

    /// It says that so many messages wait for a subscription.
    fn waits(&mut self, id: SessionId, namespace: &str, topic: &str, depth: u64) -> Vec<Effect> {
        let subscription = v1::hub_signals::Subscription {
            namespace: namespace.into(),
            topic: topic.into(),
            subscription: "worker".into(),
            depth,
            ..Default::default()
        };
        let message = Upward::Hub(v1::HubSignals { subscriptions: vec![subscription], ..Default::default() });
        self.state.take(Input::Control(Word::Said { id, subject: String::new(), message }), self.now);
        self.step()
    }

    fn depth(&self, topic: &str) -> Option<u64> {
        let name = |text: &str| Name::new(text).unwrap();
        let topic = ObjectId { namespace: name("default"), name: name(topic) };
        self.state.queue(&topic, &name("worker")).map(|(_, queue)| queue.depth)
    }
}

#[test]
fn a_claim_that_was_not_made_is_asked_for_until_it_is_and_no_pod_comes_before_it() {
    for outcome in [
        Outcome::Failed("no answer".into()),
        Outcome::Busy(Duration::from_secs(1)),
        Outcome::Conflict("modified".into()),
        Outcome::Forbidden(QUOTA.into()),
        Outcome::Invalid("spec.resources: no".into()),
    ] {
        let mut cluster = talking();
        cluster.answer_so(6, Verb::Apply, Kind::PersistentVolumeClaim, &outcome);
        cluster.run();
        assert_eq!(cluster.names(Kind::Pod), [""; 0], "{outcome:?}");
        cluster.pass(Duration::from_mins(1));
        assert_eq!(cluster.names(Kind::PersistentVolumeClaim), [HUB], "{outcome:?}");
        assert_eq!(cluster.names(Kind::Pod), ["kontrol-hub-default-1"], "{outcome:?}");
        let (claim, pod) = (Kind::PersistentVolumeClaim, Kind::Pod);
        assert!(cluster.position(Verb::Apply, claim) < cluster.position(Verb::Create, pod), "{outcome:?}");
    }
}

#[test]
fn a_claim_that_is_refused_for_one_pod_is_asked_for_in_the_common_form() {
    let mut cluster = talking();
    cluster.answer_so(
        1,
        Verb::Apply,
        Kind::PersistentVolumeClaim,
        &Outcome::Invalid("spec.accessModes: no".into()),
    );
    cluster.run();
    let claims = cluster.asked_for(Verb::Apply, Kind::PersistentVolumeClaim);
    let modes: Vec<_> = claims.iter().map(|claim| claim.body["spec"]["accessModes"][0].clone()).collect();
    assert_eq!(modes, ["ReadWriteOncePod", "ReadWriteOnce"]);
    assert_eq!(cluster.names(Kind::Pod), ["kontrol-hub-default-1"]);
}

#[test]
fn a_claim_grows_with_its_bus_and_what_is_refused_is_said() {
    let mut cluster = Cluster::new();
    let bus = |size: &str, generation: i64| json!({"metadata": {"generation": generation}, "spec": {"embedded": {"storage": {"size": size}}}});
    cluster.put(Kind::MessageBus, "default", bus("1Gi", 1));
    cluster.answer_so(
        1,
        Verb::Apply,
        Kind::PersistentVolumeClaim,
        &Outcome::Invalid("spec.accessModes: no".into()),
    );
    cluster.run();
    cluster.put(Kind::Pod, "kontrol-hub-default-1", json!({"spec": {"nodeName": "n"}}));
    cluster.pass(Duration::from_mins(1));
    let sizes = |cluster: &Cluster| -> Vec<String> {
        let claims = cluster.asked_for(Verb::Apply, Kind::PersistentVolumeClaim);
        let of = |claim: &&Request| {
            let spec = &claim.body["spec"];
            format!("{} {}", spec["accessModes"][0], spec["resources"]["requests"]["storage"])
                .replace('"', "")
        };
        claims.iter().map(of).collect()
    };
    assert_eq!(sizes(&cluster), ["ReadWriteOncePod 1152Mi", "ReadWriteOnce 1152Mi"]);
    cluster.put(Kind::MessageBus, "default", bus("2Gi", 2));
    cluster.pass(Duration::from_mins(1));
    assert_eq!(sizes(&cluster)[2..], ["ReadWriteOnce 2240Mi"]);
    let refused = "only dynamically provisioned pvc can be resized";
    cluster.answer_so(100, Verb::Apply, Kind::PersistentVolumeClaim, &Outcome::Forbidden(refused.into()));
    cluster.put(Kind::MessageBus, "default", bus("1Gi", 3));
    cluster.pass(Duration::from_mins(1));
    let stalled = cluster.condition(Kind::MessageBus, "default", "Stalled");
    assert_eq!((&stalled["status"], &stalled["message"]), (&json!("True"), &json!(refused)));
    assert!(sizes(&cluster)[3..].iter().all(|size| size == "ReadWriteOnce 1152Mi"), "{:?}", sizes(&cluster));
    cluster.put(Kind::MessageBus, "default", bus("2Gi", 4));
    cluster.answers.clear();
    cluster.pass(Duration::from_mins(1));
    assert_eq!(cluster.condition(Kind::MessageBus, "default", "Stalled")["status"], "False");
    assert_eq!(cluster.names(Kind::Pod), ["kontrol-hub-default-1"]);
}

#[test]
fn a_claim_over_quota_is_said_by_its_bus_until_there_is_room() {
    let mut cluster = Cluster::new();
    cluster.put(Kind::MessageBus, "default", json!({"spec": {}}));
    cluster.answer_so(400, Verb::Apply, Kind::PersistentVolumeClaim, &Outcome::Forbidden(QUOTA.into()));
    cluster.pass(Duration::from_mins(2));
    let stalled = cluster.condition(Kind::MessageBus, "default", "Stalled");
    assert_eq!((&stalled["status"], &stalled["reason"]), (&json!("True"), &json!("QuotaExceeded")));
    let asked = cluster.asked_for(Verb::Apply, Kind::PersistentVolumeClaim).len();
    assert!(asked <= 40, "{asked} requests in two minutes");
    cluster.answers.clear();
    cluster.pass(Duration::from_mins(1));
    assert_eq!(cluster.names(Kind::Pod), ["kontrol-hub-default-1"]);
    assert_eq!(cluster.condition(Kind::MessageBus, "default", "Stalled")["status"], "False");
}

#[test]
fn a_service_that_was_not_made_or_that_somebody_removed_is_made_again() {
    let mut cluster = talking();
    cluster.answer_so(3, Verb::Create, Kind::Service, &Outcome::Failed("no answer".into()));
    cluster.pass(Duration::from_mins(1));
    assert_eq!(
        (cluster.names(Kind::Service), cluster.names(Kind::Pod)),
        (vec![HUB], vec!["kontrol-hub-default-1"])
    );
    cluster.ready("kontrol-hub-default-1");
    cluster.run();
    cluster.remove(Kind::Service, HUB);
    cluster.run();
    assert_eq!(cluster.names(Kind::Service), [HUB]);
    assert_eq!(cluster.names(Kind::Pod), ["kontrol-hub-default-1"]);
}

#[test]
fn a_service_of_somebody_else_is_left_alone_and_said() {
    let mut cluster = Cluster::new();
    cluster.put(Kind::MessageBus, "default", json!({"spec": {}}));
    let held = Outcome::Exists("services \"kontrol-hub-default\" already exists".into());
    cluster.answer_so(50, Verb::Create, Kind::Service, &held);
    cluster.pass(Duration::from_mins(2));
    assert_eq!(cluster.condition(Kind::MessageBus, "default", "Stalled")["reason"], "NameCollision");
    assert!(cluster.asked_for(Verb::Apply, Kind::Service).is_empty());
}

#[test]
fn a_claim_that_somebody_removed_is_made_again_when_the_next_pod_misses_it() {
    let mut cluster = talking();
    cluster.run();
    cluster.objects.remove(&(Kind::PersistentVolumeClaim, "default".into(), HUB.into()));
    let missed = json!({
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "0/1 nodes are available: persistentvolumeclaim \"kontrol-hub-default\" not found.",
    });
    cluster.put(
        Kind::Pod,
        "kontrol-hub-default-1",
        json!({"status": {"phase": "Pending", "conditions": [missed]}}),
    );
    cluster.asked.clear();
    cluster.pass(Duration::from_mins(5));
    assert_eq!(cluster.asked_for(Verb::Apply, Kind::PersistentVolumeClaim).len(), 1);
    assert_eq!(cluster.names(Kind::PersistentVolumeClaim), [HUB]);
}

#[test]
fn each_end_of_a_hub_is_answered_with_the_next_pod_within_seconds() {
    let mut cluster = talking();
    cluster.run();
    for (incarnation, pause) in [(1, 500), (2, 2000), (3, 5000), (4, 5000)] {
        let pod = format!("{HUB}-{incarnation}");
        let policy = &cluster.objects[&(Kind::Pod, "default".into(), pod.clone())]["spec"]["restartPolicy"];
        assert_eq!(policy, "Never", "the kubelet would wait");
        let created = crate::kubernetes::time::seconds(cluster.now);
        cluster.put(Kind::Pod, &pod, json!({"metadata": {"creationTimestamp": created}}));
        cluster.ready(&pod);
        cluster.run();
        cluster.end(&pod, 1);
        cluster.run();
        assert_eq!(cluster.names(Kind::Pod), [""; 0], "it was removed, and its successor waits");
        cluster.pass(Duration::from_millis(pause));
        assert_eq!(cluster.names(Kind::Pod), [format!("{HUB}-{}", incarnation + 1)]);
    }
}

#[test]
fn a_hub_that_waits_for_the_kubelet_is_replaced() {
    let mut cluster = talking();
    cluster.run();
    let waiting = json!({"name": "hub", "state": {"waiting": {"reason": "CrashLoopBackOff"}}});
    cluster.put(
        Kind::Pod,
        "kontrol-hub-default-1",
        json!({"spec": {"restartPolicy": "Always"}, "status": {"phase": "Running", "containerStatuses": [waiting]}}),
    );
    cluster.pass(Duration::from_secs(1));
    assert_eq!(cluster.names(Kind::Pod), ["kontrol-hub-default-2"]);
}

#[test]
fn a_hub_that_nothing_names_any_more_goes_with_its_service_and_leaves_its_claim() {
    let mut cluster = talking();
    cluster.run();
    // Declared after it began: nothing owns its pod.
    cluster.put(Kind::MessageBus, "default", json!({"spec": {}}));
    cluster.run();
    cluster.remove(Kind::MessageBus, "default");
    cluster.run();
    assert_eq!(cluster.names(Kind::Pod), ["kontrol-hub-default-1"], "the topic needs it still");
    cluster.remove(Kind::Topic, "t");
    cluster.run();
    assert_eq!(cluster.names(Kind::Pod), [""; 0]);
    assert_eq!(cluster.names(Kind::Service), [""; 0]);
    assert_eq!(cluster.names(Kind::PersistentVolumeClaim), [HUB]);
    assert!(cluster.state.trees.roots().all(|root| root.kind != Kind::MessageBus), "it is forgotten");
    cluster.put(Kind::Topic, "t", json!({"spec": {}}));
    cluster.run();
    assert_eq!(cluster.names(Kind::Pod), ["kontrol-hub-default-2"]);
}

#[test]
fn a_number_on_a_claim_that_no_pod_can_have_is_none() {
    let mut cluster = Cluster::new();
    let absurd = json!({"metadata": {"annotations": {"kontrol.dev/incarnation": "9999999999999999"}}});
    cluster.put(Kind::PersistentVolumeClaim, HUB, absurd);
    cluster.put(Kind::Topic, "t", json!({"spec": {}}));
    cluster.run();
    assert_eq!(cluster.names(Kind::Pod), ["kontrol-hub-default-1"]);
}

#[test]
fn a_claim_that_keeps_no_number_is_not_written_again_and_again() {
    let mut cluster = talking();
    let without = json!({"metadata": {"name": HUB, "namespace": "default"}}).to_string();
    cluster.answer_so(400, Verb::Merge, Kind::PersistentVolumeClaim, &Outcome::Done(without));
    cluster.run();
    assert_eq!(cluster.names(Kind::Pod), ["kontrol-hub-default-1"]);
    assert_eq!(cluster.asked_for(Verb::Merge, Kind::PersistentVolumeClaim).len(), 1);
}

#[test]
fn what_a_claim_keeps_is_read_before_it_is_written_by_a_new_leader() {
    let mut cluster = talking();
    cluster.run();
    cluster.put(Kind::Pod, "kontrol-hub-default-1", json!({"spec": {"nodeName": "node0"}}));
    let later = json!({"metadata": {"annotations": {"kontrol.dev/incarnation": "7"}}});
    cluster.put(Kind::PersistentVolumeClaim, HUB, later);
    cluster.state.take(Input::Leads(false), cluster.now);
    cluster.state.take(Input::Leads(true), cluster.now);
    cluster.run();
    let claim = &cluster.objects[&(Kind::PersistentVolumeClaim, "default".into(), HUB.into())];
    assert_eq!(claim["metadata"]["annotations"]["kontrol.dev/incarnation"], "7");
    cluster.end("kontrol-hub-default-1", 1);
    cluster.pass(Duration::from_secs(10));
    assert_eq!(cluster.names(Kind::Pod), ["kontrol-hub-default-8"]);
}

#[test]
fn the_next_leader_removes_a_hub_that_nothing_names() {
    let mut cluster = talking();
    cluster.run();
    cluster.state.take(Input::Leads(false), cluster.now);
    cluster.remove(Kind::Topic, "t");
    cluster.state.take(Input::Leads(true), cluster.now);
    cluster.run();
    assert_eq!((cluster.names(Kind::Pod), cluster.names(Kind::Service)), (vec![], vec![]));
}

#[test]
fn a_topic_that_cannot_be_read_may_need_any_hub() {
    let mut cluster = talking();
    cluster.put(Kind::Topic, "new", json!({"spec": {"retention": {"from": "the future"}}}));
    cluster.run();
    cluster.remove(Kind::Topic, "t");
    cluster.run();
    assert_eq!(cluster.names(Kind::Pod), ["kontrol-hub-default-1"]);
    let pod = cluster.state.subject("default", "kontrol-hub-default-1", "u-kontrol-hub-default-1");
    assert_eq!(pod.as_deref(), Some("default/hub/default"));
    cluster.remove(Kind::Topic, "new");
    cluster.run();
    assert_eq!(cluster.names(Kind::Pod), [""; 0]);
}

#[test]
fn only_a_hub_says_how_much_waits_and_only_of_its_own_topics() {
    let mut cluster = Cluster::new();
    cluster.put(Kind::MessageBus, "other", json!({"spec": {}}));
    cluster.put(Kind::Topic, "t", json!({"spec": {}}));
    cluster.put(Kind::Topic, "u", json!({"spec": {"bus": "other"}}));
    let consumes = json!([{"topic": "t", "subscription": "worker"}]);
    cluster.put(Kind::Widget, "llm", json!({"spec": {"container": container(), "consumes": consumes}}));
    cluster.run();
    cluster.ready("llm-0-1");
    cluster.run();
    let (sidecar, _) = cluster.open("llm-0-1", "default/llm/llm/0", 1);
    let (hub, _) = cluster.open("kontrol-hub-default-1", "default/hub/default", 2);
    let refused = |effects: &[Effect]| {
        effects.iter().filter(|effect| matches!(effect, Effect::Refused(Reason::ForeignSubject))).count()
    };
    assert_eq!(refused(&cluster.waits(sidecar, "default", "t", 1_000_000)), 1);
    assert_eq!(cluster.depth("t"), None);
    for (namespace, topic) in [("shop", "t"), ("default", "u")] {
        assert_eq!(refused(&cluster.waits(hub, namespace, topic, 7)), 1, "{namespace}/{topic}");
    }
    // What nobody consumes, or no longer, is not kept, and no fault.
    assert_eq!(refused(&cluster.waits(hub, "default", "made-up", 7)), 0);
    cluster.now = cluster.now.plus(Duration::from_secs(9));
    assert_eq!(refused(&cluster.waits(hub, "default", "t", 7)), 0);
    assert_eq!(["t", "u", "made-up"].map(|topic| cluster.depth(topic)), [Some(7), None, None]);
    let heard = cluster.state.companions.of("u-kontrol-hub-default-1").unwrap().heard;
    assert_eq!(heard, cluster.now, "a hub is a voice of its machine");
    cluster.put(Kind::Widget, "llm", json!({"spec": {"consumes": []}, "metadata": {"generation": 2}}));
    cluster.run();
    assert_eq!(cluster.depth("t"), None, "forgotten with the subscription");
}

#[test]
fn a_stream_of_a_pod_that_is_not_known_is_ended_and_heard_when_it_comes_again() {
    let mut cluster = lone();
    let (subject, ended) = ("default/llm/llm/0", |effects: &[Effect]| {
        effects.iter().filter(|effect| matches!(effect, Effect::End(_))).count()
    });
    let (_, effects) = cluster.open("llm-0-1", subject, 1);
    assert_eq!((ended(&effects), cluster.state.sessions()), (1, 0));
    let mut cluster = lone();
    cluster.run();
    let (_, effects) = cluster.open("llm-0-1", subject, 2);
    assert_eq!((ended(&effects), cluster.state.sessions()), (0, 1));
}

#[test]
fn a_hub_concerns_its_own_namespace_alone() {
    let mut cluster = talking();
    let shop = |name: &str| Key::new("shop", name);
    cluster.run();
    let pod = json!({
        "metadata": {
            "name": "kontrol-hub-default-1", "namespace": "shop", "uid": "u-shop", "resourceVersion": "9000",
            "labels": {"kontrol.dev/bus": "default", "kontrol.dev/incarnation": "1"},
        },
        "spec": {}, "status": {},
    });
    cluster.state.take(Input::Watch(Cluster::source(Kind::Pod), Seen::Is(pod.to_string())), cluster.now);
    let of = cluster.state.store.pod(&shop("kontrol-hub-default-1")).map(|pod| pod.of.clone()).unwrap();
    assert!(matches!(&of, PodOf::Hub(bus) if bus.to_string() == "shop/default"), "{of:?}");
    let (_, effects) = cluster.open("kontrol-hub-default-1", "default/hub/default", 1);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Tell(..))));
    cluster.state.companions.due.clear();
    cluster.state.concerns(&of);
    assert!(cluster.state.companions.due.is_empty());
    cluster.state.concerns(&PodOf::Hub(ObjectId {
        namespace: Name::new("default").unwrap(),
        name: Name::new("default").unwrap(),
    }));
    assert_eq!(cluster.state.companions.due.len(), 1);
}
