//! The hub's side of the control session.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kontrol_core::limits::SUBSCRIPTIONS;
use kontrol_proto::{
    session::Configuration,
    v1::{self, session_request},
};
use tokio::time::sleep;

use super::{
    HubDoor,
    applying::{Applying, Outcome},
};
use crate::{
    clock,
    control::{Place, Role},
    shared::Count,
};

/// How often depths are looked at.
const LOOK: Duration = Duration::from_millis(50);

/// See the module.
#[derive(Debug)]
pub struct HubRole {
    door: Arc<HubDoor>,
    peer: String,
    admin: String,
    place: Place,
    applying: Arc<Applying>,
    told: Mutex<HashMap<(String, String, String), u64>>,
    connected: Count,
}

impl HubRole {
    /// The role of a hub that listens at `peer` for sidecars and at `admin` for metrics.
    pub fn new(door: Arc<HubDoor>, peer: String, admin: String, place: Place) -> Arc<Self> {
        let configuring = Arc::clone(&door);
        let applying = Applying::new(move |config| {
            let door = Arc::clone(&configuring);
            Box::pin(async move { door.configure(config).await })
        });
        Arc::new(Self {
            door,
            peer,
            admin,
            place,
            applying,
            told: Mutex::default(),
            connected: Count::default(),
        })
    }

    fn seen(&self) -> Vec<v1::hub_signals::Subscription> {
        let signals = self.door.signals().into_iter();
        signals
            .map(|signal| v1::hub_signals::Subscription {
                namespace: signal.namespace.to_string(),
                topic: signal.topic.to_string(),
                subscription: signal.subscription,
                depth: signal.depth,
                growth: signal.growth,
                oldest_ms: u64::try_from(signal.oldest.as_millis()).unwrap_or(u64::MAX),
                in_flight: signal.in_flight,
                dead_lettered: signal.dead_lettered,
                dropped: signal.dropped,
            })
            .collect()
    }

    fn remember(&self, subscriptions: &[v1::hub_signals::Subscription]) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        *told = subscriptions
            .iter()
            .map(|seen| ((seen.namespace.clone(), seen.topic.clone(), seen.subscription.clone()), seen.depth))
            .collect();
    }

    /// Whether a depth has changed by a tenth or more since it was told.
    fn changed(&self) -> bool {
        let seen = self.seen();
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        seen.into_iter().any(|seen| {
            let before = told.get(&(seen.namespace, seen.topic, seen.subscription)).copied().unwrap_or(0);
            seen.depth.abs_diff(before) * 10 >= before.max(1) && seen.depth != before
        })
    }
}

/// What is seen, in messages that the operator hears; one without subscriptions is a sign of life.
fn messages(seen: &[v1::hub_signals::Subscription], at_micros: i64) -> Vec<session_request::Message> {
    let message = |subscriptions: &[v1::hub_signals::Subscription]| {
        let subscriptions = subscriptions.to_vec();
        session_request::Message::HubSignals(v1::HubSignals { subscriptions, at_micros })
    };
    match seen {
        [] => vec![message(&[])],
        seen => seen.chunks(SUBSCRIPTIONS).map(message).collect(),
    }
}

/// Puts a configuration in force; what there is to say of it.
async fn apply(
    door: Arc<HubDoor>,
    applying: Arc<Applying>,
    config: v1::HubConfig,
) -> Option<session_request::Message> {
    let version = config.version;
    match applying.apply(config).await {
        Outcome::Applied(applied) => return Some(session_request::Message::Applied(applied)),
        Outcome::Waiting(again) => drop(door.tasks.spawn(door.until_draining(again))),
        Outcome::Refused(error) => {
            tracing::error!(version, code = %error.code, %error, "the configuration cannot be applied");
            if door.hub().is_none() {
                // Without its log a hub is of no use: whoever runs it is to know.
                drop(door.fatal.send(error).await);
            }
        }
    }
    None
}

impl Role for HubRole {
    fn hello(&self) -> v1::Hello {
        let hello = self.place.hello(self.door.subject().to_owned());
        v1::Hello { peer: self.peer.clone(), admin: self.admin.clone(), ..hello }
    }

    async fn take(&self, configuration: Configuration) -> Option<session_request::Message> {
        let Configuration::Hub(config) = configuration else {
            tracing::warn!("a configuration for a sidecar came to the hub");
            return None;
        };
        // A task of its own: a session that ends meanwhile leaves nothing half in force, and what follows from it is done.
        let applied =
            self.door.tasks.spawn(apply(Arc::clone(&self.door), Arc::clone(&self.applying), config));
        applied.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a configuration was not applied");
            None
        })
    }

    fn signals(&self) -> Vec<session_request::Message> {
        let subscriptions = self.seen();
        self.remember(&subscriptions);
        messages(&subscriptions, clock::unix_micros())
    }

    async fn touched(&self) {
        loop {
            sleep(LOOK).await;
            if self.changed() {
                return;
            }
        }
    }

    async fn alarmed(&self) {
        std::future::pending::<()>().await;
    }

    fn connected(&self, connected: bool) {
        self.connected.set(connected.into());
    }
}

#[cfg(test)]
mod tests {
    use kontrol_core::limits::SIGNALS;
    use prost::Message;

    use super::*;

    #[test]
    fn a_hub_of_many_subscriptions_says_all_of_them_in_messages_that_are_heard() {
        let part = "n".repeat(63);
        let seen = v1::hub_signals::Subscription {
            namespace: part.clone(),
            topic: part.clone(),
            subscription: part,
            depth: u64::MAX,
            growth: f64::MIN,
            oldest_ms: u64::MAX,
            in_flight: u64::MAX,
            dead_lettered: u64::MAX,
            dropped: u64::MAX,
        };
        for count in [0, 1, SUBSCRIPTIONS, SUBSCRIPTIONS + 1, 10 * SUBSCRIPTIONS] {
            let messages = messages(&vec![seen.clone(); count], i64::MIN);
            assert_eq!(messages.len(), count.div_ceil(SUBSCRIPTIONS).max(1));
            let mut said = 0;
            for message in messages {
                let session_request::Message::HubSignals(signals) = &message else { panic!("{message:?}") };
                said += signals.subscriptions.len();
                let request = v1::SessionRequest { message: Some(message) };
                assert!(request.encoded_len() <= SIGNALS, "{}", request.encoded_len());
            }
            assert_eq!(said, count);
        }
    }
}
