//! One history: a queue of what is to come, in the order of time.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use anyhow::Result;
use kontrol_core::{spec, time::Timestamp};
use kontrol_plan::{Action, Instance, Observed, RestartRequest, Status};

use crate::{
    check::{Checks, Commit, Rule, Violation, converged},
    decider::{Decider, Mutant, Pending},
    processes::{Change, Key, Processes},
    random::Random,
    tree,
};

/// How long a history may take to come to rest after the last failure.
const PATIENCE: Duration = Duration::from_mins(30);

/// What a history was like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Plans made.
    pub plans: u64,
    /// Writes of the status.
    pub writes: u64,
    /// Writes refused because somebody else had written.
    pub conflicts: u64,
    /// Deciders that crashed or were replaced.
    pub replaced: u64,
    /// Actions lost, doubled or late.
    pub disturbed: u64,
    /// Ends of processes by themselves.
    pub faults: u64,
    /// Restarts decided.
    pub restarts: u64,
}

/// The end of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The rule that was broken first.
    pub violation: Option<Violation>,
    /// What it was like.
    pub totals: Totals,
    /// What happened, line by line; empty unless asked for.
    pub trace: String,
}

/// What is to come.
enum What {
    Plan(usize),
    Write(usize, Box<Pending>),
    Acted(usize),
    Arrive(Action),
    Become(Change),
    /// A decider hears of a process; none: it was removed.
    Hear(usize, Key, Option<Box<Instance>>),
    NewDecider,
    End(usize),
    ChangeManifest,
    /// A user asks for a restart.
    Ask,
    Calm,
}

struct Simulation {
    random: Random,
    now: Timestamp,
    queue: BTreeMap<(u64, u64), What>,
    queued: u64,
    /// Things under way that are no plans of their own accord.
    under_way: usize,
    processes: Processes,
    status: Status,
    version: u64,
    desired: Option<spec::Node>,
    /// Whether the tree is taken away when the chaos is over.
    drained: bool,
    requests: Vec<RestartRequest>,
    deciders: Vec<Decider>,
    chaos_ends: Timestamp,
    chaos: bool,
    mutant: Option<Mutant>,
    checks: Checks,
    totals: Totals,
    trace: Option<String>,
    violation: Option<Violation>,
    rested: bool,
}

/// Runs the history of a seed. An error is one of the simulator itself.
pub fn run(seed: u64, mutant: Option<Mutant>, traced: bool) -> Result<Outcome> {
    let mut random = Random::new(seed);
    let desired = tree::generate(&mut random)?;
    let chaos_ends = Timestamp::from_micros(random.between(5_000_000, 90_000_000));
    let mut simulation = Simulation {
        drained: random.percent(15),
        now: Timestamp::ZERO,
        queue: BTreeMap::new(),
        queued: 0,
        under_way: 0,
        processes: Processes::default(),
        status: Status::default(),
        version: 0,
        desired: Some(desired),
        requests: Vec::new(),
        deciders: Vec::new(),
        chaos_ends,
        chaos: true,
        mutant,
        checks: Checks::default(),
        totals: Totals::default(),
        trace: traced.then(String::new),
        violation: None,
        rested: false,
        random,
    };
    simulation.play();
    let totals = Totals {
        faults: simulation.processes.faults,
        restarts: simulation.checks.restarts,
        ..simulation.totals
    };
    Ok(Outcome { violation: simulation.violation, totals, trace: simulation.trace.unwrap_or_default() })
}

