//! What really happens: processes that start, live, stop and end, whatever anybody thinks of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use kontrol_core::{
    id::{InstanceId, WidgetId},
    spec::{Health, Shutdown, StartedWhen, Widget},
    time::Timestamp,
};
use kontrol_otp::Random;
use kontrol_plan::{Action, End, Instance, InstanceState, StartError};

/// One process of one replica.
pub(crate) type Key = (InstanceId, u64);

/// A change of a process that is to come, unless something else comes first.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) key: Key,
    pub(crate) state: InstanceState,
    /// The process's turn when the change was planned; a later turn cancels it.
    turn: u32,
}

/// The truth about one process.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) instance: Instance,
    /// Whether it was asked to stop before it ended.
    pub(crate) asked: bool,
    /// Whether it has ever reached the state that counts as started.
    pub(crate) was_started: bool,
    /// Whether it was ever hung.
    pub(crate) was_hung: bool,
    turn: u32,
}

/// All processes that were ever started or refused, and those that may never be.
#[derive(Debug, Default)]
pub(crate) struct Processes {
    all: BTreeMap<Key, Process>,
    removed: BTreeSet<Key>,
    highest: BTreeMap<InstanceId, u64>,
    /// Ends by themselves.
    pub(crate) faults: u64,
}

/// What an action led to.
#[derive(Debug, Default)]
pub(crate) struct Effect {
    /// The process that changed at once.
    pub(crate) changed: Option<Key>,
    /// What follows, each after a time.
    pub(crate) follows: Vec<(Duration, Change)>,
    /// A process of the replica that lived while the next one was started.
    pub(crate) beside: Option<Key>,
}

impl Processes {
    pub(crate) fn get(&self, key: &Key) -> Option<&Process> {
        self.all.get(key)
    }

    /// What an observer that sees everything sees.
    pub(crate) fn observable(&self) -> impl Iterator<Item = (&Key, &Instance)> {
        self.all
            .iter()
            .filter(|(key, _)| !self.removed.contains(*key))
            .map(|(key, process)| (key, &process.instance))
    }

    /// Every process that ever was.
    pub(crate) fn all_keys(&self) -> Vec<Key> {
        self.all.keys().cloned().collect()
    }

    pub(crate) fn is_removed(&self, key: &Key) -> bool {
        self.removed.contains(key)
    }

    /// The processes that live.
    pub(crate) fn alive(&self) -> impl Iterator<Item = (&Key, &Process)> {
        self.observable()
            .filter(|(_, instance)| !instance.state.is_ended())
            .filter_map(|(key, _)| Some((key, self.all.get(key)?)))
    }

    /// A process of this widget that lives.
    pub(crate) fn lives(&self, widget: &WidgetId) -> Option<&Key> {
        self.alive().map(|(key, _)| key).find(|(id, _)| id.widget == *widget)
    }

    /// An action arrives. `chaos` says whether what starts now may fail.
    pub(crate) fn act(
        &mut self,
        action: &Action,
        spec: Option<&Widget>,
        chaos: Option<Timestamp>,
        now: Timestamp,
        random: &mut Random,
    ) -> Effect {
        match action {
            Action::Start { instance, incarnation, epoch, revision, .. } => {
                let key = (instance.clone(), *incarnation);
                if !self.is_next(&key) {
                    return Effect::default();
                }
                let beside = self.alive().map(|(key, _)| key).find(|(id, _)| id == instance).cloned();
                let numbers = (*incarnation, *epoch, *revision);
                let instance = Instance::new(instance.clone(), numbers, InstanceState::Starting, now);
                self.insert(&key, instance);
                let follows = spec.map_or_else(Vec::new, |spec| life(&key, spec, chaos, now, random));
                Effect { changed: Some(key), follows, beside }
            }
            Action::Stop { instance, incarnation, shutdown } => {
                let key = (instance.clone(), *incarnation);
                if self.is_next(&key) {
                    let numbers = (*incarnation, 0, kontrol_core::spec::Revision(0));
                    let state = InstanceState::Ended(End::NeverRan);
                    let instance = Instance::new(instance.clone(), numbers, state, now);
                    self.insert(&key, instance);
                    return Effect { changed: Some(key), ..Effect::default() };
                }
                self.stop(&key, *shutdown, now, random)
            }
            Action::Abandon { instance, incarnation } | Action::Remove { instance, incarnation } => {
                let key = (instance.clone(), *incarnation);
                let ended = self.all.get(&key).is_some_and(|process| process.instance.state.is_ended());
                let removed = ended && self.removed.insert(key.clone());
                Effect { changed: removed.then_some(key), ..Effect::default() }
            }
        }
    }

    fn is_next(&self, (id, incarnation): &Key) -> bool {
        self.highest.get(id).is_none_or(|highest| incarnation > highest)
    }

    fn insert(&mut self, key: &Key, instance: Instance) {
        self.highest.insert(key.0.clone(), key.1);
        let process = Process { instance, asked: false, was_started: false, was_hung: false, turn: 0 };
        self.all.insert(key.clone(), process);
    }

