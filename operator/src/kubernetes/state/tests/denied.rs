use super::*;

const QUOTA: &str =
    "pods \"llm-0-1\" is forbidden: exceeded quota: few, requested: pods=1, used: pods=3, limited: pods=3";
const GOING: &str = "pods \"llm-0-1\" is forbidden: unable to create new content in namespace default because it is being terminated";

impl Cluster {
    /// The next so many pods are not allowed.
    fn deny(&mut self, times: usize, message: &str) {
        for _ in 0..times {
            self.answers.push((Verb::Create, Kind::Pod, Outcome::Forbidden(message.to_owned())));
        }
    }

    fn owned_names(&self, kind: Kind) -> Vec<String> {
        self.names(kind).into_iter().map(str::to_owned).collect()
    }

    /// Somebody removes these pods, one after the other.
    fn lose(&mut self, pods: &[String]) {
        for pod in pods {
            self.remove(Kind::Pod, pod);
            self.run();
        }
    }

    /// Ready and Stalled of the widget: status and reason.
    fn says(&self, kind: Kind, name: &str) -> [String; 2] {
        ["Ready", "Stalled"].map(|condition| {
            let known = self.condition(kind, name, condition);
            format!("{}:{}", known["status"].as_str().unwrap(), known["reason"].as_str().unwrap())
        })
    }
}

#[test]
fn a_pod_that_is_not_allowed_is_said_is_tried_again_at_growing_pauses_and_comes_when_it_is_allowed() {
    let mut cluster = lone();
    cluster.deny(8, QUOTA);
    cluster.run();
    assert_eq!(cluster.says(Kind::Widget, "llm"), ["False:QuotaExceeded", "True:QuotaExceeded"]);
    let ready = cluster.condition(Kind::Widget, "llm", "Ready");
    assert!(ready["message"].as_str().unwrap().contains("exceeded quota: few"), "{ready}");
    let mut told = Vec::new();
    let mut tries = vec![cluster.asked_for(Verb::Create, Kind::Pod).len()];
    for _ in 0..7 {
        cluster.pass(Duration::from_secs(20));
        told.extend(cluster.state.told());
        tries.push(cluster.asked_for(Verb::Create, Kind::Pod).len());
    }
    assert!(tries[1] > tries[0] && tries[7] == 9, "{tries:?}");
    assert_eq!(cluster.names(Kind::Pod), ["llm-0-1"], "it is no failed start");
    let said = told.iter().filter(|(_, event)| matches!(event, Event::NotAllowed { .. }));
    assert_eq!(said.count(), 1);
    cluster.ready("llm-0-1");
    cluster.run();
    assert_eq!(cluster.says(Kind::Widget, "llm"), ["True:AllReady", "False:Settled"]);
}

#[test]
fn one_that_is_not_allowed_keeps_nobody_else_from_being_restarted() {
    let mut cluster = group("OneForOne");
    cluster.run();
    cluster.ready("rag-a-0-1");
    cluster.deny(100, QUOTA);
    cluster.run();
    assert_eq!(cluster.says(Kind::Widget, "rag-b"), ["False:QuotaExceeded", "True:QuotaExceeded"]);
    assert_eq!(cluster.says(Kind::Widget, "rag-a"), ["True:AllReady", "False:Settled"]);
    assert_eq!(cluster.says(Kind::WidgetGroup, "rag"), ["False:QuotaExceeded", "True:QuotaExceeded"]);
    cluster.pass(Duration::from_mins(5));
    assert_eq!(cluster.names(Kind::Pod), ["rag-a-0-1"]);
    let group = cluster.status(Kind::WidgetGroup, "rag");
    assert_eq!((&group["epoch"], &group["state"]), (&json!(0), &json!("Starting")));
}

#[test]
fn what_is_not_allowed_is_waited_for_by_the_next_leader_as_well() {
    let mut cluster = lone();
    cluster.deny(100, QUOTA);
    cluster.pass(Duration::from_mins(5));
    cluster.state.take(Input::Leads(false), cluster.now);
    cluster.state.take(Input::Leads(true), cluster.now);
    cluster.pass(Duration::from_mins(5));
    cluster.answers.clear();
    cluster.pass(Duration::from_secs(31));
    assert_eq!(cluster.names(Kind::Pod), ["llm-0-1"]);
}

#[test]
fn a_namespace_that_goes_is_asked_for_nothing_at_a_rate() {
    let mut cluster = lone();
    cluster.deny(100, GOING);
    cluster.run();
    assert_eq!(
        cluster.says(Kind::Widget, "llm"),
        ["False:NamespaceTerminating", "True:NamespaceTerminating"]
    );
    cluster.pass(Duration::from_mins(5));
    assert!(cluster.asked_for(Verb::Create, Kind::Pod).len() <= 6);
}

fn plain() -> serde_json::Value {
    json!({"spec": {"container": container()}})
}

/// So many widgets beside that of [`lone`], and the pods of all.
fn several(count: usize) -> (Cluster, Vec<String>) {
    let mut cluster = lone();
    (0..count).for_each(|number| cluster.put(Kind::Widget, &format!("w{number:02}"), plain()));
    cluster.run();
    let pods = cluster.owned_names(Kind::Pod);
    (cluster, pods)
}

#[test]
fn in_a_namespace_that_goes_nothing_is_decided_or_said_by_those_that_were_not_told() {
    let (mut cluster, pods) = several(20);
    assert_eq!(pods.len(), 21);
    for pod in &pods {
        cluster.ready(pod);
    }
    cluster.run();
    cluster.deny(1000, GOING);
    cluster.asked.clear();
    cluster.lose(&pods);
    cluster.pass(Duration::from_secs(30));
    assert_eq!(cluster.asked_for(Verb::Create, Kind::Pod).len(), 1, "one has tried");
    assert!(cluster.asked.len() < 10, "{} requests", cluster.asked.len());
    // It is gone, and comes back under its name before the minute is over.
    cluster.answers.clear();
    for kind in [Kind::Widget, Kind::Service, Kind::ControllerRevision] {
        for name in cluster.owned_names(kind) {
            cluster.remove(kind, &name);
        }
        cluster.run();
    }
    cluster.put(Kind::Widget, "again", plain());
    cluster.run();
    assert_eq!(cluster.names(Kind::Pod), ["again-0-1"]);
}

#[test]
fn those_that_were_not_told_go_on_where_a_namespace_stays_after_all() {
    let (mut cluster, pods) = several(3);
    cluster.deny(1, GOING);
    cluster.lose(&pods);
    assert_eq!(cluster.names(Kind::Pod).len(), 0);
    cluster.pass(Duration::from_secs(70));
    assert_eq!(cluster.names(Kind::Pod).len(), 4);
}

#[test]
fn a_status_that_cannot_be_written_keeps_nothing_from_being_done() {
    let mut cluster = lone();
    cluster.run();
    cluster.ready("llm-0-1");
    cluster.run();
    cluster.end("llm-0-1", 1);
    for _ in 0..50 {
        cluster.answers.push((Verb::Create, Kind::Service, Outcome::Failed("no".into())));
    }
    cluster.remove(Kind::Service, "llm");
    cluster.run();
    assert_eq!(cluster.names(Kind::Pod), ["llm-0-2"]);
    cluster.ready("llm-0-2");
    cluster.run();
    assert_eq!(cluster.condition(Kind::Widget, "llm", "Ready")["status"], "True");
}
