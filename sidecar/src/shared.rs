//! What every part of a running sidecar reads: who it is, its configuration, its identity, whether it drains, and its counters.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use kontrol_core::id::InstanceId;
use kontrol_proto::v1;
use tokio::sync::{Notify, watch};
use tokio_util::task::TaskTracker;

use crate::{clock::Origin, config::Config, identity::Identity, metrics::Timings};

/// See the module. Shared by `Arc`.
#[derive(Debug)]
pub struct Shared {
    /// The instance that this sidecar belongs to.
    pub instance: InstanceId,
    /// `<namespace>/<group>/<widget>/<ordinal>`.
    pub subject: String,
    /// `<namespace>/<group>/<widget>`.
    pub widget: String,
    /// Our certificate.
    pub identity: Identity,
    /// The clock of the rules.
    pub origin: Origin,
    /// The tasks of this sidecar; shutdown waits for them.
    pub tasks: TaskTracker,
    /// Counters and gauges, for metrics and signals.
    pub stats: Stats,
    /// Durations, for metrics.
    pub timings: Timings,
    config: ArcSwap<Config>,
    changed: watch::Sender<u64>,
    incarnation: watch::Sender<u64>,
    lives: watch::Sender<u64>,
    draining: watch::Sender<Option<Duration>>,
    touched: Notify,
    alarmed: Notify,
    ids: AtomicU64,
}

impl Shared {
    /// A sidecar without configuration.
    pub fn new(instance: InstanceId, identity: Identity) -> Self {
        Self {
            subject: instance.to_string(),
            widget: instance.widget.to_string(),
            instance,
            identity,
            origin: Origin::new(),
            tasks: TaskTracker::new(),
            stats: Stats::default(),
            timings: Timings::new(),
            config: ArcSwap::default(),
            changed: watch::Sender::new(0),
            incarnation: watch::Sender::new(0),
            lives: watch::Sender::new(0),
            draining: watch::Sender::new(None),
            touched: Notify::new(),
            alarmed: Notify::new(),
            ids: AtomicU64::new(1),
        }
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    /// The configuration in force, for a short look.
    pub fn peek(&self) -> arc_swap::Guard<Arc<Config>> {
        self.config.load()
    }

    /// Puts a configuration in force, whole. An incarnation that is lower than the one before is a message that came late: refused with
    /// false, and nothing changes.
    pub fn apply(&self, config: Config) -> bool {
        let (version, incarnation) = (config.version, config.incarnation);
        if incarnation < *self.incarnation.borrow() {
            return false;
        }
        let config = Arc::new(config);
        self.config.store(Arc::clone(&config));
        self.timings.forget(&config.named);
        self.changed.send_replace(version);
        let another = |current: &mut u64| std::mem::replace(current, incarnation) != incarnation;
        if self.incarnation.send_if_modified(another) {
            self.replaced();
        }
        true
    }

    /// Sets the incarnation that this sidecar begins with, where it was told one at its start.
    pub fn begin(&self, incarnation: u64) {
        self.incarnation.send_if_modified(|current| {
            let higher = incarnation > *current;
            *current = incarnation.max(*current);
            higher
        });
    }

    /// Says that the widget's process was replaced in place: what its doors hold open belongs to a process that is gone.
    pub fn replaced(&self) {
        self.lives.send_modify(|count| *count += 1);
    }

    /// Tells of each new process of the widget: of a new incarnation, or of the same one after a restart in place.
    pub fn lives(&self) -> watch::Receiver<u64> {
        self.lives.subscribe()
    }

    /// Tells of each new configuration, with its version.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Tells of each new incarnation.
    pub fn incarnation(&self) -> watch::Receiver<u64> {
        self.incarnation.subscribe()
    }

    /// Tells when the sidecar drains, with the grace that it has.
    pub fn draining(&self) -> watch::Receiver<Option<Duration>> {
        self.draining.subscribe()
    }

    /// Whether the sidecar drains.
    pub fn is_draining(&self) -> bool {
        self.draining.borrow().is_some()
    }

    /// Begins to drain; the first grace holds.
    pub fn drain(&self, grace: Duration) {
        self.draining.send_if_modified(|draining| draining.is_none() && draining.replace(grace).is_none());
    }

    /// Says that something changed which signals tell of: health, load, work in flight.
    pub fn touch(&self) {
        self.touched.notify_one();
    }

    /// Waits for the next [`Shared::touch`]. For one waiter: the sender of signals.
    pub async fn touched(&self) {
        self.touched.notified().await;
    }

    /// Says that the operator waits to hear of this: another verdict on the widget's health.
    pub fn alarm(&self) {
        self.alarmed.notify_one();
    }

    /// Waits for the next [`Shared::alarm`]. For one waiter: the sender of signals.
    pub async fn alarmed(&self) {
        self.alarmed.notified().await;
    }

    /// A number that was never given before in this process.
    pub fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// What a link is told first.
    pub fn hello(&self) -> v1::LinkHello {
        let incarnation = *self.incarnation.borrow();
        v1::LinkHello { subject: self.subject.clone(), incarnation, version: 1 }
    }
}

macro_rules! stats {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters since the start, and gauges. All by relaxed atomics: they are read for metrics and signals only.
        #[derive(Debug, Default)]
        pub struct Stats { $($(#[$doc])* pub $name: Count,)* }
    };
}

stats! {
    /// Messages that were published and are durable.
    published,
    /// Publishes that found their message stored already.
    duplicates,
    /// Publishes that were refused or failed.
    publish_errors,
    /// Messages that were delivered to the widget.
    delivered,
    /// Deliveries that the widget has acknowledged.
    acked,
    /// Deliveries that it gave back.
    naked,
    /// Deliveries that it refused for good.
    termed,
    /// Deliveries that the widget holds now.
    deliveries_in_flight,
    /// Calls that the widget made.
    calls_out,
    /// Calls that it made and whose replies have not ended.
    calls_open,
    /// Calls that it made and that failed.
    calls_out_errors,
    /// Calls that were tried again.
    call_retries,
    /// Calls that the widget was asked to answer.
    calls_in,
    /// Calls that it was asked to answer and that failed or were refused.
    calls_in_errors,
    /// Calls that it answers now.
    calls_in_flight,
    /// Connections that were refused for a certificate that is not ours.
    foreign_certificates,
    /// Connections that were refused for a fenced incarnation.
    fenced,
    /// Frames that could not be read.
    malformed_frames,
    /// Connections to the hub that were made.
    hub_connects,
    /// Whether the hub is connected.
    hub_connected,
    /// Whether the operator is connected.
    control_connected,
    /// Sessions with the operator that were opened.
    control_connects,
    /// Route expressions that failed on a message.
    route_errors,
    /// Restarts of the widget in place, by the shim of its container.
    restarts,
    /// Whether the shim is connected.
    shim_connected,
}

/// A counter or a gauge.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// One more.
    pub fn inc(&self) {
        self.add(1);
    }

    /// That many more.
    pub fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    /// One less, of a gauge.
    pub fn dec(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// Sets a gauge.
    pub fn set(&self, to: u64) {
        self.0.store(to, Ordering::Relaxed);
    }

    /// The value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
