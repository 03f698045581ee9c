//! Deciders plan, write and act, crash between any two of these, and are replaced.

use std::{collections::BTreeMap, time::Duration};

use kontrol_core::{id::WidgetId, spec, time::Timestamp};
use kontrol_otp::Random;
use kontrol_plan::{
    Action, Instance, Observed,
    signals::{ReplicaSignals, WidgetSignals},
};

use super::{Simulation, What, world::describe};
use crate::{
    check::{Commit, Rule, converged},
    decider::{Decider, Pending},
    mutant::Mutant,
    processes::{Key, MACHINES},
    tree,
};

impl Simulation {
    pub(super) fn plan(&mut self, at: usize) {
        let Some(decider) = self.deciders.get_mut(at).filter(|decider| decider.alive) else { return };
        if decider.next != Some(self.now) {
            return;
        }
        decider.next = None;
        let tick = if self.chaos { 1_000_000 } else { 5_000_000 };
        if decider.busy {
            return self.plan_after(at, 1_000);
        }
        let signals = if self.chaos {
            load(self.desired.as_deref(), &decider.view, self.now, &mut self.random)
        } else {
            BTreeMap::new()
        };
        let observed = Observed {
            status: self.status.clone(),
            instances: decider.view.values().cloned().collect(),
            restarts: self.requests.clone(),
            nodes: decider.nodes.clone(),
            signals,
            ..Observed::default()
        };
        let pending = Pending::new(self.desired.as_ref(), &observed, self.version, self.mutant, self.now);
        decider.busy = true;
        self.totals.plans += 1;
        self.plan_after(at, tick);
        if let Some(wake) = pending.plan.wake {
            let wait = u64::try_from(wake.since(self.now).as_micros()).unwrap_or(u64::MAX).max(1);
            self.plan_after(at, wait.min(tick));
        }
        if !pending.changed && pending.plan.actions.is_empty() {
            if let Some(decider) = self.deciders.get_mut(at) {
                decider.busy = false;
            }
            if pending.plan.wake.is_none() {
                self.rest(at);
            }
            return;
        }
        if self.crashes(at, 2, "crashes before its write") {
            return;
        }
        if self.mutant == Some(Mutant::ActsBeforeWriting) {
            self.send(at, &pending.plan.actions);
        }
        let slow = self.chaos && self.random.percent(5);
        let latency = self.random.between(100, if slow { 2_000_000 } else { 5_000 });
        self.after(latency, What::Write(at, Box::new(pending)));
    }

    /// Nothing is to be done: if nothing is under way either, the history is over.
    fn rest(&mut self, at: usize) {
        if self.chaos || self.under_way > 0 {
            return;
        }
        let seen = self.deciders.get(at).is_some_and(|decider| {
            decider.nodes.is_empty() && decider.view.iter().eq(self.processes.observable())
        });
        if !seen {
            return;
        }
        match converged(self.desired.as_deref(), &self.status, &self.processes) {
            Ok(()) => {
                self.rested = true;
                self.tell(|| "everything rests".to_owned());
            }
            Err(what) => self.broken(Rule::Convergence, what),
        }
    }

    pub(super) fn write(&mut self, at: usize, pending: Pending) {
        if !self.deciders.get(at).is_some_and(|decider| decider.alive) {
            return;
        }
        let Pending { plan, desired, version, changed, at: planned } = pending;
        if changed && self.mutant != Some(Mutant::NeverWrites) {
            if version != self.version && self.mutant != Some(Mutant::IgnoresVersion) {
                self.totals.conflicts += 1;
                self.tell(|| format!("decider {at} finds a newer status"));
                if let Some(decider) = self.deciders.get_mut(at) {
                    decider.busy = false;
                }
                return self.plan_after(at, 1_000);
            }
            self.totals.writes += 1;
            self.version += 1;
            let old = std::mem::replace(&mut self.status, plan.status);
            for event in &plan.events {
                self.tell(|| format!("decider {at}: {event}"));
            }
            let commit = Commit {
                desired: desired.as_deref(),
                old: &old,
                new: &self.status,
                events: &plan.events,
                planned,
                processes: &self.processes,
            };
            if let Err((rule, what)) = self.checks.commit(&commit) {
                return self.broken(rule, what);
            }
        }
        if self.crashes(at, 3, "crashes after its write") {
            return;
        }
        if self.mutant == Some(Mutant::ActsBeforeWriting) {
            self.after(0, What::Acted(at));
        } else {
            self.send(at, &plan.actions);
        }
    }

