//! Routes: which topics get a copy of a message. One evaluator for `kontrol lint`, for conditions and for the sidecar.
//!
//! ```text
//!   spec::Route ──compile──► Router ──targets(topic, event)──► topics + failures
//!                  │            └─ Expression (filter, each `when`)
//!                  └─ errors with their place: line, column, what was expected
//! ```
//!
//! Expressions are [CEL](https://cel.dev). What they see:
//!
//! | name | type | |
//! | --- | --- | --- |
//! | `topic` | string | the topic that the message came from |
//! | `event.id`, `event.source`, `event.type` | string | always there |
//! | `event.subject`, `event.datacontenttype`, `event.dataschema` | string | only where set: guard with `has(event.subject)` |
//! | `event.time` | int | microseconds since the Unix epoch, only where set |
//! | `event.<extension>` | string | `CloudEvents` extension attributes, only where set |
//! | `event.data` | dyn | the parsed JSON, only where the content type is JSON and the text is |
//!
//! Whole numbers of the data are CEL ints, all others doubles. The functions are those of the CEL standard that need no regular
//! expressions and no time zones: `size`, `contains`, `startsWith`, `endsWith`, the conversions, and the macros `has`, `all`, `exists`,
//! `exists_one`, `map` and `filter`.
//!
//! # Bounds
//!
//! A route runs for every message, on the thread that serves them all, so its cost has to be linear in the message. An expression is at most
//! [`MAX_LENGTH`] characters and 1,000 nodes, and a macro that iterates may not stand inside of another one. What is refused
//! is refused when it is compiled, never at the message.
//!
//! # Failure
//!
//! An expression that compiles can still fail on a message: `event.data.price > 10` where there is no price. Such a rule counts as
//! not matching, the others are still tried, and the failure is returned to be counted ([`Failure`]). Nothing here panics,
//! whatever the text and the message; a proptest says so.

use std::fmt;

use crate::{id::Name, spec};

mod check;
mod expression;
mod scope;
#[cfg(test)]
mod tests;

pub use check::MAX_LENGTH;
pub use expression::{Error, Failed};
pub use scope::Event;

use expression::Expression;
use scope::Scope;

/// Where in a route an expression stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// Its filter.
    Filter,
    /// The condition of the rule with this index, from 0.
    Rule(usize),
}

impl fmt::Display for Place {
    /// Writes the path below `spec`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Filter => f.write_str("filter"),
            Self::Rule(index) => write!(f, "rules[{index}].when"),
        }
    }
}

/// An expression failed on a message; its rule counted as not matching.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {failed}")]
pub struct Failure {
    /// Which expression.
    pub place: Place,
    /// Why.
    pub failed: Failed,
}

/// What a route decides about one message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matched {
    /// The topics that get a copy, each once, in the order of the rules.
    pub to: Vec<Name>,
    /// Expressions that failed on it.
    pub failures: Vec<Failure>,
}

/// A compiled route.
#[derive(Debug)]
pub struct Router {
    filter: Option<Expression>,
    rules: Vec<(Option<Expression>, Vec<Name>)>,
    all: bool,
    /// Whether any expression looks at the data, which is parsed only then.
    reads_data: bool,
}

impl Router {
    /// Compiles all expressions of a route; the errors of all of them at once, each with its place.
    pub fn compile(route: &spec::Route) -> Result<Self, Vec<(Place, Error)>> {
        let mut errors = Vec::new();
        let mut compile = |text: Option<&String>, place| {
            let expression = Expression::compile(text?);
            expression.map_err(|error| errors.push((place, error))).ok()
        };
        let filter = compile(route.filter.as_ref(), Place::Filter);
        let rules: Vec<_> = route
            .rules
            .iter()
            .enumerate()
            .map(|(index, rule)| (compile(rule.when.as_ref(), Place::Rule(index)), rule.to.clone()))
            .collect();
        if !errors.is_empty() {
            return Err(errors);
        }
        let mut expressions = filter.iter().chain(rules.iter().filter_map(|(when, _)| when.as_ref()));
        let reads_data = expressions.any(Expression::reads_data);
        Ok(Self { filter, rules, all: route.all, reads_data })
    }

    /// The topics that get a copy of `event`, which came from `topic`.
    pub fn targets(&self, topic: &str, event: &Event<'_>) -> Matched {
        let scope = Scope::new(topic, event, self.reads_data);
        let mut matched = Matched::default();
        if !holds(self.filter.as_ref(), Place::Filter, &scope, &mut matched.failures) {
            return matched;
        }
        for (index, (when, to)) in self.rules.iter().enumerate() {
            if !holds(when.as_ref(), Place::Rule(index), &scope, &mut matched.failures) {
                continue;
            }
            for topic in to {
                if !matched.to.contains(topic) {
                    matched.to.push(topic.clone());
                }
            }
            if !self.all {
                break;
            }
        }
        matched
    }
}

fn holds(expression: Option<&Expression>, place: Place, scope: &Scope, failures: &mut Vec<Failure>) -> bool {
    let Some(expression) = expression else { return true };
    match expression.holds(scope) {
        Ok(holds) => holds,
        Err(failed) => {
            failures.push(Failure { place, failed });
            false
        }
    }
}
