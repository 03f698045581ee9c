//! Plays a schedule against the plan and tells what was seen in OTP's terms.

use std::{collections::BTreeMap, time::Duration};

use kontrol_core::{spec, time::Timestamp};
use kontrol_otp::{Act, Case, Child, Condition, Event, Id, Node, Reason, Refusal, Step, Supervisor, Trace};

use crate::{
    Action, InstanceState,
    status::{Inner, Node as NodeStatus, NodePhase, SlotPhase},
    tests::world::{CRASH, KILLED, NORMAL, REFUSED, World, child, group, object, supervisor, widget},
};

const SLACK: Duration = Duration::from_millis(1);

pub(super) fn play(case: &Case) -> Trace {
    let world = World::new(tree(&case.tree.root));
    let begin = world.now;
    let mut player = Player { world, begin, passed: Duration::ZERO, refusals: BTreeMap::new() };
    for refusal in &case.schedule.refusals {
        player.refuse(*refusal);
    }
    let mut steps = vec![player.rest()];
    for event in &case.schedule.events {
        if steps.last().is_some_and(|step| step.rest.is_empty()) {
            break;
        }
        match event {
            Event::Ends { ends, .. } => {
                let now = player.begin.plus(player.passed);
                let first = now.minus(Duration::from_micros(ends.len() as u64));
                for (nth, end) in ends.iter().enumerate() {
                    player.end(end.worker, end.reason, first.plus(Duration::from_micros(nth as u64)));
                }
            }
            Event::Refuse(refusal) => player.refuse(*refusal),
            Event::Pass { seconds } => player.passed += Duration::from_secs(*seconds),
            Event::Request { .. } => unreachable!("requests are not generated"),
        }
        steps.push(player.rest());
    }
    Trace { steps }
}

struct Player {
    world: World,
    begin: Timestamp,
    /// The schedule's own time. Within a step a microsecond passes from plan to plan, for messages that have an order by it.
    passed: Duration,
    refusals: BTreeMap<Id, u32>,
}

impl Player {
    fn refuse(&mut self, refusal: Refusal) {
        self.refusals.insert(refusal.worker, refusal.starts);
    }

    fn end(&mut self, worker: Id, reason: Reason, at: Timestamp) {
        let name = name(worker);
        let found = self
            .world
            .observed
            .instances
            .iter_mut()
            .find(|instance| instance.id.widget.widget.as_str() == name && !instance.state.is_ended());
        if let Some(instance) = found {
            instance.state = match reason {
                Reason::Normal | Reason::Shutdown | Reason::ShutdownTerm => NORMAL,
                Reason::Crash => CRASH,
                Reason::Killed => KILLED,
            };
            instance.since = at;
        }
    }

    /// Plans and acts until the tree is at rest.
    fn rest(&mut self) -> Step {
        let mut acts = Vec::new();
        self.world.now = self.begin.plus(self.passed);
        for _ in 0..10_000 {
            self.world.pass(Duration::from_micros(1));
            let planned = crate::plan(self.world.desired.as_ref(), &self.world.observed, self.world.now);
            acts.extend(planned.events.iter().filter_map(told));
            let rests = planned.actions.is_empty() && planned.wake.is_none_or(|wake| wake > self.world.now);
            self.world.observed.status = planned.status;
            for action in &planned.actions {
                acts.extend(self.act(action));
            }
            if rests {
                return Step { acts, rest: self.survey() };
            }
        }
        panic!("no rest");
    }

    fn act(&mut self, action: &Action) -> Option<Act> {
        let act = match action {
            Action::Start { instance, .. } => {
                let id = id(instance.widget.widget.as_str());
                let refused = self.refusals.get_mut(&id).is_some_and(|left| {
                    let refuse = *left > 0;
                    *left = left.saturating_sub(1);
                    refuse
                });
                let state = if refused { REFUSED } else { InstanceState::Ready };
                self.world.started.insert(crate::tests::world::short(instance), state);
                Some(if refused { Act::Refused(id) } else { Act::Started(id) })
            }
            Action::Stop { instance, shutdown, .. } => {
                let id = id(instance.widget.widget.as_str());
                Some(if *shutdown == spec::Shutdown::Brutal { Act::Killed(id) } else { Act::Stopped(id) })
            }
            Action::Remove { .. } | Action::Abandon { .. } => None,
        };
        self.world.act(action);
        act
    }