impl Simulation {
    fn play(&mut self) {
        if self.trace.is_some() {
            let tree = format!("{:#?}", self.desired);
            self.tell(|| tree);
        }
        self.after(1, What::NewDecider);
        let calm = self.chaos_ends.as_micros();
        self.after(calm, What::Calm);
        for (chance, most, what) in
            [(40, 3, (|| What::ChangeManifest) as fn() -> What), (30, 3, || What::Ask)]
        {
            let times = if self.random.percent(chance) { self.random.between(1, most) } else { 0 };
            for _ in 0..times {
                let at = self.random.between(1, calm);
                self.after(at, what());
            }
        }
        while let Some(((at, _), what)) = self.queue.pop_first() {
            self.now = Timestamp::from_micros(at);
            self.happen(what);
            if self.violation.is_some() || self.rested {
                return;
            }
            if self.now.since(self.chaos_ends) > PATIENCE {
                let resting = converged(self.desired.as_ref(), &self.status, &self.processes);
                let what = resting.err().unwrap_or_else(|| "it never comes to rest".to_owned());
                return self.broken(Rule::Convergence, what);
            }
        }
        self.broken(Rule::Convergence, "nothing happens any more".to_owned());
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Plan(decider) => self.plan(decider),
            What::Write(decider, pending) => {
                self.under_way -= 1;
                self.write(decider, *pending);
            }
            What::Acted(decider) => {
                if let Some(decider) = self.deciders.get_mut(decider) {
                    decider.busy = false;
                }
            }
            What::Arrive(action) => {
                self.under_way -= 1;
                self.arrive(&action);
            }
            What::Become(change) => {
                self.under_way -= 1;
                let spec = find(self.desired.as_ref(), &change.key);
                if self.processes.become_so(&change, spec, self.now) {
                    self.tell(|| format!("{} #{} is {:?}", change.key.0, change.key.1, change.state));
                    self.spread(&change.key);
                }
            }
            What::Hear(decider, key, instance) => {
                self.under_way -= 1;
                let Some(hearer) = self.deciders.get_mut(decider) else { return };
                match instance {
                    Some(instance) => hearer.view.insert(key, *instance),
                    None => hearer.view.remove(&key),
                };
                let soon = self.random.between(10, 2_000);
                self.plan_after(decider, soon);
            }
            What::NewDecider => {
                self.under_way -= 1;
                self.new_decider();
            }
            What::End(decider) => {
                self.under_way -= 1;
                self.kill(decider, "is gone");
            }
            What::ChangeManifest => {
                self.under_way -= 1;
                let changed =
                    self.desired.as_mut().and_then(|desired| tree::change(desired, &mut self.random));
                self.tell(|| format!("the template of {changed:?} changes"));
            }
            What::Ask => {
                self.under_way -= 1;
                let Some(desired) = &self.desired else { return };
                let request =
                    RestartRequest { target: tree::request(desired, &mut self.random), at: self.now };
                self.tell(|| format!("a user asks for a restart of {:?}", request.target));
                self.requests.push(request);
            }
            What::Calm => {
                self.under_way -= 1;
                self.chaos = false;
                self.tell(|| "the chaos is over".to_owned());
                if self.drained {
                    self.desired = None;
                    self.tell(|| "the tree is taken away".to_owned());
                }
                if !self.deciders.iter().any(|decider| decider.alive) {
                    self.after(1, What::NewDecider);
                }
            }
        }
    }

    fn plan(&mut self, at: usize) {
        let Some(decider) = self.deciders.get_mut(at).filter(|decider| decider.alive) else { return };
        if decider.next != Some(self.now) {
            return;
        }
        decider.next = None;
        let tick = if self.chaos { 1_000_000 } else { 5_000_000 };
        if decider.busy {
            return self.plan_after(at, 1_000);
        }
        let observed = Observed {
            status: self.status.clone(),
            instances: decider.view.values().cloned().collect(),
            restarts: self.requests.clone(),
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
        let seen =
            self.deciders.get(at).is_some_and(|decider| decider.view.iter().eq(self.processes.observable()));
        if !seen {
            return;
        }
        match converged(self.desired.as_ref(), &self.status, &self.processes) {
            Ok(()) => {
                self.rested = true;
                self.tell(|| "everything rests".to_owned());
            }
            Err(what) => self.broken(Rule::Convergence, what),
        }
    }

    fn write(&mut self, at: usize, pending: Pending) {
        if !self.deciders.get(at).is_some_and(|decider| decider.alive) {
            return;
        }
        let Pending { plan, version, changed, at: planned } = pending;
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
                desired: self.desired.as_ref(),
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
            let fate = if self.chaos { self.random.between(0, 99) } else { 99 };
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

    fn arrive(&mut self, action: &Action) {
        let (Action::Start { instance, incarnation, .. }
        | Action::Stop { instance, incarnation, .. }
        | Action::Remove { instance, incarnation }) = action;
        let key = (instance.clone(), *incarnation);
        let spec = find(self.desired.as_ref(), &key);
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
    fn spread(&mut self, key: &Key) {
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

    fn new_decider(&mut self) {
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
        if self.chaos && self.random.percent(40) {
            let lives = self.random.between(100_000, 20_000_000);
            self.after(lives, What::NewDecider);
            let lingers = lives + self.random.between(0, 5_000_000);
            self.after(lingers, What::End(at));
        }
    }

    fn spread_to(&mut self, at: usize, key: &Key) {
        let instance = (!self.processes.is_removed(key))
            .then(|| self.processes.get(key).map(|process| Box::new(process.instance.clone())))
            .flatten();
        let lag = self.random.between(100_000, 3_000_000);
        let Some(decider) = self.deciders.get_mut(at) else { return };
        let arrives = (self.now.as_micros() + lag).max(decider.seen_until + 1);
        decider.seen_until = arrives;
        self.after(arrives - self.now.as_micros(), What::Hear(at, key.clone(), instance));
    }

    fn crashes(&mut self, at: usize, chance: u64, how: &str) -> bool {
        let crashes = self.chaos && self.random.percent(chance);
        if crashes {
            self.kill(at, how);
        }
        crashes
    }

    fn kill(&mut self, at: usize, how: &str) {
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

    fn plan_after(&mut self, at: usize, micros: u64) {
        let when = self.now.plus(Duration::from_micros(micros.max(1)));
        let Some(decider) = self.deciders.get_mut(at).filter(|decider| decider.alive) else { return };
        if decider.next.is_none_or(|next| when < next) {
            decider.next = Some(when);
            self.queue_at(micros.max(1), What::Plan(at));
        }
    }

    /// Queues something that keeps the history from being over.
    fn after(&mut self, micros: u64, what: What) {
        if !matches!(what, What::Plan(_) | What::Acted(_)) {
            self.under_way += 1;
        }
        self.queue_at(micros, what);
    }

    fn queue_at(&mut self, micros: u64, what: What) {
        self.queued += 1;
        self.queue.insert((self.now.as_micros().saturating_add(micros), self.queued), what);
    }

    fn tell(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let at = self.now;
            // Writing to a String cannot fail.
            writeln!(trace, "{at:>14} {}", line()).ok();
        }
    }

    fn broken(&mut self, rule: Rule, what: String) {
        let violation = Violation { rule, at: self.now, what };
        self.tell(|| format!("VIOLATION {violation}"));
        self.violation.get_or_insert(violation);
    }
}

fn find<'a>(desired: Option<&'a spec::Node>, key: &Key) -> Option<&'a spec::Widget> {
    tree::widgets(desired?).into_iter().find(|widget| widget.id == key.0.widget)
}

fn describe(action: &Action) -> String {
    match action {
        Action::Start { instance, incarnation, epoch, .. } => {
            format!("start {instance} #{incarnation} (epoch {epoch})")
        }
        Action::Stop { instance, incarnation, .. } => format!("stop {instance} #{incarnation}"),
        Action::Remove { instance, incarnation } => format!("remove {instance} #{incarnation}"),
    }
}
