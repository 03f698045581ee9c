//! What a decision costs: `plan` alone, on a group of 100 widgets that run.

use std::{hint::black_box, time::Instant};

use kontrol_core::{
    id::{Name, ObjectId, WidgetId},
    spec::{self, Revision, Strategy},
    time::Timestamp,
};
use kontrol_plan::{Action, End, Instance, InstanceState, Observed, plan};

use super::{results::Row, stats::Samples};

const WIDGETS: usize = 100;
const DECISIONS: usize = 4_000;

fn widget(group: &Name, name: &str) -> anyhow::Result<spec::Widget> {
    Ok(spec::Widget {
        id: WidgetId { namespace: Name::new("default")?, group: group.clone(), widget: Name::new(name)? },
        revision: Revision(1),
        process: None,
        container: None,
        rollout: spec::Rollout::default(),
        replicas: 1,
        restart: spec::Restart::Always,
        significant: false,
        shutdown: spec::Shutdown::default(),
        start: spec::Start::default(),
        replica_end: spec::ReplicaEnd::EndsWidget,
        intensity: spec::Intensity::default(),
        health: None,
        endpoint: None,
        consumes: Box::default(),
        produces: Box::default(),
        serves: Box::default(),
        calls: Box::default(),
        resilience: None,
        scaling: None,
    })
}

fn group(strategy: Strategy) -> anyhow::Result<spec::Node> {
    let name = Name::new("hundred")?;
    let widgets: anyhow::Result<_> = (0..WIDGETS).map(|at| widget(&name, &format!("widget-{at}"))).collect();
    Ok(spec::Node::Group(spec::Group {
        id: ObjectId { namespace: Name::new("default")?, name },
        strategy,
        intensity: spec::Intensity::default(),
        auto_shutdown: spec::AutoShutdown::Never,
        when_exhausted: spec::Exhausted::default(),
        widgets: widgets?,
    }))
}

/// The group as it is when all of it has been started: whatever is started is ready at once.
fn running(desired: &spec::Node, now: Timestamp) -> anyhow::Result<Observed> {
    let mut observed = Observed::default();
    for _ in 0..10 * WIDGETS {
        let planned = plan(Some(desired), &observed, now);
        if planned.actions.is_empty() && planned.status == observed.status {
            anyhow::ensure!(observed.instances.len() == WIDGETS, "the group did not start");
            return Ok(observed);
        }
        observed.status = planned.status;
        for action in planned.actions {
            let Action::Start { instance, incarnation, epoch, revision, .. } = action else {
                anyhow::bail!("a start asks for {action:?}");
            };
            let state = InstanceState::Ready;
            observed.instances.push(Instance::new(instance, (incarnation, epoch, revision), state, now));
        }
    }
    anyhow::bail!("the group does not come to rest")
}

/// Times the decision that follows the end of each widget in turn.
fn decide(strategy: Strategy, samples: &mut Samples) -> anyhow::Result<f64> {
    let desired = group(strategy)?;
    let now = Timestamp::from_micros(1_000_000_000_000);
    let observed = running(&desired, now)?;
    let mut of_this = Samples::default();
    for at in 0..DECISIONS {
        let mut faulty = observed.clone();
        if let Some(instance) = faulty.instances.get_mut(at % WIDGETS) {
            instance.state = InstanceState::Ended(End::Signalled(9));
        }
        let started = Instant::now();
        let planned = black_box(plan(Some(black_box(&desired)), black_box(&faulty), now));
        let took = started.elapsed();
        anyhow::ensure!(!planned.events.is_empty(), "the end of a widget was not noticed");
        samples.push(took);
        of_this.push(took);
    }
    Ok(of_this.percentile(99.0) * 1e3)
}

/// `plan.group_100`: there is nothing to compare it with.
pub(super) fn group_100() -> anyhow::Result<Vec<Row>> {
    let mut samples = Samples::default();
    let one = decide(Strategy::OneForOne, &mut samples)?;
    let all = decide(Strategy::OneForAll, &mut samples)?;
    let rest = decide(Strategy::RestForOne, &mut samples)?;
    let note = format!(
        "the end of one of {WIDGETS} running widgets: p99 of OneForOne {one:.1} µs, OneForAll {all:.1} µs, RestForOne {rest:.1} µs"
    );
    Ok(vec![samples.row("plan.group_100", "ms", note)])
}
