//! Facts as events of the cluster, with series: what repeats is one event that counts.

use std::collections::{BTreeMap, VecDeque};

use kontrol_core::{id::WidgetId, time::Timestamp};
use kontrol_plan::Event;
use serde_json::{Value, json};

use super::{
    forest::Root,
    kind::Kind,
    object::Key,
    request::{Request, Verb},
    time,
};
use crate::view;

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Regarding {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub key: Key,
    /// Its uid.
    pub uid: String,
}

/// Events that are remembered, so that they can be counted on.
const REMEMBERED: usize = 512;
/// The longest note that the API server takes.
const LONGEST: usize = 1000;

/// Events that were told.
#[derive(Debug)]
pub struct Events {
    instance: String,
    told: BTreeMap<(Regarding, String, String), Told>,
    order: VecDeque<(Regarding, String, String)>,
    number: u64,
}

#[derive(Clone, Debug)]
struct Told {
    name: String,
    count: u64,
}

impl Events {
    /// Events of this operator.
    pub fn new(instance: &str) -> Self {
        Self { instance: instance.to_owned(), told: BTreeMap::new(), order: VecDeque::new(), number: 0 }
    }

    /// The request that tells a fact.
    pub fn tell(&mut self, about: &Regarding, event: &Event, now: Timestamp) -> Request {
        let (level, text) = view::told(event);
        let reason = reason(event);
        let note: String = text.chars().take(LONGEST).collect();
        // What repeats differs in its times and counts alone.
        let same = (about.clone(), reason.clone(), shape(&note));
        if let Some(told) = self.told.get_mut(&same) {
            told.count += 1;
            // Of an event that is there nothing but its series may change.
            let body = json!({
                "series": {"count": told.count, "lastObservedTime": time::rfc3339(now)},
            });
            let request = Request::new(Verb::Merge, Kind::Event, &about.key.namespace, &told.name);
            return request.by("kontrol-events").with(body);
        }
        self.number += 1;
        let base: String = about.key.name.chars().take(200).collect();
        let name = format!("{base}.{:x}.{}", now.as_micros(), self.number);
        if self.order.len() >= REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.told.remove(&oldest);
        }
        self.order.push_back(same.clone());
        self.told.insert(same, Told { name: name.clone(), count: 1 });
        let kind = if matches!(level, view::Level::Debug | view::Level::Info) { "Normal" } else { "Warning" };
        let body = json!({
            "apiVersion": Kind::Event.api_version(), "kind": "Event",
            "metadata": {"name": name, "namespace": about.key.namespace},
            "eventTime": time::rfc3339(now),
            "reportingController": "kontrol.dev/operator",
            "reportingInstance": self.instance,
            "action": "Supervise",
            "reason": reason,
            "type": kind,
            "note": note,
            "regarding": regarding(about),
        });
        let request = Request::new(Verb::Create, Kind::Event, &about.key.namespace, &name);
        request.by("kontrol-events").with(body)
    }

    /// An event that is no longer there is told anew the next time.
    pub fn lost(&mut self, name: &str) {
        self.told.retain(|_, told| told.name != name);
        self.order.retain(|key| self.told.contains_key(key));
    }
}

fn regarding(about: &Regarding) -> Value {
    json!({
        "apiVersion": about.kind.api_version(), "kind": about.kind.as_str(),
        "namespace": about.key.namespace, "name": about.key.name, "uid": about.uid,
    })
}

/// The name of a fact.
fn reason(event: &Event) -> String {
    let text = format!("{event:?}");
    text.chars().take_while(char::is_ascii_alphanumeric).take(128).collect()
}

/// A note without its numbers.
fn shape(note: &str) -> String {
    note.chars().filter(|c| !c.is_ascii_digit()).collect()
}

/// The widget that a fact is about; none: it is about a group or supervisor.
pub fn widget_of(event: &Event) -> Option<&WidgetId> {
    match event {
        Event::Ended { instance, .. }
        | Event::RestartedInPlace { instance, .. }
        | Event::Runs { instance, .. }
        | Event::Replaces { instance, .. }
        | Event::NotAllowed { instance, .. } => Some(&instance.widget),
        Event::ReplicasExhausted { widget, .. }
        | Event::Scales { widget, .. }
        | Event::RollsOut { widget, .. }
        | Event::RolledOut { widget, .. }
        | Event::Returns { widget, .. }
        | Event::RolloutStalls { widget, .. } => Some(widget),
        _ => None,
    }
}

/// Where a fact belongs that is about no widget: to the root of its tree.
pub fn root_of(root: &Root, uid: &str) -> Regarding {
    Regarding { kind: root.kind, key: root.key.clone(), uid: uid.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_repeats_is_one_event_that_counts() {
        let mut events = Events::new("operator-0");
        let about = Regarding { kind: Kind::Widget, key: Key::new("default", "llm"), uid: "u".into() };
        let instance: kontrol_core::id::InstanceId = "default/rag/llm/0".parse().unwrap();
        let runs = |millis| Event::Runs {
            instance: instance.clone(),
            again: true,
            after: std::time::Duration::from_millis(millis),
        };
        let first = events.tell(&about, &runs(12), Timestamp::from_micros(1));
        let second = events.tell(&about, &runs(17), Timestamp::from_micros(2));
        assert_eq!((first.verb, second.verb), (Verb::Create, Verb::Merge));
        assert_eq!((first.name.clone(), &second.body["series"]["count"]), (second.name, &json!(2)));
        assert_eq!(first.body["reason"], "Runs");
        events.lost(&first.name);
        assert_eq!(events.tell(&about, &runs(3), Timestamp::from_micros(3)).verb, Verb::Create);
    }
}
