//! A tree that is deleted while a node of it is lost.

use std::time::Duration;

use serde_json::json;

use super::{edit_group, goes};
use crate::{
    cluster::Cluster,
    refusals::says,
    scenarios::{GROUPS, Scenario, WIDGETS},
};

/// Loses the node of the second widget.
fn lose_a_node(cluster: &mut Cluster) {
    cluster.settle();
    let pod = cluster.pod("g-b", 0).unwrap();
    cluster.kubelet.lose(pod["spec"]["nodeName"].as_str().unwrap());
    cluster.pass(Duration::from_secs(20));
}

#[test]
fn a_tree_that_has_lost_a_node_goes() {
    let lost: Scenario = |cluster| {
        lose_a_node(cluster);
        let widget = cluster.server.get(WIDGETS, "default", "g-b").unwrap();
        assert_eq!(widget["status"]["lastEnd"]["reason"], "NodeLost", "{}", cluster.history());
    };
    goes(lost, true);
}

#[test]
fn a_tree_that_waits_for_a_lost_node_goes() {
    let waits: Scenario = |cluster| {
        edit_group(cluster, |group| group["widgets"][1]["identity"] = json!({"stable": true}));
        lose_a_node(cluster);
        says(cluster, GROUPS, "g", "Ready=False:NodeLost");
    };
    goes(waits, true);
}
