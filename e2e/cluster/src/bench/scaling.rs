//! How soon load becomes pods.

use std::{
    sync::{Arc, OnceLock},
    time::Instant,
};

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use serde_json::json;

use super::{
    row::{Row, times},
    seen::Seen,
};
use crate::{
    Error, Result,
    clock::now,
    lab::{
        Lab,
        kontrol::{name_of, number, object, test_widget},
    },
};

/// The sidecar's HTTP door.
const DOOR: u16 = 7411;

/// Says at the door of a widget's sidecar what load the widget bears; gives when the word was sent.
async fn report(lab: &Lab, pod: &Pod, load: f64) -> Result<Instant> {
    let body = json!({"health": "ready", "load": {"load": load}}).to_string();
    let sent = Arc::new(OnceLock::new());
    let asked = Arc::clone(&sent);
    // It is asked for the first time when the request has been written.
    let enough = move |_: &str| {
        asked.get_or_init(now);
        false
    };
    let answer = lab.inside(pod, DOOR, ("POST", "/v1/report", &body), enough).await?;
    match sent.get() {
        Some(sent) if answer.status < 300 => Ok(*sent),
        _ => Err(Error::Invalid(format!("{} answers {answer:?}", name_of(pod)))),
    }
}

/// From a widget's word at its sidecar, that it bears more than one replica should, to the creation of the second one's pod. Then it bears less, and
/// the second one goes.
pub(super) async fn signal_to_pod(lab: &Lab, n: usize) -> Result<Vec<Row>> {
    let seen = Seen::watch(lab);
    let mut created = Vec::new();
    // It speaks once by itself; the rest is said at its door.
    let spec = json!({
        "container": test_widget(&["--reports=once"]), "shutdown": {"grace": "1s"},
        "scaling": {"min": 1, "max": 2, "target": {"reported": {"name": "load", "value": 3}}, "upWindow": "0s", "downWindow": "0s"},
    });
    lab.apply(&object("Widget", "worker", &spec))?;
    let first = lab.until_pods("worker", "worker", 1).await?.remove(0);
    report(lab, &first, 3.0).await?;
    let mut incarnation = 1;
    for _ in 0..n {
        let sent = report(lab, &first, 6.0).await?;
        let next = format!("worker-1-{incarnation}");
        created.push(seen.until(&next, |pod| pod.created).await? - sent);
        let pods = lab.until_pods("worker", "worker", 2).await?;
        let second = pods.iter().find(|pod| name_of(pod) == next);
        let second = second.ok_or_else(|| Error::Invalid(format!("{next} is not among the pods")))?;
        // Nothing is lowered as long as a replica has not said what it bears.
        report(lab, second, 0.0).await?;
        report(lab, &first, 3.0).await?;
        // Until it is gone altogether: what would be in the way of the next one is another figure.
        lab.wait(&format!("{next} to be gone"), async || {
            let pods = lab.api::<Pod>().list(&ListParams::default()).await?.items;
            Ok(if pods.len() == 1 { Ok(()) } else { Err(pods.iter().map(name_of).collect::<Vec<_>>()) })
        })
        .await?;
        incarnation = number(second, "incarnation") + 1;
    }
    Ok(times([("k8s.scale.signal_to_pod: a widget's load → pod created", created)]))
}
