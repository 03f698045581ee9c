//! Random trees: every strategy, restart type, shutdown, intensity and automatic shutdown, up to three levels deep.

use std::time::Duration;

use anyhow::Result;
use kontrol_core::{
    id::{Name, ObjectId, WidgetId},
    spec::{
        AutoShutdown, Child, Exhausted, Group, Health, HealthProbe, Intensity, Node, ReplicaEnd, Resilience,
        Restart, RetryPolicy, Revision, Scaling, ScalingClass, ScalingTarget, Shutdown, Start, StartedWhen,
        Strategy, Supervisor, Widget,
    },
};
use kontrol_otp::Random;
use kontrol_plan::RestartTarget;

/// A tree of this seed.
pub(crate) fn generate(random: &mut Random) -> Result<Node> {
    let depth = random.between(1, 3);
    Generator { random, named: 0 }.node(depth)
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
                    let mut generator = Generator { random, named: *named };
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
            let widget = Generator { random, named: 0 }.widget(&id, number, auto_shutdown).ok()?;
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
    widget.revision = Revision(widget.revision.0 + 1);
    Some(format!("a new template of {}", widget.id))
}

fn place(len: usize, random: &mut Random) -> usize {
    let last = u64::try_from(len.saturating_sub(1)).unwrap_or(0);
    usize::try_from(random.between(0, last)).unwrap_or(0)
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
            container: None,
            rollout: kontrol_core::spec::Rollout::default(),
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
            health,
            endpoint: None,
            consumes: Vec::new(),
            produces: Vec::new(),
            serves: Vec::new(),
            calls: Vec::new(),
            resilience: Resilience::default(),
            scaling,
        })
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
