use super::*;

/// A replica on node0, ready on the word of a leader that is gone, and another one on node1 whose sidecar speaks to the new one.
fn taken_over() -> Cluster {
    let mut cluster = Cluster::new();
    for name in ["lost", "well"] {
        cluster.put(Kind::Widget, name, json!({"spec": {"container": container()}}));
    }
    cluster.run();
    for (name, node) in [("lost", "node0"), ("well", "node1")] {
        cluster.ready(&format!("{name}-0-1"));
        cluster.put(Kind::Pod, &format!("{name}-0-1"), json!({"spec": {"nodeName": node}}));
        cluster.put(Kind::Node, node, json!({}));
    }
    cluster.pass(Duration::from_secs(2));
    cluster.state.take(Input::Leads(false), cluster.now);
    cluster.state.take(Input::Leads(true), cluster.now);
    speaks(&mut cluster);
    cluster
}

fn speaks(cluster: &mut Cluster) {
    let (id, session) = control::Session::unheard(1);
    let subject = "default/well/well/0".to_owned();
    let pod_uid = "u-well-0-1".to_owned();
    let hello = v1::Hello { subject: subject.clone(), pod_uid, incarnation: 1, ..v1::Hello::default() };
    cluster.state.take(Input::Control(control::Event::Opened { id, hello, session }), cluster.now);
}

fn passes(cluster: &mut Cluster, time: Duration, lost_opens: bool) {
    let end = cluster.now.plus(time);
    while cluster.now < end {
        cluster.pass(Duration::from_millis(500));
        speaks(cluster);
        if lost_opens {
            cluster.state.take(Input::Open("node0".into()), cluster.now);
        }
    }
}

#[test]
fn a_node_that_is_lost_together_with_the_leader_is_given_up_soon() {
    let mut cluster = taken_over();
    passes(&mut cluster, Duration::from_secs(4), false);
    assert!(!cluster.names(Kind::Pod).contains(&"lost-0-2"));
    passes(&mut cluster, Duration::from_secs(6), false);
    assert!(cluster.names(Kind::Pod).contains(&"lost-0-2"), "{:?}", cluster.names(Kind::Pod));
    assert!(!cluster.names(Kind::Pod).contains(&"well-0-2"));
}

#[test]
fn a_node_whose_sidecars_come_late_to_a_new_leader_is_kept_while_its_kubelet_listens() {
    let mut cluster = taken_over();
    passes(&mut cluster, Duration::from_secs(40), true);
    assert!(!cluster.names(Kind::Pod).contains(&"lost-0-2"));
}
