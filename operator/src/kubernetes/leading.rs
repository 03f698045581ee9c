//! What only a leader does: it is the certificate authority, listens for sidecars, and can be found by its label.

use std::{sync::Arc, time::Duration};

use kontrol_core::{time::Timestamp, trust::TrustDomain};
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    authority::{self, Asked, Known},
    client::Client,
    elect::lapsed,
    kind::Kind,
    lease::Tenure,
    metrics::Metrics,
    options::Options,
    request::{Outcome, Request, Verb},
    state::Input,
};
use crate::{
    authority::Authority,
    clock,
    control::{self, Proof, Serving},
};

/// How often the keys are looked at.
const LOOK: Duration = Duration::from_mins(10);
/// The pause after something failed.
const PAUSE: Duration = Duration::from_secs(1);

/// How often the leader's own label is looked at: a request of somebody who led before may come late.
const GLANCE: Duration = Duration::from_secs(5);

/// The label by which sidecars find the leader.
const LABEL: &str = "kontrol.dev/leader";

/// What a leader is given.
pub(super) struct Leading {
    pub(super) client: Client,
    pub(super) options: Arc<Options>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) trust: TrustDomain,
    /// Who led before; empty: nobody.
    pub(super) former: Arc<str>,
    /// When that one was heard last, by the wall clock; none: it gave the lease up.
    pub(super) silent_since: Option<Timestamp>,
    /// How this process stands.
    pub(super) tenure: watch::Receiver<Option<Tenure>>,
    /// What the world is told: what sidecars have to trust, and where the former leader stood.
    pub(super) world: mpsc::Sender<Input>,
    /// What sessions say.
    pub(super) events: mpsc::Sender<control::Event>,
    /// Pods whose subject is asked for.
    pub(super) asks: mpsc::Sender<Asked>,
}

impl Leading {
    /// Leads until `stop`, which ends every session.
    pub(super) async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(error) = self.lead(&stop).await {
                tracing::error!(error, "nobody can be given an identity");
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = sleep(PAUSE) => {}
                }
            }
        }
        label(&self.client, &self.options.namespace, &self.options.pod_name, &Value::Null).await;
    }

    /// Sets or takes the label of the leader on a pod, as long as this process may act; none: it was not done. Otherwise the pod's node, where it
    /// is there and has one.
    async fn label(&self, pod: &str, value: &Value) -> Option<Box<str>> {
        tokio::select! {
            biased;
            () = lapsed(self.tenure.clone()) => None,
            done = label(&self.client, &self.options.namespace, pod, value) => done,
        }
    }

    /// Has sidecars find this process, and nobody else, for ever.
    async fn is_found(&self) {
        let me = &self.options.pod_name;
        // One that was cut off, or whose machine is lost, cannot do so itself, and sidecars would go on trying to reach it.
        let mut relieved = self.former.is_empty();
        loop {
            let labelled = self.label(me, &json!("true")).await.is_some();
            if !relieved && let Some(node) = self.label(&self.former, &Value::Null).await {
                relieved = true;
                self.tell_of_former(&node).await;
            }
            if !labelled || !relieved {
                sleep(PAUSE).await;
                continue;
            }
            let get = Request::new(Verb::Get, Kind::Pod, &self.options.namespace, me);
            loop {
                sleep(GLANCE).await;
                let outcome = self.client.send(&get).await;
                if outcome.is_done() && outcome.value()["metadata"]["labels"][LABEL] != "true" {
                    break;
                }
            }
            if self.may_act() {
                tracing::warn!("the label of the leader was taken from this pod: it is set again");
            }
        }
    }

    /// Tells the world which machine the former leader stood on.
    async fn tell_of_former(&self, node: &str) {
        if let Some(silent_since) = self.silent_since.filter(|_| !node.is_empty()) {
            // A world that has ended need not know.
            drop(self.world.send(Input::Led { node: node.into(), silent_since }).await);
        }
    }

    fn may_act(&self) -> bool {
        self.tenure.borrow().as_ref().is_some_and(|tenure| tenure.until > clock::steady())
    }

    async fn lead(&self, stop: &CancellationToken) -> Result<(), String> {
        let namespace = &self.options.namespace;
        let failed = |error: &dyn std::error::Error| error.to_string();
        let kept =
            authority::open(&self.client, namespace, clock::now()).await.map_err(|error| failed(&error))?;
        let shared = Arc::new(authority::authority(&kept, &self.trust).map_err(|error| failed(&error))?);
        self.world.send(Input::Trust(kept.keys.bundle())).await.map_err(|error| failed(&error))?;
        let server =
            control::Server::bind(self.options.control.as_str()).await.map_err(|error| failed(&error))?;
        self.metrics.sessions_of(&server.figures());
        let known = Known { client: self.client.clone(), asks: self.asks.clone() };
        let serving = Serving {
            authority: Arc::clone(&shared),
            proof: Proof::Pod(Arc::new(known)),
            // Who proves to be a pod of ours is known.
            known: Arc::new(|_: &str| true),
            events: self.events.clone(),
        };
        tokio::select! {
            result = server.run(serving, stop.child_token()) => result.map_err(|error| error.to_string()),
            // Sidecars come by this label: it is set once somebody listens.
            () = self.is_found() => Ok(()),
            result = self.rotate(kept.keys.bundle(), &shared) => result,
        }
    }

    /// Looks after the authority's keys, until that fails.
    async fn rotate(&self, mut trusted: String, shared: &Authority) -> Result<(), String> {
        let namespace = &self.options.namespace;
        // Soon for the first time: where the lead changes often, nobody would ever look.
        let mut pause = GLANCE;
        loop {
            sleep(pause).await;
            pause = LOOK;
            if !self.may_act() {
                continue;
            }
            match authority::rotate(&self.client, namespace, clock::now()).await {
                Ok(Some(kept)) => {
                    let bundle = kept.keys.bundle();
                    if bundle != trusted {
                        shared.replace(&kept.keys).map_err(|error| error.to_string())?;
                        self.world
                            .send(Input::Trust(bundle.clone()))
                            .await
                            .map_err(|error| error.to_string())?;
                        trusted = bundle;
                    }
                }
                Ok(None) => tracing::warn!(
                    "the Secret with the authority's keys is gone: the next leader makes another"
                ),
                Err(error) => tracing::warn!(%error, "the authority's keys cannot be looked at"),
            }
        }
    }
}

