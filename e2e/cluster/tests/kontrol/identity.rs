//! Whoever asks for an identity that is not theirs gets none, is told why, and is counted.

use std::{fs, path::Path};

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use kontrol_e2e_cluster::lab::{
    Lab,
    kontrol::{SYSTEM, name_of, object, test_widget},
    operator,
    web::{address, get},
};
use kontrol_sidecar::{
    identity::{Issuer, Material, Token},
    service,
};
use kube::Api;
use serde_json::json;

/// What it takes to ask as a sidecar does.
pub(crate) struct Asks {
    pub(crate) control: String,
    folder: tempfile::TempDir,
}

impl Asks {
    pub(crate) async fn new(lab: &Lab) -> Self {
        let services = Api::<Service>::namespaced(lab.client().clone(), SYSTEM);
        let service = services.get("kontrol-control").await.unwrap();
        let control = format!("{}:7400", service.spec.unwrap().cluster_ip.unwrap());
        let folder = tempfile::tempdir().unwrap();
        let trust = lab.api::<ConfigMap>().get("kontrol-trust").await.unwrap();
        fs::write(folder.path().join("ca.crt"), &trust.data.unwrap()["ca.crt"]).unwrap();
        Self { control, folder }
    }

    pub(crate) async fn ask(&self, subject: &str, token: &str) -> Result<Material, service::Error> {
        let file = |name: &str| Path::new(self.folder.path()).join(name);
        fs::write(file("token"), token).unwrap();
        let issuer = Issuer {
            control: self.control.clone(),
            subject: subject.to_owned(),
            trust: "kontrol.local".parse().unwrap(),
            ca_file: file("ca.crt"),
            token: Token::ServiceAccount(file("token")),
        };
        issuer.issue().await
    }
}

/// A token of the namespace's service account, as the API server gives one to whoever may ask for it.
pub(crate) fn token(lab: &Lab, further: &[&str]) -> String {
    let all = [&["create", "token", "default"], further].concat();
    lab.kubectl(&all).unwrap().trim().to_owned()
}

/// How often the leader has refused for a reason.
pub(crate) async fn refused(lab: &Lab, reason: &str) -> u64 {
    let leader = lab.leader().await.unwrap();
    let text = get(&address(&leader, 7401), "/metrics").await.unwrap();
    let begin = format!("kontrol_operator_identity_refused_total{{reason=\"{reason}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&begin)).map_or(0, |count| count.parse().unwrap())
}

#[tokio::test]
async fn a_token_that_is_not_the_sidecars_own_proves_nothing_and_is_counted() {
    let lab = Lab::with_kontrol("identity").await.unwrap();
    for name in ["first", "second"] {
        lab.apply(&object("Widget", name, &json!({"container": test_widget(&[])}))).unwrap();
    }
    for name in ["first", "second"] {
        lab.until_ready("Widget", name).await.unwrap();
    }
    let first = lab.until_pods("first", "first", 1).await.unwrap().remove(0);
    lab.apply(&kontrol_e2e_cluster::lab::probe("stranger", None, &["wait"])).unwrap();
    lab.ready("stranger").await.unwrap();
    let asks = Asks::new(&lab).await;
    let own = format!("{}/first/first/0", lab.namespace());
    let other = format!("{}/second/second/0", lab.namespace());
    let bound = |pod: &str, audience: &str| {
        let audience = format!("--audience={audience}");
        token(&lab, &["--bound-object-kind=Pod", "--bound-object-name", pod, &audience])
    };
    let good = bound(&name_of(&first), "kontrol.dev");
    let mut forged = good.clone();
    // The last character may hold bits that no byte has: the one before it counts whole.
    let changed = if forged.remove(forged.len() - 2) == 'A' { 'B' } else { 'A' };
    forged.insert(forged.len() - 1, changed);

    let cases = [
        ("forged", &own, forged),
        ("foreign_audience", &own, bound(&name_of(&first), "vault")),
        ("unbound", &own, token(&lab, &["--audience=kontrol.dev"])),
        ("unknown", &own, bound("stranger", "kontrol.dev")),
        ("foreign_subject", &other, good.clone()),
        ("foreign_subject", &"operator".to_owned(), good.clone()),
    ];
    for (reason, subject, token) in &cases {
        let before = refused(&lab, reason).await;
        let refusal = asks.ask(subject, token).await.unwrap_err().to_string();
        assert!(!refusal.contains(token.as_str()), "a token is not repeated: {refusal}");
        let after = refused(&lab, reason).await;
        assert!(after > before, "{reason} of {subject}: {before}, then {after}: {refusal}");
    }
    asks.ask(&own, &good).await.expect("the pod's own token proves the pod");

    // A token dies with its pod, long before its time.
    lab.kubectl(&["delete", "pod", &name_of(&first), "--grace-period=1"]).unwrap();
    let gone = lab.api::<Pod>();
    lab.wait("the pod to be gone", async || {
        Ok(gone.get_opt(&name_of(&first)).await?.map_or(Ok(()), |_| Err("it is there")))
    })
    .await
    .unwrap();
    lab.wait("the token of a pod that is gone to be refused", async || {
        Ok(asks.ask(&own, &good).await.map_or_else(|refusal| Ok(refusal.to_string()), |_| Err("it is taken")))
    })
    .await
    .unwrap();
    assert!(operator::leader(lab.client()).await.unwrap().is_some());
}
