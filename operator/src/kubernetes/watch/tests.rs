use std::sync::Arc;

use kontrol_e2e_apiserver::{ApiServer, Session};
use serde_json::json;
use tokio::task::JoinSet;

use super::*;
use crate::kubernetes::kind::Kind;

/// Longer than anything here takes, on a machine that is busy.
const PATIENCE: Duration = Duration::from_mins(1);
/// As short as the API server has it.
const LIFE: Duration = Duration::from_secs(1);

fn watch(session: &Session, heard: mpsc::Sender<Heard>) -> Watch {
    Watch {
        client: Client::new(session.client()),
        source: Source { kind: Kind::ConfigMap, label: "", namespace: Some("default".to_owned()) },
        selector: String::new(),
        heard,
        life: LIFE,
        stop: CancellationToken::new(),
    }
}

fn lists(session: &Session) -> usize {
    session.calls().iter().filter(|call| call.verb == "list").count()
}

fn put(server: &ApiServer, name: &str) {
    let metadata = json!({"name": name, "namespace": "default"});
    server.put(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})).unwrap();
}

/// What is heard until something is said that is so.
async fn until(hears: &mut mpsc::Receiver<Heard>, so: impl Fn(&Seen) -> bool) -> Vec<Seen> {
    let mut all = Vec::new();
    let wait = async {
        loop {
            let (_, seen) = hears.recv().await.unwrap();
            let is = so(&seen);
            all.push(seen);
            if is {
                return;
            }
        }
    };
    timeout(PATIENCE, wait).await.unwrap();
    all
}

#[tokio::test]
async fn a_quiet_kind_is_watched_on_without_another_list_or_a_word() {
    let server = ApiServer::new();
    let session = server.session("operator");
    let (sender, mut hears) = mpsc::channel(16);
    let mut watching = JoinSet::new();
    watching.spawn(watch(&session, sender).run());
    let mut said = Vec::new();
    for _ in 0..3 {
        said.extend(until(&mut hears, |seen| matches!(seen, Seen::Alive)).await);
    }
    assert!(!said.iter().any(|seen| matches!(seen, Seen::Broken(_))));
    assert_eq!(lists(&session), 1);
}

#[tokio::test]
async fn a_list_whose_next_page_is_too_old_begins_again() {
    let server = ApiServer::new();
    for number in 0..=PAGE {
        put(&server, &format!("map-{number}"));
    }
    let session = server.session("operator");
    let forgets = server.clone();
    session.set_faults(Arc::new(move |call| {
        // Between the first page and the second the history is forgotten.
        if call.verb == "list" && call.index == 1 {
            forgets.put(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "new", "namespace": "default"}})).unwrap();
            forgets.compact();
        }
        None
    }));
    let (sender, mut hears) = mpsc::channel(16);
    let mut watching = JoinSet::new();
    watching.spawn(watch(&session, sender).run());
    let said = until(&mut hears, |seen| matches!(seen, Seen::Listed { .. })).await;
    assert!(!said.iter().any(|seen| matches!(seen, Seen::Broken(_))));
    let Some(Seen::Listed { keys, .. }) = said.last() else { panic!("the last is the list") };
    assert_eq!((keys.len(), lists(&session)), (PAGE + 2, 4));
}