/// The task of the leader, while this process holds the lease: a mere lapse does not end it.
#[derive(Default)]
pub(super) struct Office {
    spawner: TaskTracker,
    present: Option<(CancellationToken, JoinHandle<()>)>,
    former: Option<JoinHandle<()>>,
}

impl Office {
    pub(super) fn take(&mut self, leading: Leading) {
        self.leave();
        let (ended, former) = (CancellationToken::new(), self.former.take());
        let token = ended.clone();
        let task = self.spawner.spawn(async move {
            // The former one still holds the port, and takes the label away last of all.
            if let Some(former) = former {
                drop(former.await);
            }
            leading.run(token).await;
        });
        self.present = Some((ended, task));
    }

    pub(super) fn leave(&mut self) {
        if let Some((ended, task)) = self.present.take() {
            ended.cancel();
            self.former = Some(task);
        }
    }

    pub(super) async fn close(mut self) {
        self.leave();
        if let Some(former) = self.former.take() {
            drop(former.await);
        }
    }
}

/// Sets or takes the label of the leader on a pod; none: it was not done. Otherwise the pod's node; empty: it has none, or is not there.
pub(super) async fn label(client: &Client, namespace: &str, pod: &str, value: &Value) -> Option<Box<str>> {
    let request = Request::new(Verb::Merge, Kind::Pod, namespace, pod);
    let body = json!({"metadata": {"labels": {LABEL: value}}});
    let outcome = client.send(&request.by("kontrol-leader").with(body)).await;
    // The pod of a leader before may be gone.
    if !outcome.is_done() && !matches!(outcome, Outcome::Gone(_)) {
        tracing::warn!(pod, message = outcome.message(), "the label of the leader cannot be set on its pod");
        return None;
    }
    Some(outcome.value()["spec"]["nodeName"].as_str().unwrap_or_default().into())
}
