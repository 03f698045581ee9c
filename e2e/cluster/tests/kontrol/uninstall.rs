//! Upgrades, and uninstall: what was declared stays, and what runs goes on.

use k8s_openapi::api::core::v1::{Node, Pod};
use kontrol_e2e_cluster::lab::{
    Lab,
    kontrol::{SYSTEM, helm, install, install_previous, name_of, object, test_widget},
    operator::operators,
};
use kube::Api;
use serde_json::{Value, json};

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

    let notes = helm(lab.cluster(), &["get", "notes", "kontrol", "--namespace", SYSTEM]).unwrap();
    let said =
        helm(lab.cluster(), &["uninstall", "kontrol", "--namespace", SYSTEM, "--wait", "--timeout", "60s"]);
    let kept =
        lab.cluster().kubectl(&["get", "crd", "-l", "app.kubernetes.io/part-of=kontrol", "-o", "name"]);
    let authority =
        lab.cluster().kubectl(&["-n", SYSTEM, "get", "secret", "kontrol-authority", "-o", "name"]);
    let definitions = lab.cluster().kubectl(&["get", "crd", "widgets.kontrol.dev", "-o", "name"]);
    let widget = lab.get("Widget", "stays").await;
    let pod = lab.until_pods("stays", "stays", 1).await;
    let left =
        lab.cluster().kubectl(&["-n", SYSTEM, "get", "deployments,services,pdb,rolebindings", "-o", "name"]);
    let policies = lab.cluster().kubectl(&["get", "validatingadmissionpolicies,clusterroles", "-o", "name"]);

    // The previous chart brings older definitions and fewer rights, with which an operator runs and says what it lacks; its upgrade brings the rest.
    let previous = install_previous(lab.cluster());
    let early = async {
        lab.apply(&object("Widget", "early", &json!({"container": test_widget(&[])})))?;
        let lacks = |widget: &Value| widget["status"]["conditions"].to_string().contains("pods/status");
        lab.until_object("Widget", "early", "what the rights of before lack to be said", lacks).await?;
        lab.pods("early", "early").await
    }
    .await;
    install(lab.cluster(), &[]).unwrap();

    let said = said.unwrap();
    previous.unwrap();
    definitions.unwrap();
    // What is left over was said: by the notes of the release, and by helm.
    for word in
        ["After an uninstall stay", "resource definitions", "pods that run", "Secret kontrol-authority"]
    {
        assert!(notes.contains(word), "nothing of {word:?} in {notes}");
    }
    authority.unwrap();
    let kept = kept.unwrap();
    let kept: Vec<&str> =
        kept.lines().filter_map(|line| line.split_once('/')).map(|(_, name)| name).collect();
    assert!(kept.contains(&"widgets.kontrol.dev"), "{kept:?}");
    for definition in kept {
        let line = format!("[CustomResourceDefinition] {definition}");
        assert!(said.lines().any(|said| said.trim() == line), "nothing of {definition} in {said}");
    }
    assert_eq!(widget.unwrap()["metadata"]["name"], "stays");
    assert_eq!(pod.unwrap()[0].metadata.uid, before.metadata.uid);
    let left = left.unwrap();
    assert!(!left.contains("kontrol"), "{left}");
    let policies = policies.unwrap();
    assert!(!policies.lines().any(|name| name.contains("kontrol")), "{policies}");

    lab.until_operators().await.unwrap();
    let after = lab.until_pods("stays", "stays", 1).await.unwrap().remove(0);
    assert_eq!(after.metadata.uid, before.metadata.uid, "an upgrade restarts no widget");
    lab.until_ready("Widget", "early").await.unwrap();
    let same = lab.until_pods("early", "early", 1).await.unwrap().remove(0);
    assert_eq!(same.metadata.uid, early.unwrap()[0].metadata.uid, "nor one that was started before it");
    // It is looked after again.
    lab.kubectl(&["delete", "pod", &name_of(&after), "--wait=false"]).unwrap();
    lab.until_replaced("stays", &after).await.unwrap();
}
