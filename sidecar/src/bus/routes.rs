//! Routes at the publisher: which topics get a copy of a message.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use kontrol_core::{
    code::Code,
    id::{Name, ObjectId},
    route::{self, Router},
    spec,
};
use kontrol_proto::v1;

use crate::{config::Config, service::Event, shared::Shared};

/// The routes of the configuration in force, compiled when it is first used.
#[derive(Debug, Default)]
pub(super) struct Routes(Mutex<(u64, Arc<[Compiled]>)>);

#[derive(Debug)]
struct Compiled {
    name: String,
    from: String,
    router: Router,
}

impl Routes {
    /// The topics that get a copy of an event published to `topic`, each once, never `topic` itself. A failing expression counts as not
    /// true.
    pub(super) fn copies(&self, config: &Config, topic: &str, event: &Event, shared: &Shared) -> Vec<String> {
        if !config.routes.iter().any(|route| route.from == topic) {
            return Vec::new();
        }
        let optional = |text: &'_ str| !text.is_empty();
        let extensions: BTreeMap<_, _> =
            event.extensions.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let seen = route::Event {
            id: &event.id,
            source: &event.source,
            r#type: &event.r#type,
            subject: Some(event.subject.as_str()).filter(|text| optional(text)),
            time_micros: Some(event.time_micros),
            datacontenttype: Some(event.datacontenttype.as_str()).filter(|text| optional(text)),
            dataschema: Some(event.dataschema.as_str()).filter(|text| optional(text)),
            extensions: &extensions,
            data: &event.data,
        };
        let mut copies: Vec<String> = Vec::new();
        for compiled in self.compiled(config).iter().filter(|compiled| compiled.from == topic) {
            let matched = compiled.router.targets(topic, &seen);
            for failure in matched.failures {
                shared.stats.route_errors.inc();
                tracing::debug!(route = compiled.name, id = event.id, code = %Code::RouteFailed, %failure, "a route failed");
            }
            for to in matched.to {
                if to.as_str() != topic && !copies.iter().any(|copy| copy == to.as_str()) {
                    copies.push(to.as_str().to_owned());
                }
            }
        }
        copies
    }

    fn compiled(&self, config: &Config) -> Arc<[Compiled]> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.0 != config.version {
            *held = (config.version, config.routes.iter().filter_map(compile).collect());
        }
        Arc::clone(&held.1)
    }
}

/// The operator has checked routes before; one that does not compile is left out, and said.
fn compile(wire: &v1::RouteConfig) -> Option<Compiled> {
    let refuse = |error: &dyn std::fmt::Display| {
        tracing::warn!(route = wire.name, code = %Code::ConfigurationRefused, %error, "a route is left out");
    };
    let some = |text: &String| (!text.is_empty()).then(|| text.clone());
    let name = |text: &str| Name::new(text).inspect_err(|error| refuse(error)).ok();
    let mut rules = Vec::new();
    for rule in &wire.rules {
        let to = rule.to.iter().map(|topic| name(topic)).collect::<Option<Vec<_>>>()?;
        rules.push(spec::RouteRule { when: some(&rule.when), to });
    }
    let id = ObjectId { namespace: name("default")?, name: name(&wire.name)? };
    let route = spec::Route { id, from: name(&wire.from)?, filter: some(&wire.filter), rules, all: wire.all };
    match Router::compile(&route) {
        Ok(router) => Some(Compiled { name: wire.name.clone(), from: wire.from.clone(), router }),
        Err(errors) => {
            for (place, error) in &errors {
                refuse(&format!("{place}: {error}"));
            }
            None
        }
    }
}
