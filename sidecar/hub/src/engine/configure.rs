//! Putting topics and subscriptions in force.

use kontrol_core::time::Timestamp;

use super::Engine;
use crate::{
    api::TopicConfig,
    error::Error,
    index::Place,
    log::Purpose,
    receipt::Receipt,
    record::item::{Item, each_message},
};

impl Engine {
    /// Makes the topics and subscriptions those that are declared; what stays as it was is not touched.
    pub(crate) fn configure(
        &mut self,
        now: Timestamp,
        declared: &[TopicConfig],
    ) -> Result<Receipt<()>, Error> {
        self.check()?;
        let now = self.log.clock(now);
        let gone: Vec<u32> = self
            .state
            .topics
            .iter()
            .filter(|(_, topic)| declared.iter().all(|other| other.topic.id != topic.config.id))
            .map(|(number, _)| *number)
            .collect();
        for topic in gone {
            self.remove_topic(now, topic)?;
        }
        for TopicConfig { topic, subscriptions } in declared {
            let known = self.state.find(topic.id.namespace.as_str(), topic.id.name.as_str());
            let number = known.unwrap_or_else(|| self.state.new_topic());
            let same = self.state.topics.get(&number).is_some_and(|known| known.config == *topic);
            if !same {
                let config = serde_json::to_vec(topic).unwrap_or_default();
                self.say(now, &Item::Topic { topic: number, config: &config })?;
            }
            self.configure_subscriptions(now, number, subscriptions)?;
        }
        Ok(self.receipt(()))
    }

    /// Appends an item and applies it.
    fn say(&mut self, now: Timestamp, item: &Item<'_>) -> Result<(), Error> {
        let place = self.append_item(now, item, Purpose::Settle)?;
        self.state.apply_item(item, self.log.sequence(), now, place);
        Ok(())
    }

    fn remove_topic(&mut self, now: Timestamp, number: u32) -> Result<(), Error> {
        let Some(topic) = self.state.topics.get(&number) else { return Ok(()) };
        let numbers: Vec<u32> = topic.subscriptions.iter().map(|subscription| subscription.id).collect();
        for subscription in numbers {
            self.end_consumers(subscription);
        }
        self.say(now, &Item::TopicRemoved { topic: number })
    }

    fn end_consumers(&mut self, subscription: u32) {
        let Some((topic, at)) = self.state.subscription(subscription) else { return };
        let ending = &topic.subscriptions[at];
        let reason = Error::UnknownSubscription {
            topic: topic.config.id.name.as_str().to_owned(),
            subscription: ending.name.clone(),
        };
        ending.all_notices(&mut self.notices);
        self.ended.extend(ending.consumers.keys().map(|consumer| (*consumer, reason.clone())));
    }

    fn configure_subscriptions(
        &mut self,
        now: Timestamp,
        number: u32,
        names: &[String],
    ) -> Result<(), Error> {
        let Some(topic) = self.state.topics.get(&number) else { return Ok(()) };
        let gone: Vec<u32> = topic
            .subscriptions
            .iter()
            .filter(|subscription| !names.contains(&subscription.name))
            .map(|subscription| subscription.id)
            .collect();
        let fresh: Vec<&String> = names
            .iter()
            .enumerate()
            .filter(|(at, name)| !names[..*at].contains(name))
            .map(|(_, name)| name)
            .filter(|name| topic.subscriptions.iter().all(|known| known.name != **name))
            .collect();
        for subscription in gone {
            self.end_consumers(subscription);
            self.say(now, &Item::SubscriptionRemoved { subscription })?;
        }
        let first_new = self.state.new_subscription();
        for name in fresh {
            let subscription = self.state.new_subscription();
            self.say(now, &Item::Subscription { subscription, topic: number, name })?;
        }
        if self.state.topics.get(&number).is_some_and(|topic| topic.incomplete) {
            self.rebuild(number, first_new)?;
        }
        Ok(())
    }

    /// Makes a topic's index anew from the log, for subscriptions from `first_new` on, which have seen nothing of it.
    fn rebuild(&mut self, number: u32, first_new: u32) -> Result<(), Error> {
        let mut entries = Vec::new();
        let scanned = self.log.scan(|header, body, place: Place| {
            each_message(header, body, place, |topic, entry| {
                if topic == number {
                    entries.push(entry);
                }
            });
        });
        if let Err(error) = scanned {
            self.fail(&error.to_string());
            return self.check();
        }
        if let Some(topic) = self.state.topics.get_mut(&number) {
            topic.rebuild(entries, |subscription| subscription >= first_new);
        }
        self.notify_topic(number);
        Ok(())
    }
}
