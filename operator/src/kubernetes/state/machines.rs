//! How the machines are, on the word of several signals together; the rules are the plan's.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
    time::Duration,
};

use kontrol_core::{id::WidgetId, time::Timestamp};
use kontrol_plan::{
    NodeHealth,
    nodes::{LOST_AFTER, Listener, SETTLED_WITHIN, Signs},
};

use super::{Effect, State};
use crate::kubernetes::{
    kind::Kind,
    pod::{ContainerState, Phase, Pod, PodOf},
};

/// How often they are looked at.
const LOOK: Duration = Duration::from_millis(250);

/// After so much silence of all its sidecars a machine's kubelet is knocked at.
const QUIET: Duration = Duration::from_secs(1);
/// How long who has just begun to lead expects the sidecars that were heard before: a machine may be judged so late. One that has not come by
/// then is not expected any more.
const INHERITED: Duration = SETTLED_WITHIN.saturating_add(LOST_AFTER).saturating_add(Duration::from_secs(10));
/// The time between two knocks at one.
const KNOCK: Duration = Duration::from_millis(500);
/// The time between two groups of knocks of a process that does not lead.
const ROUND: Duration = Duration::from_secs(1);
/// And until it begins anew with those that have not opened.
const ANOTHER_ROUND: Duration = Duration::from_secs(10);
/// How long a kubelet may take to open.
pub(in crate::kubernetes) const OPENS_WITHIN: Duration = Duration::from_secs(1);
/// Knocks at one look, or of one group.
const AT_ONCE: usize = 32;

/// What is known of them.
#[derive(Debug, Default)]
pub(super) struct Machines {
    /// How those are that are not well.
    pub(super) health: BTreeMap<Arc<str>, NodeHealth>,
    looked: Timestamp,
    /// This process, since it leads.
    pub(super) listener: Listener,
    /// When a machine's kubelet was knocked at last.
    asked: BTreeMap<Arc<str>, Timestamp>,
    /// When it was found open last.
    pub(super) open: BTreeMap<Arc<str>, Timestamp>,
    /// Those whose kubelet has once opened to this process, whether it led or not: that such a one does not means something.
    reachable: BTreeSet<Arc<str>>,
    /// The one that was knocked at last by this process while it did not lead, and when it goes on after that.
    round: (Box<str>, Timestamp),
    led: Option<Led>,
}

/// Where the process stood that led before, and did not give up the lease.
#[derive(Debug)]
struct Led {
    node: Arc<str>,
    /// When it was heard last.
    silent_since: Timestamp,
    /// Since when this is known.
    known: Timestamp,
}

impl Machines {
    /// This process leads from now on.
    pub(super) fn begin(&mut self, now: Timestamp) {
        self.listener.begin(now);
        self.health.clear();
        self.led = None;
    }

    /// Whether the sidecar of a pod is expected to be heard though it was not yet: a pod is ready on the word of its sidecar, so who leads after another
    /// expects those that the other has heard. A node may be lost together with who led.
    fn inherits(&self, pod: &Pod, now: Timestamp) -> bool {
        let since = self.listener.since();
        now.since(since) < INHERITED && pod.ready.is_some_and(|ready| ready < since)
    }

    /// The process that led before stood on this machine, and fell silent.
    pub(super) fn led(&mut self, node: Arc<str>, silent_since: Timestamp, now: Timestamp) {
        self.led = Some(Led { node, silent_since, known: now });
    }

    /// The kubelet of a machine has opened.
    pub(super) fn opened(&mut self, node: Arc<str>, now: Timestamp) {
        self.reachable.insert(node.clone());
        self.open.insert(node, now);
    }

    /// When the former leader was heard last that stood on a machine, once the machine's kubelet has been knocked at for long enough since then:
    /// no machine is given up for a knock that could not be heard.
    fn silence_of_who_led(&self, node: &str, now: Timestamp) -> Option<Timestamp> {
        let led = self.led.as_ref().filter(|led| *led.node == *node && self.reachable.contains(node))?;
        (now.since(led.known) >= OPENS_WITHIN).then_some(led.silent_since)
    }

