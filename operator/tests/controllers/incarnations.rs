//! The numbers of hubs never go back, whoever is lost.

use kontrol_e2e_apiserver::Ended;

use crate::{
    cluster::{Cluster, Trouble},
    operator::USER,
    scenarios::{message_object, one_hub},
};

fn hubs(cluster: &Cluster) -> Vec<String> {
    let pods = cluster.server.list("pods", "default");
    let names = pods.iter().filter_map(|pod| pod["metadata"]["name"].as_str());
    names.filter(|name| name.starts_with("kontrol-hub-")).map(str::to_owned).collect()
}

/// Removes a pod as nobody asked for it, with nobody there to see it.
fn lose(cluster: &mut Cluster, pod: &str) {
    cluster.leave();
    let at_once = serde_json::json!({"gracePeriodSeconds": 0});
    cluster.server.delete_with("pods", "default", pod, &at_once).unwrap();
    cluster.crash();
}

#[test]
fn a_hub_whose_pods_and_operator_are_gone_has_the_next_number() {
    let mut cluster = Cluster::new(Trouble::Nothing);
    one_hub(&mut cluster);
    assert!(cluster.kubelet.end("default", "kontrol-hub-b-1", "hub", &Ended::code(1)));
    cluster.settle();
    assert_eq!(hubs(&cluster), ["kontrol-hub-b-2"], "{}", cluster.history());
    lose(&mut cluster, "kontrol-hub-b-2");
    cluster.settle();
    assert_eq!(hubs(&cluster), ["kontrol-hub-b-3"], "{}", cluster.history());
    let bus = cluster.server.get("messagebuses.kontrol.dev", "default", "b").unwrap();
    assert_eq!(bus["status"]["restarts"], 2);
}

#[test]
fn a_bus_that_comes_back_goes_on_with_its_numbers() {
    let mut cluster = Cluster::new(Trouble::Nothing);
    cluster.put(&message_object("Topic", "t", &serde_json::json!({})));
    cluster.settle();
    assert_eq!(hubs(&cluster), ["kontrol-hub-default-1"], "{}", cluster.history());
    cluster.server.delete("topics.kontrol.dev", "default", "t").unwrap();
    cluster.settle();
    assert_eq!(hubs(&cluster), [""; 0], "{}", cluster.history());
    cluster.crash();
    cluster.put(&message_object("Topic", "t", &serde_json::json!({})));
    cluster.settle();
    assert_eq!(hubs(&cluster), ["kontrol-hub-default-2"], "{}", cluster.history());
}

#[test]
fn a_number_that_may_not_be_kept_holds_no_hub_up_and_is_kept_when_it_may() {
    let mut cluster = Cluster::new(Trouble::Nothing);
    one_hub(&mut cluster);
    cluster.server.deny(USER, "patch", "persistentvolumeclaims");
    assert!(cluster.kubelet.end("default", "kontrol-hub-b-1", "hub", &Ended::code(1)));
    cluster.settle();
    assert_eq!(hubs(&cluster), ["kontrol-hub-b-2"], "{}", cluster.history());
    cluster.server.allow_again(USER);
    cluster.settle();
    let claim = cluster.server.get("persistentvolumeclaims", "default", "kontrol-hub-b").unwrap();
    assert_eq!(claim["metadata"]["annotations"]["kontrol.dev/incarnation"], "2", "{}", cluster.history());
}
