//! Who plans, writes and acts. It remembers nothing but what it has seen of the world lately.

use std::{collections::BTreeMap, sync::Arc};

use kontrol_core::{spec, time::Timestamp};
use kontrol_plan::{Instance, NodeHealth, Observed, Plan, plan};

use crate::{mutant::Mutant, processes::Key};

/// A decider.
#[derive(Debug, Default)]
pub(crate) struct Decider {
    pub(crate) alive: bool,
    /// Between a plan and the end of its acts.
    pub(crate) busy: bool,
    /// When it plans next.
    pub(crate) next: Option<Timestamp>,
    /// What it has seen.
    pub(crate) view: BTreeMap<Key, Instance>,
    /// The machines that it takes for suspect or lost.
    pub(crate) nodes: BTreeMap<Arc<str>, NodeHealth>,
    /// Until when its observations are under way, so that they stay in order.
    pub(crate) seen_until: u64,
}

/// A plan that is not written yet.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) plan: Plan,
    /// The manifest that it was made for.
    pub(crate) desired: Option<Arc<spec::Node>>,
    /// The version of the status that it was made from.
    pub(crate) version: u64,
    pub(crate) changed: bool,
    pub(crate) at: Timestamp,
}

impl Pending {
    pub(crate) fn new(
        desired: Option<&Arc<spec::Node>>,
        observed: &Observed,
        version: u64,
        mutant: Option<Mutant>,
        now: Timestamp,
    ) -> Self {
        let desired = desired.cloned();
        let mut plan = match (&desired, mutant) {
            (Some(desired), Some(mutant)) => plan(Some(&mutant.misreads(desired)), observed, now),
            _ => plan(desired.as_deref(), observed, now),
        };
        if let (Some(root), Some(mutant)) = (&mut plan.status.root, mutant) {
            mutant.misdecides(root, &plan.events, now);
        }
        let changed = plan.status != observed.status;
        Self { plan, desired, version, changed, at: now }
    }
}
