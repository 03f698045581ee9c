//! Reads the definitions of our kinds as the cluster has them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use http_body_util::BodyExt as _;
use serde_json::Value;
use tokio::{
    sync::{Notify, mpsc},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{client::Client, definitions::Lacks, kind::Kind, rights::Asked};

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

/// The time between two looks, and the pause after one that failed.
const LOOK: (Duration, Duration) = (Duration::from_mins(5), Duration::from_secs(30));
/// The shortest time between two looks, however often one is asked for.
const SOONEST: Duration = Duration::from_secs(30);
/// A definition that has not come by then does not come.
const PATIENCE: Duration = Duration::from_secs(30);

/// Looks now, every some minutes, and when asked to; says what is lacking each time.
pub(super) async fn run(
    client: Client,
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
                LOOK.0
            }
            Err(error) => {
                tracing::warn!(error, "the definitions of our kinds cannot be read");
                LOOK.1
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = async {
                sleep(SOONEST).await;
                again.notified().await;
            } => {}
            () = sleep(pause) => {}
        }
    }
}
    let asked = Asked::to("get", "customresourcedefinitions.apiextensions.k8s.io", "");

async fn read(client: &Client) -> Result<BTreeMap<Kind, Value>, String> {
    let mut installed = BTreeMap::new();
    for kind in Kind::OWN {
        let uri =
            format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{}.kontrol.dev", kind.plural());
        let body = client.open(&asked, &uri).await.map_err(|outcome| outcome.message().to_owned())?;
        let body = timeout(PATIENCE, body.collect()).await.map_err(|_| "it does not end".to_owned())?;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        installed.insert(kind, serde_json::from_slice(&body).map_err(|error| error.to_string())?);
    }
    Ok(installed)
}
