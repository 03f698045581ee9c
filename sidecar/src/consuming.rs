//! Delivering to a widget that subscribes by declaration: each message of a `consumes` with a path is posted to the widget's endpoint.
//!
//! Invariants: no more than `maxInFlight` messages of a subscription are with the widget; while a post is on its way its lease is renewed;
//! nothing is delivered before the widget listens, so that a start uses up no attempts.

use std::{sync::Arc, time::Duration};

use tokio::{net::TcpStream, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    bus::{Bus, SubscriptionControl},
    clock,
    config::Consume,
    health::Health,
    service::{Delivery, Outcome, SubscriptionEvent, WidgetEndpoint},
    shared::Shared,
};
use kontrol_proto::v1;

/// How often a widget that does not listen yet is looked at.
const LOOK: Duration = Duration::from_millis(25);
/// The pause after a subscription has ended.
const PAUSE: Duration = Duration::from_millis(200);

/// See the module.
#[derive(Clone)]
pub struct Consuming {
    shared: Arc<Shared>,
    bus: Arc<Bus>,
    health: Arc<Health>,
    endpoint: Arc<dyn WidgetEndpoint>,
}

impl std::fmt::Debug for Consuming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consuming").field("of", &self.shared.subject).finish_non_exhaustive()
    }
}

impl Consuming {
    /// Delivers to `endpoint`.
    pub fn new(
        shared: Arc<Shared>,
        bus: Arc<Bus>,
        health: Arc<Health>,
        endpoint: Arc<dyn WidgetEndpoint>,
    ) -> Self {
        Self { shared, bus, health, endpoint }
    }

    /// Delivers for as long as it is polled; starts over with each incarnation and each change of what is consumed.
    pub async fn run(self) {
        let (mut changes, mut incarnations) = (self.shared.changes(), self.shared.incarnation());
        loop {
            let config = self.shared.config();
            let running = CancellationToken::new();
            let _stop = running.clone().drop_guard();
            if let Some(address) = &config.endpoint {
                for consume in config.consumes.iter().filter(|consume| consume.path.is_some()) {
                    let (this, consume, address) = (self.clone(), consume.clone(), address.clone());
                    let running = running.clone();
                    self.shared.tasks.spawn(async move {
                        tokio::select! {
                            () = running.cancelled() => {}
                            () = this.keep(&consume, &address) => {}
                        }
                    });
                }
            }
            loop {
                tokio::select! {
                    changed = incarnations.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => return,
                    },
                    changed = changes.changed() => match changed {
                        Ok(()) => {
                            let new = self.shared.config();
                            if new.consumes != config.consumes || new.endpoint != config.endpoint {
                                break;
                            }
                        }
                        Err(_) => return,
                    },
                }
            }
        }
    }

    async fn keep(&self, consume: &Consume, address: &str) {
        let mut draining = self.shared.draining();
        loop {
            self.listening(address).await;
            if self.shared.is_draining() {
                return;
            }
            tokio::select! {
                () = self.deliver(consume, address) => sleep(PAUSE).await,
                () = async { drop(draining.wait_for(Option::is_some).await) } => {
                    // What is with the widget ends in tasks of its own; nothing new is taken.
                    return;
                }
            }
        }
    }

    /// Waits until the widget is ready, as far as it has a duty to say so, and listens.
    async fn listening(&self, address: &str) {
        loop {
            let ready = self.health.seen().health == v1::Health::Ready;
            if ready && TcpStream::connect(address).await.is_ok() {
                return;
            }
            sleep(LOOK).await;
        }
    }

    async fn deliver(&self, consume: &Consume, address: &str) {
        let deadline = clock::now() + Duration::from_secs(30);
        let opened =
            self.bus.subscribe(&consume.topic, &consume.subscription, consume.max_in_flight, deadline).await;
        let mut subscription = match opened {
            Ok(subscription) => subscription,
            Err(error) => {
                tracing::warn!(topic = consume.topic, code = %error.code, %error, "no subscription yet");
                return;
            }
        };
        let config = self.shared.config();
        let lease = config.topics.get(&consume.topic).map_or(Duration::ZERO, |topic| topic.ack_timeout);
        let renew = if lease.is_zero() { Duration::from_secs(10) } else { lease / 3 };
        while let Some(event) = subscription.next().await {
            match event {
                Ok(SubscriptionEvent::Delivery(delivery)) => {
                    let control = subscription.control();
                    let post = Post {
                        endpoint: Arc::clone(&self.endpoint),
                        address: address.to_owned(),
                        path: consume.path.clone().unwrap_or_default(),
                        control,
                        renew,
                    };
                    self.shared.tasks.spawn(post.run(*delivery));
                }
                Ok(SubscriptionEvent::Settled(_) | SubscriptionEvent::Reopened) => {}
                Err(error) => {
                    tracing::debug!(topic = consume.topic, %error, "the subscription ended");
                    return;
                }
            }
        }
    }
}

/// One message on its way to the widget.
struct Post {
    endpoint: Arc<dyn WidgetEndpoint>,
    address: String,
    path: String,
    control: SubscriptionControl,
    renew: Duration,
}

impl Post {
    async fn run(self, delivery: Delivery) {
        let id = delivery.delivery;
        let renewing = async {
            loop {
                sleep(self.renew).await;
                if self.control.settle(id, &Outcome::Progress, false).is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            outcome = self.endpoint.deliver(&self.address, &self.path, &delivery) => {
                // A lease that is lost has been given to somebody else: there is nothing to say about it.
                drop(self.control.settle(id, &outcome, false));
            }
            () = renewing => {}
        }
        // However it ended, the widget is free for another.
        self.control.credit(1);
    }
}
