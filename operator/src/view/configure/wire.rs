//! What is declared, in the messages of the wire.

use std::time::Duration;

use kontrol_core::{
    id::Name,
    spec::{
        Backoff, Consume, ConsumeVia, Health, HealthProbe, Overflow, Resilience, Route, ServeVia, Served,
        Topic,
    },
};
use kontrol_proto::v1;

pub(super) fn route(route: &Route) -> v1::RouteConfig {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let names = |names: &[Name]| names.iter().map(ToString::to_string).collect();
    let rules = route.rules.iter();
    v1::RouteConfig {
        name: route.id.name.to_string(),
        from: route.from.to_string(),
        filter: text(&route.filter),
        rules: rules.map(|rule| v1::RouteRule { when: text(&rule.when), to: names(&rule.to) }).collect(),
        all: route.all,
    }
}

/// A topic, without its subscriptions.
pub(super) fn topic(topic: &Topic) -> v1::TopicConfig {
    v1::TopicConfig {
        namespace: topic.id.namespace.to_string(),
        name: topic.id.name.to_string(),
        retention_ms: millis(topic.retention.age),
        key: topic.key.clone().unwrap_or_default(),
        buffer_limit: topic.buffer.limit,
        drop_oldest: topic.buffer.overflow == Overflow::DropOldest,
        retry_limit: topic.retry.limit,
        retry_backoff: Some(backoff(&topic.retry.backoff)),
        dead_letter: topic.dead_letter.as_ref().map(ToString::to_string).unwrap_or_default(),
        dedup_window_ms: millis(topic.dedup_window),
        ack_timeout_ms: millis(topic.ack_timeout),
        max_message_bytes: topic.max_message,
        subscriptions: Vec::new(),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn consume(consume: &Consume) -> v1::Consume {
    v1::Consume {
        topic: consume.topic.to_string(),
        subscription: consume.subscription.to_string(),
        http_path: match &consume.via {
            ConsumeVia::Door => String::new(),
            ConsumeVia::Http(path) => path.clone(),
        },
        max_in_flight: consume.max_in_flight,
    }
}

pub(super) fn serve(served: &Served) -> v1::Serve {
    v1::Serve {
        method: served.method.to_string(),
        http_path: match &served.via {
            ServeVia::Door => String::new(),
            ServeVia::Http(path) => path.clone(),
        },
    }
}

pub(super) fn health(health: &Health) -> v1::HealthConfig {
    v1::HealthConfig {
        http_path: match &health.probe {
            HealthProbe::Report => String::new(),
            HealthProbe::Http(path) => path.clone(),
        },
        timeout_ms: millis(health.timeout),
        interval_ms: millis(health.interval),
    }
}

fn backoff(backoff: &Backoff) -> v1::Backoff {
    v1::Backoff {
        initial_ms: millis(backoff.initial),
        max_ms: millis(backoff.max),
        factor_percent: backoff.factor_percent,
        jitter_percent: backoff.jitter_percent,
    }
}

pub(super) fn resilience(resilience: &Resilience) -> v1::Resilience {
    v1::Resilience {
        timeout_ms: millis(resilience.timeout),
        breaker_failures: resilience.breaker.failures,
        breaker_open_ms: millis(resilience.breaker.open_for),
        breaker_rate_percent: resilience.breaker.failure_rate_percent,
        breaker_window_ms: millis(resilience.breaker.window),
        breaker_min_calls: resilience.breaker.min_calls,
        max_retries: resilience.max_retries,
        backoff: Some(backoff(&resilience.backoff)),
        retry_budget_percent: resilience.retry_budget_percent,
    }
}