    /// The machines to be knocked at: those that were expected to be heard, and are silent. That of the former leader at once, where it fell silent.
    fn knock(&mut self, signs: &BTreeMap<Arc<str>, Signs>, now: Timestamp) -> Vec<Arc<str>> {
        self.asked.retain(|node, _| signs.contains_key(node));
        self.open.retain(|node, _| signs.contains_key(node));
        let since = self.listener.since();
        let led = |node: &Arc<str>| self.led.as_ref().is_some_and(|led| led.node == *node);
        let silent = signs.iter().filter(|(node, sign)| {
            let heard = sign.heard.map_or(since, |heard| heard.max(since));
            let at_once = sign.heard.is_none() && led(node);
            sign.expected > 0 && (at_once || now.since(heard) >= QUIET)
        });
        let due = silent
            .map(|(node, _)| (!led(node), self.asked.get(node), node))
            .filter(|(_, asked, _)| asked.is_none_or(|at| now.since(*at) >= KNOCK));
        // Whoever was never asked first, then who was asked longest ago: each has its turn before it is given up. Where the former leader stood
        // that is soon.
        let due: BTreeSet<_> = due.collect();
        let due: Vec<_> = due.into_iter().take(AT_ONCE).map(|(_, _, node)| node.clone()).collect();
        self.asked.extend(due.iter().map(|node| (node.clone(), now)));
        due
    }
}

impl State {
    /// Looks at the machines, where it is time.
    pub(super) fn look_at_machines(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        // A clock that was set back stops nothing.
        if now >= self.machines.looked && now.since(self.machines.looked) < LOOK {
            return;
        }
        self.machines.looked = now;
        let mut signs: BTreeMap<Arc<str>, Signs> = BTreeMap::new();
        for (_, pod) in self.store.pods() {
            let Some(node) = pod.node.clone() else { continue };
            let companion = self.companions.of(&pod.meta.uid);
            if companion.is_none() && !self.machines.inherits(pod, now) {
                continue;
            }
            let runs = pod.phase == Phase::Running
                && pod.meta.deleting().is_none()
                && matches!(pod.container.state, ContainerState::Running(_));
            let sign = signs.entry(node).or_default();
            sign.expected += u32::from(runs && matches!(pod.of, PodOf::Replica(_)));
            sign.heard = sign.heard.max(companion.map(|companion| companion.heard));
        }
        // Machines where no sidecar is expected to be heard speak by their leases, as long as those can be seen. Those that are given up are so
        // all the same, as long as they are there.
        let seen = self.store.fresh(Kind::Lease, None);
        signs.retain(|_, sign| seen || sign.expected > 0);
        for (name, node) in self.store.nodes() {
            let lease = node.renewed.filter(|_| seen);
            if !signs.contains_key(&**name) && (lease.is_some() || self.machines.listener.is_lost(name)) {
                signs.insert(Arc::from(&**name), Signs::default());
            }
            if let Some(sign) = signs.get_mut(&**name) {
                (sign.lease, sign.kubelet) = (lease, node.written);
            }
        }
        for node in self.machines.knock(&signs, now) {
            effects.extend(self.knock_at(node));
        }
        for (node, sign) in &mut signs {
            sign.knock = self.machines.open.get(node).copied();
            sign.led = self.machines.silence_of_who_led(node, now);
        }
        let was_deaf = self.machines.listener.is_deaf();
        let health = self.machines.listener.look(&signs, now);
        match (was_deaf, self.machines.listener.is_deaf()) {
            (false, true) => {
                tracing::warn!(
                    "most machines are silent together: none is given up by the silence of its sidecars"
                );
            }
            (true, false) => tracing::info!("most machines are heard again"),
            _ => {}
        }
        if health == self.machines.health {
            return;
        }
        let changed: BTreeSet<Arc<str>> = health
            .iter()
            .filter(|(node, health)| self.machines.health.get(*node) != Some(health))
            .map(|(node, _)| node.clone())
            .chain(self.machines.health.keys().filter(|node| !health.contains_key(*node)).cloned())
            .collect();
        for node in &changed {
            let (was, is) = (self.machines.health.get(node), health.get(node));
            tracing::warn!(node = &**node, ?was, ?is, "a machine's health has changed");
        }
        self.machines.health = health;
        let widgets: BTreeSet<WidgetId> = self
            .store
            .pods()
            .filter(|(_, pod)| pod.node.as_ref().is_some_and(|node| changed.contains(node)))
            .filter_map(|(_, pod)| Some(pod.instance()?.widget.clone()))
            .collect();
        for widget in &widgets {
            self.mark_group(widget);
        }
    }

    fn knock_at(&self, node: Arc<str>) -> Option<Effect> {
        let known = self.store.nodes().get(&*node).filter(|known| !known.address.is_empty())?;
        Some(Effect::Knock(node, known.address.clone()))
    }

