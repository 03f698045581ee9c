//! The operator's own pods, and what may befall them.

use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod};
use kube::{Api, Client, api::ListParams};

use super::{
    Lab,
    kontrol::{SYSTEM, name_of, signal_container},
};
use crate::{Cluster, Result, network::command};

/// How many operators there are.
const OPERATORS: usize = 2;

/// The operator's pods.
pub async fn operators(client: &Client) -> Result<Vec<Pod>> {
    let labels = ListParams::default().labels("app.kubernetes.io/component=operator");
    let mut pods = Api::<Pod>::namespaced(client.clone(), SYSTEM).list(&labels).await?.items;
    pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
    Ok(pods)
}

/// The operator that holds the lease; none where nobody does.
pub async fn leader(client: &Client) -> Result<Option<Pod>> {
    let leases = Api::<Lease>::namespaced(client.clone(), SYSTEM);
    let holder = leases.get_opt("kontrol-operator").await?.and_then(|lease| lease.spec?.holder_identity);
    let pods = operators(client).await?;
    Ok(pods.into_iter().find(|pod| holder.as_deref().is_some_and(|holder| holder.starts_with(&name_of(pod)))))
}

/// `kubectl` on the operators' Deployment.
fn deployment(cluster: &Cluster, verb: &[&str], further: &[&str]) -> Result<String> {
    cluster.kubectl(&[&["--namespace", SYSTEM], verb, &["deployment/kontrol-operator"], further].concat())
}

/// Says how many operators there are to be.
fn scale(cluster: &Cluster, count: usize) -> Result<()> {
    deployment(cluster, &["scale"], &[&format!("--replicas={count}")]).map(drop)
}

/// Puts the operators back where they were scaled away and left so, and waits until they are available.
pub(crate) fn put_back(cluster: &Cluster) -> Result<()> {
    if deployment(cluster, &["get"], &["--output=jsonpath={.spec.replicas}"])? != "0" {
        return Ok(());
    }
    scale(cluster, OPERATORS)?;
    deployment(cluster, &["rollout", "status"], &["--timeout=2m"]).map(drop)
}

impl Lab {
    /// Waits until somebody leads.
    pub async fn leader(&self) -> Result<Pod> {
        self.wait("an operator to lead", async || Ok(leader(self.client()).await?.ok_or("nobody does"))).await
    }

    /// Ends the operator that leads, without a word of good-bye. Its pod goes too, so that the kubelet's pauses play no part.
    pub async fn kill_leader(&self) -> Result<Pod> {
        let pod = self.leader().await?;
        signal_container(self.cluster(), &pod, "operator", "SIGKILL")?;
        let kubectl = self.cluster().program("kubectl")?.display().to_string();
        let config = format!("--kubeconfig={}", self.cluster().kubeconfig().display());
        let name = name_of(&pod);
        command(&kubectl, &[&config, "-n", SYSTEM, "delete", "pod", &name, "--grace-period=0", "--force"])?;
        Ok(pod)
    }

    /// Does something while there is no operator. When it gives what came of that, both are back, and one of them leads.
    pub async fn without_operators<T>(&self, meanwhile: impl AsyncFnOnce() -> Result<T>) -> Result<T> {
        let done = async {
            scale(self.cluster(), 0)?;
            self.wait("both operators to be gone", async || {
                let left = operators(self.client()).await?.len();
                Ok(if left == 0 { Ok(()) } else { Err(left) })
            })
            .await?;
            meanwhile().await
        }
        .await;
        scale(self.cluster(), OPERATORS)?;
        self.until_operators().await?;
        done
    }

    /// Waits until both operators are ready and one of them leads with the label by which sidecars find it.
    pub async fn until_operators(&self) -> Result<()> {
        self.wait("two operators, one of which leads", async || {
            let pods = operators(self.client()).await?;
            let ready = pods.iter().filter(|pod| super::is_ready(pod)).count();
            let holder = leader(self.client()).await?.as_ref().map(name_of);
            let labelled: Vec<_> = pods
                .iter()
                .filter(|pod| super::kontrol::label(pod, "leader") == "true")
                .map(name_of)
                .collect();
            let found = ready == OPERATORS && labelled.len() == 1 && labelled.first() == holder.as_ref();
            Ok(if found { Ok(()) } else { Err((ready, holder, labelled)) })
        })
        .await
    }
}
