//! The world itself: one task that owns the state, and around it watches, requests, the lease and the pages.

use std::{collections::BTreeSet, io, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, mpsc, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use kontrol_core::trust::TrustDomain;
use serde_json::Value;

use super::{
    admin,
    authority::Asked,
    client::Client,
    definitions::Lacks,
    elect::{self, Acting, Way, lapsed},
    events::{Events, Outbox, Telling},
    installed,
    kind::Kind,
    leading::{self, Leading, Office},
    lease::{Candidate, Tenure},
    metrics::Metrics,
    options::Options,
    request::{Outcome, Request, Verb},
    state::{Effect, Input, OPENS_WITHIN, State, Ticket},
    store::{Seen, Source},
    watch::{Heard, LIFE, Watch},
};
use crate::{clock, view};

/// Messages that may wait for the state.
const MAILBOX: usize = 1024;
/// The port of kubelets.
const KUBELET: u16 = 10250;
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
    /// It cannot take part in the election.
    #[error("no part can be taken in the election: {0}")]
    Election(String),
}

/// A world on a cluster.
pub struct World {
    client: Client,
    way: Way,
    options: Arc<Options>,
    metrics: Arc<Metrics>,
}

/// What is told to the task that owns the state.
enum Message {
    Answer(Ticket, Outcome),
    /// The kubelet of a machine listens.
    Open(Arc<str>),
    /// An event was told, or was not.
    Told(Telling, Outcome),
}

impl World {
    /// A world that speaks to the API server through `client`, about its lease too.
    pub fn new(client: kube::Client, options: Options) -> Self {
        let (way, metrics) = (client.clone(), Metrics::new());
        Self {
            client: Client::new(client).noting(metrics.rights.clone()),
            way: Box::new(|| Ok(way)),
            options: Arc::new(options),
            metrics: Arc::new(metrics),
        }
    }

