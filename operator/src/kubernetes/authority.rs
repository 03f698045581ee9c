//! The certificate authority of a cluster: its keys in a Secret that only the operator reads, and how pods prove who they are.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::future::BoxFuture;
use kontrol_core::{time::Timestamp, trust::TrustDomain};
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};

use super::{
    client::Client,
    kind::Kind,
    request::{Outcome, Request, Verb},
};
use crate::{
    authority::{self, Authority, Due, Keys, Policy},
    control::{AUDIENCE, Pod, Pods, Review},
};

/// The Secret with the keys.
const SECRET: &str = "kontrol-authority";
/// The annotation by which a rotation is asked for.
const ROTATE: &str = "kontrol.dev/rotate-requested-at";
/// How long a pod that is not known yet is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The Secret cannot be read or written.
    #[error("the Secret {SECRET} cannot be used: {0}")]
    Secret(String),
    /// What is in it is no authority.
    #[error(transparent)]
    Authority(#[from] authority::Error),
}

/// The keys, as the Secret has them.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) keys: Keys,
    version: String,
    requested: bool,
}

/// Reads the keys; makes them where there are none.
pub(super) async fn open(client: &Client, namespace: &str, now: Timestamp) -> Result<Kept, Error> {
    for _ in 0..3 {
        if let Some(kept) = look(client, namespace).await? {
            return Ok(kept);
        }
        let keys = Keys::generate(Policy::default(), now)?;
        let create = Request::new(Verb::Create, Kind::Secret, namespace, SECRET);
        let create = create.by("kontrol-authority").with(body(&keys, namespace, None));
        match client.send(&create).await {
            done @ Outcome::Done(_) => return read(&done.value()),
            // Another replica was faster.
            Outcome::Exists(_) => {}
            other => return Err(Error::Secret(other.message().to_owned())),
        }
    }
    Err(Error::Secret("it comes and goes".to_owned()))
}

/// Reads the keys; none: the Secret is gone.
async fn look(client: &Client, namespace: &str) -> Result<Option<Kept>, Error> {
    match client.send(&Request::new(Verb::Get, Kind::Secret, namespace, SECRET)).await {
        done @ Outcome::Done(_) => read(&done.value()).map(Some),
        Outcome::Gone(_) => Ok(None),
        other => Err(Error::Secret(other.message().to_owned())),
    }
}

/// Reads the keys and takes the step of a rotation that is due, if one is; gives the keys as they are then. None: the Secret is gone, which
/// is for the next leader to mend.
pub(super) async fn rotate(client: &Client, namespace: &str, now: Timestamp) -> Result<Option<Kept>, Error> {
    let Some(kept) = look(client, namespace).await? else { return Ok(None) };
    match authority::due(&kept.keys, Policy::default(), kept.requested, now)? {
        Due::At(_) => Ok(Some(kept)),
        Due::Now(step) => {
            let keys = authority::take(&kept.keys, step, Policy::default(), now)?;
            let replace = Request::new(Verb::Replace, Kind::Secret, namespace, SECRET);
            let replace = replace.by("kontrol-authority").with(body(&keys, namespace, Some(&kept.version)));
            match client.send(&replace).await {
                done @ Outcome::Done(_) => {
                    tracing::info!(?step, "the authority's rotation goes on");
                    read(&done.value()).map(Some)
                }
                other => Err(Error::Secret(other.message().to_owned())),
            }
        }
    }
}

fn body(keys: &Keys, namespace: &str, version: Option<&str>) -> Value {
    let data: BTreeMap<String, String> =
        keys.to_data().into_iter().map(|(name, bytes)| (name, STANDARD.encode(bytes))).collect();
    let mut metadata = json!({
        "name": SECRET, "namespace": namespace, "labels": {"app.kubernetes.io/managed-by": "kontrol"},
    });
    if let Some(version) = version {
        metadata["resourceVersion"] = json!(version);
    }
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": data})
}

