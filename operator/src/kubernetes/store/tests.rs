use super::{removals::REMOVALS, *};

fn widget(name: &str, version: u64) -> String {
    format!(
        r#"{{"metadata":{{"name":"{name}","namespace":"default","uid":"u-{name}","resourceVersion":"{version}"}},"spec":{{"v":{version}}}}}"#
    )
}

fn source() -> Source {
    Source { kind: Kind::Widget, label: "", namespace: None }
}

fn store() -> Store {
    Store::new([source()])
}

fn version(store: &Store, name: &str) -> Option<u64> {
    store.own(Kind::Widget, &Key::new("default", name)).map(|own| own.meta.version)
}

const NOW: Timestamp = Timestamp::ZERO;

#[test]
fn our_own_write_is_seen_before_the_watch_says_so_and_never_undone_by_it() {
    let mut store = store();
    store.hear(&source(), Seen::Is(widget("a", 5)), NOW);
    store.is(Kind::Widget, &widget("a", 9), NOW);
    assert_eq!(store.hear(&source(), Seen::Is(widget("a", 7)), NOW), vec![Change::Nothing]);
    assert_eq!(version(&store, "a"), Some(9));
    store.hear(&source(), Seen::Is(widget("a", 10)), NOW);
    assert_eq!(version(&store, "a"), Some(10));
}

#[test]
fn a_list_removes_what_it_lacks_but_not_what_was_written_after_it() {
    let mut store = store();
    store.hear(&source(), Seen::Is(widget("old", 3)), NOW);
    store.is(Kind::Widget, &widget("new", 20), NOW);
    store.hear(&source(), Seen::Listed { version: 15, keys: BTreeSet::new() }, NOW);
    assert_eq!((version(&store, "old"), version(&store, "new")), (None, Some(20)));
    assert!(store.listed_in("default"));
}

#[test]
fn a_broken_watch_makes_its_kind_stale_and_removes_nothing() {
    let mut store = store();
    store.hear(&source(), Seen::Is(widget("a", 3)), NOW);
    store.hear(&source(), Seen::Listed { version: 3, keys: [Key::new("default", "a")].into() }, NOW);
    assert!(store.fresh(Kind::Widget, None));
    store.hear(&source(), Seen::Broken("no route".into()), NOW);
    assert_eq!((store.fresh(Kind::Widget, None), version(&store, "a")), (false, Some(3)));
    store.hear(&source(), Seen::Alive, NOW);
    assert!(store.fresh(Kind::Widget, None));
}

#[test]
fn a_late_removal_of_an_earlier_object_leaves_the_later_one() {
    let mut store = store();
    store.is(Kind::Widget, &widget("a", 12), NOW);
    assert_eq!(store.hear(&source(), Seen::Removed(widget("a", 8)), NOW), vec![Change::Nothing]);
    assert_eq!(version(&store, "a"), Some(12));
}

