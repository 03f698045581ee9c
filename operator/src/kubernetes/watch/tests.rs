use std::sync::Arc;

use kontrol_e2e_apiserver::{ApiServer, Session};
use serde_json::json;
use tokio::task::JoinSet;

use super::{course::PAGE, *};
use crate::kubernetes::kind::Kind;

/// Longer than anything here takes, on a machine that is busy.
const PATIENCE: Duration = Duration::from_mins(1);
/// As short as a watch may last that works.
const LIFE: Duration = Duration::from_secs(2);

fn watch(session: &Session, heard: mpsc::Sender<Heard>) -> Watch {
    Watch {
        client: Client::new(session.client()),
        source: source(),
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

fn source() -> Source {
    Source { kind: Kind::ConfigMap, label: "", namespace: Some("default".to_owned()) }
}

/// A watch that has a place, and is open.
fn open() -> Course {
    let mut course = Course::new(source(), String::new());
    relisted(&mut course);
    course
}

fn relisted(course: &mut Course) {
    let seen: Vec<Seen> =
        course.listed(br#"{"metadata":{"resourceVersion":"7"},"items":[]}"#).unwrap().collect();
    assert_eq!(seen, [Seen::Listed { version: 7, keys: std::collections::BTreeSet::new() }]);
    course.opened();
}

fn line(kind: &str, version: u64) -> Vec<u8> {
    let metadata = json!({"name": "map", "namespace": "default", "resourceVersion": version.to_string()});
    json!({"type": kind, "object": {"metadata": metadata}}).to_string().into_bytes()
}

#[tokio::test]
async fn a_place_that_is_too_old_makes_its_kind_stale_until_it_is_listed_again() {
    let server = ApiServer::new();
    let session = server.session("operator");
    let (sender, mut hears) = mpsc::channel(16);
    let mut watching = JoinSet::new();
    watching.spawn(Watch { life: PATIENCE, ..watch(&session, sender) }.run());
    until(&mut hears, |seen| matches!(seen, Seen::Alive)).await;
    // What happens elsewhere moves the history on, and the place of this watch is forgotten.
    let metadata = json!({"name": "map", "namespace": "kube-system"});
    server.put(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})).unwrap();
    server.compact();
    session.drop_watches(false);
    let said = until(&mut hears, |seen| matches!(seen, Seen::Listed { .. })).await;
    assert!(matches!(said.first(), Some(Seen::Broken(_))), "{said:?}");
    assert!(!said.contains(&Seen::Alive), "{said:?}");
}

#[tokio::test]
async fn a_watch_that_is_ended_at_once_never_works_and_is_not_opened_without_end() {
    let server = ApiServer::new();
    let session = server.session("operator");
    let (sender, mut hears) = mpsc::channel(16);
    let mut watching = JoinSet::new();
    watching.spawn(Watch { life: Duration::ZERO, ..watch(&session, sender) }.run());
    let mut said = Vec::new();
    for _ in 0..3 {
        said.extend(until(&mut hears, |seen| matches!(seen, Seen::Broken(_))).await);
    }
    assert!(!said.contains(&Seen::Alive), "{said:?}");
    let opened = session.calls().iter().filter(|call| call.verb == "watch").count();
    assert!((3..=4).contains(&opened), "{opened}");
}

#[test]
fn ends_without_progress_are_followed_by_growing_pauses() {
    let mut course = open();
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let (seen, pause) = course.ended(&End::Over, false);
        assert!(matches!(seen, Some(Seen::Broken(_))));
        pauses.push(pause.as_millis());
        course.opened();
    }
    assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    course.line(&line("MODIFIED", 8)).unwrap();
    assert_eq!(course.ended(&End::Over, false).1.as_millis(), 100);
    assert_eq!(course.ended(&End::Over, true), (None, Duration::ZERO));
}

#[test]
fn a_list_that_is_always_too_old_to_be_followed_is_not_read_without_end() {
    let mut course = open();
    let mut pauses = Vec::new();
    for _ in 0..4 {
        pauses.push(course.ended(&End::Old, false).1.as_millis());
        assert!(matches!(course.next(LIFE), Next::List(_)));
        relisted(&mut course);
    }
    assert_eq!(pauses, [0, 100, 200, 400]);
}

#[test]
fn a_watch_works_once_it_has_told_what_it_had() {
    let mut course = open();
    assert_eq!(course.patience(), Some(PROOF));
    course.line(&line("ADDED", 8)).unwrap();
    assert!(course.patience().is_some_and(|patience| patience < PROOF));
    assert_eq!((course.works(), course.works(), course.patience()), (Some(Seen::Alive), None, None));
    course.opened();
    assert_eq!(course.line(&line("BOOKMARK", 9)).unwrap(), Some(Seen::Alive));
    assert_eq!((course.works(), course.patience()), (None, None));
}
