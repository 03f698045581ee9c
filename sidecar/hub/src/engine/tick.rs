//! What becomes due as time goes by.

use std::time::Duration;

use kontrol_core::time::Timestamp;

use super::Engine;

/// How often figures are sampled and space is looked for while nothing else is due.
const PULSE: Duration = Duration::from_secs(1);

impl Engine {
    /// Does what is due; returns when to come again.
    pub(crate) fn tick(&mut self, now: Timestamp) -> Option<Timestamp> {
        if self.failure.is_some() {
            return None;
        }
        self.log.retry_disk();
        let now = self.log.pass(now);
        let visible = self.log.durable();
        let mut due = None;
        for subscription in self.subscription_numbers() {
            self.end_leases(now, subscription);
            self.expire(subscription, now);
            if let Some((topic, at)) = self.state.subscription(subscription) {
                let ticking = &mut topic.subscriptions[at];
                ticking.wake_delayed(now);
                ticking.sample(now);
                ticking.notices(&topic.index, visible, &mut self.notices);
                due = due.into_iter().chain(ticking.due()).min();
            }
        }
        self.release(now);
        let pulse = (!self.state.topics.is_empty()).then(|| now.plus(PULSE));
        self.wake = due.into_iter().chain(pulse).min();
        self.wake
    }

    fn subscription_numbers(&self) -> Vec<u32> {
        let subscriptions = self.state.topics.values().flat_map(|topic| &topic.subscriptions);
        subscriptions.map(|subscription| subscription.id).collect()
    }

    /// Settles what is too old in the topic of a subscription, but for what is in flight. Nothing is written: age says the same after
    /// a crash.
    pub(super) fn expire(&mut self, subscription: u32, now: Timestamp) {
        let Some((topic, _)) = self.state.subscription(subscription) else { return };
        if topic.index.front().is_none_or(|front| !topic.is_expired(front, now)) {
            return;
        }
        let expired: Vec<u64> = topic
            .index
            .iter()
            .take_while(|entry| topic.is_expired(entry, now))
            .map(|entry| entry.sequence)
            .collect();
        for subscription in &mut topic.subscriptions {
            for sequence in &expired {
                if subscription.is_settled(*sequence) || subscription.is_in_flight(*sequence) {
                    continue;
                }
                if let Some(key) = subscription.settle(*sequence, &topic.index) {
                    subscription.free(key);
                }
                subscription.dropped += 1;
            }
        }
        topic.trim();
    }

    /// Gives back the segments that hold nothing which is still needed.
    fn release(&mut self, now: Timestamp) {
        let mut needed = self.log.epoch();
        for topic in self.state.topics.values_mut() {
            let remembered = topic.dedup.needed(now).map(|sequence| self.log.epoch_of(sequence));
            needed = topic.needed(now).into_iter().chain(remembered).fold(needed, u32::min);
        }
        self.log.release(needed);
        let oldest = self.log.oldest();
        for topic in self.state.topics.values_mut() {
            topic.forget_before(oldest);
        }
    }
}