    /// The same, whose lease is renewed through what `way` makes, on a thread of its own: no other request stands before a renewal.
    #[must_use]
    pub fn elected_by(
        self,
        way: impl FnOnce() -> Result<kube::Client, kube::Error> + Send + 'static,
    ) -> Self {
        Self { way: Box::new(way), ..self }
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
            me: self.options.pod_name.as_str().into(),
            duration: self.options.lease_duration,
            renew: self.options.lease_renew,
        };
        let resign = CancellationToken::new();
        let metrics = Arc::clone(&self.metrics);
        let election = elect::start(self.way, candidate, metrics, leads, resign.clone());
        let mut election = election.map_err(|error| Error::Election(error.to_string()))?;
        let (watched, mut hears) = mpsc::channel(MAILBOX);
        let sources = sources(&self.options);
        for source in &sources {
            let watch = Watch {
                client: self.client.clone(),
                selector: String::new(),
                life: LIFE,
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
        let asking = Asking {
            client: self.client.clone(),
            metrics: Arc::clone(&self.metrics),
            tenure: leading.clone(),
        };
        let mut state = State::new(Arc::clone(&self.options), sources);
        let mut requests: JoinSet<()> = JoinSet::new();
        let mut told = (Events::new(&self.options.pod_name), Outbox::default());
        let (_, mut told_by_leading) = mpsc::channel(1);
        let (events, mut said) = mpsc::channel(MAILBOX);
        let (lacks, mut lacking) = mpsc::channel(1);
        let read_again = Arc::new(Notify::new());
        let reading = installed::run(
            self.client.clone(),
            installed::Looks::default(),
            lacks,
            Arc::clone(&read_again),
            stop.clone(),
        );
        tasks.spawn(async move {
            reading.await;
            Ok(())
        });
        let mut lacked = Lacks::default();
        let (asks, mut subjects) = mpsc::channel::<Asked>(MAILBOX);
        let mut office = Office::default();
        let mut acting = Acting::default();
        // A pod whose container was started again may still be labelled from before.
        leading::label(&self.client, &self.options.namespace, &self.options.pod_name, &Value::Null).await;
        let outcome = loop {
            let now = clock::now();
            let tenure = leading.borrow_and_update().clone();
            let may_act = acting.note(tenure.as_ref(), clock::steady(), &self.metrics);
            match &tenure {
                Some(Tenure { former, silent_since, .. }) if !state.leads() => {
                    state.take(Input::Leads(true), now);
                    // What is left of an earlier tenure is not heard any more.
                    let (tells, of_this_tenure) = mpsc::channel(4);
                    told_by_leading = of_this_tenure;
                    office.take(Leading {
                        client: self.client.clone(),
                        options: Arc::clone(&self.options),
                        metrics: Arc::clone(&self.metrics),
                        trust: trust.clone(),
                        former: former.clone(),
                        silent_since: silent_since.map(|since| now.minus(clock::steady().since(since))),
                        tenure: leading.clone(),
                        world: tells,
                        events: events.clone(),
                        asks: asks.clone(),
                    });
                }
                None if state.leads() => {
                    state.take(Input::Leads(false), now);
                    told.1.clear();
                    office.leave();
                }
                _ => {}
            }
            if may_act {
                state.take(Input::Holds, now);
                for effect in state.step(now) {
                    carry_out(&asking, effect, &answers, &mut requests);
                }
                tell(&self.metrics, &mut state, &mut told);
                while let Some(telling) = told.1.next(now) {
                    let (asking, answers) = (asking.clone(), answers.clone());
                    requests.spawn(async move {
                        let outcome = asking.ask(&telling.request).await;
                        drop(answers.send(Message::Told(telling, outcome)).await);
                    });
                }
            }
            for effect in state.go_round(now) {
                carry_out(&asking, effect, &answers, &mut requests);
            }
            show(&self.metrics, &state, &ready);
            if *state.lacks() != lacked {
                lacked = state.lacks().clone();
                outdated(&self.metrics, &lacked);
                read_again.notify_one();
            }
            let wake = if may_act {
                state.wake().into_iter().chain(told.1.wake()).min()
            } else {
                state.next_round()
            };
            let wake = wake.map(|at| at.since(now).max(Duration::from_millis(1)));
            let end = tenure.filter(|_| may_act).map(|tenure| tenure.until.since(clock::steady()));
            let pause = wake.into_iter().chain(end).min();
            tokio::select! {
                () = stop.cancelled() => break Ok(()),
                Ok(()) = leading.changed() => {}
                ended = &mut election => {
                    let why = ended.unwrap_or_else(|_| Err("its thread has ended".to_owned()));
                    break Err(Error::Election(why.err().unwrap_or_default()));
                }
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
                            Message::Open(node) => state.take(Input::Open(node), clock::now()),
                            Message::Told(telling, outcome) => note_told(&mut told, telling, &outcome),
                        }
                        next = answered.try_recv().ok();
                    }
                }
                Some(lacks) = lacking.recv() => state.take(Input::Definitions(lacks), clock::now()),
                Some(input) = told_by_leading.recv() => state.take(input, clock::now()),
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
        // What was asked for is answered, or has failed, before another may begin; then sessions have somewhere to go.
        let answered = async { while requests.join_next().await.is_some() {} };
        drop(timeout(self.options.lease_duration, answered).await);
        requests.shutdown().await;
        resign.cancel();
        if !matches!(outcome, Err(Error::Election(_))) {
            drop(timeout(self.options.lease_duration, election).await);
        }
        stop.cancel();
        // Nobody listens any more: sessions end without waiting to say so.
        drop(said);
        drop(timeout(self.options.lease_duration, office.close()).await);
        while tasks.join_next().await.is_some() {}
        self.metrics.leader.set(0);
        outcome
    }
}

/// What the leader asks the API server with.
#[derive(Clone)]
struct Asking {
    client: Client,
    metrics: Arc<Metrics>,
    tenure: watch::Receiver<Option<Tenure>>,
}

impl Asking {
    /// Sends a request, and counts it. It is given up when this process may no longer act: another one may.
    async fn ask(&self, request: &Request) -> Outcome {
        let began = clock::instant();
        let outcome = tokio::select! {
            biased;
            outcome = self.client.send(request) => outcome,
            () = lapsed(self.tenure.clone()) => {
                Outcome::Failed("the lease ran out before an answer: whether it was done is not known".to_owned())
            }
        };
        let (verb, code) = (request.verb.as_str(), outcome.as_str());
        let metrics = &self.metrics;
        metrics.requests.with_label_values(&[verb, request.kind.as_str(), code]).inc();
        metrics.request_seconds.with_label_values(&[verb]).observe(began.elapsed().as_secs_f64());
        if !outcome.is_done() {
            metrics.failures.with_label_values(&[verb, code]).inc();
        }
        outcome
    }
}