#[test]
fn the_last_spec_that_could_be_read_is_kept_until_another_can() {
    let mut store = store();
    let key = Key::new("default", "a");
    store.hear(&source(), Seen::Is(widget("a", 1)), NOW);
    store.is_good(Kind::Widget, &key);
    store.hear(&source(), Seen::Is(widget("a", 2)), NOW);
    store.hear(&source(), Seen::Is(widget("a", 3)), NOW);
    let own = store.own(Kind::Widget, &key).unwrap();
    let good = own.good.as_deref().map(Text::read);
    assert_eq!((good.as_deref(), &*own.spec.read()), (Some(r#"{"v":1}"#), r#"{"v":3}"#));
    store.is_good(Kind::Widget, &key);
    assert_eq!(store.own(Kind::Widget, &key).unwrap().good, None);
}

#[test]
fn an_answer_that_comes_after_the_removal_brings_nothing_back() {
    let mut store = store();
    store.hear(&source(), Seen::Is(widget("a", 3)), NOW);
    store.hear(&source(), Seen::Removed(widget("a", 6)), NOW);
    assert_eq!(store.is(Kind::Widget, &widget("a", 5), NOW), Change::Nothing);
    assert_eq!(version(&store, "a"), None);
    store.is(Kind::Widget, &widget("a", 7), NOW);
    assert_eq!(version(&store, "a"), Some(7));
}

#[test]
fn a_namespace_that_may_not_be_seen_is_stale_alone_and_not_waited_for() {
    let of = |namespace: &str| Source { namespace: Some(namespace.to_owned()), ..source() };
    let mut store = Store::new([of("shop"), of("lab")]);
    let waited = |store: &Store| store.awaited().filter_map(|source| source.namespace.clone()).collect();
    store.hear(&of("lab"), Seen::Refused("forbidden".into()), NOW);
    let waits: Vec<String> = waited(&store);
    assert_eq!(waits, ["lab", "shop"]);
    store.hear(&of("shop"), Seen::Listed { version: 3, keys: BTreeSet::new() }, NOW);
    assert_eq!(waited(&store), Vec::<String>::new());
    assert_eq!((store.listed_in("shop"), store.listed_in("lab")), (true, false));
    let fresh = |namespace| store.fresh(Kind::Widget, namespace);
    assert_eq!((fresh(Some("shop")), fresh(Some("lab")), fresh(None)), (true, false, false));
}

#[test]
fn a_kubelet_that_is_back_is_known_by_its_heartbeat_and_by_nobody_elses_word() {
    let mut store = store();
    let node = |version: u64, heartbeat: &str, ready: &str| {
        format!(
            r#"{{"metadata":{{"name":"n","resourceVersion":"{version}"}},"status":{{"conditions":[
                {{"type":"DiskPressure","lastHeartbeatTime":"{version}"}},
                {{"type":"Ready","status":"{ready}","lastHeartbeatTime":"{heartbeat}"}}]}}}}"#
        )
    };
    let written = |store: &Store| store.nodes()["n"].written;
    let at = |seconds: u64| Timestamp::from_micros(seconds * 1_000_000);
    store.is(Kind::Node, &node(1, "2026-01-01T00:00:00Z", "True"), at(1));
    assert_eq!(written(&store), None, "when it was written is not known");
    store.is(Kind::Node, &node(2, "2026-01-01T00:00:00Z", "Unknown"), at(60));
    assert_eq!(written(&store), None, "the node lifecycle controller says so");
    store.is(Kind::Node, &node(3, "2026-01-01T00:01:30Z", "True"), at(91));
    assert_eq!(written(&store), Some(at(91)));
}

/// A pod of a replica or of a hub, with this status.
fn pod(name: &str, version: u64, labels: &str, status: &str) -> String {
    format!(
        r#"{{"metadata":{{"name":"{name}","namespace":"default","uid":"u-{name}","resourceVersion":"{version}","labels":{{{labels},"kontrol.dev/incarnation":"1"}},
            "ownerReferences":[{{"apiVersion":"kontrol.dev/v1alpha1","kind":"Widget","name":"llm","uid":"u","controller":true}}]}},
            "spec":{{}},"status":{status}}}"#
    )
}

const REPLICA: &str = r#""kontrol.dev/group":"llm","kontrol.dev/widget":"llm","kontrol.dev/ordinal":"0""#;

#[test]
fn what_was_said_of_a_replica_that_was_taken_away_outlives_it_as_long_as_its_removal_is_remembered() {
    let pods = Source { kind: Kind::Pod, label: "", namespace: None };
    let mut store = Store::new([pods.clone()]);
    let evicted = r#"{"reason":"Evicted","message":"low on memory"}"#;
    store.hear(&pods, Seen::Is(pod("evicted", 1, REPLICA, evicted)), NOW);
    store.hear(&pods, Seen::Is(pod("plain", 1, REPLICA, "{}")), NOW);
    store.hear(&pods, Seen::Is(pod("hub", 1, r#""kontrol.dev/bus":"default""#, evicted)), NOW);
    assert_eq!(store.pods().count(), 3);
    store.hear(&pods, Seen::Listed { version: 2, keys: BTreeSet::new() }, NOW);
    store.gone(Kind::Pod, &Key::new("default", "hub"), 2);
    assert_eq!(store.pods().count(), 0);
    let said = |store: &Store, name: &str| {
        store.last_said(&Key::new("default", name)).map(|said| said.message.to_string())
    };
    let all = ["evicted", "plain", "hub"].map(|name| said(&store, name));
    assert_eq!(all, [Some("low on memory".to_owned()), None, None]);
    for number in 0..REMOVALS {
        store.gone(Kind::Widget, &Key::new("default", &format!("w-{number}")), 3);
    }
    assert_eq!(said(&store, "evicted"), None);
}
