//! The rights that this operator lacks, as the answers of the API server show them: each by its verb and its resource, from the first
//! refusal until it is had again. A count of failures says that something is refused; this says what.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kontrol_core::time::Timestamp;
use prometheus::{
    IntGaugeVec,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use super::{
    kind::Kind,
    request::{Outcome, Request, Verb},
};
use crate::clock;

/// A right that was refused and is not asked for any more is forgotten after this time: longer than the longest pause before anything that
/// is needed is tried again.
pub const FORGOTTEN: Duration = Duration::from_mins(15);
/// Namespaces that are known of one right: enough to say when it is had again, however many there are.
const NAMESPACES: usize = 64;

/// A right, as a role gives it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// `create`, `watch` and so on.
    pub verb: Box<str>,
    /// `pods`, `pods/status`, `widgets.kontrol.dev/status`.
    pub resource: Box<str>,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)
    }
}

/// What was asked of the API server, as far as it takes a right.
#[derive(Clone, Debug)]
pub struct Asked {
    right: Right,
    namespace: Box<str>,
    /// Whether it makes what is not there.
    applies: bool,
    /// The right to block the removal of what owns it.
    owner: Option<Right>,
    /// Whether that right was looked at when this is done: where nothing is made the API server does not look.
    owns: bool,
}

impl Asked {
    /// What a request takes.
    pub fn of(request: &Request) -> Self {
        let verb = match request.verb {
            Verb::Get => "get",
            Verb::Create => "create",
            Verb::Replace => "update",
            Verb::Apply | Verb::Merge | Verb::Test => "patch",
            Verb::Delete => "delete",
        };
        let owner = request.body["metadata"]["ownerReferences"].as_array().and_then(|owners| owners.first());
        let owner = owner.and_then(|owner| Kind::OWN.into_iter().find(|kind| owner["kind"] == kind.as_str()));
        let owner = owner.map(|kind| Right { verb: "update".into(), resource: resource(kind, "finalizers") });
        Self {
            right: Right { verb: verb.into(), resource: resource(request.kind, request.subresource) },
            namespace: request.namespace.as_deref().unwrap_or_default().into(),
            applies: request.verb == Verb::Apply && request.subresource.is_empty(),
            owner,
            owns: request.verb == Verb::Create,
        }
    }

    /// What a list (`list`), or what follows it (`watch`), of a kind takes.
    pub fn all(verb: &str, kind: Kind, namespace: Option<&str>) -> Self {
        Self::to(verb, resource(kind, ""), namespace.unwrap_or_default())
    }

    /// What a verb on a resource that is none of [`Kind`] takes.
    pub fn to(verb: &str, resource: impl Into<Box<str>>, namespace: &str) -> Self {
        let right = Right { verb: verb.into(), resource: resource.into() };
        Self { right, namespace: namespace.into(), applies: false, owner: None, owns: false }
    }

    /// The right that is missing where this was refused; none: it is not for want of one.
    fn missing(&self, message: &str) -> Option<Right> {
        if message.contains("you can't set finalizers on") {
            return self.owner.clone();
        }
        let named = named(message)?;
        let creates = self.applies && &*named.verb == "create";
        // Others may refuse in words of their own, about anything.
        let asked = named.resource == self.right.resource && (named.verb == self.right.verb || creates);
        asked.then_some(named)
    }
}

/// The right that a refusal names: `… cannot patch resource "widgets/status" in API group "kontrol.dev" …`.
fn named(message: &str) -> Option<Right> {
    let (_, rest) = message.rsplit_once(" cannot ")?;
    let (verb, rest) = rest.split_once(" resource \"")?;
    let (path, rest) = rest.split_once("\" in API group \"")?;
    let (group, _) = rest.split_once('"')?;
    let (plural, part) = path.split_once('/').unwrap_or((path, ""));
    Some(Right { verb: verb.into(), resource: joined(plural, group, part) })
}

fn resource(kind: Kind, part: &str) -> Box<str> {
    let group = kind.api_version().rsplit_once('/').map_or("", |(group, _)| group);
    joined(kind.plural(), group, part)
}

fn joined(plural: &str, group: &str, part: &str) -> Box<str> {
    let mut text = plural.to_owned();
    for (mark, more) in [('.', group), ('/', part)] {
        if !more.is_empty() {
            text.push(mark);
            text.push_str(more);
        }
    }
    text.into()
}

/// What an answer says that was not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// This right is missing.
    Lacks(Right),
    /// It is there again.
    Has(Right),
}

