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
pub(super) fn speaks(cluster: &mut Cluster, name: &str) {
    let (id, session) = control::Session::unheard(if name == "well" { 1 } else { 2 });
    let subject = format!("default/{name}/{name}/0");
    let pod_uid = format!("u-{name}-0-1");
    let hello = v1::Hello { subject: subject.clone(), pod_uid, incarnation: 1, ..v1::Hello::default() };
    cluster.state.take(Input::Control(control::Event::Opened { id, hello, session }), cluster.now);
}

/// Time passes, in which these speak.
pub(super) fn passes(cluster: &mut Cluster, time: Duration, speaking: &[&str]) {
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

/// The former leader stood on node0 and fell silent 1.8 s before this one began to lead.
fn led_from_node0(cluster: &mut Cluster) {
    let silent_since = cluster.now.minus(Duration::from_millis(1_800));
    cluster.state.take(Input::Led { node: "node0".into(), silent_since }, cluster.now);
}

#[test]
fn a_node_goes_at_once_with_who_led_from_it_where_its_kubelet_no_longer_opens() {
    let mut cluster = taken_over();
    cluster.state.take(Input::Open("node0".into()), cluster.now.minus(Duration::from_mins(1)));
    led_from_node0(&mut cluster);
    passes(&mut cluster, Duration::from_millis(900), &["well"]);
    assert!(!cluster.names(Kind::Pod).contains(&"lost-0-2"), "it may not have heard the knock");
    passes(&mut cluster, Duration::from_millis(600), &["well"]);
    assert!(cluster.names(Kind::Pod).contains(&"lost-0-2"), "{:?}", cluster.names(Kind::Pod));
    assert!(!cluster.names(Kind::Pod).contains(&"late-0-2"));
}

#[test]
fn a_node_whose_kubelet_was_never_reached_does_not_go_with_who_led_from_it() {
    let mut cluster = taken_over();
    led_from_node0(&mut cluster);
    passes(&mut cluster, Duration::from_secs(4), &["well", "late"]);
    assert!(!cluster.names(Kind::Pod).contains(&"lost-0-2"));
    // The lead changes hands once more: what was said of the leader before the last is over.
    cluster.state.take(Input::Leads(false), cluster.now);
    cluster.state.take(Input::Open("node0".into()), cluster.now);
    cluster.pass(Duration::from_secs(10));
    cluster.state.take(Input::Leads(true), cluster.now);
    passes(&mut cluster, Duration::from_secs(4), &["well", "late"]);
    assert!(!cluster.names(Kind::Pod).contains(&"lost-0-2"));
}

#[test]
fn who_does_not_lead_knocks_at_each_machine_until_it_has_opened_once() {
    let mut cluster = Cluster::unled();
    let knocks = |cluster: &mut Cluster| -> Vec<Arc<str>> {
        let effects = cluster.state.go_round(cluster.now).into_iter();
        let nodes = effects.map(|effect| match effect {
            Effect::Knock(node, address) if *address == *format!("ip-{node}") => node,
            effect => panic!("{effect:?}"),
        });
        nodes.collect()
    };
    assert_eq!((knocks(&mut cluster), cluster.state.next_round()), (Vec::new(), None), "no machine is known");
    let node = |cluster: &mut Cluster, number: usize| {
        let address = json!([{"type": "InternalIP", "address": format!("ip-n{number:02}")}]);
        cluster.put(Kind::Node, &format!("n{number:02}"), json!({"status": {"addresses": address}}));
    };
    (0..40).for_each(|number| node(&mut cluster, number));
    let first = knocks(&mut cluster);
    assert_eq!((first.len(), knocks(&mut cluster).len()), (32, 0));
    for opens in &first[1..] {
        cluster.state.take(Input::Open(opens.clone()), cluster.now);
    }
    let next = |cluster: &mut Cluster| {
        cluster.now = cluster.state.next_round().unwrap();
        knocks(cluster)
    };
    let second = next(&mut cluster);
    assert_eq!((second.len(), &*second[0]), (8, "n32"));
    let third = next(&mut cluster);
    assert_eq!((third.len(), &*third[0]), (9, "n00"), "those that have not opened");
    for opens in &third {
        cluster.state.take(Input::Open(opens.clone()), cluster.now);
    }
    assert_eq!(cluster.state.next_round(), None, "all are reached");
    cluster.remove(Kind::Node, "n05");
    node(&mut cluster, 5);
    assert_eq!(next(&mut cluster), ["n05".into()], "it may be another machine");
    cluster.state.take(Input::Leads(true), cluster.now);
    assert_eq!(cluster.state.next_round(), None);
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
