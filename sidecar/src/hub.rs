//! The hub mode: the server side of the link, over `kontrol-hub`.
//!
//! ```text
//!   sidecars ──link──► HubDoor ──► FromSidecar (one per connection) ──► kontrol_hub::Hub
//!   operator ──control──► HubRole: topics, fences down · depth up
//! ```
//!
//! Invariants: a publish is answered when it is durable and not before; the source of a message is that of its sender's certificate; a disk that
//! refuses ends the process.

mod applying;
mod connection;
mod role;
mod run;
#[cfg(test)]
mod tests;
mod topics;

pub use role::HubRole;
pub use run::{HubOptions, HubProcess};

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use arc_swap::ArcSwap;
use kontrol_core::{code::Code, spec::Storage, time::Timestamp};
use kontrol_hub::{Clock, Config, Hub, Signal, io::real::Folder};
use kontrol_proto::{Message, v1};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::sleep,
};
use tokio_util::task::TaskTracker;

use crate::{
    clock,
    config::{fences, replace},
    link::{Ended, Link, Peer, server::Accept},
    service::Error,
    shared::Count,
};
use connection::FromSidecar;

/// The wall clock.
fn wall() -> Timestamp {
    Timestamp::from_micros(u64::try_from(clock::unix_micros()).unwrap_or(0))
}

/// The hub's time; it counts while the machine is suspended. What is due then comes up to a second after the machine wakes: timers stand still
/// meanwhile, and the hub's is never set further ahead.
#[derive(Clone, Copy, Debug)]
struct Time {
    clock: Clock,
    /// Since the machine was started.
    began: Duration,
}

impl Time {
    fn now(self) -> Timestamp {
        self.clock.after(clock::since_boot().saturating_sub(self.began))
    }
}

/// What the hub process shares. Shared by `Arc`.
#[derive(Debug)]
pub struct HubDoor {
    folder: PathBuf,
    subject: String,
    open: OnceLock<(Hub, Time)>,
    fences: ArcSwap<HashMap<String, u64>>,
    changed: watch::Sender<u64>,
    draining: watch::Sender<Option<Duration>>,
    timer: Arc<Notify>,
    fatal: mpsc::Sender<Error>,
    /// The tasks of this process.
    pub tasks: TaskTracker,
    /// Counters, for metrics.
    pub stats: Arc<HubStats>,
}

/// Counters of the hub's door; those of the log are [`kontrol_hub::Stats`].
#[derive(Debug, Default)]
pub struct HubStats {
    /// Open connections.
    pub connections: Count,
    /// Connections refused for a certificate that is not ours.
    pub foreign_certificates: Count,
    /// Connections refused for a fenced incarnation.
    pub fenced: Count,
    /// Frames that could not be read.
    pub malformed_frames: Count,
    /// Publishes that were refused.
    pub refused: Count,
}

impl HubDoor {
    /// The door of the hub `subject` over the log in `folder`, which is opened with the first configuration. What ends the process is sent
    /// to `fatal`.
    pub fn new(folder: PathBuf, subject: String, fatal: mpsc::Sender<Error>) -> Arc<Self> {
        Arc::new(Self {
            folder,
            subject,
            open: OnceLock::new(),
            fences: ArcSwap::default(),
            changed: watch::Sender::new(0),
            draining: watch::Sender::new(None),
            timer: Arc::default(),
            fatal,
            tasks: TaskTracker::new(),
            stats: Arc::default(),
        })
    }

    /// The subject of its certificate.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The hub, once it is open.
    pub fn hub(&self) -> Option<&Hub> {
        self.open.get().map(|(hub, _)| hub)
    }

    /// What each subscription looks like now; none while the log is not open.
    pub fn signals(&self) -> Vec<Signal> {
        self.open.get().map(|(hub, time)| hub.signals(time.now())).unwrap_or_default()
    }

