//! Trees of which nothing is under way.

use super::*;

fn llm() -> Root {
    Root { kind: Kind::Widget, key: Key::new("default", "llm") }
}

fn resting() -> Cluster {
    let mut cluster = lone();
    cluster.run();
    assert!(!cluster.state.trees.rests(&llm()), "its pod starts");
    cluster.ready("llm-0-1");
    cluster.run();
    assert!(cluster.state.trees.rests(&llm()));
    cluster.asked.clear();
    cluster
}

#[test]
fn a_tree_that_rests_is_counted_and_its_status_is_known() {
    let cluster = resting();
    assert_eq!(cluster.state.trees()["Ready"], 1);
    let id: WidgetId = "default/llm/llm".parse().unwrap();
    let (root, status) = cluster.state.status_with(&id).unwrap();
    assert_eq!(root, llm());
    assert_eq!(observe::noted(&status, &id).unwrap().replicas[0].incarnation, 1);
}

#[test]
fn a_tree_that_is_looked_at_for_nothing_writes_nothing_and_rests_again() {
    let mut cluster = resting();
    cluster.state.mark_all();
    cluster.run();
    assert_eq!(cluster.asked, []);
    assert!(cluster.state.trees.rests(&llm()));
}

#[test]
fn a_tree_that_rested_goes_on_where_it_was() {
    let mut cluster = resting();
    cluster.end("llm-0-1", 1);
    cluster.run();
    assert_eq!(cluster.names(Kind::Pod), ["llm-0-2"]);
    cluster.ready("llm-0-2");
    cluster.pass(Duration::from_hours(1));
    assert!(cluster.state.trees.rests(&llm()));
    assert_eq!(cluster.status(Kind::Widget, "llm")["restarts"], 1);
}

#[test]
fn a_tree_that_is_not_accepted_does_not_rest() {
    let mut cluster = resting();
    cluster.put(Kind::Widget, "llm", json!({"spec": {"replicas": "many"}, "metadata": {"generation": 2}}));
    cluster.run();
    assert!(!cluster.state.trees.rests(&llm()));
    assert_eq!(cluster.state.not_accepted(Kind::Widget), 1);
}

#[test]
fn what_is_removed_is_forgotten_also_where_it_rested() {
    let mut cluster = resting();
    cluster.remove(Kind::Widget, "llm");
    cluster.run();
    assert!(!cluster.state.trees.contains(&llm()));
    assert_eq!(cluster.state.trees().values().sum::<usize>(), 0);
}
