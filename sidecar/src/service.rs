//! What the sidecar does, without a door: publish, subscribe, call, serve, report, state.
//!
//! ```text
//!   gRPC door ─┐            ┌─► bus ──link──► hub
//!   HTTP door ─┼─► Service ─┼─► peers ──link──► other sidecars
//!              │            └─► health
//!   other sidecars ──► serving ──► Serve session at a door, or the widget's own endpoint
//! ```
//!
//! Invariants: a door translates and decides nothing; everything that can be refused is refused here, with the same [`Error`] for
//! every door.

mod call;
mod endpoint;
mod error;
mod message;

pub use crate::{bus::SubscriptionControl, shared::Count};
pub use call::{Call, Chunk, Incoming, Replies, ReplyStream, Request, ServeEvent, ServeSession};
pub use endpoint::{BoxFuture, NoEndpoint, WidgetEndpoint};
pub(crate) use error::causes;
pub use error::{Error, Status};
pub use kontrol_core::health::Word;
pub use kontrol_proto::v1::StateResponse as State;
pub use message::{Delivery, Event, Outcome, Published, Subscription, SubscriptionEvent};

use std::{collections::HashMap, future::Future, sync::Arc, time::Duration};

use kontrol_core::{code::Code, id::WidgetId, report};
use kontrol_proto::v1;
use tokio::{sync::watch, time::Instant};

use crate::{
    bus::{self, Bus},
    clock,
    config::Config,
    health::Health,
    metrics::Timings,
    peers::Peers,
    serving::Serving,
    shared::{Shared, Stats},
};

/// What a widget says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Its health; none: it speaks of its load alone, which is a sign of life all the same.
    pub health: Option<Word>,
    /// Why, where it is not ready.
    pub message: String,
    /// Its own numbers, by name. Replaces those of the last report.
    pub load: HashMap<String, f64>,
}

/// The sidecar, as its doors see it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Service {
    shared: Arc<Shared>,
    bus: Arc<Bus>,
    peers: Arc<Peers>,
    serving: Arc<Serving>,
    health: Arc<Health>,
}

impl Service {
    /// Puts the parts together.
    pub(crate) fn new(
        shared: Arc<Shared>,
        bus: Arc<Bus>,
        peers: Arc<Peers>,
        serving: Arc<Serving>,
        health: Arc<Health>,
    ) -> Self {
        Self { shared, bus, peers, serving, health }
    }

    fn deadline(&self, deadline: Option<Instant>) -> Instant {
        deadline.unwrap_or_else(|| clock::now() + self.shared.peek().resilience.timeout)
    }

