//! The world itself: one task that owns the state, and around it watches, requests, the lease and the pages.

use std::{collections::BTreeSet, io, sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::{
    admin,
    client::Client,
    elect,
    kind::Kind,
    lease::Candidate,
    metrics::Metrics,
    options::Options,
    request::{Outcome, Request},
    state::{Effect, Input, State, Ticket},
    store::{Seen, Source},
    watch::{Heard, Watch},
};
use crate::clock;

/// Messages that may wait for the state.
const MAILBOX: usize = 1024;
/// Messages that are taken together before anything is decided.
const BATCH: usize = 256;

/// Why a world cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A port cannot be listened on.
    #[error("{address} cannot be listened on: {source}")]
    Listen {
        /// Which.
        address: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The pages ended.
    #[error("the admin server ended: {0}")]
    Admin(#[source] io::Error),
}

/// A world on a cluster.
#[derive(Debug)]
pub struct World {
    client: Client,
    options: Arc<Options>,
    metrics: Arc<Metrics>,
}

/// What is told to the task that owns the state.
enum Message {
    Answer(Ticket, Outcome),
}

impl World {
    /// A world that speaks to the API server through `client`.
    pub fn new(client: kube::Client, options: Options) -> Self {
        Self { client: Client::new(client), options: Arc::new(options), metrics: Arc::new(Metrics::new()) }
    }

    /// Its metrics.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// Runs until `stop`; then the lease is given up, and what runs on the cluster goes on.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Error> {
        let listener = listen(&self.options.admin).await?;
        let (ready, pending) = watch::channel(vec!["the first look at the cluster".to_owned()]);
        let (leads, mut leading) = watch::channel(None);
        let mut tasks: JoinSet<Result<(), Error>> = JoinSet::new();
        let shown = admin::Shown { metrics: Arc::clone(&self.metrics), pending };
        let pages = admin::serve(listener, shown, stop.clone());
        tasks.spawn(async move { pages.await.map_err(Error::Admin) });
        let candidate = Candidate {
            namespace: self.options.namespace.clone(),
            name: self.options.lease_name.clone(),
            me: self.options.pod_name.clone(),
            duration: self.options.lease_duration,
        };
        let election =
            elect::run(self.client.clone(), candidate, self.options.lease_renew, leads, stop.clone());
        tasks.spawn(async move {
            election.await;
            Ok(())
        });
        let (heard, mut hears) = mpsc::channel(MAILBOX);
        let sources = sources(&self.options);
        for source in &sources {
            let watch = Watch {
                client: self.client.clone(),
                selector: String::new(),
                source: source.clone(),
                heard: heard.clone(),
                stop: stop.clone(),
            };
            tasks.spawn(async move {
                watch.run().await;
                Ok(())
            });
        }
        let (answers, mut answered) = mpsc::channel(MAILBOX);
        let mut state = State::new(Arc::clone(&self.options), sources);
        let mut requests: JoinSet<()> = JoinSet::new();
        let outcome = loop {
            let now = clock::now();
            let until = *leading.borrow();
            let may_act = until.is_some_and(|until| until > now);
            if may_act != state.leads() {
                state.take(Input::Leads(may_act), now);
                self.metrics.leader.set(may_act.into());
            }
            for effect in state.step(now) {
                self.carry_out(effect, &answers, &mut requests);
            }
            self.report(&mut state, &ready);
            let wake = state.wake().filter(|_| may_act).map(|at| at.since(now).max(Duration::from_millis(1)));
            let pause = wake.into_iter().chain(until.filter(|_| may_act).map(|until| until.since(now))).min();
            tokio::select! {
                () = stop.cancelled() => break Ok(()),
                Ok(()) = leading.changed() => {}
                Some(first) = hears.recv() => {
                    hear(&mut state, first);
                    for _ in 1..BATCH {
                        let Ok(next) = hears.try_recv() else { break };
                        hear(&mut state, next);
                    }
                }
                Some(Message::Answer(ticket, outcome)) = answered.recv() => {
                    state.take(Input::Answer(ticket, outcome), clock::now());
                    while let Ok(Message::Answer(ticket, outcome)) = answered.try_recv() {
                        state.take(Input::Answer(ticket, outcome), clock::now());
                    }
                }
                Some(_) = requests.join_next() => {}
                Some(ended) = tasks.join_next() => {
                    if let Ok(Err(error)) = ended {
                        break Err(error);
                    }
                }
                () = sleep(pause.unwrap_or_default()), if pause.is_some() => {}
            }
        };
        stop.cancel();
        // What was asked for is answered before the lease goes to another: the tasks end one by one.
        while requests.join_next().await.is_some() {}
        while tasks.join_next().await.is_some() {}
        self.metrics.leader.set(0);
        outcome
    }

    fn carry_out(&self, effect: Effect, answers: &mpsc::Sender<Message>, requests: &mut JoinSet<()>) {
        match effect {
            Effect::Ask(ticket, request) => {
                let (client, metrics) = (self.client.clone(), Arc::clone(&self.metrics));
                let answers = answers.clone();
                requests.spawn(async move {
                    let outcome = ask(&client, &metrics, &request).await;
                    drop(answers.send(Message::Answer(ticket, outcome)).await);
                });
            }
        }
    }

    fn report(&self, state: &mut State, ready: &watch::Sender<Vec<String>>) {
        for (root, event) in state.told() {
            tracing::info!(tree = %root, "{event}");
        }
        let unsynced: BTreeSet<Kind> = state.store().unsynced().map(|source| source.kind).collect();
        let waits = unsynced.iter().map(|kind| format!("the list of {}", kind.plural())).collect::<Vec<_>>();
        ready.send_if_modified(|pending| std::mem::replace(pending, waits.clone()) != waits);
        self.metrics.plans.set(i64::try_from(state.plans()).unwrap_or(i64::MAX));
    }
}

fn hear(state: &mut State, (source, seen): Heard) {
    if let Seen::Broken(message) = &seen {
        tracing::debug!(kind = source.kind.as_str(), message, "stale");
    }
    state.take(Input::Watch(source, seen), clock::now());
}

/// Sends a request, and counts it.
async fn ask(client: &Client, metrics: &Metrics, request: &Request) -> Outcome {
    let began = clock::instant();
    let outcome = client.send(request).await;
    let (verb, code) = (request.verb.as_str(), outcome.as_str());
    metrics.requests.with_label_values(&[verb, request.kind.as_str(), code]).inc();
    metrics.request_seconds.with_label_values(&[verb]).observe(began.elapsed().as_secs_f64());
    if !outcome.is_done() {
        metrics.failures.with_label_values(&[verb, code]).inc();
    }
    outcome
}

/// What a world with these options watches.
pub fn sources(options: &Options) -> Vec<Source> {
    let own = Kind::OWN.into_iter().map(|kind| (kind, ""));
    let pods = [(Kind::Pod, "kontrol.dev/widget"), (Kind::Pod, "kontrol.dev/bus")];
    let owned = [(Kind::ControllerRevision, "kontrol.dev/widget-object")];
    let kinds: Vec<_> = own.chain(pods).chain(owned).collect();
    let namespaces: Vec<Option<String>> = match options.watch_namespaces.as_slice() {
        [] => vec![None],
        names => names.iter().cloned().map(Some).collect(),
    };
    let each = |namespace: Option<String>| {
        kinds.iter().map(move |(kind, label)| Source { kind: *kind, label, namespace: namespace.clone() })
    };
    namespaces.into_iter().flat_map(each).collect()
}

async fn listen(address: &str) -> Result<TcpListener, Error> {
    let failed = |source| Error::Listen { address: address.to_owned(), source };
    TcpListener::bind(address).await.map_err(failed)
}
