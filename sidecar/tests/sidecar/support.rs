//! A small world for tests: an authority, an operator that gives certificates and configurations, and the real binary as hub and sidecars.

pub(crate) mod authority;
pub(crate) mod operator;
pub(crate) mod processes;
pub(crate) mod web;
pub(crate) mod widget;

use std::{future::Future, time::Duration};

use kontrol_proto::v1;
pub(crate) use operator::Operator;
pub(crate) use processes::{Process, World};

/// Waits for something to become true; fails the test after 20 s.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let found = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), found).await.unwrap_or_else(|_| panic!("never: {what}"))
}

/// Waits for a future; fails the test after 20 s.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .unwrap_or_else(|_| panic!("not in time: {what}"))
}

/// A topic with one subscription, of the namespace `default`.
pub(crate) fn topic(name: &str, subscriptions: &[&str]) -> v1::TopicConfig {
    v1::TopicConfig {
        namespace: "default".into(),
        name: name.into(),
        buffer_limit: 10_000,
        retry_limit: 3,
        retry_backoff: Some(v1::Backoff {
            initial_ms: 5,
            max_ms: 20,
            factor_percent: 200,
            jitter_percent: 0,
        }),
        dedup_window_ms: 120_000,
        ack_timeout_ms: 30_000,
        max_message_bytes: 1 << 20,
        retention_ms: 3_600_000,
        subscriptions: subscriptions.iter().map(|name| (*name).to_owned()).collect(),
        ..Default::default()
    }
}

/// A subscription at the door.
pub(crate) fn consume(topic: &str, subscription: &str) -> v1::Consume {
    v1::Consume {
        topic: topic.into(),
        subscription: subscription.into(),
        http_path: String::new(),
        max_in_flight: 10_000,
    }
}

/// A method at the door.
pub(crate) fn serve(method: &str) -> v1::Serve {
    v1::Serve { method: method.into(), http_path: String::new() }
}

/// A widget that reads and writes one topic.
pub(crate) fn shop(hub: &Process, topics: Vec<v1::TopicConfig>) -> v1::SidecarConfig {
    v1::SidecarConfig {
        version: 1,
        incarnation: 1,
        consumes: vec![consume("orders", "workers")],
        produces: vec!["orders".into()],
        hub: hub.hello.peer.clone(),
        topics,
        resilience: Some(resilience()),
        ..Default::default()
    }
}

/// Rules of calls that fail fast.
pub(crate) fn resilience() -> v1::Resilience {
    v1::Resilience {
        timeout_ms: 5_000,
        breaker_failures: 5,
        breaker_open_ms: 60_000,
        breaker_rate_percent: 0,
        breaker_window_ms: 10_000,
        breaker_min_calls: 20,
        max_retries: 2,
        backoff: Some(v1::Backoff { initial_ms: 1, max_ms: 5, factor_percent: 200, jitter_percent: 0 }),
        retry_budget_percent: 20,
    }
}

/// An event with this text.
pub(crate) fn event(id: &str, text: &str) -> v1::Event {
    v1::Event {
        id: id.into(),
        r#type: "dev.example.text".into(),
        datacontenttype: "text/plain".into(),
        data: text.to_owned().into(),
        ..Default::default()
    }
}
