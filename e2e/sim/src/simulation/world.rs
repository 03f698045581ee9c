//! What reaches the processes, and what deciders hear of them.

use kontrol_plan::{Action, NodeHealth};

use super::{Simulation, What};
use crate::{
    check::Rule,
    processes::{Key, machine as name},
};

impl Simulation {
    pub(super) fn arrive(&mut self, action: &Action) {
        let (Action::Start { instance, incarnation, .. }
        | Action::Stop { instance, incarnation, .. }
        | Action::Abandon { instance, incarnation }
        | Action::Remove { instance, incarnation }) = action;
        let key = (instance.clone(), *incarnation);
        let spec = self.specs.get(&key.0.widget).map(|(spec, strategy)| (spec, *strategy));
        let chaos = self.chaos.then_some(self.chaos_ends);
        let effect = self.processes.act(action, spec, chaos, self.now, &mut self.random);
        if let Some((id, incarnation)) = effect.beside {
            let what = format!("{} while {id} #{incarnation} lives", describe(action));
            return self.broken(Rule::OneProcess, what);
        }
        for (after, change) in effect.follows {
            self.after(u64::try_from(after.as_micros()).unwrap_or(u64::MAX), What::Become(change));
        }
        if let Some(key) = effect.changed {
            self.tell(|| format!("{} takes effect", describe(action)));
            self.spread(&key);
        }
    }

    /// A machine is lost to everybody: it dies, or is only cut off. It comes back later.
    pub(super) fn lose(&mut self, machine: usize) {
        if self.processes.away_since(machine).is_some() || !self.chaos {
            return;
        }
        let dies = self.random.percent(60);
        self.processes.lose(machine, dies, self.now);
        self.tell(|| format!("machine n{machine} {}", if dies { "dies" } else { "is cut off" }));
        let back = self.random.between(500_000, 25_000_000);
        self.after(back, What::Heal(machine));
        for at in 0..self.deciders.len() {
            self.doubt(at, machine, 1_500_000);
        }
    }

    /// A decider that does not hear from a machine takes it for suspect, and then for lost.
    pub(super) fn doubt(&mut self, at: usize, machine: usize, after: u64) {
        if self.processes.away_since(machine).is_none() || !self.deciders.get(at).is_some_and(|it| it.alive) {
            return;
        }
        let suspects = after + self.random.between(0, 500_000);
        let gives_up = suspects + self.random.between(1_500_000, 2_500_000);
        self.after(suspects, What::Doubt(at, machine, false));
        self.after(gives_up, What::Doubt(at, machine, true));
    }

    pub(super) fn take_for_lost(&mut self, at: usize, machine: usize, lost: bool) {
        let Some(since) = self.processes.away_since(machine) else { return };
        let Some(decider) = self.deciders.get_mut(at).filter(|decider| decider.alive) else { return };
        let health = if lost { NodeHealth::Lost { since } } else { NodeHealth::Suspect { since } };
        decider.nodes.insert(name(machine), health);
        if lost {
            self.processes.doubt(machine);
        }
        self.tell(|| format!("decider {at} takes n{machine} for {}", if lost { "lost" } else { "suspect" }));
        self.plan_after(at, 100);
    }

    pub(super) fn heal(&mut self, machine: usize) {
        if self.processes.away_since(machine).is_none() {
            return;
        }
        for key in self.processes.heal(machine, self.now) {
            self.spread(&key);
        }
        self.tell(|| format!("machine n{machine} is back"));
        for at in 0..self.deciders.len() {
            let late = self.random.between(1_000, 1_000_000);
            self.after(late, What::Trust(at, machine));
        }
    }

    pub(super) fn trust(&mut self, at: usize, machine: usize) {
        if self.processes.away_since(machine).is_some() {
            return;
        }
        let Some(decider) = self.deciders.get_mut(at).filter(|decider| decider.alive) else { return };
        decider.nodes.remove(&name(machine));
        self.plan_after(at, 100);
    }

    /// Lets every decider hear of a process, late but in order.
    pub(super) fn spread(&mut self, key: &Key) {
        let instance = (!self.processes.is_removed(key))
            .then(|| self.processes.get(key).map(|process| Box::new(process.instance.clone())))
            .flatten();
        for at in 0..self.deciders.len() {
            let slow = self.chaos && self.random.percent(8);
            let lag = self.random.between(50, if slow { 3_000_000 } else { 20_000 });
            let Some(decider) = self.deciders.get_mut(at).filter(|decider| decider.alive) else { continue };
            let arrives = (self.now.as_micros() + lag).max(decider.seen_until + 1);
            decider.seen_until = arrives;
            let heard = What::Hear(at, key.clone(), instance.clone());
            self.after(arrives - self.now.as_micros(), heard);
        }
    }

    /// Lets one decider hear of a process, later than others would.
    pub(super) fn spread_to(&mut self, at: usize, key: &Key) {
        let instance = (!self.processes.is_removed(key))
            .then(|| self.processes.get(key).map(|process| Box::new(process.instance.clone())))
            .flatten();
        let lag = self.random.between(100_000, 3_000_000);
        let Some(decider) = self.deciders.get_mut(at) else { return };
        let arrives = (self.now.as_micros() + lag).max(decider.seen_until + 1);
        decider.seen_until = arrives;
        self.after(arrives - self.now.as_micros(), What::Hear(at, key.clone(), instance));
    }
}

pub(super) fn describe(action: &Action) -> String {
    match action {
        Action::Start { instance, incarnation, epoch, .. } => {
            format!("start {instance} #{incarnation} (epoch {epoch})")
        }
        Action::Stop { instance, incarnation, .. } => format!("stop {instance} #{incarnation}"),
        Action::Abandon { instance, incarnation } => format!("abandon {instance} #{incarnation}"),
        Action::Remove { instance, incarnation } => format!("remove {instance} #{incarnation}"),
    }
}
