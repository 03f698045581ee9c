//! Upgrades, and uninstall: what was declared stays, and what runs goes on.

use k8s_openapi::api::core::v1::{Node, Pod};
use kontrol_e2e_cluster::lab::{
    Lab,
    kontrol::{SYSTEM, helm, install, name_of, object, previous_chart, test_widget},
    operator::operators,
};
use kube::Api;
use serde_json::json;

/// Another name of an image of this work tree, under which it stands for another version.
async fn other_tag(lab: &Lab, image: &str) -> String {
    let nodes = Api::<Node>::all(lab.client().clone());
    let begin = format!("kontrol.local/{image}:");
    let found = lab.wait("a node to list its images, named after their content too", async || {
        let images = nodes.get("node0").await?.status.and_then(|status| status.images).unwrap_or_default();
        let names = images.into_iter().flat_map(|image| image.names.unwrap_or_default());
        let tags: Vec<String> =
            names.filter_map(|name| Some(name.strip_prefix(&begin)?.to_owned())).collect();
        Ok(tags.iter().find(|tag| *tag != "dev").cloned().ok_or(tags))
    });
    found.await.unwrap()
}

fn images_of(pod: &Pod) -> Vec<String> {
    let spec = pod.spec.clone().unwrap_or_default();
    let all = spec.containers.into_iter().chain(spec.init_containers.into_iter().flatten());
    all.filter_map(|container| container.image).collect()
}

#[tokio::test]
async fn breaks_in_with_another_version_that_restarts_nobody_and_comes_with_a_pods_next_replacement() {
    let lab = Lab::with_kontrol("versions").await.unwrap();
    lab.until_operators().await.unwrap();
    lab.apply(&object("Widget", "stays", &json!({"container": test_widget(&[])}))).unwrap();
    lab.until_ready("Widget", "stays").await.unwrap();
    let before = lab.until_pods("stays", "stays", 1).await.unwrap().remove(0);
    let (operator, sidecar) =
        (other_tag(&lab, "kontrol-operator").await, other_tag(&lab, "kontrol-sidecar").await);

    // Operators of both versions stand side by side while the one takes over from the other.
    let values = [format!("image.operator.tag={operator}"), format!("image.sidecar.tag={sidecar}")];
    let upgraded = install(lab.cluster(), &["--set-string", &values[0], "--set-string", &values[1]]);
    let seen = async {
        upgraded?;
        lab.until_operators().await?;
        let operators = operators(lab.client()).await?;
        let same = lab.until_pods("stays", "stays", 1).await?.remove(0);
        lab.kubectl(&["delete", "pod", &name_of(&same), "--wait=false"])?;
        let next = lab.until_replaced("stays", &same).await?;
        Ok::<_, kontrol_e2e_cluster::Error>((operators, same, next))
    }
    .await;
    let back =
        helm(lab.cluster(), &["rollback", "kontrol", "--namespace", SYSTEM, "--wait", "--timeout", "2m"]);
    let (operators, same, next) = seen.unwrap();
    back.unwrap();
    assert!(operators.iter().all(|pod| images_of(pod).iter().any(|image| image.ends_with(&operator))));
    assert_eq!(same.metadata.uid, before.metadata.uid, "an upgrade restarts no widget");
    let new = |image: &String| image.ends_with(&sidecar);
    assert!(images_of(&next).iter().any(new) && !images_of(&same).iter().any(new), "{:?}", images_of(&next));

    lab.until_operators().await.unwrap();
    let after = lab.until_pods("stays", "stays", 1).await.unwrap().remove(0);
    assert_eq!(after.metadata.uid, next.metadata.uid, "nor does the way back");
}

#[tokio::test]
async fn breaks_off_with_an_uninstall_that_leaves_what_users_have_and_goes_on_after_an_upgrade() {
    let lab = Lab::with_kontrol("uninstall").await.unwrap();
    lab.apply(&object("Widget", "stays", &json!({"container": test_widget(&[])}))).unwrap();
    lab.until_ready("Widget", "stays").await.unwrap();
    let before = lab.until_pods("stays", "stays", 1).await.unwrap().remove(0);

    helm(lab.cluster(), &["uninstall", "kontrol", "--namespace", SYSTEM, "--wait", "--timeout", "60s"])
        .unwrap();
    let definitions = lab.cluster().kubectl(&["get", "crd", "widgets.kontrol.dev", "-o", "name"]);
    let widget = lab.get("Widget", "stays").await;
    let pod = lab.until_pods("stays", "stays", 1).await;
    let left =
        lab.cluster().kubectl(&["-n", SYSTEM, "get", "deployments,services,pdb,rolebindings", "-o", "name"]);
    let policies = lab.cluster().kubectl(&["get", "validatingadmissionpolicies,clusterroles", "-o", "name"]);

    // The previous chart brings the definitions, and its upgrade all the rest.
    let chart = previous_chart();
    helm(lab.cluster(), &["install", "kontrol", &chart, "--namespace", SYSTEM]).unwrap();
    install(lab.cluster(), &[]).unwrap();

    definitions.unwrap();
    assert_eq!(widget.unwrap()["metadata"]["name"], "stays");
    assert_eq!(pod.unwrap()[0].metadata.uid, before.metadata.uid);
    let left = left.unwrap();
    assert!(!left.contains("kontrol"), "{left}");
    let policies = policies.unwrap();
    assert!(!policies.lines().any(|name| name.contains("kontrol")), "{policies}");

    lab.until_operators().await.unwrap();
    let after = lab.until_pods("stays", "stays", 1).await.unwrap().remove(0);
    assert_eq!(after.metadata.uid, before.metadata.uid, "an upgrade restarts no widget");
    // It is looked after again.
    lab.kubectl(&["delete", "pod", &name_of(&after), "--wait=false"]).unwrap();
    lab.until_replaced("stays", &after).await.unwrap();
}
