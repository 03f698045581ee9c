//! Random cases. The model is played along, so that events hit what runs.

use std::collections::BTreeMap;

use crate::{
    AutoShutdown, Case, Child, Condition, End, Event, Id, Model, Node, Reason, Refusal, Request, Restart,
    Schedule, Shutdown, Step, Strategy, Supervisor, Tree, Worker, random::Random,
};

/// What a generated schedule may hold besides single ends and refused starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mix {
    /// Several ends in one mailbox at once.
    pub bursts: bool,
    /// Requests of an operator.
    pub requests: bool,
    /// Time that passes, and periods of seconds. Without it every period is an hour.
    pub time: bool,
}

impl Mix {
    /// Everything.
    pub const ALL: Self = Self { bursts: true, requests: true, time: true };
    /// What can be played in real time: no time passes.
    pub const TIMELESS: Self = Self { time: false, ..Self::ALL };
}

/// A case with everything in it. The same seed gives the same case, for ever.
pub fn generate(seed: u64) -> Case {
    generate_with(seed, Mix::ALL)
}

/// A case of this mix. The tree is legal and at least two supervisors deep; the same seed gives the same case, for ever.
pub fn generate_with(seed: u64, mix: Mix) -> Case {
    let mut random = Random::new(seed);
    let tree = Planter { random: &mut random, mix, next: 0 }.tree();
    let workers = workers(&tree);
    let refusals = match random.pick(&workers) {
        Some(&worker) if random.percent(2) => vec![Refusal { worker, starts: 1 }],
        _ => Vec::new(),
    };
    let (mut model, mut step) = Model::start(&tree, &refusals);
    let mut events = Vec::new();
    for _ in 0..random.between(12_u32, 24) {
        if !model.is_running() {
            break;
        }
        for event in stimuli(&mut random, mix, &tree, &step) {
            step = model.apply(&event);
            events.push(event);
        }
    }
    Case { tree, schedule: Schedule { refusals, events } }
}

struct Planter<'r> {
    random: &'r mut Random,
    mix: Mix,
    next: u32,
}

impl Planter<'_> {
    fn tree(&mut self) -> Tree {
        let mut root = self.supervisor(1);
        // A root that bears little would end most schedules early.
        root.intensity = self.random.between(3, 12);
        Tree { root }
    }

    fn id(&mut self) -> Id {
        self.next += 1;
        Id(self.next - 1)
    }

    fn any<T: Copy>(&mut self, of: [T; 3], percent: [usize; 2]) -> T {
        let roll = self.random.below(100);
        if roll < percent[0] {
            of[0]
        } else if roll < percent[0] + percent[1] {
            of[1]
        } else {
            of[2]
        }
    }

    fn supervisor(&mut self, level: u32) -> Supervisor {
        let id = self.id();
        let strategy = self.any([Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne], [34, 33]);
        let auto_shutdown = self
            .any([AutoShutdown::Never, AutoShutdown::AnySignificant, AutoShutdown::AllSignificant], [34, 33]);
        let intensity = self.random.between(0, 5);
        let period = if self.mix.time { self.random.between(1, 10) } else { 3600 };
        let count: u32 = if level == 1 { self.random.between(2, 4) } else { self.random.between(1, 4) };
        // One child of the root is always a supervisor.
        let below = self.random.between(0, count - 1);
        let mut children = Vec::new();
        for n in 0..count {
            let deeper = (level == 1 && n == below) || (level < 4 && self.random.percent(30));
            children.push(self.child(auto_shutdown, deeper.then_some(level + 1)));
        }
        Supervisor { id, strategy, intensity, period, auto_shutdown, children }
    }

    fn child(&mut self, auto_shutdown: AutoShutdown, level: Option<u32>) -> Child {
        let restart = self.any([Restart::Permanent, Restart::Transient, Restart::Temporary], [45, 35]);
        let significant =
            auto_shutdown != AutoShutdown::Never && restart != Restart::Permanent && self.random.percent(40);
        let node = match level {
            Some(level) => Node::Supervisor(self.supervisor(level)),
            None => Node::Worker(Worker {
                id: self.id(),
                shutdown: if self.random.percent(50) { Shutdown::Grace } else { Shutdown::BrutalKill },
            }),
        };
        Child { restart, significant, node }
    }
}

fn workers(tree: &Tree) -> Vec<Id> {
    let children = tree.supervisors().into_iter().flat_map(|supervisor| &supervisor.children);
    children.filter(|child| matches!(child.node, Node::Worker(_))).map(Child::id).collect()
}

/// The next event, or a refusal and the end that makes it felt.
fn stimuli(random: &mut Random, mix: Mix, tree: &Tree, step: &Step) -> Vec<Event> {
    let running: Vec<&Supervisor> =
        tree.supervisors().into_iter().filter(|supervisor| is_up(&step.rest, supervisor.id)).collect();
    let roll = random.below(100);
    if mix.time && roll < 8 {
        return vec![Event::Pass { seconds: random.between(1, 8) }];
    }
    if mix.requests && (8..16).contains(&roll) {
        return request(random, &running).into_iter().collect();
    }
    let crowds: Vec<(&Supervisor, Vec<Id>)> = running
        .iter()
        .map(|supervisor| (*supervisor, crowd(supervisor, step)))
        .filter(|(_, workers)| !workers.is_empty())
        .collect();
    let Some((supervisor, workers)) = random.pick(&crowds) else {
        // Nobody is left to end: an operator may still start a child again.
        return if mix.requests { request(random, &running).into_iter().collect() } else { Vec::new() };
    };
    let size = if mix.bursts && random.percent(30) { 1 + random.below(workers.len()) } else { 1 };
    let mut left = workers.clone();
    let mut ends = Vec::new();
    for _ in 0..size {
        let worker = left.swap_remove(random.below(left.len()));
        ends.push(End { worker, reason: reason(random) });
    }
    let ends = Event::Ends { supervisor: supervisor.id, ends };
    if roll < 30
        && let Some(child) = random.pick(&supervisor.children)
        && matches!(child.node, Node::Worker(_))
    {
        return vec![Event::Refuse(Refusal { worker: child.id(), starts: random.between(1, 3) }), ends];
    }
    vec![ends]
}

/// The workers of a supervisor that run.
fn crowd(supervisor: &Supervisor, step: &Step) -> Vec<Id> {
    let workers = supervisor.children.iter().filter(|child| matches!(child.node, Node::Worker(_)));
    workers.map(Child::id).filter(|&id| is_up(&step.rest, id)).collect()
}

fn is_up(rest: &BTreeMap<Id, Condition>, id: Id) -> bool {
    rest.get(&id) == Some(&Condition::Up)
}

fn reason(random: &mut Random) -> Reason {
    match random.below(10) {
        0 => Reason::Normal,
        1 => Reason::Shutdown,
        2 => Reason::ShutdownTerm,
        3..7 => Reason::Crash,
        _ => Reason::Killed,
    }
}

fn request(random: &mut Random, running: &[&Supervisor]) -> Option<Event> {
    let supervisor = random.pick(running)?;
    let child = random.pick(&supervisor.children)?.id();
    let request = match random.below(10) {
        0..4 => Request::Terminate,
        4..8 => Request::Restart,
        _ => Request::Delete,
    };
    Some(Event::Request { supervisor: supervisor.id, child, request })
}
