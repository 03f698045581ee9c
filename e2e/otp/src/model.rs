//! The model: one tree, played step by step.

mod supervisor;

use std::collections::BTreeMap;

use supervisor::{Flow, Running};

use crate::{Act, Case, Event, Id, Refusal, Step, Trace, Tree};

/// Plays a whole case.
pub fn play(case: &Case) -> Trace {
    let (mut model, first) = Model::start(&case.tree, &case.schedule.refusals);
    let mut steps = vec![first];
    for event in &case.schedule.events {
        if !model.is_running() {
            break;
        }
        steps.push(model.apply(event));
    }
    Trace { steps }
}

/// A tree at rest, which takes one event after another.
#[derive(Debug)]
pub struct Model<'a> {
    root: Option<Running<'a>>,
    world: World,
}

impl<'a> Model<'a> {
    /// Starts a tree with these refusals in force.
    pub fn start(tree: &'a Tree, refusals: &[Refusal]) -> (Self, Step) {
        let mut world = World::default();
        for &refusal in refusals {
            world.refuse(refusal);
        }
        let root = Running::start(&mut world, &tree.root);
        let mut model = Self { root, world };
        let step = model.step();
        (model, step)
    }

    /// Whether the root runs.
    pub fn is_running(&self) -> bool {
        self.root.is_some()
    }

    /// Lets one thing happen and everything that follows from it.
    pub fn apply(&mut self, event: &Event) -> Step {
        match event {
            Event::Refuse(refusal) => self.world.refuse(*refusal),
            Event::Pass { seconds } => self.world.now += seconds,
            Event::Ends { supervisor, .. } | Event::Request { supervisor, .. } => {
                if let Some(root) = &mut self.root
                    && root.deliver(&mut self.world, *supervisor, event) == Some(Flow::Ended)
                {
                    self.root = None;
                }
            }
        }
        self.step()
    }

    fn step(&mut self) -> Step {
        let mut rest = BTreeMap::new();
        if let Some(root) = &self.root {
            root.survey(&mut rest);
        }
        Step { acts: std::mem::take(&mut self.world.acts), rest }
    }
}

/// What is not the supervisors': time, workers that will not start, and the record.
#[derive(Debug, Default)]
struct World {
    now: u64,
    refusals: BTreeMap<Id, u32>,
    acts: Vec<Act>,
}

impl World {
    fn refuse(&mut self, refusal: Refusal) {
        self.refusals.insert(refusal.worker, refusal.starts);
    }

    /// Tries to start a worker; says whether it runs.
    fn start_worker(&mut self, id: Id) -> bool {
        match self.refusals.get_mut(&id) {
            Some(left) if *left > 0 => {
                *left -= 1;
                self.acts.push(Act::Refused(id));
                false
            }
            _ => {
                self.acts.push(Act::Started(id));
                true
            }
        }
    }
}
