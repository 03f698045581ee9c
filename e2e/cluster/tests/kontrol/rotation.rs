//! The authority's key is replaced while everything goes on: first both are trusted, then the new one signs.

use std::cell::{Cell, RefCell};

use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Pod, Secret},
};
use kontrol_e2e_cluster::lab::{
    Lab,
    kontrol::{SYSTEM, name_of, object, test_widget},
    operator::leader,
    web::{address, figure},
};
use kontrol_sidecar::identity::{Material, Tls, authorities};
use kube::{Api, api::PostParams};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};
use serde_json::{Value, json};

use crate::{
    conformance,
    identity::{Asks, token},
    strangers::{is_greeted, now, until_logged},
};

/// What a sidecar logs when it trusts others than before.
const TRUSTS: [&str; 1] = ["the trusted authorities have changed"];
/// How long an authority is trusted that no longer signs, in seconds.
const OVERLAP: u64 = 24 * 3600 + 300;
/// The line of metrics with how many sessions a sidecar has had.
const CONNECTS: &str = "kontrol_control_connects_total ";
/// The line with how many calls its widget was asked to answer.
const REQUESTS: &str = "kontrol_serve_requests_total ";

/// An authority as the operator makes one: its certificate and its key, in PEM.
fn authority() -> (String, String) {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Kontrol authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// The Secret of the authority, as who may write it.
struct Keys(Api<Secret>);

impl Keys {
    async fn new(lab: &Lab) -> Self {
        Self(Api::namespaced(conformance::operator(lab).await, SYSTEM))
    }

    async fn get(&self, key: &str) -> String {
        let data = self.0.get("kontrol-authority").await.unwrap().data.unwrap();
        String::from_utf8(data[key].0.clone()).unwrap()
    }

    /// Takes a step of a rotation as the operator does: keys without a text are taken away.
    async fn step(&self, change: &[(&str, Option<&str>)]) {
        let mut secret = self.0.get("kontrol-authority").await.unwrap();
        let data = secret.data.get_or_insert_default();
        for (key, text) in change {
            match text {
                Some(text) => drop(data.insert((*key).to_owned(), ByteString(text.as_bytes().to_vec()))),
                None => drop(data.remove(*key)),
            }
        }
        self.0.replace("kontrol-authority", &PostParams::default(), &secret).await.unwrap();
    }
}

/// Has another operator lead, and both be there: who begins to lead goes on from the keys that it finds.
async fn another_leads(lab: &Lab) {
    let before = name_of(&lab.leader().await.unwrap());
    lab.cluster().kubectl(&["-n", SYSTEM, "delete", "pod", &before, "--wait=false"]).unwrap();
    lab.wait("another one to lead", async || {
        let now = leader(lab.client()).await?.as_ref().map(name_of);
        Ok(if now.as_ref().is_some_and(|name| *name != before) { Ok(()) } else { Err(now) })
    })
    .await
    .unwrap();
    lab.until_operators().await.unwrap();
}

/// Where a pod's sidecar tells its figures.
fn figures(pod: &Pod) -> String {
    address(pod, 7413)
}

/// Waits until the pod's sidecar has a session that it did not have when it had made `before` of them.
async fn until_connected(lab: &Lab, pod: &Pod, before: u64) {
    lab.wait(&format!("{} to have a session with the new leader", name_of(pod)), async || {
        let connected = figure(&figures(pod), "kontrol_control_connected ").await;
        let connects = figure(&figures(pod), CONNECTS).await;
        Ok(match (connected, connects) {
            (Ok(Some(1)), Ok(Some(connects))) if connects > before => Ok(()),
            seen => Err(seen),
        })
    })
    .await
    .unwrap();
}

/// Whether one call was answered, and what came where it was not.
async fn call(lab: &Lab, caller: &Pod) -> Result<(), String> {
    match lab.door(caller, "POST", "/v1/call/callee/echo", "hello").await {
        Ok(answer) if answer.status == 200 => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

/// Waits until `kontrol-trust` holds both authorities, and these pods' sidecars trust them.
async fn until_both_are_trusted(lab: &Lab, both: [&str; 2], pods: [&Pod; 2]) {
    lab.wait("kontrol-trust to hold both authorities", async || {
        let trust = lab.api::<ConfigMap>().get("kontrol-trust").await?.data.unwrap_or_default();
        let bundle = trust.get("ca.crt").cloned().unwrap_or_default();
        Ok(if both.iter().all(|one| bundle.contains(one.trim_end())) { Ok(()) } else { Err(bundle) })
    })
    .await
    .unwrap();
    for pod in pods {
        // The kubelet looks at a pod that is changed at once, and within a minute or two at others.
        let name = name_of(pod);
        lab.kubectl(&["annotate", "pod", &name, "example.dev/looked-at=again"]).unwrap();
    }
    for pod in pods {
        until_logged(lab, (lab.namespace(), &name_of(pod), "kontrol-sidecar"), &TRUSTS).await;
    }
}

/// A widget that answers with so many replicas, and one that calls it.
fn team(replicas: u32) -> Value {
    object(
        "WidgetGroup",
        "team",
        &json!({"widgets": [
            {"name": "callee", "container": test_widget(&["--serve"]), "serves": [{"method": "echo"}], "replicas": replicas},
            {"name": "caller", "container": test_widget(&[]), "calls": [{"target": "callee"}]},
        ]}),
    )
}

/// A team in which a call was answered: the callee and the caller.
async fn world() -> (Lab, Pod, Pod) {
    let lab = Lab::with_kontrol("rotation").await.unwrap();
    lab.until_operators().await.unwrap();
    lab.apply(&team(1)).unwrap();
    let first = lab.until_pods("team", "callee", 1).await.unwrap().remove(0);
    let caller = lab.until_pods("team", "caller", 1).await.unwrap().remove(0);
    lab.wait("a call to be answered", async || Ok(call(&lab, &caller).await)).await.unwrap();
    (lab, first, caller)
}

/// Takes the keys from `before` to the next ones, with another leader for each step. Gives a replica of the callee that came after that and
/// was called.
async fn rotate(lab: &Lab, pods: [&Pod; 2], before: &str, (next, key): (&str, &str)) -> Pod {
    let keys = Keys::new(lab).await;
    keys.step(&[("next.crt", Some(next)), ("next.key", Some(key))]).await;
    another_leads(lab).await;
    until_both_are_trusted(lab, [before, next], pods).await;

    let until = ((now() + OVERLAP) * 1_000_000).to_string();
    let switched = [
        ("ca.crt", Some(next)),
        ("ca.key", Some(key)),
        ("next.crt", None),
        ("next.key", None),
        ("previous.crt", Some(before)),
        ("previous.until", Some(until.as_str())),
    ];
    keys.step(&switched).await;
    let mut connects = Vec::new();
    for pod in pods {
        connects.push(figure(&figures(pod), CONNECTS).await.unwrap().unwrap());
    }
    another_leads(lab).await;
    // The new leader shows a certificate of the new authority, and takes those of the old.
    for (pod, before) in pods.into_iter().zip(connects) {
        until_connected(lab, pod, before).await;
    }
    lab.apply(&team(2)).unwrap();
    let new = lab.until_pods("team", "callee", 2).await.unwrap().remove(1);
    lab.wait("a replica with a certificate of the new authority to answer calls", async || {
        let requests = figure(&figures(&new), REQUESTS).await;
        Ok(if matches!(requests, Ok(Some(1..))) { Ok(()) } else { Err(requests) })
    })
    .await
    .unwrap();
    new
}

/// What the leader gives the sidecar of a pod now; used by somebody who trusts the new authority alone.
async fn issued(lab: &Lab, pod: &Pod, before: &str, next: &str) -> Tls {
    let further = ["--bound-object-kind=Pod", "--bound-object-name", &name_of(pod), "--audience=kontrol.dev"];
    let subject = format!("{}/team/caller/0", lab.namespace());
    let issued = Asks::new(lab).await.ask(&subject, &token(lab, &further)).await.unwrap();
    let (old, new) = (authorities(before.as_bytes()).unwrap(), authorities(next.as_bytes()).unwrap());
    assert_eq!(issued.chain[1], new[0], "the new authority signs");
    assert!(issued.authorities.contains(&old[0]), "the old one is trusted");
    Tls::new(&Material { authorities: new, ..issued }, "kontrol.local".parse().unwrap()).unwrap()
}

/// The steps are those of `docs/security.md`, which are a day apart: here they are written into the Secret one after the other, each for a
/// leader that begins with it. Nothing has to be put right where this fails: either state of the keys is one to go on from.
#[tokio::test]
async fn breaks_no_call_when_the_authority_is_rotated_and_the_leader_changes_with_each_step() {
    let (lab, first, caller) = world().await;
    let before = Keys::new(&lab).await.get("ca.crt").await;
    let (next, key) = authority();
    let (rotated, answered, lost) = (Cell::new(false), Cell::new(0_u32), RefCell::new(Vec::new()));
    let calling = async {
        while !rotated.get() {
            let answer = call(&lab, &caller).await;
            answered.set(answered.get() + u32::from(answer.is_ok()));
            lost.borrow_mut().extend(answer.err());
        }
    };
    let rotating = async {
        let new = rotate(&lab, [&caller, &first], &before, (&next, &key)).await;
        rotated.set(true);
        new
    };
    let ((), new) = tokio::join!(calling, rotating);
    assert_eq!(*lost.borrow(), Vec::<String>::new(), "{} were answered", answered.get());
    assert!(answered.get() > 10, "{} calls", answered.get());

    // Whoever trusts the new authority alone takes the new replica's certificate, and not those that the others began with.
    let tls = issued(&lab, &caller, &before, &next).await;
    let peer = |pod: &Pod| address(pod, 7412);
    assert_eq!(is_greeted(&peer(&new), &tls).await, Ok(()));
    for old in [&first, &caller] {
        let refused = is_greeted(&peer(old), &tls).await.unwrap_err();
        assert!(refused.contains("invalid peer certificate"), "{}: {refused}", name_of(old));
    }

    // A sidecar that begins anew in a pod that goes on has one of the new authority, and calls both.
    lab.signal(&caller, "kontrol-sidecar", "SIGKILL").unwrap();
    lab.wait("the caller's sidecar to have a certificate of the new authority", async || {
        Ok(is_greeted(&peer(&caller), &tls).await)
    })
    .await
    .unwrap();
    for pod in [&first, &new] {
        let before = figure(&figures(pod), REQUESTS).await.unwrap().unwrap();
        lab.wait(&format!("{} to answer it", name_of(pod)), async || {
            // Its containers are others than before.
            let caller = lab.until_pods("team", "caller", 1).await?.remove(0);
            let answer = call(&lab, &caller).await;
            let after = figure(&figures(pod), REQUESTS).await;
            Ok(match (answer, after) {
                (Ok(()), Ok(Some(after))) if after > before => Ok(()),
                seen => Err(seen),
            })
        })
        .await
        .unwrap();
    }
    lab.until_operators().await.unwrap();
}
