//! From the API types into the valid types of `kontrol_core::spec`: one object at a time, all that is wrong at once.
//!
//! What needs other objects (a topic that is named, the children of a supervisor) is the business of [`crate::load`].

use kontrol_core::{
    code::Code,
    id::{DEFAULT_NAMESPACE, Name, ObjectId},
    spec,
};
use kube::core::ObjectMeta;

use crate::{api, fault::Checker};

mod container;
mod message;
mod revision;
mod supervision;
mod widget;

pub use supervision::{DeclaredChild, DeclaredSupervisor, group, lone_widget};

/// The world that manifests are read for: what a widget needs to run in it, and what its revision is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Runtime {
    /// `kontrol up`: a widget needs `process`.
    #[default]
    Local,
    /// A cluster: a widget needs `container`.
    Cluster,
    /// Either: a widget needs one of the two. Revisions are those of the local world.
    Any,
}

/// The object's namespace and name; `longest` is the most characters of its name.
fn identity(check: &mut Checker, metadata: &ObjectMeta, longest: usize) -> Option<ObjectId> {
    let (namespace, name) = check.within("metadata", |check| {
        let namespace = check.name("namespace", metadata.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE));
        let Some(text) = &metadata.name else {
            check.fault("name", Code::MissingField, "an object needs a name");
            return (namespace, None);
        };
        let name = check.name("name", text);
        if text.len() > longest && name.is_some() {
            let message = format!(
                "{text:?} is too long: at most {longest} characters, so that <group>-<widget> fits into 63"
            );
            check.fault("name", Code::InvalidName, message);
        }
        (namespace, name)
    });
    Some(ObjectId { namespace: namespace?, name: name? })
}

fn names(check: &mut Checker, field: &str, topics: &[api::TopicRef]) -> Vec<Name> {
    check.each(field, topics, |check, item| check.name("topic", &item.topic))
}

impl From<api::Strategy> for spec::Strategy {
    fn from(strategy: api::Strategy) -> Self {
        match strategy {
            api::Strategy::OneForOne => Self::OneForOne,
            api::Strategy::OneForAll => Self::OneForAll,
            api::Strategy::RestForOne => Self::RestForOne,
        }
    }
}

impl From<api::Restart> for spec::Restart {
    fn from(restart: api::Restart) -> Self {
        match restart {
            api::Restart::Always => Self::Always,
            api::Restart::OnFailure => Self::OnFailure,
            api::Restart::Never => Self::Never,
        }
    }
}

impl From<api::AutoShutdown> for spec::AutoShutdown {
    fn from(shutdown: api::AutoShutdown) -> Self {
        match shutdown {
            api::AutoShutdown::Never => Self::Never,
            api::AutoShutdown::AnySignificant => Self::AnySignificant,
            api::AutoShutdown::AllSignificant => Self::AllSignificant,
        }
    }
}

fn intensity(check: &mut Checker, intensity: &api::Intensity) -> spec::Intensity {
    check.within("intensity", |check| spec::Intensity {
        max_restarts: intensity.max_restarts,
        period: check.positive("period", &intensity.period),
    })
}

fn when_exhausted(check: &mut Checker, when: &api::WhenExhausted) -> spec::Exhausted {
    check.within("whenExhausted", |check| match when.policy {
        api::ExhaustedPolicy::Stop => {
            let alone = when.initial.is_none() && when.max.is_none();
            check.ensure(
                alone,
                "",
                "initial and max are pauses of policy Retry; leave them out, or set policy: Retry",
            );
            spec::Exhausted::Stop
        }
        api::ExhaustedPolicy::Retry => {
            let default = spec::RetryPolicy::default();
            let initial = when.initial.as_ref().map(|text| check.positive("initial", text));
            let max = when.max.as_ref().map(|text| check.positive("max", text));
            let policy = match (initial, max) {
                (Some(initial), None) => spec::RetryPolicy { initial, max: default.max.max(initial) },
                (None, Some(max)) => spec::RetryPolicy { initial: default.initial.min(max), max },
                (initial, max) => spec::RetryPolicy {
                    initial: initial.unwrap_or(default.initial),
                    max: max.unwrap_or(default.max),
                },
            };
            check.ensure(policy.initial <= policy.max, "max", "must not be shorter than initial");
            spec::Exhausted::Retry(policy)
        }
    })
}

/// Pauses; the API has two types of them because their defaults differ.
struct Pauses<'a> {
    initial: &'a api::Duration,
    max: &'a api::Duration,
    factor_percent: u32,
    jitter_percent: u32,
}

fn backoff(check: &mut Checker, pauses: &Pauses<'_>) -> spec::Backoff {
    check.within("backoff", |check| {
        let initial = check.positive("initial", pauses.initial);
        let max = check.positive("max", pauses.max);
        check.ensure(initial <= max, "max", "must not be shorter than initial");
        let (factor_percent, jitter_percent) = (pauses.factor_percent, pauses.jitter_percent);
        spec::Backoff { initial, max, factor_percent, jitter_percent }
    })
}
