//! What a set of played cases has met, so that a test can say that nothing was left out.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Act, AutoShutdown, Case, Condition, Event, Id, Node, Restart, Shutdown, Strategy, Trace};

/// One kind of worker under one kind of supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Combination {
    /// Of the supervisor.
    pub strategy: Strategy,
    /// Of the worker.
    pub restart: Restart,
    /// Of the worker.
    pub shutdown: Shutdown,
    /// Of the supervisor.
    pub auto_shutdown: AutoShutdown,
}

impl Combination {
    /// How many there are.
    pub const COUNT: usize = 3 * 3 * 2 * 3;
}

/// Counts over played cases.
#[derive(Debug, Clone, Default)]
pub struct Coverage {
    /// How many schedules were played.
    pub schedules: usize,
    /// In how many schedules a running worker of the combination ended by itself.
    pub combinations: BTreeMap<Combination, usize>,
    /// How many schedules had so many events that were played.
    pub events: BTreeMap<usize, usize>,
    /// How many trees were so deep.
    pub depths: BTreeMap<usize, usize>,
    /// How often a supervisor gave up.
    pub gave_up: usize,
    /// How often one shut down for its significant children.
    pub shut_down: usize,
    /// How many starts were refused.
    pub refused: usize,
    /// How many schedules ended with their root.
    pub roots_ended: usize,
}

impl Coverage {
    /// Adds a case and its trace.
    pub fn record(&mut self, case: &Case, trace: &Trace) {
        self.schedules += 1;
        *self.events.entry(trace.steps.len().saturating_sub(1)).or_default() += 1;
        *self.depths.entry(case.tree.depth()).or_default() += 1;
        for act in trace.steps.iter().flat_map(|step| &step.acts) {
            match act {
                Act::GaveUp(_) => self.gave_up += 1,
                Act::ShutDown(_) => self.shut_down += 1,
                Act::Refused(_) => self.refused += 1,
                Act::Started(_) | Act::Stopped(_) | Act::Killed(_) | Act::Ended(_) => {}
            }
        }
        self.roots_ended += usize::from(trace.steps.last().is_some_and(|step| step.rest.is_empty()));
        let kinds = kinds(case);
        let mut met = BTreeSet::new();
        for (event, before) in case.schedule.events.iter().zip(&trace.steps) {
            if let Event::Ends { ends, .. } = event {
                let running = ends.iter().filter(|end| before.rest.get(&end.worker) == Some(&Condition::Up));
                met.extend(running.filter_map(|end| kinds.get(&end.worker)));
            }
        }
        for combination in met {
            *self.combinations.entry(combination).or_default() += 1;
        }
    }

    /// Adds what another one has met, in other cases.
    pub fn merge(&mut self, other: Self) {
        fn add<K: Ord>(ours: &mut BTreeMap<K, usize>, theirs: BTreeMap<K, usize>) {
            for (key, count) in theirs {
                *ours.entry(key).or_default() += count;
            }
        }
        self.schedules += other.schedules;
        add(&mut self.combinations, other.combinations);
        add(&mut self.events, other.events);
        add(&mut self.depths, other.depths);
        self.gave_up += other.gave_up;
        self.shut_down += other.shut_down;
        self.refused += other.refused;
        self.roots_ended += other.roots_ended;
    }

    /// The median number of events that were played.
    pub fn median_events(&self) -> usize {
        let mut seen = 0;
        for (&events, &schedules) in &self.events {
            seen += schedules;
            if seen * 2 >= self.schedules {
                return events;
            }
        }
        0
    }
}

fn kinds(case: &Case) -> BTreeMap<Id, Combination> {
    let mut kinds = BTreeMap::new();
    for supervisor in case.tree.supervisors() {
        for child in &supervisor.children {
            if let Node::Worker(worker) = &child.node {
                let combination = Combination {
                    strategy: supervisor.strategy,
                    restart: child.restart,
                    shutdown: worker.shutdown,
                    auto_shutdown: supervisor.auto_shutdown,
                };
                kinds.insert(worker.id, combination);
            }
        }
    }
    kinds
}
