//! A topic: its configuration, its subscriptions, the index of what they have not settled, and the ids it remembers.

use std::collections::VecDeque;

use kontrol_core::{spec, time::Timestamp};

use crate::{
    dedup::Dedup,
    index::{Entry, Index},
    subscription::Subscription,
};

/// One topic.
pub(crate) struct Topic {
    /// Its configuration.
    pub(crate) config: spec::Topic,
    /// Its subscriptions.
    pub(crate) subscriptions: Vec<Subscription>,
    /// What some subscription has not settled.
    pub(crate) index: Index,
    /// The ids it remembers.
    pub(crate) dedup: Dedup,
    /// Which segments hold messages of it, and the time of the newest in each.
    segments: VecDeque<(u32, Timestamp)>,
    /// Whether the commit that is being gathered makes messages of it visible.
    pub(crate) touched: bool,
    /// New messages of the publish that is being planned.
    pub(crate) planned: u64,
    /// Whether the index misses messages that the log holds: a subscription came after them. Until [`Topic::rebuild`].
    pub(crate) incomplete: bool,
}

impl Topic {
    /// A topic without messages.
    pub(crate) fn new(config: spec::Topic, dedup_ids: usize) -> Self {
        let dedup = Dedup::new(config.dedup_window, dedup_ids);
        Self {
            config,
            subscriptions: Vec::new(),
            index: Index::default(),
            dedup,
            segments: VecDeque::new(),
            touched: false,
            planned: 0,
            incomplete: false,
        }
    }

    /// Takes over another configuration.
    pub(crate) fn configure(&mut self, config: spec::Topic) {
        self.dedup.set_window(config.dedup_window);
        self.config = config;
    }

    /// A message was appended.
    pub(crate) fn arrived(&mut self, entry: Entry) {
        match self.segments.back_mut() {
            Some((epoch, time)) if *epoch == entry.place.epoch => *time = entry.time,
            _ => self.segments.push_back((entry.place.epoch, entry.time)),
        }
        if !self.subscriptions.is_empty() {
            self.index.push(entry);
            for subscription in &mut self.subscriptions {
                subscription.arrived(entry.sequence);
            }
        }
    }

    /// A subscription was declared; it starts with the oldest message that the log still holds.
    pub(crate) fn subscribed(&mut self, subscription: Subscription) {
        self.subscriptions.push(subscription);
        self.incomplete |= !self.segments.is_empty();
    }

    /// Makes the index anew from all messages that the log holds of it.
    pub(crate) fn rebuild(&mut self, entries: impl IntoIterator<Item = Entry>, is_new: impl Fn(u32) -> bool) {
        let looked_at: Vec<_> = self
            .subscriptions
            .iter()
            .map(|subscription| self.index.at(subscription.cursor()).map(|entry| entry.sequence))
            .collect();
        let last = self.index.iter().last().map_or(0, |entry| entry.sequence);
        self.incomplete = false;
        self.index = Index::default();
        entries.into_iter().for_each(|entry| self.index.push(entry));
        for (subscription, next) in self.subscriptions.iter_mut().zip(looked_at) {
            subscription.place_cursor(match next {
                _ if is_new(subscription.id) => 0,
                Some(next) => self.index.above(next.saturating_sub(1)),
                None => self.index.above(last.max(subscription.floor())),
            });
            subscription.recount(&self.index);
        }
        self.trim();
    }

    /// Removes from the index what every subscription has settled.
    pub(crate) fn trim(&mut self) {
        let floor = self.subscriptions.iter().map(Subscription::floor).min().unwrap_or(u64::MAX);
        while self.index.front().is_some_and(|entry| entry.sequence <= floor) {
            self.index.pop_front();
        }
    }

    /// Whether a message is too old to be kept.
    pub(crate) fn is_expired(&self, entry: &Entry, now: Timestamp) -> bool {
        now.since(entry.time) > self.config.retention.age
    }

    /// The oldest segment that is still needed for its messages.
    pub(crate) fn needed(&mut self, now: Timestamp) -> Option<u32> {
        if let Some(front) = self.index.front() {
            return Some(front.place.epoch);
        }
        if self.subscriptions.is_empty() {
            let age = self.config.retention.age;
            return self.segments.iter().find(|(_, time)| now.since(*time) <= age).map(|(epoch, _)| *epoch);
        }
        None
    }

    /// Forgets segments that are gone.
    pub(crate) fn forget_before(&mut self, epoch: u32) {
        while self.segments.front().is_some_and(|(first, _)| *first < epoch) {
            self.segments.pop_front();
        }
    }
}
