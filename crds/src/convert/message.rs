//! Buses, topics and routes.

use kontrol_core::{
    code::Code,
    limits::{LARGEST_SEGMENT, MESSAGE, SEGMENTS, SMALLEST_SEGMENT},
    route::Router,
    spec,
};

use super::{Pauses, backoff, identity, names};
use crate::{
    api,
    fault::{Checker, Faults},
};

impl TryFrom<&api::MessageBus> for spec::Bus {
    type Error = Faults;

    fn try_from(bus: &api::MessageBus) -> Result<Self, Faults> {
        let mut check = Checker::default();
        let id = identity(&mut check, &bus.metadata, 63);
        let storage = &bus.spec.embedded.storage;
        let storage = check.within("spec.embedded.storage", |check| {
            let segment = check.bytes("segmentSize", &storage.segment_size)?;
            let size = check.bytes("size", &storage.size)?;
            let bounded = (SMALLEST_SEGMENT..=LARGEST_SEGMENT).contains(&segment);
            check.ensure(bounded, "segmentSize", "must be between 64Ki and 1Gi");
            let message = "must hold at least four segments of segmentSize (default 64Mi)";
            check.ensure(segment <= size / SEGMENTS, "size", message);
            Some(spec::Storage { size, segment })
        });
        check.finish(id.zip(storage).map(|(id, storage)| Self { id, storage }))
    }
}

impl TryFrom<&api::Topic> for spec::Topic {
    type Error = Faults;

    fn try_from(topic: &api::Topic) -> Result<Self, Faults> {
        let mut check = Checker::default();
        let id = identity(&mut check, &topic.metadata, 63);
        let spec = check.within("spec", |check| convert_topic(check, id, &topic.spec));
        check.finish(spec)
    }
}

fn convert_topic(
    check: &mut Checker,
    id: Option<kontrol_core::id::ObjectId>,
    topic: &api::TopicSpec,
) -> Option<spec::Topic> {
    let bus = check.name("bus", &topic.bus);
    if let Some(key) = &topic.key {
        let valid = (1..=20).contains(&key.len())
            && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        check.ensure(valid, "key", "is no message attribute: write subject, or the name of an extension (1 to 20 lower-case letters and digits)");
    }
    let retention = check
        .within("retention", |check| spec::Retention { age: check.positive("age", &topic.retention.age) });
    let retry = check.within("retry", |check| {
        let api::Backoff { initial, max, factor_percent, jitter_percent } = &topic.retry.backoff;
        let (factor_percent, jitter_percent) = (*factor_percent, *jitter_percent);
        spec::Retry {
            limit: topic.retry.limit,
            backoff: backoff(check, &Pauses { initial, max, factor_percent, jitter_percent }),
        }
    });
    let dead_letter = match &topic.dead_letter {
        Some(letter) => Some(check.within("deadLetter", |check| check.name("topic", &letter.topic))?),
        None => None,
    };
    let dedup_window = check.duration("dedupWindow", &topic.dedup_window);
    let ack_timeout = check.positive("ackTimeout", &topic.ack_timeout);
    let max_message = check.bytes("maxMessageSize", &topic.max_message_size);
    let bounded = max_message.is_none_or(|bytes| (1..=MESSAGE as u64).contains(&bytes));
    check.ensure(bounded, "maxMessageSize", "must be between 1 and 4Mi");
    Some(spec::Topic {
        id: id?,
        bus: bus?,
        retention,
        key: topic.key.clone(),
        buffer: spec::Buffer {
            limit: topic.buffer.limit,
            overflow: match topic.buffer.overflow {
                api::Overflow::DropOldest => spec::Overflow::DropOldest,
                api::Overflow::RejectNew => spec::Overflow::RejectNew,
            },
        },
        retry,
        dead_letter,
        dedup_window,
        ack_timeout,
        max_message: max_message?,
    })
}

impl TryFrom<&api::Route> for spec::Route {
    type Error = Faults;

    fn try_from(route: &api::Route) -> Result<Self, Faults> {
        let mut check = Checker::default();
        let id = identity(&mut check, &route.metadata, 63);
        let spec = check.within("spec", |check| {
            let from = check.within("from", |check| check.name("topic", &route.spec.from.topic));
            check.ensure(!route.spec.rules.is_empty(), "rules", "a route needs at least one rule");
            let rules = check.each("rules", &route.spec.rules, |check, rule| {
                let message =
                    "a rule needs at least one topic that it copies to, such as to: [{topic: urgent}]";
                check.ensure(!rule.to.is_empty(), "to", message);
                Some(spec::RouteRule { when: rule.when.clone(), to: names(check, "to", &rule.to) })
            });
            let spec =
                Self { id: id?, from: from?, filter: route.spec.filter.clone(), rules, all: route.spec.all };
            for (place, error) in Router::compile(&spec).err().unwrap_or_default() {
                check.fault(&place.to_string(), Code::InvalidExpression, error.to_string());
            }
            Some(spec)
        });
        check.finish(spec)
    }
}