    /// Stores an event on a topic that the widget declares under `produces`, and the copies that routes make of it. Resolves when it is
    /// durable; while the hub is away it waits until `deadline` (none: the widget's `resilience.timeout`).
    ///
    /// The future owns what it needs and is independent of others: a door that streams keeps many of them on their way (in a
    /// `FuturesUnordered`, bounded), and they leave together. Their order is that in which they are first polled.
    pub fn publish(
        &self,
        topic: &str,
        event: Event,
        deadline: Option<Instant>,
    ) -> impl Future<Output = Result<Published, Error>> + Send + 'static {
        let (shared, begun) = (Arc::clone(&self.shared), clock::now());
        let topic = topic.to_owned();
        let publish =
            bus::publish_owned(Arc::clone(&self.bus), topic.clone(), event, self.deadline(deadline));
        async move {
            let result = publish.await;
            let failed = result.as_ref().err().map(|error| error.code);
            shared.timings.publish(&shared.peek().named, &topic, clock::now() - begun, failed);
            result
        }
    }

    /// Opens a durable subscription that the widget declares under `consumes`; an empty name means the one declared for the topic.
    pub async fn subscribe(
        &self,
        topic: &str,
        subscription: &str,
        credits: u32,
    ) -> Result<Subscription, Error> {
        self.bus.subscribe(topic, subscription, credits, self.deadline(None)).await
    }

    /// Calls another widget. Resolves with the first chunk of the reply, or with the error that came instead; before the first chunk the
    /// call may have been tried on several replicas, after it nothing is retried. Dropping the future or the stream cancels the call.
    pub async fn call(&self, call: Call) -> Result<ReplyStream, Error> {
        let begun = clock::now();
        let target = WidgetId::resolve(&call.target, &self.shared.instance.widget)
            .map_or_else(|_| call.target.clone(), |id| id.to_string());
        let result = self.peers.call(call).await;
        let failed = result.as_ref().err().map(|error| error.code);
        self.shared.timings.call(&self.shared.peek().named, &target, clock::now() - begun, failed);
        result
    }

    /// Opens a session in which the widget answers up to `concurrency` calls at once; 0 stands for 64.
    pub fn serve(&self, concurrency: u32) -> Result<ServeSession, Error> {
        self.serving.open(concurrency)
    }

    /// Takes the widget's word on its health and load, where it is within its [limits](kontrol_core::report).
    pub fn report(&self, report: Report) -> Result<(), Error> {
        let load = report.load.iter().map(|(name, value)| (name.as_str(), *value));
        report::check(&report.message, load)
            .map_err(|excess| Error::new(Code::ReportOutOfBounds, "", excess.to_string()))?;
        self.health.report(report);
        Ok(())
    }

    /// The sidecar's state, for people and dashboards.
    pub fn state(&self) -> State {
        self.state_and_config().0
    }

    /// The sidecar's state, and the configuration that it is the state of.
    pub(crate) fn state_and_config(&self) -> (State, Arc<Config>) {
        let config = self.shared.config();
        let health = self.health.seen();
        let state = v1::StateResponse {
            instance: self.shared.subject.clone(),
            incarnation: *self.shared.incarnation().borrow(),
            control_connected: self.shared.stats.control_connected.get() > 0,
            config_version: config.version,
            hub_connected: self.bus.is_connected(),
            targets: self.peers.targets(&config),
            subscriptions: config
                .consumes
                .iter()
                .map(|consume| {
                    let in_flight = self.bus.subscription_state(&consume.topic, &consume.subscription);
                    let via = in_flight.map_or("", |_| if consume.path.is_some() { "http" } else { "door" });
                    v1::SubscriptionState {
                        topic: consume.topic.clone(),
                        subscription: consume.subscription.clone(),
                        via: via.to_owned(),
                        in_flight: in_flight.unwrap_or(0),
                    }
                })
                .collect(),
            health: health.health.into(),
            in_flight: u32::try_from(self.in_flight()).unwrap_or(u32::MAX),
            draining: self.shared.is_draining(),
            certificate_expires: self.shared.identity.current().map_or(0, |tls| tls.not_after()),
        };
        (state, config)
    }

    /// Whether its widget has to do with topics, and so with a hub.
    pub fn wants_hub(&self) -> bool {
        let config = self.shared.peek();
        config.hub.is_some() || config.hub_subject.is_some() || !config.topics.is_empty()
    }

    /// Calls and messages that the widget works on.
    pub fn in_flight(&self) -> u64 {
        self.shared.stats.calls_in_flight.get() + self.shared.stats.deliveries_in_flight.get()
    }

    /// Counters since the start and gauges, for `/metrics`.
    pub fn stats(&self) -> &Stats {
        &self.shared.stats
    }

    /// Durations and failures, for `/metrics`.
    pub fn timings(&self) -> &Timings {
        &self.shared.timings
    }

    /// Whether the sidecar has what it takes to work: a configuration and a certificate.
    pub fn is_ready(&self) -> bool {
        self.shared.peek().version > 0
            && self.shared.identity.current().is_some()
            && !self.shared.is_draining()
    }

    /// Tells when the sidecar begins to drain, with the grace that it has: doors take no new work then, and let what is in flight end.
    pub fn draining(&self) -> watch::Receiver<Option<Duration>> {
        self.shared.draining()
    }

    /// Tells of each new configuration, with its version.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes()
    }

    /// Runs a task that shutdown waits for.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.shared.tasks.spawn(task);
    }
}