    /// The version of the configuration in force; 0: none.
    pub fn version(&self) -> u64 {
        *self.changed.borrow()
    }

    /// Resolves when there is a configuration, and the log is open with it.
    pub async fn configured(&self) {
        // Its sender is this door's own.
        drop(self.changed.subscribe().wait_for(|_| self.open.get().is_some()).await);
    }

    /// Begins to drain: nothing new is taken.
    pub fn drain(&self, grace: Duration) {
        self.draining.send_if_modified(|draining| draining.is_none() && draining.replace(grace).is_none());
    }

    /// The same work, until the drain begins.
    fn until_draining(
        &self,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> impl Future<Output = ()> + Send + 'static {
        let mut draining = self.draining.subscribe();
        async move {
            tokio::select! {
                () = work => {}
                () = async { drop(draining.wait_for(Option::is_some).await) } => {}
            }
        }
    }

    fn is_draining(&self) -> bool {
        self.draining.borrow().is_some()
    }

    /// Puts the configuration of the last run in force, if there is one. With the log open, one that cannot be put in force is no reason to
    /// stop: the log has the topics of the last run, and the operator sends the next configuration.
    pub async fn resume(self: &Arc<Self>) -> Result<(), Error> {
        let path = self.folder.join("config.bin");
        let Ok(bytes) = std::fs::read(&path) else { return Ok(()) };
        match v1::HubConfig::decode(&bytes[..]) {
            Ok(config) => match self.configure(config).await {
                Err(error) if self.hub().is_some() => {
                    tracing::warn!(path = %path.display(), code = %error.code, %error, "the last configuration cannot be applied");
                    Ok(())
                }
                result => result,
            },
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the last configuration is damaged");
                Ok(())
            }
        }
    }

    /// Puts a configuration in force; resolves when that is durable.
    pub async fn configure(self: &Arc<Self>, config: v1::HubConfig) -> Result<(), Error> {
        let version = config.version;
        let (hub, time) = self.open(&config)?;
        let kept = config.encode_to_vec();
        let topics = topics::all(config.topics)?;
        let receipt = hub.configure(time.now(), &topics).map_err(|error| refused("", &error))?;
        // Kept once it is accepted, so that no later start meets one that cannot be, and before anybody is told of what a new topic stores.
        if let Err(error) = replace(&self.folder, "config.bin", &kept) {
            tracing::warn!(%error, "the configuration could not be kept on disk");
        }
        receipt.await.map_err(|error| refused("", &error))?;
        let fences = fences(config.fences);
        for (instance, incarnation) in &fences {
            hub.fence(instance, *incarnation);
        }
        self.fences.store(Arc::new(fences));
        self.changed.send_replace(version);
        tracing::info!(version, topics = topics.len(), "configuration in force");
        Ok(())
    }

    fn open(self: &Arc<Self>, config: &v1::HubConfig) -> Result<(Hub, Time), Error> {
        if let Some(open) = self.open.get() {
            return Ok(open.clone());
        }
        let default = Storage::default();
        let or = |bytes: u64, default: u64| if bytes == 0 { default } else { bytes };
        let storage = Storage {
            size: or(config.storage_bytes, default.size),
            segment: or(config.segment_bytes, default.segment),
        };
        let timer = Arc::clone(&self.timer);
        let seed = uuid::Uuid::new_v4().as_u64_pair().0;
        let options = Config {
            storage,
            seed,
            on_timer: Some(Arc::new(move || timer.notify_one())),
            ..Config::default()
        };
        let folder = self.folder.join("log");
        let subject = folder.display().to_string();
        let folder = Folder::open(&folder).map_err(|error| {
            Error::new(Code::StorageReadOnly, subject.as_str(), format!("{subject}: {error}"))
        })?;
        let (wall, began) = (wall(), clock::since_boot());
        let (hub, recovery) = Hub::open(Arc::new(folder), options, wall)
            .map_err(|error| Error::new(error.code(), subject.as_str(), format!("{subject}: {error}")))?;
        tracing::info!(records = recovery.records, unsettled = recovery.unsettled, cut = ?recovery.cut, "the log is open");
        let time = Time { clock: Clock::new(wall, recovery.time), began };
        self.watch(&hub, time);
        Ok(self.open.get_or_init(|| (hub, time)).clone())
    }

    /// Does what is due, and ends the process when the disk refuses.
    fn watch(self: &Arc<Self>, hub: &Hub, time: Time) {
        let (this, ticking) = (Arc::clone(self), hub.clone());
        self.tasks.spawn(async move {
            let mut draining = this.draining.subscribe();
            loop {
                let due = ticking.tick(time.now());
                let wait = async {
                    match due {
                        Some(due) => sleep(due.since(time.now())).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = wait => {}
                    () = this.timer.notified() => {}
                    () = async { drop(draining.wait_for(Option::is_some).await) } => return,
                }
            }
        });
        let (failed, fatal) = (hub.failed(), self.fatal.clone());
        let mut draining = self.draining.subscribe();
        self.tasks.spawn(async move {
            tokio::select! {
                failure = failed => {
                    // The receiver lives as long as the process.
                    drop(fatal.send(Error::new(Code::StorageFailed, "", failure.to_string())).await);
                }
                () = async { drop(draining.wait_for(Option::is_some).await) } => {}
            }
        });
    }
}

