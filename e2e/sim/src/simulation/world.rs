//! What reaches the processes, and what deciders hear of them.

use kontrol_plan::Action;

use super::{Simulation, What};
use crate::{check::Rule, processes::Key};

impl Simulation {
    pub(super) fn arrive(&mut self, action: &Action) {
        let (Action::Start { instance, incarnation, .. }
        | Action::Stop { instance, incarnation, .. }
        | Action::Abandon { instance, incarnation }
        | Action::Remove { instance, incarnation }) = action;
        let key = (instance.clone(), *incarnation);
        let spec = self.specs.get(&key.0.widget);
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
