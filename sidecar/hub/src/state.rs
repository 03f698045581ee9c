//! All that the log says: a fold over its records. Recovery applies them one by one; a checkpoint writes the whole down.

use std::collections::{BTreeMap, HashMap};

use kontrol_core::{id::Name, spec, time::Timestamp};

use crate::{
    index::{Entry, Place},
    record::{
        Header,
        item::{self, Item, Items},
    },
    subscription::Subscription,
    topic::Topic,
};

/// The topics and where each subscription stands.
pub(crate) struct State {
    /// The topics by their numbers.
    pub(crate) topics: BTreeMap<u32, Topic>,
    names: HashMap<Name, HashMap<Name, u32>>,
    /// The topic of each subscription.
    homes: HashMap<u32, u32>,
    next_topic: u32,
    next_subscription: u32,
    dedup_ids: usize,
}

impl State {
    /// Nothing yet.
    pub(crate) fn new(dedup_ids: usize) -> Self {
        Self {
            topics: BTreeMap::new(),
            names: HashMap::new(),
            homes: HashMap::new(),
            next_topic: 1,
            next_subscription: 1,
            dedup_ids,
        }
    }

    /// The number of a topic.
    pub(crate) fn find(&self, namespace: &str, topic: &str) -> Option<u32> {
        self.names.get(namespace)?.get(topic).copied()
    }

    /// The number for a new topic.
    pub(crate) const fn new_topic(&self) -> u32 {
        self.next_topic
    }

    /// The number for a new subscription.
    pub(crate) const fn new_subscription(&self) -> u32 {
        self.next_subscription
    }

    /// A subscription, with its topic.
    pub(crate) fn subscription(&mut self, id: u32) -> Option<(&mut Topic, usize)> {
        let topic = self.topics.get_mut(self.homes.get(&id)?)?;
        let at = topic.subscriptions.iter().position(|subscription| subscription.id == id)?;
        Some((topic, at))
    }

    /// Applies a record that was read; returns how many messages it holds, or `None` if it is not one of this version.
    pub(crate) fn apply(&mut self, header: &Header, body: &[u8], place: Place) -> Option<u64> {
        let mut messages = 0;
        for item in Items::of(body) {
            let item = item?;
            if matches!(item, Item::Message { .. }) {
                self.apply_item(&item, header.sequence + messages, header.time, place)?;
                messages += 1;
            } else {
                self.apply_item(&item, header.sequence, header.time, place)?;
            }
        }
        Some(messages)
    }

    /// Applies one item; `sequence` is that of a message.
    pub(crate) fn apply_item(
        &mut self,
        item: &Item<'_>,
        sequence: u64,
        time: Timestamp,
        place: Place,
    ) -> Option<()> {
        match item {
            Item::Message { topic, key, id, .. } => {
                if let Some(topic) = self.topics.get_mut(topic) {
                    topic.arrived(Entry { sequence, time, key: *key, place });
                    if *id != 0 && topic.dedup.is_on() {
                        topic.dedup.insert(*id, sequence, time);
                    }
                }
            }
            Item::Settled { subscription, sequence } => {
                if let Some((topic, at)) = self.subscription(*subscription) {
                    if topic.incomplete {
                        topic.subscriptions[at].settle_unseen(*sequence);
                    } else {
                        topic.subscriptions[at].settle(*sequence, &topic.index);
                        topic.trim();
                    }
                }
            }
            Item::Tried { subscription, sequence, attempts } => {
                if let Some((topic, at)) = self.subscription(*subscription) {
                    topic.subscriptions[at].set_attempts(*sequence, *attempts);
                }
            }
            Item::Topic { topic, config } => {
                let config: spec::Topic = serde_json::from_slice(config).ok()?;
                self.next_topic = self.next_topic.max(topic + 1);
                let id = config.id.clone();
                self.names.entry(id.namespace).or_default().insert(id.name, *topic);
                match self.topics.get_mut(topic) {
                    Some(known) => known.configure(config),
                    None => {
                        self.topics.insert(*topic, Topic::new(config, self.dedup_ids));
                    }
                }
            }
            Item::TopicRemoved { topic } => {
                if let Some(gone) = self.topics.remove(topic) {
                    for subscription in &gone.subscriptions {
                        self.homes.remove(&subscription.id);
                    }
                    if let Some(names) = self.names.get_mut(&gone.config.id.namespace) {
                        names.remove(&gone.config.id.name);
                    }
                }
            }
            Item::Subscription { subscription, topic, name } => {
                self.next_subscription = self.next_subscription.max(subscription + 1);
                if let Some(home) = self.topics.get_mut(topic) {
                    home.subscribed(Subscription::new(*subscription, (*name).to_owned()));
                    self.homes.insert(*subscription, *topic);
                }
            }
            Item::SubscriptionRemoved { subscription } => {
                if let Some((topic, at)) = self.subscription(*subscription) {
                    topic.subscriptions.remove(at);
                    topic.trim();
                }
                self.homes.remove(subscription);
            }
            Item::Floor { subscription, floor, settled } => {
                if let Some((topic, at)) = self.subscription(*subscription) {
                    topic.subscriptions[at].restore(*floor, item::sequences(*floor, settled));
                }
            }
            Item::Numbers { topic, subscription } => {
                self.next_topic = *topic;
                self.next_subscription = *subscription;
            }
        }
        Some(())
    }

    /// Writes down all that earlier segments said and that still counts, but for the messages themselves.
    pub(crate) fn checkpoint(&self) -> Vec<u8> {
        let mut body = Vec::new();
        Item::Numbers { topic: self.next_topic, subscription: self.next_subscription }.put(&mut body);
        for (id, topic) in &self.topics {
            let config = serde_json::to_vec(&topic.config).unwrap_or_default();
            Item::Topic { topic: *id, config: &config }.put(&mut body);
            for subscription in &topic.subscriptions {
                Item::Subscription { subscription: subscription.id, topic: *id, name: &subscription.name }
                    .put(&mut body);
                let floor = subscription.floor();
                let mut settled = Vec::new();
                item::put_sequences(&mut settled, floor, subscription.settled_above());
                Item::Floor { subscription: subscription.id, floor, settled: &settled }.put(&mut body);
                for (sequence, attempts) in subscription.attempts() {
                    Item::Tried { subscription: subscription.id, sequence, attempts }.put(&mut body);
                }
            }
        }
        body
    }

    /// Puts the counts right once everything was applied.
    pub(crate) fn settle_down(&mut self) {
        for topic in self.topics.values_mut() {
            topic.trim();
            for subscription in &mut topic.subscriptions {
                subscription.recount(&topic.index);
            }
            topic.trim();
        }
    }
}
