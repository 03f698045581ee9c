//! From nothing to the first widget.

use super::row::{Row, times};
use super::{pods::plain, seen::Seen};
use crate::{
    Cluster, Error, Result,
    clock::now,
    lab::{
        Lab,
        kontrol::{SYSTEM, helm, install},
    },
};

/// The kinds, those that own others last.
const KINDS: [&str; 6] = ["routes", "widgets", "widgetgroups", "supervisors", "topics", "messagebuses"];

/// Takes everything of Kontrol's from the cluster: what was declared, while there is an operator to end it well, then the release, the definitions
/// that an uninstall leaves, and the namespace.
fn remove(cluster: &Cluster) -> Result<()> {
    let kinds = KINDS.map(|kind| format!("{kind}.kontrol.dev"));
    if cluster.kubectl(&["get", "crd", &kinds[1]]).is_ok() {
        let all = kinds.join(",");
        cluster.kubectl(&["delete", &all, "--all", "--all-namespaces", "--timeout=2m"])?;
    }
    let release =
        ["uninstall", "kontrol", "--namespace", SYSTEM, "--ignore-not-found", "--wait", "--timeout", "2m"];
    helm(cluster, &release)?;
    let mut definitions = vec!["delete", "crd", "--ignore-not-found", "--timeout=2m"];
    definitions.extend(kinds.iter().map(String::as_str));
    cluster.kubectl(&definitions)?;
    cluster.kubectl(&["delete", "namespace", SYSTEM, "--ignore-not-found", "--timeout=2m"])?;
    let left = cluster.kubectl(&[
        "get",
        "crd,clusterroles,clusterrolebindings,validatingadmissionpolicies",
        "-o",
        "name",
    ])?;
    let left: Vec<_> = left.lines().filter(|name| name.contains("kontrol")).collect();
    if left.is_empty() { Ok(()) } else { Err(Error::Invalid(format!("an uninstall leaves {left:?}"))) }
}

/// `helm install` on a cluster that holds nothing of Kontrol's but the images on its nodes, until it is up; then a widget, until its pod is Ready.
pub(super) async fn first_widget(lab: &Lab, n: usize) -> Result<Vec<Row>> {
    let seen = Seen::watch(lab);
    let (mut up, mut ready) = (Vec::new(), Vec::new());
    for round in 0..n {
        remove(lab.cluster())?;
        let begun = now();
        install(lab.cluster(), &[])?;
        up.push(begun.elapsed());
        let name = format!("w{round}");
        lab.apply(&plain(&name))?;
        ready.push(seen.until(&format!("{name}-0-1"), |pod| pod.ready).await? - begun);
        lab.until_ready("Widget", &name).await?;
    }
    lab.until_operators().await?;
    Ok(times([
        ("k8s.install: helm install → first widget Ready", ready),
        ("the same → helm says that the operator is up", up),
    ]))
}
