//! Upgrade from the previous chart, and uninstall: what was declared stays.

use kontrol_e2e_cluster::lab::{
    Lab,
    kontrol::{SYSTEM, helm, install, name_of, object, previous_chart, test_widget},
};
use serde_json::json;

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
