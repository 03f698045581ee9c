//! Control sessions as sidecars have them: each with the token of its pod, a certificate from the operator, and a word once a second.

use std::{fs, path::PathBuf, sync::Arc};

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::{
    authentication::v1::TokenRequest,
    core::v1::{ConfigMap, Pod, Service, ServiceAccount},
};
use kontrol_core::trust::TrustDomain;
use kontrol_e2e_cluster::lab::{
    Lab,
    kontrol::{SYSTEM, label, name_of, number},
    operator::leader,
};
use kontrol_proto::{
    session::Configuration,
    v1::{self, Health, session_request},
};
use kontrol_sidecar::{
    control::{self, Role},
    identity::{Identity, Issuer, Tls, Token},
};
use kube::{
    Api,
    api::{ListParams, PostParams},
};
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::figures;

/// Certificates asked for at once.
const AT_ONCE: usize = 16;

/// Sessions that are open, until this is dropped.
pub(crate) struct Sessions {
    /// The operator, `address:port`.
    control: String,
    /// The authority's certificates, and tokens.
    folder: TempDir,
    open: JoinSet<()>,
}

impl Sessions {
    pub(crate) async fn new(lab: &Lab) -> anyhow::Result<Self> {
        let service = Api::<Service>::namespaced(lab.client().clone(), SYSTEM).get("kontrol-control").await?;
        let ip = service.spec.and_then(|spec| spec.cluster_ip).context("kontrol-control has no address")?;
        Ok(Self { control: format!("{ip}:7400"), folder: tempfile::tempdir()?, open: JoinSet::new() })
    }

    fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// Opens sessions of pods that have none until there are `wanted`, and waits until the operator counts them.
    pub(crate) async fn open(&mut self, lab: &Lab, wanted: usize) -> anyhow::Result<()> {
        let trust = lab.api::<ConfigMap>().get("kontrol-trust").await?;
        let pem = trust.data.into_iter().flatten().next().context("kontrol-trust is empty")?.1;
        fs::write(self.authority(), pem)?;
        let mut pods =
            lab.api::<Pod>().list(&ListParams::default().labels("kontrol.dev/widget")).await?.items;
        pods.sort_by_key(name_of);
        let further = pods.into_iter().take(wanted).skip(self.open.len());
        let this = &*self;
        let made: Vec<(Idle, Identity, Kept)> = stream::iter(further)
            .map(async |pod| this.identify(lab, &pod).await)
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        for (role, identity, kept) in made {
            let control = self.control.clone();
            self.open.spawn(async move {
                control::run(Arc::new(role), control, identity).await;
                drop(kept);
            });
        }
        lab.wait(&format!("{wanted} control sessions"), async || {
            let Some(leader) = leader(lab.client()).await? else { return Ok(Err(0.0)) };
            let text = figures::scrape(&leader).await.unwrap_or_default();
            let open = figures::sum(&text, "kontrol_operator_control_sessions", |_| true);
            Ok(if open >= wanted as f64 { Ok(()) } else { Err(open) })
        })
        .await?;
        Ok(())
    }

    /// Proves to be the sidecar of a pod, as the sidecar does it.
    async fn identify(&self, lab: &Lab, pod: &Pod) -> anyhow::Result<(Idle, Identity, Kept)> {
        let name = name_of(pod);
        let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref());
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let request: TokenRequest = serde_json::from_value(json!({"spec": {
            "audiences": ["kontrol.dev"],
            "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid},
        }}))?;
        let accounts = lab.api::<ServiceAccount>();
        let (account, params) = (account.unwrap_or("default"), PostParams::default());
        let made = accounts.create_token_request(account, &params, &request).await?;
        let token = made.status.and_then(|status| status.token).context("no token")?;
        let file = self.folder.path().join(&name);
        fs::write(&file, token)?;
        let subject = format!(
            "{}/{}/{}/{}",
            lab.namespace(),
            label(pod, "group"),
            label(pod, "widget"),
            number(pod, "ordinal")
        );
        let issuer = Issuer {
            control: self.control.clone(),
            subject: subject.clone(),
            trust: TrustDomain::default(),
            ca_file: self.authority(),
            token: Token::ServiceAccount(file),
        };
        let material = issuer.issue().await.with_context(|| subject.clone())?;
        let tls = Tls::new(&material, TrustDomain::default())?;
        let (sender, identity) = Identity::new();
        sender.send_replace(Some(Arc::new(tls)));
        let incarnation = number(pod, "incarnation");
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
        let hello = v1::Hello {
            subject,
            incarnation,
            node,
            pod: name,
            pod_uid: uid.to_owned(),
            ..v1::Hello::default()
        };
        Ok((Idle { hello }, identity, sender))
    }
}

/// What keeps an identity.
type Kept = tokio::sync::watch::Sender<Option<Arc<Tls>>>;

/// A sidecar that has nothing to do.
struct Idle {
    hello: v1::Hello,
}

impl Role for Idle {
    fn hello(&self) -> v1::Hello {
        self.hello.clone()
    }

    async fn take(&self, configuration: Configuration) -> Option<session_request::Message> {
        let Configuration::Sidecar(config) = configuration else { return None };
        let v1::SidecarConfig { version, incarnation, .. } = *config;
        Some(session_request::Message::Applied(v1::Applied { version, incarnation }))
    }

    fn signals(&self) -> Vec<session_request::Message> {
        vec![session_request::Message::Signals(v1::Signals {
            incarnation: self.hello.incarnation,
            health: Health::Ready.into(),
            ..v1::Signals::default()
        })]
    }

    async fn touched(&self) {
        std::future::pending::<()>().await;
    }

    async fn alarmed(&self) {
        std::future::pending::<()>().await;
    }

    fn connected(&self, _: bool) {}
}