fn read(value: &Value) -> Result<Kept, Error> {
    let mut data = BTreeMap::new();
    for (name, text) in value["data"].as_object().into_iter().flatten() {
        let text = text.as_str().unwrap_or_default();
        let bytes = STANDARD.decode(text).map_err(|error| Error::Secret(format!("{name}: {error}")))?;
        data.insert(name.clone(), bytes);
    }
    Ok(Kept {
        keys: Keys::from_data(&data)?,
        version: value["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned(),
        requested: value["metadata"]["annotations"][ROTATE].is_string(),
    })
}

/// The authority over these keys.
pub(super) fn authority(kept: &Kept, trust: &TrustDomain) -> Result<Authority, Error> {
    Ok(Authority::from_keys(&kept.keys, trust.clone(), Policy::default())?)
}

/// A pod whose subject is asked for.
pub(super) type Asked = (Pod, oneshot::Sender<Option<String>>);

/// What the world knows of pods, for those that prove themselves.
pub(super) struct Known {
    pub(super) client: Client,
    pub(super) asks: mpsc::Sender<Asked>,
}

impl Pods for Known {
    fn review(&self, token: String) -> BoxFuture<'_, Result<Review, String>> {
        Box::pin(async move {
            let body = json!({
                "apiVersion": Kind::TokenReview.api_version(), "kind": "TokenReview",
                "spec": {"token": token, "audiences": [AUDIENCE]},
            });
            let request =
                Request { namespace: None, ..Request::new(Verb::Create, Kind::TokenReview, "", "") };
            match self.client.send(&request.with(body)).await {
                done @ Outcome::Done(_) => Ok(review(&done.value()["status"])),
                other => Err(other.message().to_owned()),
            }
        })
    }

    fn subject(&self, pod: Pod) -> BoxFuture<'_, Option<String>> {
        Box::pin(async move {
            // A pod that is new is on its way to us, mostly for a moment; one that is none of ours never comes.
            let mut pause = Duration::from_millis(50);
            let mut waited = Duration::ZERO;
            loop {
                let (answer, answered) = oneshot::channel();
                self.asks.send((pod.clone(), answer)).await.ok()?;
                if let Some(subject) = answered.await.ok()? {
                    return Some(subject);
                }
                if waited >= PATIENCE {
                    return None;
                }
                sleep(pause).await;
                waited += pause;
                pause = (pause * 3 / 2).min(Duration::from_millis(500));
            }
        })
    }
}

fn review(status: &Value) -> Review {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let user = &status["user"];
    let extra = |name: &str| {
        let value = &user["extra"][format!("authentication.kubernetes.io/{name}")][0];
        value.as_str().map(str::to_owned)
    };
    let audiences = status["audiences"].as_array().into_iter().flatten();
    Review {
        authenticated: status["authenticated"] == true,
        error: text(&status["error"]),
        audiences: audiences.map(text).collect(),
        username: text(&user["username"]),
        pod_name: extra("pod-name"),
        pod_uid: extra("pod-uid"),
        node: extra("node-name"),
    }
}

#[cfg(test)]
mod tests {
    use kontrol_e2e_apiserver::ApiServer;

    use super::*;
    use crate::clock;

    const NAMESPACE: &str = "kontrol-system";

    #[tokio::test]
    async fn a_rotation_is_seen_when_it_is_asked_for_and_taken_one_step_at_a_time() {
        let server = ApiServer::new();
        let (client, now) = (Client::new(server.session("operator").client()), clock::now());
        let first = open(&client, NAMESPACE, now).await.unwrap().keys.bundle();
        let looked = rotate(&client, NAMESPACE, now).await.unwrap().unwrap();
        assert_eq!(looked.keys.bundle(), first, "nobody asked for anything");
        server.edit("secrets", NAMESPACE, SECRET, |secret| {
            secret["metadata"]["annotations"][ROTATE] = "now".into();
        });
        let announced = rotate(&client, NAMESPACE, now).await.unwrap().unwrap();
        let bundle = announced.keys.bundle();
        assert!(bundle.starts_with(first.trim_end()) && bundle.len() > first.len(), "{bundle}");
        assert!(!announced.requested);
        let again = rotate(&client, NAMESPACE, now).await.unwrap().unwrap();
        assert_eq!(again.keys.bundle(), bundle, "the next step is a day away");
    }

    #[tokio::test]
    async fn who_leads_makes_no_other_authority_where_its_own_is_gone() {
        let server = ApiServer::new();
        let (client, now) = (Client::new(server.session("operator").client()), clock::now());
        open(&client, NAMESPACE, now).await.unwrap();
        drop(server.delete("secrets", NAMESPACE, SECRET));
        assert!(rotate(&client, NAMESPACE, now).await.unwrap().is_none());
        assert!(look(&client, NAMESPACE).await.unwrap().is_none());
    }
}
