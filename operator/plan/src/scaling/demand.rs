//! What the signals ask for.

use std::sync::Arc;

use super::{Input, Queue, Reading, Replica, ScalingTarget, fresh};

/// Which signal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Figure {
    /// Calls and messages in flight.
    InFlight,
    /// Messages that wait.
    QueueDepth,
    /// Messages by which the queue grows in a second.
    QueueGrowth,
    /// A number of the widget's own.
    Reported(Arc<str>),
    /// Calls that wait for a replica to be there.
    Waiting,
}

/// What one target asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Of which signal.
    pub figure: Figure,
    /// All replicas together, in thousandths.
    pub amount: u64,
    /// What one replica should bear, in thousandths.
    pub target: u64,
    /// Running replicas, which growth asks for as well; 0 for all other signals.
    pub beside: u32,
    /// The replicas asked for.
    pub replicas: u32,
}

/// All signals together.
pub(super) struct View {
    /// The target that asks for most; the first of equals.
    pub(super) highest: Option<Demand>,
    /// The replicas that are asked for.
    pub(super) replicas: u32,
    /// Something waits or is in flight, so there is at least one although no target asks for it.
    pub(super) at_least_one: Option<Figure>,
    /// Signals that count and are not known.
    pub(super) unknown: Vec<Figure>,
}

impl View {
    pub(super) fn of(input: &Input<'_>) -> Self {
        let mut view = Self { highest: None, replicas: 0, at_least_one: None, unknown: Vec::new() };
        for target in &input.policy.targets {
            let demand = view.demand(input, target);
            if view.highest.as_ref().is_none_or(|highest| demand.replicas > highest.replicas) {
                view.replicas = demand.replicas;
                view.highest = Some(demand);
            }
        }
        if view.replicas == 0 {
            // Zero is asked for: every signal has to agree, whether it is a target or not.
            for figure in [Figure::InFlight, Figure::QueueDepth, Figure::Waiting] {
                if view.amount(input, &figure) > 0 {
                    view.at_least_one.get_or_insert(figure);
                    view.replicas = 1;
                }
            }
        }
        view.unknown.sort();
        view.unknown.dedup();
        view
    }

    fn demand(&mut self, input: &Input<'_>, target: &ScalingTarget) -> Demand {
        let (figure, target) = match target {
            ScalingTarget::InFlight(target) => (Figure::InFlight, *target),
            ScalingTarget::QueueDepth(target) => (Figure::QueueDepth, *target),
            ScalingTarget::QueueGrowth(target) => (Figure::QueueGrowth, *target),
            ScalingTarget::Reported(name, target) => (Figure::Reported(name.as_str().into()), *target),
        };
        let amount = self.amount(input, &figure);
        let target = target.max(1);
        let beside = if figure == Figure::QueueGrowth && amount > 0 { running(input.replicas) } else { 0 };
        let replicas = beside.saturating_add(u32::try_from(amount.div_ceil(target)).unwrap_or(u32::MAX));
        Demand { figure, amount, target, beside, replicas }
    }

    /// What is known of a signal, which is a lower bound; what is not known is noted.
    fn amount(&mut self, input: &Input<'_>, figure: &Figure) -> u64 {
        let now = input.now;
        let known = match figure {
            Figure::InFlight => Some(self.sum(input, figure, |replica| replica.in_flight)),
            Figure::Reported(name) => {
                Some(self.sum(input, figure, |replica| replica.reported.get(&**name).copied()))
            }
            Figure::QueueDepth => queue(input, |depth, _| depth),
            Figure::QueueGrowth => queue(input, |_, growth| u64::try_from(growth).unwrap_or(0)),
            Figure::Waiting => input.waiting.and_then(|reading| reading.fresh(now)),
        };
        if known.is_none() {
            self.unknown.push(figure.clone());
        }
        known.unwrap_or(0)
    }

    /// Adds up what the replicas say. One that should exist and does not, or that has not said, makes the sum a lower bound.
    fn sum(
        &mut self,
        input: &Input<'_>,
        figure: &Figure,
        reading: impl Fn(&Replica) -> Option<Reading>,
    ) -> u64 {
        let mut sum = 0_u64;
        let mut complete = input.replicas.len() >= input.current as usize;
        for replica in input.replicas {
            match reading(replica).and_then(|reading| reading.fresh(input.now)) {
                Some(value) => sum = sum.saturating_add(value),
                None => complete = false,
            }
        }
        if !complete {
            self.unknown.push(figure.clone());
        }
        sum
    }
}

fn queue(input: &Input<'_>, figure: impl Fn(u64, i64) -> u64) -> Option<u64> {
    match input.queue {
        Queue::Absent => Some(0),
        Queue::Known { depth, growth, at } if fresh(at, input.now) => Some(figure(depth, growth)),
        Queue::Known { .. } | Queue::Unknown => None,
    }
}

fn running(replicas: &[Replica]) -> u32 {
    let running = replicas.iter().filter(|replica| !replica.starting).count();
    u32::try_from(running).unwrap_or(u32::MAX)
}
