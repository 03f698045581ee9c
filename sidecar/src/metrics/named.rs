//! Which names of the configuration have a label of their own, and so how many series a sidecar has at most.
//!
//! Of produced topics, of consumed topics and of targets there are [`LABELS`] labels each. A page has at most:
//!
//! | series | of what |
//! | --- | --- |
//! | 38 | without a name |
//! | 88 | two histograms of 11 for each of 4 labels |
//! | 20 | five gauges for each of 4 labels of targets |
//! | 4 | deliveries in flight |
//! | 22 | failures of publishes: four codes and `_other` for each of 4 labels, one code and `_other` for `_undeclared` |
//! | 26 | failures of calls: five codes and `_other` for each of 4 labels, one code and `_other` for `_undeclared` |
//!
//! These are 198: below 200 whatever a manifest declares, and whatever fails.

use std::collections::BTreeSet;

use kontrol_proto::v1;

/// The label that names share where they are too many, and error codes too. No topic and no code can have this name.
pub(super) const OTHER: &str = "_other";
/// Labels of one kind, the shared one included.
const LABELS: usize = 4;

/// The names that metrics tell apart, by kind.
#[derive(Clone, Debug, Default)]
pub struct Named {
    /// Topics that the widget may publish to.
    pub produces: Labels,
    /// Topics that it is given messages of.
    pub consumes: Labels,
    /// Widgets that it may call.
    pub targets: Labels,
}

impl Named {
    /// What a configuration names, in the order of the manifest.
    pub fn of(config: &v1::SidecarConfig) -> Self {
        Self {
            produces: Labels::new(config.produces.iter().map(String::as_str)),
            consumes: Labels::new(config.consumes.iter().map(|consume| consume.topic.as_str())),
            targets: Labels::new(config.targets.iter().map(|target| target.widget.as_str())),
        }
    }
}

/// The labels of one kind: all names where they are few, otherwise the first ones, and one for the rest.
#[derive(Clone, Debug, Default)]
pub struct Labels {
    own: Vec<String>,
    shared: BTreeSet<String>,
}

impl Labels {
    fn new<'a>(declared: impl Iterator<Item = &'a str>) -> Self {
        let mut own: Vec<String> = Vec::new();
        for name in declared {
            if !own.iter().any(|known| known == name) {
                own.push(name.to_owned());
            }
        }
        let first = if own.len() > LABELS { LABELS - 1 } else { own.len() };
        let shared = own.split_off(first).into_iter().collect();
        Self { own, shared }
    }

    /// The label of a name; none: it is not declared.
    pub(super) fn label<'a>(&self, name: &'a str) -> Option<&'a str> {
        if self.own.iter().any(|own| own == name) {
            return Some(name);
        }
        self.shared.contains(name).then_some(OTHER)
    }

    /// Whether something that is declared has this label.
    pub(super) fn has(&self, label: &str) -> bool {
        self.own.iter().any(|own| own == label) || (!self.shared.is_empty() && label == OTHER)
    }
}
