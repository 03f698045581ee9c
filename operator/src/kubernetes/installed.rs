//! Reads the definitions of our kinds as the cluster has them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use http_body_util::BodyExt as _;
use serde_json::Value;
use tokio::{
    sync::{Notify, mpsc},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    client::{Client, WHOLE},
    definitions::Lacks,
    kind::Kind,
    rights::Asked,
};

/// When it looks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Looks {
    /// The time between two looks.
    pub(super) each: Duration,
    /// The pause after one that failed.
    pub(super) after_failure: Duration,
    /// The shortest time between two looks, however often one is asked for.
    pub(super) soonest: Duration,
}

impl Default for Looks {
    fn default() -> Self {
        let soonest = Duration::from_secs(30);
        Self { each: Duration::from_mins(5), after_failure: soonest, soonest }
    }
}

/// A definition that has not come by then does not come.
const PATIENCE: Duration = Duration::from_secs(30);

/// Looks now, every some minutes, and when asked to; says what is lacking each time.
pub(super) async fn run(
    client: Client,
    looks: Looks,
    lacks: mpsc::Sender<Lacks>,
    again: Arc<Notify>,
    stop: CancellationToken,
) {
    loop {
        let pause = match read(&client).await {
            Ok(installed) => {
                if lacks.send(Lacks::of(&installed)).await.is_err() {
                    return;
                }
                looks.each
            }
            Err(error) => {
                tracing::warn!(error, "the definitions of our kinds cannot be read");
                looks.after_failure
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = async {
                sleep(looks.soonest).await;
                again.notified().await;
            } => {}
            () = sleep(pause) => {}
        }
    }
}

async fn read(client: &Client) -> Result<BTreeMap<Kind, Value>, String> {
    let mut installed = BTreeMap::new();
    let asked = Asked::to("get", "customresourcedefinitions.apiextensions.k8s.io", "");
    for kind in Kind::OWN {
        let uri =
            format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{}.kontrol.dev", kind.plural());
        let body = client.open(&asked, &uri, WHOLE).await.map_err(|outcome| outcome.message().to_owned())?;
        let body = timeout(PATIENCE, body.collect()).await.map_err(|_| "it does not end".to_owned())?;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        installed.insert(kind, serde_json::from_slice(&body).map_err(|error| error.to_string())?);
    }
    Ok(installed)
}

#[cfg(test)]
mod tests {
    use kontrol_e2e_apiserver::ApiServer;

    use super::*;

    const DEFINITIONS: &str = "customresourcedefinitions.apiextensions.k8s.io";

    fn edit(server: &ApiServer, edit: impl FnOnce(&mut serde_json::Map<String, Value>)) {
        let changed = server.edit(DEFINITIONS, "", "widgets.kontrol.dev", |definition| {
            let schema = &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
            edit(schema["properties"]["status"]["properties"].as_object_mut().unwrap());
        });
        assert!(changed);
    }

    /// Longer than anything here takes, on a machine that is busy.
    const PATIENCE: Duration = Duration::from_mins(1);

    /// What is found to lack, once it is this.
    async fn until(lacking: &mut mpsc::Receiver<Lacks>, fields: &[&str]) {
        let found = async { while lacking.recv().await.unwrap().fields() != fields {} };
        timeout(PATIENCE, found).await.unwrap();
    }

    #[tokio::test]
    async fn definitions_that_become_older_and_newer_are_seen_at_the_next_look() {
        let server = ApiServer::new();
        let client = Client::new(server.session("operator").client());
        let (lacks, mut lacking) = mpsc::channel(1);
        let (again, stop) = (Arc::new(Notify::new()), CancellationToken::new());
        let soon = Duration::from_millis(50);
        let looks = Looks { each: soon, ..Looks::default() };
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(run(client.clone(), looks, lacks.clone(), Arc::clone(&again), stop.clone()));
        until(&mut lacking, &[]).await;
        let mut instances = Value::Null;
        edit(&server, |status| instances = status.remove("instances").unwrap());
        until(&mut lacking, &["Widget.status.instances"]).await;
        tasks.shutdown().await;
        // Whoever misses something that it wrote need not wait for the next look.
        let looks = Looks { each: PATIENCE * 2, soonest: soon, ..looks };
        tasks.spawn(run(client, looks, lacks, Arc::clone(&again), stop.clone()));
        until(&mut lacking, &["Widget.status.instances"]).await;
        edit(&server, |status| drop(status.insert("instances".to_owned(), instances)));
        again.notify_one();
        until(&mut lacking, &[]).await;
        stop.cancel();
        tasks.join_all().await;
    }
}
