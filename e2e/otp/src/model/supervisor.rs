//! One running supervisor: a mailbox, children in start order, and the times of its restarts.

use std::collections::{BTreeMap, VecDeque};

use super::World;
use crate::{
    Act, AutoShutdown, Child, Condition, Event, Id, Node, Request, Restart, Shutdown, Strategy, Supervisor,
};

/// A supervisor that runs.
#[derive(Debug)]
pub(super) struct Running<'a> {
    spec: &'a Supervisor,
    slots: Vec<Slot<'a>>,
    /// When restarts were counted, in seconds, the oldest first.
    restarts: VecDeque<u64>,
    mailbox: VecDeque<Message>,
}

/// A child whose specification is kept.
#[derive(Debug)]
struct Slot<'a> {
    child: &'a Child,
    status: Status<'a>,
}

#[derive(Debug)]
enum Status<'a> {
    Down,
    /// A restart failed; a message to try again is in the mailbox.
    Restarting,
    /// It has ended, and the news is in the mailbox.
    Dead,
    Worker,
    Supervisor(Box<Running<'a>>),
}

#[derive(Debug)]
enum Message {
    Exit { child: Id, normal: bool },
    TryAgain { child: Id },
}

/// Whether a supervisor goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    GoesOn,
    Ended,
}

impl<'a> Running<'a> {
    /// Starts a supervisor and its children in order. The first child that fails undoes the start.
    pub(super) fn start(world: &mut World, spec: &'a Supervisor) -> Option<Self> {
        let slots = spec.children.iter().map(|child| Slot { child, status: Status::Down }).collect();
        let mut this = Self { spec, slots, restarts: VecDeque::new(), mailbox: VecDeque::new() };
        if this.start_from(world, 0).is_err() {
            this.stop_from(world, 0);
            world.acts.push(Act::Refused(spec.id));
            return None;
        }
        world.acts.push(Act::Started(spec.id));
        Some(this)
    }

    /// Hands an event to the supervisor it names, if that runs here or below.
    pub(super) fn deliver(&mut self, world: &mut World, to: Id, event: &Event) -> Option<Flow> {
        if to == self.spec.id {
            self.receive(world, event);
            return Some(self.run(world));
        }
        let (at, flow) = self.slots.iter_mut().enumerate().find_map(|(at, slot)| match &mut slot.status {
            Status::Supervisor(below) => below.deliver(world, to, event).map(|flow| (at, flow)),
            _ => None,
        })?;
        if flow == Flow::GoesOn {
            return Some(flow);
        }
        // A supervisor ends by itself with reason `shutdown` only, and that is a normal end.
        self.die(at, true);
        Some(self.run(world))
    }

    /// Adds every node here and below to `rest`.
    pub(super) fn survey(&self, rest: &mut BTreeMap<Id, Condition>) {
        rest.insert(self.spec.id, Condition::Up);
        for slot in &self.slots {
            match &slot.status {
                Status::Supervisor(below) => below.survey(rest),
                Status::Worker => {
                    rest.insert(slot.child.id(), Condition::Up);
                }
                Status::Down | Status::Restarting | Status::Dead => {
                    rest.insert(slot.child.id(), Condition::Down);
                }
            }
        }
    }

    fn receive(&mut self, world: &mut World, event: &Event) {
        match event {
            Event::Ends { ends, .. } => {
                for end in ends {
                    if let Some(at) = self.find(end.worker)
                        && matches!(self.slots[at].status, Status::Worker)
                    {
                        self.die(at, end.reason.is_normal());
                    }
                }
            }
            Event::Request { child, request, .. } => {
                if let Some(at) = self.find(*child) {
                    self.serve(world, at, *request);
                }
            }
            Event::Refuse(_) | Event::Pass { .. } => {}
        }
    }

    fn serve(&mut self, world: &mut World, at: usize, request: Request) {
        let down = matches!(self.slots[at].status, Status::Down);
        match request {
            Request::Terminate => {
                self.stop(world, at);
                self.forget_temporary(at);
            }
            Request::Restart if down => {
                // A failed start is the asker's to know: it is neither counted nor tried again.
                self.start_at(world, at);
            }
            Request::Delete if down => {
                self.slots.remove(at);
            }
            Request::Restart | Request::Delete => {}
        }
    }

    /// Works the mailbox off. Messages that a supervisor's own end leaves unread are lost.
    fn run(&mut self, world: &mut World) -> Flow {
        while let Some(message) = self.mailbox.pop_front() {
            if self.handle(world, &message) == Flow::Ended {
                self.stop_from(world, 0);
                world.acts.push(Act::Ended(self.spec.id));
                return Flow::Ended;
            }
        }
        Flow::GoesOn
    }

