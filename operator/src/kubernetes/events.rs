//! Facts as events of the cluster, with series: what repeats is one event that counts. Of one object only so many are told; what is left
//! out is counted all the same, and in the log.

mod outbox;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use kontrol_core::{id::WidgetId, time::Timestamp};
use kontrol_plan::Event;
use serde_json::{Value, json};

use super::{
    kind::Kind,
    object::Key,
    request::{Request, Verb},
    time,
};
use crate::view;
pub use outbox::{Outbox, Telling};

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
/// Events about one object that may come together, and the time after which there may be one more.
const BURST: (u32, Duration) = (25, Duration::from_secs(30));
/// The longest note that the API server takes.
const LONGEST: usize = 1000;

/// Events that were told.
#[derive(Debug)]
pub struct Events {
    instance: String,
    told: BTreeMap<(Regarding, String, String), Told>,
    order: VecDeque<(Regarding, String, String)>,
    /// When an object's events would all be spread evenly; what is past is left out.
    spread: BTreeMap<Regarding, Timestamp>,
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
        Self {
            instance: instance.to_owned(),
            told: BTreeMap::new(),
            order: VecDeque::new(),
            spread: BTreeMap::new(),
            number: 0,
        }
    }

    /// The request that tells a fact; none: there are too many about that object.
    pub fn tell(&mut self, about: &Regarding, event: &Event, now: Timestamp) -> Option<Request> {
        let (level, text) = view::told(event);
        let reason = reason(event);
        let note: String = text.chars().take(LONGEST).collect();
        // What repeats differs in its times and counts alone.
        let same = (about.clone(), reason.clone(), shape(&note));
        let may = self.may(about, now);
        if let Some(told) = self.told.get_mut(&same) {
            told.count += 1;
            if !may {
                return None;
            }
            // Of an event that is there nothing but its series may change.
            let body = json!({
                "series": {"count": told.count, "lastObservedTime": time::rfc3339(now)},
            });
            let request = Request::new(Verb::Merge, Kind::Event, &about.key.namespace, &told.name);
            return Some(request.by("kontrol-events").with(body));
        }
        if !may {
            return None;
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
        Some(request.by("kontrol-events").with(body))
    }

    /// Whether there may be one more event about an object now.
    fn may(&mut self, about: &Regarding, now: Timestamp) -> bool {
        let (burst, each) = BURST;
        let spread = self.spread.get(about).copied().unwrap_or(now).max(now).plus(each);
        let may = spread <= now.plus(each * burst);
        if may {
            if self.spread.len() >= REMEMBERED {
                self.spread.retain(|_, spread| *spread > now);
            }
            self.spread.insert(about.clone(), spread);
        }
        may
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
        let first = events.tell(&about, &runs(12), Timestamp::from_micros(1)).unwrap();
        let second = events.tell(&about, &runs(17), Timestamp::from_micros(2)).unwrap();
        assert_eq!((first.verb, second.verb), (Verb::Create, Verb::Merge));
        assert_eq!((first.name.clone(), &second.body["series"]["count"]), (second.name, &json!(2)));
        assert_eq!(first.body["reason"], "Runs");
        events.lost(&first.name);
        assert_eq!(events.tell(&about, &runs(3), Timestamp::from_micros(3)).unwrap().verb, Verb::Create);
    }

    #[test]
    fn of_what_never_ends_only_so_much_is_told_and_all_of_it_counted() {
        let mut events = Events::new("operator-0");
        let about = |name| Regarding { kind: Kind::Widget, key: Key::new("default", name), uid: "u".into() };
        let instance: kontrol_core::id::InstanceId = "default/rag/llm/0".parse().unwrap();
        let runs = Event::Runs { instance, again: true, after: Duration::ZERO };
        let now = Timestamp::from_micros(1);
        let told = (0..1000).filter_map(|_| events.tell(&about("llm"), &runs, now)).count();
        assert_eq!(told, 25);
        assert!(events.tell(&about("another"), &runs, now).is_some());
        let later = now.plus(Duration::from_secs(30));
        let again = events.tell(&about("llm"), &runs, later).unwrap();
        assert_eq!(again.body["series"]["count"], 1001);
        assert_eq!(events.tell(&about("llm"), &runs, later), None);
    }
}