fn carry_out(asking: &Asking, effect: Effect, answers: &mpsc::Sender<Message>, requests: &mut JoinSet<()>) {
    match effect {
        Effect::Ask(ticket, request) => {
            let (asking, answers) = (asking.clone(), answers.clone());
            requests.spawn(async move {
                let outcome = asking.ask(&request).await;
                drop(answers.send(Message::Answer(ticket, outcome)).await);
            });
        }
        Effect::Knock(node, address) => {
            let answers = answers.clone();
            requests.spawn(async move {
                let knock = TcpStream::connect((&*address, KUBELET));
                if let Ok(Ok(_)) = timeout(OPENS_WITHIN, knock).await {
                    drop(answers.send(Message::Open(node)).await);
                }
            });
        }
        Effect::Tell(session, message) => session.tell(message),
        Effect::End(session) => session.end(),
        Effect::Refused(reason) => asking.metrics.refused(reason),
    }
}

/// Says what happened in the log, and has it told as events.
fn tell(metrics: &Metrics, state: &mut State, (events, outbox): &mut (Events, Outbox)) {
    let now = clock::now();
    for (root, event) in state.told() {
        let (level, text) = view::told(&event);
        let tree = root.to_string();
        match level {
            view::Level::Debug => tracing::debug!(tree, "{text}"),
            view::Level::Info => tracing::info!(tree, "{text}"),
            view::Level::Warn => tracing::warn!(tree, "{text}"),
            view::Level::Error => tracing::error!(tree, "{text}"),
        }
        metrics.count(&event);
        let Some(about) = state.regarding(&root, &event) else { continue };
        let request = events.tell(&about, &event, now);
        let made = request.as_ref().filter(|request| request.verb == Verb::Create);
        let made = made.map(|request| request.name.clone());
        if !request.is_some_and(|request| outbox.put(Telling { about, request })) {
            metrics.events_dropped.inc();
            made.inspect(|name| events.lost(name));
        }
    }
}

/// An event was told, or was not: then what is the same is told anew the next time.
fn note_told((events, outbox): &mut (Events, Outbox), telling: Telling, outcome: &Outcome) {
    let stays = telling.request.verb != Verb::Create && !matches!(outcome, Outcome::Gone(_));
    if !stays && !matches!(outcome, Outcome::Done(_) | Outcome::Busy(_)) {
        events.lost(&telling.request.name);
    }
    outbox.answered(telling, outcome, clock::now());
}

/// Says what the cluster's definitions lack.
fn outdated(metrics: &Metrics, lacks: &Lacks) {
    metrics.schema_outdated.set((!lacks.is_empty()).into());
    if lacks.is_empty() {
        tracing::info!("the definitions of our kinds have every field that is written");
    } else {
        let fields = lacks.fields().join(", ");
        tracing::warn!(
            fields,
            "the definitions of our kinds are older than this operator: it does not write what they lack"
        );
    }
}

/// Shows how the world is: what is still to be listed, and in figures.
fn show(metrics: &Metrics, state: &State, ready: &watch::Sender<Vec<String>>) {
    let awaited: BTreeSet<Kind> = state.store().awaited().map(|source| source.kind).collect();
    let waits = awaited.iter().map(|kind| format!("the list of {}", kind.plural())).collect::<Vec<_>>();
    ready.send_if_modified(|pending| std::mem::replace(pending, waits.clone()) != waits);
    metrics.show(state, clock::now());
}

fn hear(state: &mut State, (source, seen): Heard) {
    if let Seen::Broken(message) | Seen::Refused(message) = &seen {
        tracing::debug!(kind = source.kind.as_str(), message, "stale");
    }
    state.take(Input::Watch(source, seen), clock::now());
}

/// What a world with these options watches.
pub fn sources(options: &Options) -> Vec<Source> {
    let own = Kind::OWN.into_iter().map(|kind| (kind, ""));
    let pods = [(Kind::Pod, "kontrol.dev/widget"), (Kind::Pod, "kontrol.dev/bus")];
    let owned = [
        (Kind::ControllerRevision, "kontrol.dev/widget-object"),
        (Kind::Service, "kontrol.dev/widget"),
        (Kind::Service, "kontrol.dev/bus"),
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