    fn handle(&mut self, world: &mut World, message: &Message) -> Flow {
        match *message {
            Message::Exit { child, normal } => match self.find(child) {
                Some(at) => self.child_ended(world, at, normal),
                None => Flow::GoesOn,
            },
            // Another restart may have started it since.
            Message::TryAgain { child } => match self.find(child) {
                Some(at) if matches!(self.slots[at].status, Status::Restarting) => self.restart(world, at),
                _ => Flow::GoesOn,
            },
        }
    }

    fn child_ended(&mut self, world: &mut World, at: usize, normal: bool) -> Flow {
        let child = self.slots[at].child;
        let restarts = match child.restart {
            Restart::Permanent => true,
            Restart::Transient => !normal,
            Restart::Temporary => false,
        };
        self.slots[at].status = Status::Down;
        if restarts {
            return self.restart(world, at);
        }
        self.forget_temporary(at);
        let ends = child.significant
            && match self.spec.auto_shutdown {
                AutoShutdown::Never => false,
                AutoShutdown::AnySignificant => true,
                // A child between two tries of its restart is active. One that waits behind it is not.
                AutoShutdown::AllSignificant => !self
                    .slots
                    .iter()
                    .any(|slot| slot.child.significant && !matches!(slot.status, Status::Down)),
            };
        if ends {
            world.acts.push(Act::ShutDown(self.spec.id));
            return Flow::Ended;
        }
        Flow::GoesOn
    }

    /// Counts a restart and does it by the strategy: stop in reverse, start in order.
    fn restart(&mut self, world: &mut World, at: usize) -> Flow {
        self.slots[at].status = Status::Down;
        if self.count_restart(world.now) > self.spec.intensity as usize {
            world.acts.push(Act::GaveUp(self.spec.id));
            return Flow::Ended;
        }
        let failed = match self.spec.strategy {
            Strategy::OneForOne => (!self.start_at(world, at)).then_some(at),
            Strategy::RestForOne => self.restart_from(world, at),
            Strategy::OneForAll => self.restart_from(world, 0),
        };
        if let Some(at) = failed {
            self.slots[at].status = Status::Restarting;
            self.mailbox.push_back(Message::TryAgain { child: self.slots[at].child.id() });
        }
        Flow::GoesOn
    }

    fn restart_from(&mut self, world: &mut World, from: usize) -> Option<usize> {
        self.stop_from(world, from);
        self.start_from(world, from).err()
    }

    /// Adds a restart and says how many lie within the period.
    fn count_restart(&mut self, now: u64) -> usize {
        let oldest = now.saturating_sub(self.spec.period);
        self.restarts.retain(|&at| at >= oldest);
        self.restarts.push_back(now);
        self.restarts.len()
    }

    /// Starts children that are down, in order; gives the place of the first that fails.
    fn start_from(&mut self, world: &mut World, from: usize) -> Result<(), usize> {
        (from..self.slots.len()).try_for_each(|at| if self.start_at(world, at) { Ok(()) } else { Err(at) })
    }

    fn start_at(&mut self, world: &mut World, at: usize) -> bool {
        let slot = &mut self.slots[at];
        let started = match &slot.child.node {
            Node::Worker(worker) => world.start_worker(worker.id).then_some(Status::Worker),
            Node::Supervisor(spec) => {
                Running::start(world, spec).map(|running| Status::Supervisor(Box::new(running)))
            }
        };
        match started {
            Some(status) => {
                slot.status = status;
                true
            }
            None => false,
        }
    }

    /// Stops children in reverse order and forgets the temporary ones, whether they ran or not.
    fn stop_from(&mut self, world: &mut World, from: usize) {
        for at in (from..self.slots.len()).rev() {
            self.stop(world, at);
            self.forget_temporary(at);
        }
    }

    /// Stops a child if it runs. The news of one that ended by itself is taken out of the mailbox unread.
    fn stop(&mut self, world: &mut World, at: usize) {
        let slot = &mut self.slots[at];
        let id = slot.child.id();
        match std::mem::replace(&mut slot.status, Status::Down) {
            Status::Worker => world.acts.push(match &slot.child.node {
                Node::Worker(worker) if worker.shutdown == Shutdown::BrutalKill => Act::Killed(id),
                _ => Act::Stopped(id),
            }),
            Status::Supervisor(mut below) => {
                below.stop_from(world, 0);
                world.acts.push(Act::Stopped(id));
            }
            Status::Dead => {
                self.mailbox
                    .retain(|message| !matches!(message, Message::Exit { child, .. } if *child == id));
            }
            Status::Down | Status::Restarting => {}
        }
    }

    fn die(&mut self, at: usize, normal: bool) {
        let slot = &mut self.slots[at];
        slot.status = Status::Dead;
        self.mailbox.push_back(Message::Exit { child: slot.child.id(), normal });
    }

    fn forget_temporary(&mut self, at: usize) {
        if self.slots[at].child.restart == Restart::Temporary {
            self.slots.remove(at);
        }
    }

    fn find(&self, id: Id) -> Option<usize> {
        self.slots.iter().position(|slot| slot.child.id() == id)
    }
}
