use super::*;

/// A replica on node0, ready on the word of a leader that is gone, another one on node1 whose sidecar speaks to the new one, and one on node2
/// whose sidecar may.
fn taken_over() -> Cluster {
    let mut cluster = Cluster::new();
    for name in ["lost", "well", "late"] {
        cluster.put(Kind::Widget, name, json!({"spec": {"container": container()}}));
    }
    cluster.run();
    for (name, node) in [("lost", "node0"), ("well", "node1"), ("late", "node2")] {
        cluster.ready(&format!("{name}-0-1"));
        cluster.put(Kind::Pod, &format!("{name}-0-1"), json!({"spec": {"nodeName": node}}));
        cluster.put(Kind::Node, node, json!({}));
    }
    cluster.pass(Duration::from_secs(2));
    cluster.state.take(Input::Leads(false), cluster.now);
    cluster.state.take(Input::Leads(true), cluster.now);
    speaks(&mut cluster, "well");
    cluster
}

/// The sidecar of a replica opens a session.
fn speaks(cluster: &mut Cluster, name: &str) {
    let (id, session) = control::Session::unheard(if name == "well" { 1 } else { 2 });
    let subject = format!("default/{name}/{name}/0");
    let pod_uid = format!("u-{name}-0-1");
    let hello = v1::Hello { subject: subject.clone(), pod_uid, incarnation: 1, ..v1::Hello::default() };
    cluster.state.take(Input::Control(control::Event::Opened { id, hello, session }), cluster.now);
}

/// Time passes, in which these speak.
fn passes(cluster: &mut Cluster, time: Duration, speaking: &[&str]) {
    let end = cluster.now.plus(time);
    while cluster.now < end {
        cluster.pass(Duration::from_millis(500));
        for name in speaking {
            speaks(cluster, name);
        }
    }
}

#[test]
fn a_node_that_is_lost_together_with_the_leader_is_given_up_soon() {
    let mut cluster = taken_over();
    passes(&mut cluster, Duration::from_secs(4), &["well", "late"]);
    assert!(!cluster.names(Kind::Pod).contains(&"lost-0-2"));
    passes(&mut cluster, Duration::from_secs(6), &["well", "late"]);
    assert!(cluster.names(Kind::Pod).contains(&"lost-0-2"), "{:?}", cluster.names(Kind::Pod));
    assert!(!cluster.names(Kind::Pod).contains(&"well-0-2"));
}

#[test]
fn a_node_whose_sidecars_come_late_to_a_new_leader_is_kept_while_its_kubelet_listens() {
    let mut cluster = taken_over();
    for _ in 0..80 {
        passes(&mut cluster, Duration::from_millis(500), &["well", "late"]);
        cluster.state.take(Input::Open("node0".into()), cluster.now);
    }
    assert!(!cluster.names(Kind::Pod).contains(&"lost-0-2"));
}

#[test]
fn where_another_node_comes_back_late_a_lost_one_is_given_up_all_the_same() {
    let mut cluster = taken_over();
    passes(&mut cluster, Duration::from_secs(28), &["well"]);
    passes(&mut cluster, Duration::from_secs(2), &["well", "late"]);
    assert!(!cluster.names(Kind::Pod).contains(&"lost-0-2"));
    passes(&mut cluster, Duration::from_secs(3), &["well", "late"]);
    assert!(cluster.names(Kind::Pod).contains(&"lost-0-2"), "{:?}", cluster.names(Kind::Pod));
    assert!(!cluster.names(Kind::Pod).contains(&"late-0-2"));
}
