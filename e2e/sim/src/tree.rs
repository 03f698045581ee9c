//! Random trees: every strategy, restart type, shutdown, intensity and automatic shutdown, up to three levels deep.

use std::time::Duration;

use anyhow::Result;
use kontrol_core::{
    id::{Name, ObjectId, WidgetId},
    spec::{
        AutoShutdown, Child, Container, Exhausted, Group, Health, HealthProbe, Intensity, Node, ReplicaEnd,
        Restart, RetryPolicy, Revision, Rollout, Scaling, ScalingClass, ScalingTarget, Share, Shutdown,
        Start, StartedWhen, Strategy, Supervisor, Widget,
    },
};
use kontrol_otp::Random;
use kontrol_plan::RestartTarget;

/// A tree of this seed.
pub(crate) fn generate(random: &mut Random) -> Result<Node> {
    let depth = random.between(1, 3);
    let pods = random.percent(60);
    Generator { random, named: 0, pods }.node(depth)
}

/// Templates of such a number never run well.
pub(crate) fn is_bad(revision: Revision) -> bool {
    revision.0 >= BAD
}

/// Bad templates have numbers from here.
const BAD: u64 = 1_000_000;

/// Takes back every bad template that has no good one before it, and every pause.
pub(crate) fn mend(node: &mut Node, has_good: &dyn Fn(&WidgetId) -> bool) {
    match node {
        Node::Group(group) => {
            for widget in &mut group.widgets {
                widget.rollout.paused = false;
                if is_bad(widget.revision) && !has_good(&widget.id) {
                    widget.revision = Revision(widget.revision.0 - BAD + 1);
                }
            }
        }
        Node::Supervisor(supervisor) => {
            supervisor.children.iter_mut().for_each(|child| mend(&mut child.node, has_good));
        }
    }
}

/// The widgets of a tree, in start order.
pub(crate) fn widgets(node: &Node) -> Vec<&Widget> {
    match node {
        Node::Group(group) => group.widgets.iter().collect(),
        Node::Supervisor(supervisor) => {
            supervisor.children.iter().flat_map(|child| widgets(&child.node)).collect()
        }
    }
}

/// Changes something in the manifest: a template, a number of replicas, a child that comes or goes; says what. `named` counts the names
/// that were given to new objects.
pub(crate) fn change(node: &mut Node, random: &mut Random, named: &mut u32) -> String {
    let what = random.between(0, 99);
    match node {
        Node::Group(group) => change_group(group, what, random).unwrap_or_default(),
        Node::Supervisor(supervisor) => {
            let at = place(supervisor.children.len(), random);
            match what {
                0..80 => match supervisor.children.get_mut(at) {
                    Some(child) => change(&mut child.node, random, named),
                    None => String::new(),
                },
                80..90 if supervisor.children.len() > 1 => {
                    let gone = supervisor.children.remove(at);
                    format!("without {}", gone.node.id())
                }
                _ => {
                    let pods = pods(&supervisor.children);
                    let mut generator = Generator { random, named: *named, pods };
                    let Ok(group) = generator.group() else { return String::new() };
                    *named = generator.named;
                    let line = format!("with {}", group.id);
                    let child =
                        Child { restart: Restart::Always, significant: false, node: Node::Group(group) };
                    supervisor.children.insert(at, child);
                    line
                }
            }
        }
    }
}

fn change_group(group: &mut Group, what: u64, random: &mut Random) -> Option<String> {
    let at = place(group.widgets.len(), random);
    match what {
        0..15 if group.widgets.len() > 1 => {
            let gone = group.widgets.remove(at);
            return Some(format!("without {}", gone.id));
        }
        15..35 => {
            // A name that was given before may come back.
            let taken =
                |number| group.widgets.iter().any(|widget| widget.id.widget.as_str() == format!("w{number}"));
            let number = (0..=group.widgets.len() as u64).find(|number| !taken(*number))?;
            let (id, auto_shutdown) = (group.id.clone(), group.auto_shutdown);
            let pods = group.widgets.first().is_some_and(|widget| widget.container.is_some());
            let widget = Generator { random, named: 0, pods }.widget(&id, number, auto_shutdown).ok()?;
            let line = format!("with {}", widget.id);
            group.widgets.insert(at, widget);
            return Some(line);
        }
        _ => {}
    }
    let widget = group.widgets.get_mut(at)?;
    if what >= 75 && widget.replica_end == ReplicaEnd::ReplacesReplica && widget.scaling.is_none() {
        widget.replicas = random.between(0, 3);
        return Some(format!("{} replicas of {}", widget.replicas, widget.id));
    }
    if widget.container.is_some() && random.percent(15) {
        widget.rollout.paused = !widget.rollout.paused;
        return Some(format!("roll-outs of {} are paused: {}", widget.id, widget.rollout.paused));
    }
    let number = widget.revision.0 % BAD + 1;
    let bad = widget.container.is_some() && random.percent(30);
    widget.revision = Revision(number + if bad { BAD } else { 0 });
    Some(format!("a new template of {}, bad: {bad}", widget.id))
}