    /// Sends actions on their way, some of them to nowhere, some twice, some by a detour. A crash may end it between any two.
    fn send(&mut self, at: usize, actions: &[Action]) {
        let mut latency = 0;
        for action in actions {
            if self.crashes(at, 1, "crashes between two acts") {
                return;
            }
            latency += self.random.between(10, 2_000);
            let fate: u32 = if self.chaos { self.random.between(0, 99) } else { 99 };
            let late = self.random.between(100_000, 4_000_000);
            self.tell(|| format!("decider {at} sends {}", describe(action)));
            if fate < 15 {
                self.totals.disturbed += 1;
            }
            match fate {
                0..=4 => self.tell(|| "  … which is lost".to_owned()),
                5..=9 => {
                    self.after(latency, What::Arrive(action.clone()));
                    self.after(late, What::Arrive(action.clone()));
                }
                10..=14 => self.after(late, What::Arrive(action.clone())),
                _ => self.after(latency, What::Arrive(action.clone())),
            }
        }
        self.queue_at(latency + 1, What::Acted(at));
    }

    pub(super) fn new_decider(&mut self) {
        let at = self.deciders.len();
        // It lists what there is; now and then its list is what a predecessor had seen.
        let predecessor = self.deciders.last().filter(|_| self.chaos && self.random.percent(20));
        let view = match predecessor {
            Some(predecessor) => predecessor.view.clone(),
            None => {
                self.processes.observable().map(|(key, instance)| (key.clone(), instance.clone())).collect()
            }
        };
        let stale = predecessor.is_some();
        self.deciders.push(Decider { alive: true, view, ..Decider::default() });
        self.tell(|| format!("decider {at} begins{}", if stale { " with an old view" } else { "" }));
        if stale {
            // What it missed it hears later.
            let keys: Vec<Key> = self.processes.all_keys();
            for key in keys {
                self.spread_to(at, &key);
            }
        }
        self.plan_after(at, 10);
        for machine in 0..MACHINES {
            self.doubt(at, machine, 3_000_000);
        }
        if self.chaos && self.random.percent(40) {
            let lives = self.random.between(100_000, 20_000_000);
            self.after(lives, What::NewDecider);
            let lingers = lives + self.random.between(0, 5_000_000);
            self.after(lingers, What::End(at));
        }
    }

    fn crashes(&mut self, at: usize, chance: u64, how: &str) -> bool {
        let crashes = self.chaos && self.random.percent(chance);
        if crashes {
            self.kill(at, how);
        }
        crashes
    }

    pub(super) fn kill(&mut self, at: usize, how: &str) {
        let Some(decider) = self.deciders.get_mut(at).filter(|decider| decider.alive) else { return };
        decider.alive = false;
        decider.view.clear();
        self.totals.replaced += 1;
        self.tell(|| format!("decider {at} {how}"));
        if !self.deciders.iter().any(|decider| decider.alive) {
            let after = self.random.between(1_000, if self.chaos { 2_000_000 } else { 1_000 });
            self.after(after, What::NewDecider);
        }
    }

    pub(super) fn plan_after(&mut self, at: usize, micros: u64) {
        let when = self.now.plus(Duration::from_micros(micros.max(1)));
        let Some(decider) = self.deciders.get_mut(at).filter(|decider| decider.alive) else { return };
        if decider.next.is_none_or(|next| when < next) {
            decider.next = Some(when);
            self.queue_at(micros.max(1), What::Plan(at));
        }
    }
}

/// What the sidecars of widgets that the plan scales say of their load: anything, and now and then nothing.
fn load(
    desired: Option<&spec::Node>,
    view: &BTreeMap<Key, Instance>,
    now: Timestamp,
    random: &mut Random,
) -> BTreeMap<WidgetId, WidgetSignals> {
    let scaled = desired.into_iter().flat_map(tree::widgets);
    let scaled = scaled.filter(|widget| widget.scaling.is_some());
    let mut signals = BTreeMap::new();
    for widget in scaled {
        let replicas = view
            .keys()
            .filter(|(id, _)| id.widget == widget.id)
            .map(|(id, incarnation)| ReplicaSignals {
                ordinal: id.ordinal,
                incarnation: *incarnation,
                in_flight: (!random.percent(10)).then(|| random.between(0, 3_000)),
                reported: BTreeMap::new(),
                at: now,
            })
            .collect();
        signals.insert(widget.id.clone(), WidgetSignals { replicas, ..WidgetSignals::default() });
    }
    signals
}
