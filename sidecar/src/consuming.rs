//! Delivering to a widget that subscribes by declaration: each message of a `consumes` with a path is posted to the widget's endpoint.
//!
//! Invariants: no more than `maxInFlight` messages of a subscription are with the widget; while a post is on its way its lease is renewed;
//! a subscription stays open for as long as a post of it is on its way, so that its answer counts; nothing is delivered before the widget
//! listens, so that a start uses up no attempts.

use std::{sync::Arc, time::Duration};

use tokio::{
    net::TcpStream,
    task::{JoinHandle, JoinSet},
    time::sleep,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    bus::{Bus, SubscriptionControl},
    clock,
    config::Consume,
    health::Health,
    service::{Delivery, Outcome, Subscription, SubscriptionEvent, WidgetEndpoint},
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

    /// Delivers for as long as it is polled, until the sidecar drains. What is consumed differently after a change starts over, and all of it
    /// with each process and address; the rest goes on.
    pub async fn run(self) {
        let (mut changes, mut lives) = (self.shared.changes(), self.shared.lives());
        let mut draining = self.shared.draining();
        let mut kept: Vec<Kept> = Vec::new();
        let mut of = (None, 0);
        loop {
            let config = self.shared.config();
            let now = (config.endpoint.clone(), *lives.borrow_and_update());
            let same = std::mem::replace(&mut of, now.clone()) == now;
            let (going, stopped): (Vec<_>, Vec<_>) =
                std::mem::take(&mut kept).into_iter().partition(|kept| {
                    same && config.consumes.contains(&kept.consume) && !kept.task.is_finished()
                });
            kept = going;
            let mut ending: Vec<_> = stopped.into_iter().map(Kept::stop).collect();
            if let Some(address) = &config.endpoint {
                for consume in config.consumes.iter().filter(|consume| consume.path.is_some()) {
                    if kept.iter().any(|kept| kept.consume == *consume) {
                        continue;
                    }
                    let before = ending.iter().position(|(old, _)| same_subscription(old, consume));
                    let before = before.map(|at| ending.swap_remove(at).1);
                    kept.push(self.start(consume, address, before));
                }
            }
            tokio::select! {
                changed = lives.changed() => if changed.is_err() { return },
                changed = changes.changed() => if changed.is_err() { return },
                () = async { drop(draining.wait_for(Option::is_some).await) } => return,
            }
        }
    }

    /// Keeps a subscription, once the one that it replaces has ended.
    fn start(&self, consume: &Consume, address: &str, before: Option<JoinHandle<()>>) -> Kept {
        let (this, address) = (self.clone(), address.to_owned());
        let (stop, consume) = (CancellationToken::new(), consume.clone());
        let kept = consume.clone();
        let stopping = stop.clone();
        let task = self.shared.tasks.spawn(async move {
            if let Some(before) = before {
                // That it failed is no reason not to go on.
                drop(before.await);
            }
            this.keep(&consume, &address, &stopping).await;
        });
        Kept { consume: kept, task, stop: stop.drop_guard() }
    }

    async fn keep(&self, consume: &Consume, address: &str, stopping: &CancellationToken) {
        loop {
            let opened = stopping.run_until_cancelled(async {
                self.listening(address).await;
                self.open(consume).await
            });
            let Some(opened) = opened.await else { return };
            if let Some(subscription) = opened {
                self.deliver(subscription, consume, address, stopping).await;
            }
            if stopping.run_until_cancelled(sleep(PAUSE)).await.is_none() {
                return;
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

    async fn open(&self, consume: &Consume) -> Option<Subscription> {
        let deadline = clock::now() + Duration::from_secs(30);
        let opened =
            self.bus.subscribe(&consume.topic, &consume.subscription, consume.max_in_flight, deadline).await;
        opened
            .inspect_err(|error| {
                tracing::warn!(topic = consume.topic, code = %error.code, %error, "no subscription yet");
            })
            .ok()
    }

    /// Posts what comes until the subscription ends. Stopped, it posts nothing new, and ends with the last of its posts: their settlements
    /// need the subscription.
    async fn deliver(
        &self,
        mut subscription: Subscription,
        consume: &Consume,
        address: &str,
        stopping: &CancellationToken,
    ) {
        let config = self.shared.config();
        let lease = config.topics.get(&consume.topic).map_or(Duration::ZERO, |topic| topic.ack_timeout);
        let renew = if lease.is_zero() { Duration::from_secs(10) } else { lease / 3 };
        let control = subscription.control();
        let mut posts = JoinSet::new();
        loop {
            let stopped = stopping.is_cancelled();
            if stopped && posts.is_empty() {
                return;
            }
            let event = tokio::select! {
                event = subscription.next() => event,
                Some(_) = posts.join_next() => {
                    // However it ended, the widget is free for another.
                    if !stopped {
                        control.credit(1);
                    }
                    continue;
                }
                () = stopping.cancelled(), if !stopped => continue,
            };
            match event {
                Some(Ok(SubscriptionEvent::Delivery(delivery))) if stopping.is_cancelled() => {
                    control.give_back(delivery.delivery);
                }
                Some(Ok(SubscriptionEvent::Delivery(delivery))) => {
                    let post = Post {
                        endpoint: Arc::clone(&self.endpoint),
                        address: address.to_owned(),
                        path: consume.path.clone().unwrap_or_default(),
                        control: control.clone(),
                        renew,
                    };
                    posts.spawn(post.run(*delivery));
                }
                // A post whose lease has ended ends by itself, with its next renewal.
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    tracing::debug!(topic = consume.topic, %error, "the subscription ended");
                    return;
                }
                None => return,
            }
        }
    }
}

/// A subscription that is kept. Dropped, it is stopped.
struct Kept {
    consume: Consume,
    task: JoinHandle<()>,
    stop: DropGuard,
}

impl Kept {
    /// Stops it; its task ends with the last of its posts.
    fn stop(self) -> (Consume, JoinHandle<()>) {
        drop(self.stop);
        (self.consume, self.task)
    }
}

fn same_subscription(one: &Consume, other: &Consume) -> bool {
    (&one.topic, &one.subscription) == (&other.topic, &other.subscription)
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
    }
}