/// A refusal of the hub, as its clients hear it.
fn refused(subject: &str, error: &kontrol_hub::Error) -> Error {
    let refusal = Error::new(error.code(), subject, error.to_string());
    match error {
        kontrol_hub::Error::Busy { retry_after } => refusal.retry_after(*retry_after),
        kontrol_hub::Error::Full { .. } => refusal.retry_after(Duration::from_millis(100)),
        _ => refusal,
    }
}

impl Accept for HubDoor {
    type Inbound = FromSidecar;

    fn hello(&self) -> v1::LinkHello {
        v1::LinkHello { subject: self.subject.clone(), incarnation: 0, version: 1 }
    }

    fn fence(&self, subject: &str) -> u64 {
        self.fences.load().get(subject).copied().unwrap_or(0)
    }

    fn fences(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn draining(&self) -> watch::Receiver<Option<Duration>> {
        self.draining.subscribe()
    }

    fn incarnations(&self) -> Option<watch::Receiver<u64>> {
        None
    }

    fn admit(&self, peer: &Peer, link: &Link) -> Result<FromSidecar, Error> {
        if self.is_draining() {
            return Err(Error::new(Code::HubDraining, "", "the hub is shutting down"));
        }
        let Some(open) = self.open.get() else {
            return Err(Error::new(Code::HubUnavailable, "", "the hub has no configuration yet"));
        };
        let connection =
            FromSidecar::new(open.clone(), peer, link.clone(), self.tasks.clone(), Arc::clone(&self.stats))?;
        tracing::debug!(peer = peer.subject, incarnation = peer.incarnation, "a sidecar is connected");
        Ok(connection)
    }

    fn ended(&self, peer: Option<&Peer>, ended: &Ended) {
        let peer = peer.map_or("unknown", |peer| peer.subject.as_str());
        match ended {
            Ended::Refused(error) => {
                match error.code {
                    Code::StaleIncarnation => self.stats.fenced.inc(),
                    Code::ForeignCertificate => self.stats.foreign_certificates.inc(),
                    _ => self.stats.malformed_frames.inc(),
                }
                tracing::warn!(peer, code = %error.code, %error, "a sidecar was refused");
            }
            Ended::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                self.stats.foreign_certificates.inc();
                tracing::warn!(peer, code = %Code::ForeignCertificate, %error, "a sidecar was refused: its certificate is not one of this authority");
            }
            ended => tracing::debug!(peer, %ended, "a sidecar's connection ended"),
        }
    }
}