    /// What this process does while it does not lead: it knocks at machines that it has not reached yet, so that it knows whose kubelet it can
    /// reach when the leader, and maybe its machine, falls silent.
    pub fn go_round(&mut self, now: Timestamp) -> Vec<Effect> {
        let Some(due) = self.next_round() else { return Vec::new() };
        // A clock that was set back stops nothing.
        if now < due && due.since(now) <= ANOTHER_ROUND {
            return Vec::new();
        }
        let (last, _) = &self.machines.round;
        let after = self.store.nodes().range::<str, _>((Bound::Excluded(&**last), Bound::Unbounded));
        let names = after.map(|(name, _)| Arc::<str>::from(&**name));
        let next: Vec<_> =
            names.filter(|name| !self.machines.reachable.contains(name)).take(AT_ONCE).collect();
        self.machines.round = match next.last() {
            Some(last) if next.len() == AT_ONCE => ((&**last).into(), now.plus(ROUND)),
            _ => (Box::default(), now.plus(ANOTHER_ROUND)),
        };
        next.into_iter().filter_map(|node| self.knock_at(node)).collect()
    }

    /// When it does so next; none: this process leads, or has reached all that it knows.
    pub fn next_round(&self) -> Option<Timestamp> {
        let is_left = self.machines.reachable.len() < self.store.nodes().len();
        (!self.leads && is_left).then_some(self.machines.round.1)
    }

    /// A machine has changed, or is gone.
    pub(super) fn machine_changed(&mut self, node: &str) {
        if !self.store.nodes().contains_key(node) {
            self.machines.reachable.remove(node);
        }
    }

    /// When the machines are looked at next; none: nobody is expected to be heard.
    pub(super) fn next_look(&self) -> Option<Timestamp> {
        let looked = self.machines.looked;
        let is_new = looked.since(self.machines.listener.since()) < INHERITED;
        let anybody = self.companions.iter().next().is_some()
            || !self.machines.health.is_empty()
            || (is_new && self.store.pods().any(|(_, pod)| self.machines.inherits(pod, looked)));
        anybody.then(|| self.machines.looked.plus(LOOK))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_micros(millis * 1000)
    }

    #[test]
    fn who_is_silent_is_knocked_at_twice_a_second_and_nobody_else() {
        let mut machines = Machines { listener: Listener::new(at(0)), ..Machines::default() };
        let sign = |expected, heard| Signs { expected, heard: Some(at(heard)), ..Signs::default() };
        let signs = BTreeMap::from([
            ("heard".into(), sign(2, 900)),
            ("silent".into(), sign(2, 0)),
            ("idle".into(), sign(0, 0)),
        ]);
        let silent: Vec<Arc<str>> = vec!["silent".into()];
        assert_eq!(machines.knock(&signs, at(999)), Vec::<Arc<str>>::new());
        assert_eq!(machines.knock(&signs, at(1000)), silent);
        assert_eq!(machines.knock(&signs, at(1250)), Vec::<Arc<str>>::new());
        assert_eq!(machines.knock(&signs, at(1500)), silent);
    }

    #[test]
    fn however_many_are_silent_each_is_knocked_at_in_turn() {
        let mut machines = Machines { listener: Listener::new(at(0)), ..Machines::default() };
        let silent = Signs { expected: 2, heard: Some(at(0)), ..Signs::default() };
        let signs = (0..100).map(|number| (format!("n{number:02}").into(), silent)).collect();
        let looks = (0..4).map(|look| machines.knock(&signs, at(2000 + 250 * look)));
        let knocked: BTreeSet<_> = looks.flatten().collect();
        assert_eq!(knocked.len(), 100);
    }

    #[test]
    fn a_kubelet_that_opens_keeps_its_machine() {
        let silent = Signs { expected: 2, heard: Some(at(10_000)), ..Signs::default() };
        let health = |silent| {
            let mut listener = Listener::new(at(0));
            let looks = (250..=15_000).step_by(250).map(|now| {
                let other = Signs { expected: 2, heard: Some(at(now - 100)), ..Signs::default() };
                let signs = BTreeMap::from([("a".into(), silent), ("b".into(), other)]);
                listener.look(&signs, at(now)).get("a").copied()
            });
            looks.last().flatten()
        };
        assert_eq!(health(silent), Some(NodeHealth::Lost { since: at(10_000) }));
        assert_eq!(health(Signs { knock: Some(at(14_800)), ..silent }), None);
    }
}