    fn survey(&self) -> BTreeMap<Id, Condition> {
        let mut rest = BTreeMap::new();
        if let Some(root) = &self.world.observed.status.root
            && !matches!(root.phase, NodePhase::Down(_))
        {
            survey(root, &mut rest);
        }
        rest
    }
}

fn survey(node: &NodeStatus, rest: &mut BTreeMap<Id, Condition>) {
    rest.insert(id(node.id.name.as_str()), Condition::Up);
    for slot in &node.children {
        match (slot.phase, &slot.inner) {
            (SlotPhase::Up, Inner::Node(below)) => survey(below, rest),
            (SlotPhase::Up, Inner::Widget(_)) => {
                rest.insert(id(slot.key.name.as_str()), Condition::Up);
            }
            (SlotPhase::Forgotten, _) => {}
            _ => {
                rest.insert(id(slot.key.name.as_str()), Condition::Down);
            }
        }
    }
}

/// What an event is in OTP's terms. Starts and stops of workers are told by the actions.
fn told(event: &crate::Event) -> Option<Act> {
    Some(match event {
        crate::Event::Started { node } => Act::Started(id(node.name.as_str())),
        crate::Event::Stopped { node } => Act::Stopped(id(node.name.as_str())),
        crate::Event::Gone { node } => Act::Ended(id(node.name.as_str())),
        crate::Event::NotStarted { node } => Act::Refused(id(node.name.as_str())),
        crate::Event::GaveUp { node, .. } => Act::GaveUp(id(node.name.as_str())),
        crate::Event::ShutsDown { node, .. } => Act::ShutDown(id(node.name.as_str())),
        _ => return None,
    })
}

fn name(id: Id) -> String {
    format!("n{id}")
}

fn id(name: &str) -> Id {
    Id(name[1..].parse().unwrap())
}

pub(in crate::tests) fn tree(spec: &Supervisor) -> spec::Node {
    let workers = spec.children.iter().all(|child| matches!(child.node, Node::Worker(_)));
    let name = name(spec.id);
    let intensity =
        // The millisecond is for the microseconds within a step: the model counts whole seconds.
        spec::Intensity { max_restarts: spec.intensity, period: Duration::from_secs(spec.period) + SLACK };
    let auto_shutdown = match spec.auto_shutdown {
        kontrol_otp::AutoShutdown::Never => spec::AutoShutdown::Never,
        kontrol_otp::AutoShutdown::AnySignificant => spec::AutoShutdown::AnySignificant,
        kontrol_otp::AutoShutdown::AllSignificant => spec::AutoShutdown::AllSignificant,
    };
    let strategy = match spec.strategy {
        kontrol_otp::Strategy::OneForOne => spec::Strategy::OneForOne,
        kontrol_otp::Strategy::OneForAll => spec::Strategy::OneForAll,
        kontrol_otp::Strategy::RestForOne => spec::Strategy::RestForOne,
    };
    let when_exhausted = spec::Exhausted::Stop;
    if workers {
        let widgets = spec.children.iter().map(|child| worker(&name, child)).collect();
        spec::Node::Group(spec::Group {
            intensity,
            auto_shutdown,
            when_exhausted,
            ..group(&name, strategy, widgets)
        })
    } else {
        let children = spec.children.iter().filter_map(|below| match &below.node {
            Node::Supervisor(node) => Some(spec::Child {
                restart: restart(below.restart),
                significant: below.significant,
                ..child(tree(node))
            }),
            Node::Worker(_) => None,
        });
        spec::Node::Supervisor(spec::Supervisor {
            id: object(&name),
            intensity,
            auto_shutdown,
            when_exhausted,
            ..supervisor(&name, strategy, children.collect())
        })
    }
}

fn worker(group: &str, child: &Child) -> spec::Widget {
    let shutdown = match &child.node {
        Node::Worker(worker) if worker.shutdown == kontrol_otp::Shutdown::BrutalKill => {
            spec::Shutdown::Brutal
        }
        _ => spec::Shutdown::default(),
    };
    spec::Widget {
        restart: restart(child.restart),
        significant: child.significant,
        shutdown,
        ..widget(group, &name(child.id()))
    }
}

fn restart(restart: kontrol_otp::Restart) -> spec::Restart {
    match restart {
        kontrol_otp::Restart::Permanent => spec::Restart::Always,
        kontrol_otp::Restart::Transient => spec::Restart::OnFailure,
        kontrol_otp::Restart::Temporary => spec::Restart::Never,
    }
}
