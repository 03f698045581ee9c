//! When a watch told what of which pod, by this process's clock.

use std::{collections::BTreeMap, pin::pin, time::Instant};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{self, Event};
use tokio::{sync::watch, task::JoinSet, time::timeout};

use crate::{
    Error, Result, clock,
    lab::{Lab, PATIENCE, is_ready, kontrol::name_of},
};

/// When a pod was first seen, first seen ready, first seen with a container that runs again, and gone.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Times {
    pub(super) created: Option<Instant>,
    pub(super) ready: Option<Instant>,
    pub(super) restarted: Option<Instant>,
    pub(super) gone: Option<Instant>,
}

/// A watch on the pods of a namespace.
pub(super) struct Seen {
    times: watch::Receiver<BTreeMap<String, Times>>,
    /// Ends with this.
    _task: JoinSet<()>,
}

fn runs_again(pod: &Pod) -> bool {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    statuses.into_iter().flatten().any(|status| {
        status.restart_count > 0 && status.state.as_ref().is_some_and(|state| state.running.is_some())
    })
}

impl Seen {
    pub(super) fn watch(lab: &Lab) -> Self {
        let (told, times) = watch::channel(BTreeMap::<String, Times>::new());
        let pods = lab.api::<Pod>();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut events = pin!(watcher::watcher(pods, watcher::Config::default()));
            while let Some(event) = events.next().await {
                let now = clock::now();
                if let Ok(Event::Delete(pod)) = &event {
                    told.send_modify(|times| times.entry(name_of(pod)).or_default().gone = Some(now));
                }
                let Ok(Event::Apply(pod) | Event::InitApply(pod)) = event else { continue };
                told.send_modify(|times| {
                    let times = times.entry(name_of(&pod)).or_default();
                    times.created.get_or_insert(now);
                    if is_ready(&pod) {
                        times.ready.get_or_insert(now);
                    }
                    if runs_again(&pod) {
                        times.restarted.get_or_insert(now);
                    }
                });
            }
        });
        Self { times, _task: task }
    }

    /// Waits until `what` of the pod has happened, and gives when it was seen.
    pub(super) async fn until(&self, pod: &str, what: impl Fn(&Times) -> Option<Instant>) -> Result<Instant> {
        let mut times = self.times.clone();
        let found = timeout(PATIENCE, times.wait_for(|times| times.get(pod).and_then(&what).is_some())).await;
        let late = |last: String| Error::Timeout { what: format!("the pod {pod}"), after: PATIENCE, last };
        let seen =
            found.map_err(|_| late("nothing came".to_owned()))?.map_err(|error| late(error.to_string()))?;
        seen.get(pod).and_then(what).ok_or_else(|| late("gone".to_owned()))
    }
}