/// Where a right was refused.
#[derive(Clone, Debug, Default)]
struct Refused {
    /// When last, by namespace.
    namespaces: BTreeMap<Box<str>, Timestamp>,
    /// When last in a namespace beyond those; forgotten when one of them has the right.
    elsewhere: Option<Timestamp>,
}

impl Refused {
    /// Whether it is still asked for, and refused, anywhere.
    fn is_recent(&self, now: Timestamp) -> bool {
        self.namespaces.values().chain(&self.elsewhere).any(|last| now.since(*last) < FORGOTTEN)
    }

    /// Takes note of a refusal; whether it says something new.
    fn note(&mut self, namespace: &str, now: Timestamp) -> bool {
        if let Some(last) = self.namespaces.get_mut(namespace) {
            *last = now;
            return false;
        }
        if self.namespaces.len() >= NAMESPACES {
            self.elsewhere = Some(now);
            return false;
        }
        self.namespaces.insert(namespace.into(), now);
        true
    }
}

/// The rights that are missing.
#[derive(Clone, Debug, Default)]
pub struct Lacking {
    refused: BTreeMap<Right, Refused>,
}

impl Lacking {
    /// Takes note of an answer.
    pub fn note(&mut self, asked: &Asked, outcome: &Outcome, now: Timestamp) -> Vec<News> {
        match outcome {
            // Nobody looked at the right.
            Outcome::Busy(_) | Outcome::Failed(_) => Vec::new(),
            Outcome::Forbidden(message) => match asked.missing(message) {
                Some(right) => self.lacks(right, &asked.namespace, now).into_iter().collect(),
                None => self.has(asked, false),
            },
            outcome => self.has(asked, outcome.is_done()),
        }
    }

    fn lacks(&mut self, right: Right, namespace: &str, now: Timestamp) -> Option<News> {
        for refused in self.refused.values_mut() {
            refused.namespaces.retain(|_, last| now.since(*last) < FORGOTTEN);
        }
        self.refused.retain(|_, refused| refused.is_recent(now));
        let is_news = self.refused.entry(right.clone()).or_default().note(namespace, now);
        is_news.then_some(News::Lacks(right))
    }

    fn has(&mut self, asked: &Asked, done: bool) -> Vec<News> {
        if self.refused.is_empty() {
            return Vec::new();
        }
        let creates = (asked.applies && done).then(|| Right { verb: "create".into(), ..asked.right.clone() });
        let owns = asked.owner.clone().filter(|_| asked.owns && done);
        let had = [Some(asked.right.clone()), creates, owns].into_iter().flatten();
        let mut news = Vec::new();
        for right in had {
            let Some(refused) = self.refused.get_mut(&right) else { continue };
            if refused.namespaces.remove(&asked.namespace).is_some() {
                news.push(News::Has(right));
            } else {
                // Where it is still missing elsewhere, that is soon said again.
                refused.elsewhere = None;
            }
        }
        news
    }

    /// The rights that are missing somewhere.
    pub fn rights(&self, now: Timestamp) -> BTreeSet<&Right> {
        self.refused.iter().filter(|(_, refused)| refused.is_recent(now)).map(|(right, _)| right).collect()
    }
}

/// The rights that are missing, shared by all that ask, and shown as a figure. Clones are the same.
#[derive(Clone, Debug)]
pub struct Rights {
    lacking: Arc<Mutex<Lacking>>,
    figure: IntGaugeVec,
}

impl Rights {
    /// None is missing. `figure` has the labels `verb` and `resource`.
    pub(super) fn new(figure: IntGaugeVec) -> Self {
        Self { lacking: Arc::default(), figure }
    }

    /// Takes note of an answer, and says what is new.
    pub(super) fn note(&self, asked: &Asked, outcome: &Outcome) {
        let news = {
            let mut lacking = self.lacking.lock().unwrap_or_else(PoisonError::into_inner);
            lacking.note(asked, outcome, clock::now())
        };
        let namespace = &*asked.namespace;
        for one in news {
            match one {
                News::Lacks(Right { verb, resource }) => {
                    tracing::error!(namespace, "a right is missing: this operator cannot {verb} {resource}");
                }
                News::Has(Right { verb, resource }) => {
                    tracing::info!(namespace, "a right is there again: this operator can {verb} {resource}");
                }
            }
        }
    }
}

impl Collector for Rights {
    fn desc(&self) -> Vec<&Desc> {
        self.figure.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let lacking = self.lacking.lock().unwrap_or_else(PoisonError::into_inner);
        self.figure.reset();
        for Right { verb, resource } in lacking.rights(clock::now()) {
            self.figure.with_label_values(&[&**verb, &**resource]).set(1);
        }
        self.figure.collect()
    }
}

#[cfg(test)]
mod tests;
