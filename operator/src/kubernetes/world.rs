//! The world itself: one task that owns the state, and around it watches, requests, the lease and the pages.

use std::{collections::BTreeSet, io, sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use kontrol_core::trust::TrustDomain;

use super::{
    admin,
    authority::Asked,
    client::Client,
    elect,
    events::Events,
    kind::Kind,
    leading::{self, Leading},
    lease::Candidate,
    metrics::Metrics,
    options::Options,
    request::{Outcome, Request},
    state::{Effect, Input, State, Ticket},
    store::{Seen, Source},
    watch::{Heard, Watch},
};
use crate::{clock, view};

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
    /// The trust domain is none.
    #[error("the trust domain cannot be used: {0}")]
    TrustDomain(String),
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
    /// An event that was to be counted on is no longer there.
    EventLost(String),
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
    #[expect(
        clippy::too_many_lines,
        reason = "one loop over everything that can happen, and its beginning and end"
    )]
    pub async fn run(self, stop: CancellationToken) -> Result<(), Error> {
        let trust: TrustDomain = self
            .options
            .trust_domain
            .parse()
            .map_err(|error: kontrol_core::trust::Error| Error::TrustDomain(error.to_string()))?;
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
        let (watched, mut hears) = mpsc::channel(MAILBOX);
        let sources = sources(&self.options);
        for source in &sources {
            let watch = Watch {
                client: self.client.clone(),
                selector: String::new(),
                source: source.clone(),
                heard: watched.clone(),
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
        let mut events_told = Events::new(&self.options.pod_name);
        let (bundles, mut trusted) = mpsc::channel(4);
        let (events, mut said) = mpsc::channel(MAILBOX);
        let (asks, mut subjects) = mpsc::channel::<Asked>(MAILBOX);
        let mut lead: Option<(CancellationToken, JoinHandle<()>)> = None;
        let mut ending: Option<JoinHandle<()>> = None;
        let spawner = TaskTracker::new();
        // A pod whose container was started again may still be labelled from before.
        leading::label(&self.client, &self.options, &serde_json::Value::Null).await;
        let outcome = loop {
            let now = clock::now();
            let until = *leading.borrow();
            let may_act = until.is_some_and(|until| until > now);
            if may_act != state.leads() {
                state.take(Input::Leads(may_act), now);
                self.metrics.leader.set(may_act.into());
                if let Some((ended, former)) = lead.take() {
                    ended.cancel();
                    ending = Some(former);
                }
                if may_act {
                    let leading = Leading {
                        client: self.client.clone(),
                        options: Arc::clone(&self.options),
                        metrics: Arc::clone(&self.metrics),
                        trust: trust.clone(),
                        bundles: bundles.clone(),
                        events: events.clone(),
                        asks: asks.clone(),
                    };
                    let (ended, former) = (CancellationToken::new(), ending.take());
                    let token = ended.clone();
                    let task = spawner.spawn(async move {
                        // The former one still holds the port, and takes the label away last of all.
                        if let Some(former) = former {
                            drop(former.await);
                        }
                        leading.run(token).await;
                    });
                    lead = Some((ended, task));
                }
            }
            for effect in state.step(now) {
                self.carry_out(effect, &answers, &mut requests);
            }
            for request in self.report(&mut state, &mut events_told, &ready) {
                let (client, metrics) = (self.client.clone(), Arc::clone(&self.metrics));
                let answers = answers.clone();
                requests.spawn(async move {
                    let outcome = ask(&client, &metrics, &request).await;
                    if matches!(outcome, Outcome::Gone(_)) {
                        drop(answers.send(Message::EventLost(request.name)).await);
                    }
                });
            }
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
                Some(first) = answered.recv() => {
                    let mut next = Some(first);
                    while let Some(message) = next {
                        match message {
                            Message::Answer(ticket, outcome) => {
                                state.take(Input::Answer(ticket, outcome), clock::now());
                            }
                            Message::EventLost(name) => events_told.lost(&name),
                        }
                        next = answered.try_recv().ok();
                    }
                }
                Some(bundle) = trusted.recv() => state.take(Input::Trust(bundle), clock::now()),
                Some(event) = said.recv() => {
                    state.take(Input::Control(event), clock::now());
                    while let Ok(event) = said.try_recv() {
                        state.take(Input::Control(event), clock::now());
                    }
                }
                Some((pod, answer)) = subjects.recv() => {
                    // Who asked and did not wait need not hear.
                    drop(answer.send(state.subject(&pod.namespace, &pod.name, &pod.uid)));
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
        if let Some((ended, task)) = lead {
            ended.cancel();
            drop(tokio::time::timeout(Duration::from_secs(2), task).await);
        }
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
            Effect::Tell(session, message) => session.tell(message),
        }
    }

    /// Says what happened, in the log, as events, and in figures.
    fn report(
        &self,
        state: &mut State,
        events: &mut Events,
        ready: &watch::Sender<Vec<String>>,
    ) -> Vec<Request> {
        let now = clock::now();
        let mut requests = Vec::new();
        for (root, event) in state.told() {
            let (level, text) = view::told(&event);
            let tree = root.to_string();
            match level {
                view::Level::Debug => tracing::debug!(tree, "{text}"),
                view::Level::Info => tracing::info!(tree, "{text}"),
                view::Level::Warn => tracing::warn!(tree, "{text}"),
                view::Level::Error => tracing::error!(tree, "{text}"),
            }
            self.metrics.count(&event);
            if let Some(about) = state.regarding(&root, &event) {
                requests.push(events.tell(&about, &event, now));
            }
        }
        let unsynced: BTreeSet<Kind> = state.store().unsynced().map(|source| source.kind).collect();
        let waits = unsynced.iter().map(|kind| format!("the list of {}", kind.plural())).collect::<Vec<_>>();
        ready.send_if_modified(|pending| std::mem::replace(pending, waits.clone()) != waits);
        self.metrics.show(state, now);
        requests
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
    let owned = [
        (Kind::ControllerRevision, "kontrol.dev/widget-object"),
        (Kind::Service, "kontrol.dev/widget"),
        (Kind::PodDisruptionBudget, "kontrol.dev/widget"),
    ];
    let kinds: Vec<_> = own.chain(pods).chain(owned).collect();
    let namespaces: Vec<Option<String>> = match options.watch_namespaces.as_slice() {
        [] => vec![None],
        names => names.iter().cloned().map(Some).collect(),
    };
    let each = |namespace: Option<String>| {
        kinds.iter().map(move |(kind, label)| Source { kind: *kind, label, namespace: namespace.clone() })
    };
    let machines = [
        Source { kind: Kind::Node, label: "", namespace: None },
        Source { kind: Kind::Lease, label: "", namespace: Some("kube-node-lease".to_owned()) },
    ];
    namespaces.into_iter().flat_map(each).chain(machines).collect()
}

async fn listen(address: &str) -> Result<TcpListener, Error> {
    let failed = |source| Error::Listen { address: address.to_owned(), source };
    TcpListener::bind(address).await.map_err(failed)
}
