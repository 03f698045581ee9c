//! Taking part in the election: renewals, looks and the watch of the lease, on a thread and over connections of their own, so that neither
//! a long computation nor hundreds of requests stand before a renewal.

use std::{io, sync::Arc, time::Duration};

use kontrol_core::time::Timestamp;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    client::Client,
    kind::Kind,
    lease::{Asked, Candidate, Election, Lease, Tenure, What},
    metrics::Metrics,
    object::{Key, Owned},
    request::{Outcome, Request},
    store::{Seen, Source},
    watch::{LIFE, Watch},
};
use crate::clock;

/// Makes a client with connections of its own.
pub(super) type Way = Box<dyn FnOnce() -> Result<kube::Client, kube::Error> + Send>;

/// Messages of the watch that may wait.
const MAILBOX: usize = 16;

/// Takes part until `stop` on a thread of its own, and says in `leads` how this process stands. What is given ends when it has ended.
pub(super) fn start(
    way: Way,
    candidate: Candidate,
    metrics: Arc<Metrics>,
    leads: watch::Sender<Option<Tenure>>,
    stop: CancellationToken,
) -> io::Result<oneshot::Receiver<Result<(), String>>> {
    let (ended, end) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("lease".to_owned()).spawn(move || {
        let outcome = runtime.block_on(async {
            let client = Client::new(way().map_err(|error| error.to_string())?);
            let client = client.noting(metrics.rights.clone());
            Candidacy::new(client, candidate, metrics, leads).run(stop).await;
            Ok(())
        });
        // Whoever does not wait need not know.
        drop(ended.send(outcome));
    })?;
    Ok(end)
}

/// Waits until this process may no longer act: its lease has run out, or is another's.
pub(super) async fn lapsed(mut tenure: watch::Receiver<Option<Tenure>>) {
    loop {
        let until = tenure.borrow_and_update().as_ref().map(|tenure| tenure.until);
        let now = clock::steady();
        let Some(until) = until.filter(|until| *until > now) else { return };
        tokio::select! {
            () = sleep(until.since(now)) => {}
            changed = tenure.changed() => if changed.is_err() {
                // Nobody renews it any more.
                return sleep(until.since(now)).await;
            }
        }
    }
}

/// Whether this process acts, and what is said where that changes.
#[derive(Default)]
pub(super) struct Acting {
    /// The tenure as it was known last.
    known: Option<Timestamp>,
    acts: bool,
}

impl Acting {
    pub(super) fn note(&mut self, tenure: Option<&Tenure>, now: Timestamp, metrics: &Metrics) -> bool {
        let until = tenure.map(|tenure| tenure.until);
        let acts = until.is_some_and(|until| until > now);
        let late_ms = self.known.map_or(0, |until| now.since(until).as_millis());
        match (self.known, until) {
            (None, Some(_)) => tracing::info!("this process leads"),
            (Some(_), None) => tracing::warn!("another process has the lease: this one no longer leads"),
            (Some(_), Some(_)) if self.acts && !acts => {
                metrics.lapses.inc();
                tracing::warn!(
                    late_ms,
                    "the lease has run out before a renewal was answered: nothing is decided until one is"
                );
            }
            (Some(_), Some(_)) if acts && (!self.acts || late_ms > 0) => {
                if self.acts {
                    metrics.lapses.inc();
                }
                tracing::warn!(late_ms, "the lease was renewed late: this process goes on");
            }
            _ => {}
        }
        metrics.leader.set(acts.into());
        (self.known, self.acts) = (until, acts);
        acts
    }
}

struct Candidacy {
    client: Client,
    source: Source,
    name: String,
    election: Election,
    metrics: Arc<Metrics>,
    leads: watch::Sender<Option<Tenure>>,
    requests: JoinSet<(Asked, Outcome)>,
}