    fn stop(&mut self, key: &Key, shutdown: Shutdown, now: Timestamp, random: &mut Random) -> Effect {
        let Some(process) = self.all.get_mut(key) else { return Effect::default() };
        let state = process.instance.state;
        if state.is_ended() || (state == InstanceState::Stopping && shutdown != Shutdown::Brutal) {
            return Effect::default();
        }
        process.asked = true;
        process.turn += 1;
        process.instance.state = InstanceState::Stopping;
        process.instance.since = now;
        let (after, end) = match shutdown {
            Shutdown::Brutal => (Duration::from_micros(random.between(100, 20_000)), End::Signalled(9)),
            Shutdown::Graceful(grace) if random.percent(20) => (grace, End::Signalled(9)),
            Shutdown::Graceful(grace) => {
                let longest = u64::try_from(grace.as_micros()).unwrap_or(u64::MAX);
                let end =
                    random.pick_or(&[End::Exited(0), End::Exited(1), End::Signalled(15)], End::Exited(0));
                (Duration::from_micros(random.between(100, longest.max(100))), end)
            }
        };
        let ends = Change { key: key.clone(), state: InstanceState::Ended(end), turn: process.turn };
        Effect { changed: Some(key.clone()), follows: vec![(after, ends)], beside: None }
    }

    /// A change that was to come comes; false where something else came first.
    pub(crate) fn become_so(&mut self, change: &Change, spec: Option<&Widget>, now: Timestamp) -> bool {
        let Some(process) = self.all.get_mut(&change.key) else { return false };
        if process.turn != change.turn || process.instance.state.is_ended() {
            return false;
        }
        process.instance.state = change.state;
        process.instance.since = now;
        let runs = matches!(change.state, InstanceState::Running | InstanceState::NotReady);
        let suffices =
            spec.is_some_and(|spec| spec.start.when == StartedWhen::Running || spec.health.is_none());
        process.was_started |= change.state == InstanceState::Ready || (runs && suffices);
        process.was_hung |= change.state == InstanceState::Hung;
        if change.state.is_ended() && !process.asked {
            self.faults += 1;
        }
        true
    }
}

/// How a process fares if nobody stops it; `chaos` is the time until which things go wrong.
fn life(
    key: &Key,
    spec: &Widget,
    chaos: Option<Timestamp>,
    now: Timestamp,
    random: &mut Random,
) -> Vec<(Duration, Change)> {
    let mut at = Duration::ZERO;
    let mut follows = Vec::new();
    let mut then = |after: u64, state: InstanceState| {
        at += Duration::from_micros(after);
        follows.push((at, Change { key: key.clone(), state, turn: 0 }));
    };
    let wrong = |chance: u64, random: &mut Random| chaos.is_some() && random.percent(chance);
    let crash = |random: &mut Random| {
        let ends = [
            End::Exited(0),
            End::Exited(1),
            End::Exited(1),
            End::Signalled(9),
            End::Signalled(11),
            End::Lost,
        ];
        InstanceState::Ended(random.pick_or(&ends, End::Exited(1)))
    };
    let slowest = if random.percent(20) { 2_500_000 } else { 300_000 };
    let slow = random.between(1_000, slowest);
    if wrong(7, random) {
        let errors = [StartError::NotFound, StartError::PortTaken, StartError::Other];
        let error = random.pick_or(&errors, StartError::Other);
        then(slow, InstanceState::Ended(End::NotStarted(error)));
        return follows;
    }
    then(slow, InstanceState::Running);
    if wrong(6, random) {
        then(random.between(0, 500_000), crash(random));
        return follows;
    }
    let Some(Health { .. }) = spec.health else {
        if wrong(75, random) {
            then(lifetime(random), crash(random));
        }
        return within(follows, chaos, now);
    };
    if wrong(3, random) {
        return follows;
    }
    then(random.between(1_000, 1_200_000), InstanceState::Ready);
    if wrong(10, random) {
        then(random.between(1_000, 3_000_000), InstanceState::NotReady);
        then(random.between(1_000, 3_000_000), InstanceState::Ready);
    }
    if wrong(10, random) {
        then(random.between(1_000, 20_000_000), InstanceState::Hung);
        if random.percent(30) {
            then(random.between(1_000, 200_000), crash(random));
        }
    } else if wrong(75, random) {
        then(lifetime(random), crash(random));
    }
    within(follows, chaos, now)
}

/// How long a process lives that is to crash: often short, so that faults meet restarts.
fn lifetime(random: &mut Random) -> u64 {
    let longest = random.pick_or(&[300_000, 3_000_000, 30_000_000], 3_000_000);
    random.between(1_000, longest)
}

/// Nothing goes wrong after the chaos: ends and hangs that would come later do not come.
fn within(
    mut follows: Vec<(Duration, Change)>,
    chaos: Option<Timestamp>,
    now: Timestamp,
) -> Vec<(Duration, Change)> {
    let left = chaos.map_or(Duration::ZERO, |until| until.since(now));
    follows.retain(|(after, change)| {
        *after <= left
            || !matches!(
                change.state,
                InstanceState::Ended(_) | InstanceState::Hung | InstanceState::NotReady
            )
    });
    follows
}
