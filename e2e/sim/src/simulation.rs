//! One history: a queue of what is to come, in the order of time.

mod deciders;
mod world;

use std::{collections::BTreeMap, fmt::Write, sync::Arc, time::Duration};

use anyhow::Result;
use kontrol_core::{id::WidgetId, spec, time::Timestamp};
use kontrol_otp::Random;
use kontrol_plan::{
    Action, Instance, RestartRequest, Status,
    status::{Inner, Node},
};

use crate::{
    check::{Checks, Rule, Violation, converged},
    decider::{Decider, Pending},
    mutant::Mutant,
    processes::{Change, Key, MACHINES, Processes},
    tree,
};

/// How long a history may take to come to rest after the last failure.
const PATIENCE: Duration = Duration::from_mins(30);

/// How many plans a history may take; one that comes to rest takes some hundreds.
const MOST_PLANS: u64 = 20_000;

/// Names of objects that come later have numbers above this.
const LATER: u32 = 100;

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
    /// A machine is lost.
    Lose(usize),
    /// A machine is back.
    Heal(usize),
    /// A decider takes a machine for suspect, or for lost.
    Doubt(usize, usize, bool),
    /// A decider hears from a machine again.
    Trust(usize, usize),
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
    desired: Option<Arc<spec::Node>>,
    /// Every widget that a manifest ever had, as it was last.
    specs: BTreeMap<WidgetId, (spec::Widget, spec::Strategy)>,
    /// Names given so far to objects that come later.
    named: u32,
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

/// Whether a widget has a good template to return to.
fn has_good(node: &Node, id: &WidgetId) -> bool {
    node.children.iter().any(|slot| match &slot.inner {
        Inner::Widget(widget) => {
            node.id.name == id.group
                && slot.key.name == id.widget
                && widget.good.is_some_and(|good| !tree::is_bad(good))
        }
        Inner::Node(below) => has_good(below, id),
    })
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
        desired: Some(Arc::new(desired)),
        specs: BTreeMap::new(),
        named: LATER,
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
    simulation.learn();
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
            let times: u32 = if self.random.percent(chance) { self.random.between(1, most) } else { 0 };
            for _ in 0..times {
                let at = self.random.between(1, calm);
                self.after(at, what());
            }
        }
        let pods = self.specs.values().any(|(spec, _)| spec.container.is_some());
        let losses: u32 = if pods { self.random.between(0, 3) } else { 0 };
        for _ in 0..losses {
            let at = self.random.between(1, calm);
            let machine = usize::try_from(self.random.between(0, MACHINES as u64 - 1)).unwrap_or(0);
            self.after(at, What::Lose(machine));
        }
        while let Some(((at, _), what)) = self.queue.pop_first() {
            self.now = Timestamp::from_micros(at);
            self.happen(what);
            if self.violation.is_some() || self.rested {
                return;
            }
            if self.now.since(self.chaos_ends) > PATIENCE || self.totals.plans > MOST_PLANS {
                let resting = converged(self.desired.as_deref(), &self.status, &self.processes);
                let what = resting.err().unwrap_or_else(|| "it never comes to rest".to_owned());
                return self.broken(Rule::Convergence, what);
            }
        }
        self.broken(Rule::Convergence, "nothing happens any more".to_owned());
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each thing that can happen")]
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
                if self.processes.is_away(&change.key) {
                    // What happens there shows when it is back.
                    return self.after(300_000, What::Become(change));
                }
                let spec = self.specs.get(&change.key.0.widget).map(|(spec, _)| spec);
                let chaos = self.chaos.then_some(self.chaos_ends);
                let random = &mut self.random;
                if let Some(follows) = self.processes.become_so(&change, spec, chaos, self.now, random) {
                    self.tell(|| format!("{} #{} is {:?}", change.key.0, change.key.1, change.state));
                    for (after, change) in follows {
                        self.after(
                            u64::try_from(after.as_micros()).unwrap_or(u64::MAX),
                            What::Become(change),
                        );
                    }
                    self.spread(&change.key);
                }
            }
            What::Lose(machine) => {
                self.under_way -= 1;
                self.lose(machine);
            }
            What::Heal(machine) => {
                self.under_way -= 1;
                self.heal(machine);
            }
            What::Doubt(decider, machine, lost) => {
                self.under_way -= 1;
                self.take_for_lost(decider, machine, lost);
            }
            What::Trust(decider, machine) => {
                self.under_way -= 1;
                self.trust(decider, machine);
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
                let Some(desired) = &mut self.desired else { return };
                let changed = tree::change(Arc::make_mut(desired), &mut self.random, &mut self.named);
                self.tell(|| format!("the manifest changes: {changed}"));
                self.learn();
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
                for machine in 0..MACHINES {
                    self.heal(machine);
                }
                if let Some(desired) = &mut self.desired {
                    let status = &self.status;
                    let good = |id: &WidgetId| status.root.as_deref().is_some_and(|root| has_good(root, id));
                    tree::mend(Arc::make_mut(desired), &good);
                    self.learn();
                }
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

    fn learn(&mut self) {
        for widget in self.desired.iter().flat_map(|desired| tree::widgets(desired)) {
            let strategy = self.desired.iter().find_map(|root| tree::strategy_of(root, &widget.id));
            self.specs.insert(widget.id.clone(), (widget.clone(), strategy.unwrap_or_default()));
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
