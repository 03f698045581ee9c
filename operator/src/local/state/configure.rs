//! The configuration of each sidecar and of the hub, built whole from the world each time; what did not change is not sent again.

use std::{collections::BTreeSet, time::Duration};

use kontrol_core::{
    id::{InstanceId, Name, WidgetId},
    spec::{Backoff, ConsumeVia, Health, HealthProbe, Overflow, Resilience, ServeVia, Topic, Widget},
    time::Timestamp,
};
use kontrol_plan::InstanceState;
use kontrol_proto::v1::{self, session_response::Message};

use super::{Effect, State};

impl State {
    /// Tells each sidecar and the hub what is new for it. Who is being stopped takes nothing more.
    pub fn configure(&mut self, now: Timestamp) -> Vec<Effect> {
        let mut effects = Vec::new();
        let due: Vec<(InstanceId, v1::SidecarConfig)> = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.sidecar.session().is_some() && !slot.sidecar.is_stopping())
            .filter_map(|(instance, slot)| {
                let config = self.sidecar_config(instance)?;
                (slot.sent.as_ref() != Some(&config)).then(|| (instance.clone(), config))
            })
            .collect();
        for (instance, config) in due {
            let Some(slot) = self.slots.get_mut(&instance) else { continue };
            slot.version += 1;
            let message = v1::SidecarConfig { version: slot.version, ..config.clone() };
            slot.sent = Some(config);
            if let Some(process) = &mut slot.process {
                process.told(now);
            }
            if let Some(session) = slot.sidecar.session() {
                effects.push(Effect::Tell(session.clone(), Message::Sidecar(message)));
            }
        }
        // In a drain nothing starts, so no fence rises: what the hub has been told stays right to its end.
        let due = self.drain.is_none() || self.hub_sent.is_none();
        if let Some(session) = self.hub.session().filter(|_| due && !self.hub.is_stopping()) {
            let config = self.hub_config();
            if self.hub_sent.as_ref() != Some(&config) {
                self.hub_version += 1;
                let message = v1::HubConfig { version: self.hub_version, ..config.clone() };
                effects.push(Effect::Tell(session.clone(), Message::Hub(message)));
                self.hub_sent = Some(config);
            }
        }
        effects
    }

    /// None where the widget is no longer declared: its sidecar keeps what it has. None as long as the sidecar speaks for no process: its
    /// incarnation would be below what it has kept of the last one, and below what the hub and others take.
    fn sidecar_config(&self, instance: &InstanceId) -> Option<v1::SidecarConfig> {
        let slot = self.slots.get(instance)?;
        let widget = self.desired.widget(&instance.widget)?;
        let incarnation = slot.process.as_ref().map_or(slot.fence, |process| process.incarnation);
        if incarnation == 0 {
            return None;
        }
        let hub = self.hub.addresses().filter(|_| self.needs_hub());
        Some(v1::SidecarConfig {
            version: 0,
            incarnation,
            consumes: widget.consumes.iter().map(consume).collect(),
            produces: widget.produces.iter().map(ToString::to_string).collect(),
            serves: widget.serves.iter().map(serve).collect(),
            targets: widget.calls.iter().map(|target| self.target(target)).collect(),
            fences: self.fences(|other| {
                widget.calls.contains(other)
                    || self.desired.widget(other).is_some_and(|caller| caller.calls.contains(&widget.id))
            }),
            topics: self.topics_of(widget),
            routes: self.routes_of(widget),
            hub: hub.map(|addresses| addresses.peer.clone()).unwrap_or_default(),
            // Where no process is, none is missed.
            health: widget.health.as_ref().filter(|_| slot.process.is_some()).map(health),
            endpoint: slot.port.map(|port| format!("127.0.0.1:{port}")).unwrap_or_default(),
            resilience: Some(resilience(&widget.resilience)),
        })
    }

    fn hub_config(&self) -> v1::HubConfig {
        let storage = self.desired.buses.first().map(|bus| bus.storage).unwrap_or_default();
        v1::HubConfig {
            version: 0,
            topics: self.desired.topics.iter().map(|topic| self.topic(topic)).collect(),
            fences: self.fences(|_| true),
            storage_bytes: storage.size,
            segment_bytes: storage.segment,
        }
    }

    fn fences(&self, of: impl Fn(&WidgetId) -> bool) -> Vec<v1::Fence> {
        self.slots
            .iter()
            .filter(|(instance, slot)| slot.fence > 0 && of(&instance.widget))
            .map(|(instance, slot)| v1::Fence { instance: instance.to_string(), incarnation: slot.fence })
            .collect()
    }

    fn target(&self, target: &WidgetId) -> v1::Target {
        let endpoints = self.slots.iter().filter(|(instance, _)| instance.widget == *target);
        v1::Target {
            widget: target.to_string(),
            endpoints: endpoints
                .filter_map(|(instance, slot)| {
                    Some(v1::Endpoint {
                        instance: instance.to_string(),
                        address: slot.sidecar.addresses()?.peer.clone(),
                        ready: slot.process.as_ref().is_some_and(|p| p.state() == InstanceState::Ready),
                    })
                })
                .collect(),
        }
    }

    /// The topics that a sidecar has to do with: those of its widget, and those that routes lead to from there.
    fn topics_of(&self, widget: &Widget) -> Vec<v1::TopicConfig> {
        let reached = self.reached(widget);
        let own = |topic: &&Topic| {
            topic.id.namespace == widget.id.namespace
                && (reached.contains(&topic.id.name)
                    || widget.consumes.iter().any(|consume| consume.topic == topic.id.name))
        };
        self.desired.topics.iter().filter(own).map(|topic| self.topic(topic)).collect()
    }

    fn routes_of(&self, widget: &Widget) -> Vec<v1::RouteConfig> {
        let reached = self.reached(widget);
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let names = |names: &[Name]| names.iter().map(ToString::to_string).collect();
        self.desired
            .routes
            .iter()
            .filter(|route| route.id.namespace == widget.id.namespace && reached.contains(&route.from))
            .map(|route| v1::RouteConfig {
                name: route.id.name.to_string(),
                from: route.from.to_string(),
                filter: text(&route.filter),
                rules: route
                    .rules
                    .iter()
                    .map(|rule| v1::RouteRule { when: text(&rule.when), to: names(&rule.to) })
                    .collect(),
                all: route.all,
            })
            .collect()
    }

    /// What a widget produces to, itself or by routes.
    fn reached(&self, widget: &Widget) -> BTreeSet<Name> {
        let mut reached: BTreeSet<Name> = widget.produces.iter().cloned().collect();
        loop {
            let before = reached.len();
            for route in &self.desired.routes {
                if route.id.namespace == widget.id.namespace && reached.contains(&route.from) {
                    reached.extend(route.rules.iter().flat_map(|rule| rule.to.iter().cloned()));
                }
            }
            if reached.len() == before {
                return reached;
            }
        }
    }

    fn topic(&self, topic: &Topic) -> v1::TopicConfig {
        let consumers = self.desired.widgets().filter(|widget| widget.id.namespace == topic.id.namespace);
        let subscriptions: BTreeSet<String> = consumers
            .flat_map(|widget| &widget.consumes)
            .filter(|consume| consume.topic == topic.id.name)
            .map(|consume| consume.subscription.to_string())
            .collect();
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
            subscriptions: subscriptions.into_iter().collect(),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn consume(consume: &kontrol_core::spec::Consume) -> v1::Consume {
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

fn serve(served: &kontrol_core::spec::Served) -> v1::Serve {
    v1::Serve {
        method: served.method.to_string(),
        http_path: match &served.via {
            ServeVia::Door => String::new(),
            ServeVia::Http(path) => path.clone(),
        },
    }
}

fn health(health: &Health) -> v1::HealthConfig {
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

fn resilience(resilience: &Resilience) -> v1::Resilience {
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