impl Candidacy {
    fn new(
        client: Client,
        candidate: Candidate,
        metrics: Arc<Metrics>,
        leads: watch::Sender<Option<Tenure>>,
    ) -> Self {
        let source = Source { kind: Kind::Lease, label: "", namespace: Some(candidate.namespace.clone()) };
        let name = candidate.name.clone();
        let election = Election::new(candidate, clock::steady());
        Self { client, source, name, election, metrics, leads, requests: JoinSet::new() }
    }

    async fn run(mut self, stop: CancellationToken) {
        let (heard, mut told) = mpsc::channel(MAILBOX);
        let watch = Watch {
            client: self.client.clone(),
            source: self.source.clone(),
            selector: format!("&fieldSelector=metadata.name%3D{}", self.name),
            life: LIFE,
            heard,
            stop: stop.clone(),
        };
        let mut watching = JoinSet::new();
        watching.spawn(watch.run());
        loop {
            let now = clock::steady();
            while let Some((asked, request)) = self.election.next(now, clock::now()) {
                self.ask(asked, request);
            }
            self.publish();
            let pause = self.election.due().map(|due| due.since(clock::steady()));
            tokio::select! {
                () = stop.cancelled() => break,
                Some((_, seen)) = told.recv() => self.hear(&seen, clock::steady()),
                Some(answered) = self.requests.join_next() => {
                    if let Ok((asked, outcome)) = answered {
                        self.answered(asked, &outcome);
                    }
                }
                () = sleep(pause.unwrap_or_default()), if pause.is_some() => {}
            }
        }
        self.requests.shutdown().await;
        if let Some(request) = self.election.give_up(clock::now()) {
            self.publish();
            let outcome = send(&self.client, &request, self.election.patience()).await;
            tracing::info!(outcome = outcome.as_str(), "the lease was given up");
        }
        watching.join_all().await;
    }

    fn ask(&mut self, asked: Asked, request: Request) {
        let (client, patience) = (self.client.clone(), self.election.patience());
        self.requests.spawn(async move { (asked, send(&client, &request, patience).await) });
    }

    fn answered(&mut self, asked: Asked, outcome: &Outcome) {
        let now = clock::steady();
        let took = now.since(asked.at);
        self.metrics.lease(asked.what, took, outcome.is_done());
        match (asked.what, outcome) {
            (_, Outcome::Done(_)) | (What::Look, Outcome::Gone(_)) => {}
            (what, outcome) => {
                let (took_ms, message) = (took.as_millis(), outcome.message());
                tracing::debug!(?what, took_ms, message, "the lease was not had");
            }
        }
        self.election.answered(asked, outcome, now);
    }

    fn hear(&mut self, seen: &Seen, now: Timestamp) {
        match seen {
            Seen::Is(text) => {
                if let Some(lease) = serde_json::from_str(text).ok().as_ref().and_then(Lease::read) {
                    self.election.see(Some(lease), now);
                }
            }
            Seen::Removed(text) => {
                if let Ok((_, owned)) = Owned::read(text) {
                    self.election.removed(owned.meta.version, now);
                }
            }
            Seen::Listed { version, keys } => {
                if !keys.contains(&Key::new(self.source.namespace.as_deref().unwrap_or_default(), &self.name))
                {
                    self.election.removed(*version, now);
                }
            }
            Seen::Alive => self.election.watched(true, now),
            Seen::Broken(_) | Seen::Refused(_) => self.election.watched(false, now),
        }
    }

    fn publish(&self) {
        let tenure = self.election.tenure();
        self.leads.send_if_modified(|known| {
            let changed = known.as_ref() != tenure;
            if changed {
                *known = tenure.cloned();
            }
            changed
        });
    }
}

async fn send(client: &Client, request: &Request, patience: Duration) -> Outcome {
    let sent = timeout(patience, client.send(request)).await;
    sent.unwrap_or_else(|_| Outcome::Failed(format!("no answer within {} ms", patience.as_millis())))
}