fn pods(children: &[Child]) -> bool {
    children.iter().any(|child| widgets(&child.node).iter().any(|widget| widget.container.is_some()))
}

fn place(len: usize, random: &mut Random) -> usize {
    let last = u64::try_from(len.saturating_sub(1)).unwrap_or(0);
    usize::try_from(random.between(0, last)).unwrap_or(0)
}

/// The strategy of a widget's group.
pub(crate) fn strategy_of(node: &Node, id: &WidgetId) -> Option<Strategy> {
    match node {
        Node::Group(group) => group.widgets.iter().any(|widget| widget.id == *id).then_some(group.strategy),
        Node::Supervisor(supervisor) => {
            supervisor.children.iter().find_map(|child| strategy_of(&child.node, id))
        }
    }
}

/// Asks for a restart of something in the tree.
pub(crate) fn request(node: &Node, random: &mut Random) -> RestartTarget {
    let here = random.percent(20);
    match node {
        Node::Group(group) if !here && !group.widgets.is_empty() => {
            let widgets: Vec<_> = group.widgets.iter().collect();
            let first = widgets[0];
            RestartTarget::Widget(random.pick_or(&widgets, first).id.clone())
        }
        Node::Supervisor(supervisor) if !here && !supervisor.children.is_empty() => {
            let children: Vec<_> = supervisor.children.iter().collect();
            let first = children[0];
            request(&random.pick_or(&children, first).node, random)
        }
        Node::Group(group) => RestartTarget::Group(group.id.clone()),
        Node::Supervisor(supervisor) => RestartTarget::Supervisor(supervisor.id.clone()),
    }
}

struct Generator<'a> {
    random: &'a mut Random,
    named: u32,
    /// Whether widgets run as pods.
    pods: bool,
}

