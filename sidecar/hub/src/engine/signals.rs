//! What the hub looks like from outside.

use std::time::Duration;

use kontrol_core::time::Timestamp;

use super::Engine;
use crate::api::{Signal, Stats};

impl Engine {
    /// What each subscription looks like.
    pub(crate) fn signals(&self, now: Timestamp) -> Vec<Signal> {
        let (now, mut signals) = (self.log.clock(now), Vec::new());
        for topic in self.state.topics.values() {
            for subscription in &topic.subscriptions {
                let oldest = subscription.oldest(&topic.index);
                signals.push(Signal {
                    namespace: topic.config.id.namespace.clone(),
                    topic: topic.config.id.name.clone(),
                    subscription: subscription.name.clone(),
                    depth: subscription.depth(),
                    growth: subscription.growth(now),
                    oldest: oldest.map_or(Duration::ZERO, |time| now.since(time)),
                    in_flight: subscription.in_flight(),
                    delayed: subscription.delayed(),
                    dead_lettered: subscription.dead_lettered,
                    dropped: subscription.dropped,
                    consumers: subscription.consumers.len() as u64,
                });
            }
        }
        signals
    }

    /// What the log has done.
    pub(crate) fn stats(&self) -> Stats {
        Stats {
            ids_forgotten: self.state.topics.values().map(|topic| topic.dedup.forgotten()).sum(),
            commits: self.log.commits,
            bytes: self.log.bytes,
            segments: self.log.live(),
            disk: self.log.disk(),
            ..self.stats
        }
    }
}
