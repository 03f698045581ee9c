//! The hub as this sidecar sees it: one link for all publishes and subscriptions, which comes back by itself.
//!
//! ```text
//!   publish ──► pending (until the hub says it is durable) ──► link ──► hub
//!   subscribe ──► subscriptions (reopened on each new link) ◄── deliveries
//! ```
//!
//! Invariants: a publish is answered once, when it is durable or will not be; until then it is sent again on each new link with the
//! same id, so that the hub's dedup makes it one message. A delivery's number is never used twice within a subscription, however often
//! the link breaks.

mod link;
mod publish;
mod routes;
mod subscribe;

pub(crate) use link::announce;
pub(crate) use publish::owned as publish_owned;
pub use subscribe::SubscriptionControl;
pub(crate) use subscribe::{draining, too_late};

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kontrol_core::code::Code;
use tokio::{sync::Semaphore, time::timeout};

use crate::{link::Link, service::Error, shared::Shared};

/// Bytes of a page, the unit in which room for publishes is counted.
const PAGE: usize = 4 << 10;
/// Pages of publishes that may be on their way at once.
const PAGES: usize = 4 << 10;

/// The client of the hub. Shared by `Arc`.
#[derive(Debug)]
pub struct Bus {
    shared: Arc<Shared>,
    state: Mutex<State>,
    room: Semaphore,
    routes: routes::Routes,
}

#[derive(Debug, Default)]
struct State {
    link: Option<Link>,
    /// Why the last one ended; empty: the hub has answered since.
    reason: String,
    /// Publishes that have no answer yet, by stream.
    pending: BTreeMap<u64, publish::Pending>,
    /// Open subscriptions, by their own number.
    subscriptions: HashMap<u64, subscribe::Entry>,
    /// Which subscription a stream of the present link belongs to.
    streams: HashMap<u64, u64>,
}

impl Bus {
    /// A client without a link; run it.
    pub fn new(shared: Arc<Shared>) -> Arc<Self> {
        let (state, room, routes) = (Mutex::default(), Semaphore::new(PAGES), routes::Routes::default());
        Arc::new(Self { shared, state, room, routes })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the hub is there.
    pub fn is_connected(&self) -> bool {
        self.lock().link.is_some()
    }

    /// Publishes, and settlements that the widget waits to hear of, that have no answer yet.
    pub fn pending(&self) -> u64 {
        let state = self.lock();
        let confirming: u64 = state.subscriptions.values().map(subscribe::Entry::confirming).sum();
        state.pending.len() as u64 + confirming
    }

    /// Writes what waits on the link and ends it, within a second.
    pub async fn flush(&self) {
        let link = self.lock().link.clone();
        if let Some(link) = link {
            link.close();
            drop(timeout(Duration::from_secs(1), link.ended().cancelled()).await);
        }
    }

    /// What somebody gets who waited for the hub in vain.
    fn away(&self, subject: &str) -> Error {
        let reason = match &self.shared.peek().hub {
            None if self.shared.peek().version == 0 => return self.not_configured(subject),
            None => "no hub is configured".to_owned(),
            Some(address) => match self.lock().reason.as_str() {
                "" => format!("the hub at {address} cannot be reached"),
                reason => format!("the hub at {address} cannot be reached: {reason}"),
            },
        };
        Error::new(Code::HubUnavailable, subject, reason)
    }

    fn not_configured(&self, subject: &str) -> Error {
        let message = format!("the sidecar of {} has no configuration yet", self.shared.subject);
        Error::new(Code::NotConfigured, subject, message)
    }
}