impl Generator<'_> {
    fn object(&mut self, prefix: &str) -> Result<ObjectId> {
        self.named += 1;
        Ok(ObjectId {
            namespace: Name::new("default")?,
            name: Name::new(&format!("{prefix}{}", self.named))?,
        })
    }

    fn node(&mut self, depth: u64) -> Result<Node> {
        if depth <= 1 {
            Ok(Node::Group(self.group()?))
        } else {
            Ok(Node::Supervisor(self.supervisor(depth)?))
        }
    }

    fn supervisor(&mut self, depth: u64) -> Result<Supervisor> {
        let id = self.object("s")?;
        let auto_shutdown = self.auto_shutdown();
        let children = (0..self.random.between(1_u32, 3))
            .map(|_| {
                let below = self.random.between(1, depth - 1);
                let (restart, significant) = self.restart(auto_shutdown);
                Ok(Child { restart, significant, node: self.node(below)? })
            })
            .collect::<Result<_>>()?;
        Ok(Supervisor {
            id,
            strategy: self.strategy(),
            intensity: self.intensity(),
            auto_shutdown,
            when_exhausted: self.when_exhausted(),
            children,
        })
    }

    fn group(&mut self) -> Result<Group> {
        let id = self.object("g")?;
        let auto_shutdown = self.auto_shutdown();
        let widgets = (0..self.random.between(1, 4))
            .map(|number| self.widget(&id, number, auto_shutdown))
            .collect::<Result<_>>()?;
        Ok(Group {
            id,
            strategy: self.strategy(),
            intensity: self.intensity(),
            auto_shutdown,
            when_exhausted: self.when_exhausted(),
            widgets,
        })
    }

    fn widget(&mut self, group: &ObjectId, number: u64, auto_shutdown: AutoShutdown) -> Result<Widget> {
        let widget = Name::new(&format!("w{number}"))?;
        let (restart, significant) = self.restart(auto_shutdown);
        let replicas = if self.random.percent(70) { 1 } else { 2 };
        let probe = HealthProbe::Report;
        let (timeout, interval) = (Duration::from_secs(15), Duration::from_secs(2));
        let health = self.random.percent(60).then_some(Health { probe, timeout, interval });
        let grace = Duration::from_millis(self.random.between(50, 2_000));
        let many = self.random.percent(if replicas == 1 { 10 } else { 70 });
        let scaling = (many && self.random.percent(30)).then(|| Scaling {
            class: ScalingClass::Kontrol,
            min: self.random.between(0, 1),
            max: 3,
            targets: vec![ScalingTarget::InFlight(1_000)],
            up_window: Duration::from_secs(self.random.between(0, 1)),
            down_window: Duration::from_secs(self.random.between(1, 10)),
        });
        Ok(Widget {
            id: WidgetId { namespace: group.namespace.clone(), group: group.name.clone(), widget },
            revision: Revision(1),
            process: None,
            container: self.pods.then(|| self.container()),
            rollout: self.rollout(),
            replicas,
            restart,
            significant,
            shutdown: if self.random.percent(70) { Shutdown::Graceful(grace) } else { Shutdown::Brutal },
            start: Start {
                when: if self.random.percent(75) { StartedWhen::Ready } else { StartedWhen::Running },
                timeout: Duration::from_secs(self.random.between(4, 9)),
            },
            replica_end: if many { ReplicaEnd::ReplacesReplica } else { ReplicaEnd::EndsWidget },
            intensity: self.intensity(),
            health: health.map(Box::new),
            endpoint: None,
            consumes: Box::default(),
            produces: Box::default(),
            serves: Box::default(),
            calls: Box::default(),
            resilience: None,
            scaling: scaling.map(Box::new),
        })
    }

    fn container(&mut self) -> Container {
        let alternatives = self.random.pick_or(&[0, 0, 1, 2], 0);
        let identity = self.random.percent(20);
        Container {
            wrapped: self.random.percent(40),
            alternatives,
            unschedulable_after: Duration::from_secs(self.random.between(1, 5)),
            identity,
            force_delete: identity && self.random.percent(30),
            count_external: self.random.percent(15),
        }
    }

    fn rollout(&mut self) -> Rollout {
        Rollout {
            max_unavailable: self.random.pick_or(
                &[Share::Count(1), Share::Count(2), Share::Count(0), Share::Percent(50)],
                Share::Count(1),
            ),
            max_surge: self
                .random
                .pick_or(&[Share::Count(0), Share::Count(0), Share::Count(1)], Share::Count(0)),
            paused: false,
            progress_deadline: Duration::from_secs(self.random.between(15, 60)),
            auto_rollback: true,
        }
    }

    fn strategy(&mut self) -> Strategy {
        self.random
            .pick_or(&[Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne], Strategy::OneForOne)
    }

    fn auto_shutdown(&mut self) -> AutoShutdown {
        if self.random.percent(75) {
            return AutoShutdown::Never;
        }
        self.random
            .pick_or(&[AutoShutdown::AnySignificant, AutoShutdown::AllSignificant], AutoShutdown::Never)
    }

    /// A significant child is never of [`Restart::Always`], as in OTP.
    fn restart(&mut self, auto_shutdown: AutoShutdown) -> (Restart, bool) {
        let restart = match self.random.between(0_u32, 9) {
            0..=6 => Restart::Always,
            7 | 8 => Restart::OnFailure,
            _ => Restart::Never,
        };
        let may = restart != Restart::Always && auto_shutdown != AutoShutdown::Never;
        (restart, may && self.random.percent(60))
    }

    fn intensity(&mut self) -> Intensity {
        let max_restarts = self.random.pick_or(&[0, 1, 2, 3, 3, 5, 10], 3);
        Intensity { max_restarts, period: Duration::from_secs(self.random.between(2, 40)) }
    }

    fn when_exhausted(&mut self) -> Exhausted {
        if self.random.percent(15) {
            return Exhausted::Stop;
        }
        Exhausted::Retry(RetryPolicy {
            initial: Duration::from_millis(self.random.between(100, 2_000)),
            max: Duration::from_secs(self.random.between(2, 20)),
        })
    }
}
