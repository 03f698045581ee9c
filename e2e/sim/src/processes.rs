//! What really happens: processes that start, live, stop and end, whatever anybody thinks of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use kontrol_core::{
    id::{InstanceId, WidgetId},
    spec::{Container, Health, ReplicaEnd, Restart, Revision, Shutdown, StartedWhen, Strategy, Widget},
    time::Timestamp,
};
use kontrol_otp::Random;
use kontrol_plan::{Action, End, Instance, InstanceState, LastEnd, Place, StartError};

use crate::tree::is_bad;

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

/// Who starts a process again in place when it ends.
#[derive(Clone, Copy, Debug)]
enum InPlace {
    /// The kubelet: at once, then after its back-off.
    Kubelet,
    /// The shim, so often.
    Shim {
        /// Restarts that it may still make.
        left: u32,
        /// Whether an end with code 0 is restarted too.
        normal: bool,
    },
}

/// A machine.
#[derive(Clone, Copy, Debug, Default)]
struct Machine {
    /// Whether nobody reaches it.
    away: bool,
    /// Since when, or since when not.
    since: Timestamp,
    /// Until when somebody may believe that it is lost.
    doubted: Option<Timestamp>,
}

/// How many machines there are.
pub(crate) const MACHINES: usize = 3;

/// The name of a machine.
pub(crate) fn machine(number: usize) -> Arc<str> {
    format!("n{number}").into()
}

/// The truth about one process.
#[expect(clippy::struct_excessive_bools, reason = "facts about one process that hold side by side")]
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) instance: Instance,
    /// Whether it was asked to stop before it ended.
    pub(crate) asked: bool,
    /// Whether it has ever reached the state that counts as started.
    pub(crate) was_started: bool,
    /// Whether it was ever hung.
    pub(crate) was_hung: bool,
    /// Whether somebody was told that its machine is lost: it is fenced off.
    pub(crate) fenced: bool,
    /// Its ends that were followed by a restart in place.
    pub(crate) ends: Vec<End>,
    machine: usize,
    /// Whether its machine died with it, and nobody knows its end yet.
    dead: bool,
    in_place: Option<InPlace>,
    /// Whether it was asked to stop between two runs in place: nothing of it runs any more.
    quiet: bool,
    turn: u32,
}

/// All processes that were ever started or refused, and those that may never be.
#[derive(Debug, Default)]
pub(crate) struct Processes {
    all: BTreeMap<Key, Process>,
    removed: BTreeSet<Key>,
    highest: BTreeMap<InstanceId, u64>,
    machines: [Machine; MACHINES],
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

    /// The processes that live, or will again.
    pub(crate) fn alive(&self) -> impl Iterator<Item = (&Key, &Process)> {
        self.observable()
            .filter(|(_, instance)| !instance.state.is_ended())
            .filter_map(|(key, _)| Some((key, self.all.get(key)?)))
            .filter(|(_, process)| !process.dead)
    }

    /// A process of this widget that lives and is not fenced off.
    pub(crate) fn lives(&self, widget: &WidgetId) -> Option<&Key> {
        let runs = |process: &Process| !process.fenced && !process.is_between();
        self.alive().find(|(key, process)| key.0.widget == *widget && runs(process)).map(|(key, _)| key)
    }

    /// A process of this replica that must not live while the next one is started.
    fn beside(&self, id: &InstanceId, container: Container) -> Option<Key> {
        let strict = container.identity && !container.force_delete;
        let harms = |process: &Process| strict || !(process.fenced || process.is_between());
        self.alive().find(|(key, process)| key.0 == *id && harms(process)).map(|(key, _)| key.clone())
    }

    /// Whether nobody reaches this process.
    pub(crate) fn is_away(&self, key: &Key) -> bool {
        let machine = self.all.get(key).and_then(|process| self.machines.get(process.machine));
        machine.is_some_and(|machine| machine.away)
    }

    /// Since when nobody reaches a machine.
    pub(crate) fn away_since(&self, machine: usize) -> Option<Timestamp> {
        self.machines.get(machine).filter(|machine| machine.away).map(|machine| machine.since)
    }

    /// Nobody reaches a machine any more; `dies`: and nothing runs there.
    pub(crate) fn lose(&mut self, machine: usize, dies: bool, now: Timestamp) {
        let Some(lost) = self.machines.get_mut(machine).filter(|lost| !lost.away) else { return };
        *lost = Machine { away: true, since: now, doubted: lost.doubted };
        for process in self.all.values_mut().filter(|process| process.machine == machine && dies) {
            if !process.instance.state.is_ended() && process.instance.place.is_some() {
                process.dead = true;
                process.turn += 1;
            }
        }
    }

    /// Somebody takes a machine for lost.
    pub(crate) fn doubt(&mut self, machine: usize) {
        if let Some(doubted) = self.machines.get_mut(machine) {
            doubted.doubted = Some(Timestamp::from_micros(u64::MAX));
        }
        for process in self.all.values_mut().filter(|process| process.machine == machine) {
            process.fenced |= process.instance.place.is_some();
        }
    }

    /// A machine is reached again. What died with it has ended, and what nobody knows of any more is ended.
    pub(crate) fn heal(&mut self, machine: usize, now: Timestamp) -> Vec<Key> {
        let Some(healed) = self.machines.get_mut(machine).filter(|healed| healed.away) else {
            return Vec::new();
        };
        let doubted = healed.doubted.map(|_| now.plus(Duration::from_secs(3)));
        *healed = Machine { away: false, since: now, doubted };
        let mut changed = Vec::new();
        for (key, process) in self.all.iter_mut().filter(|(_, process)| process.machine == machine) {
            let forgotten = self.removed.contains(key);
            if (process.dead || forgotten) && !process.instance.state.is_ended() {
                process.dead = false;
                process.turn += 1;
                process.instance.state = InstanceState::Ended(End::Lost);
                process.instance.since = now;
                self.faults += u64::from(!process.asked);
                if !forgotten {
                    changed.push(key.clone());
                }
            }
        }
        changed
    }

    /// An action arrives. `chaos` says whether what starts now may fail.
    pub(crate) fn act(
        &mut self,
        action: &Action,
        spec: Option<(&Widget, Strategy)>,
        chaos: Option<Timestamp>,
        now: Timestamp,
        random: &mut Random,
    ) -> Effect {
        match action {
            Action::Start { instance, incarnation, epoch, revision, alternative, avoid, .. } => {
                let key = (instance.clone(), *incarnation);
                if !self.is_next(&key) {
                    return Effect::default();
                }
                let container = spec.and_then(|(spec, _)| spec.container);
                let beside = self.beside(instance, container.unwrap_or_default());
                let numbers = (*incarnation, *epoch, *revision);
                let mut instance = Instance::new(instance.clone(), numbers, InstanceState::Starting, now);
                let Some(container) = container else {
                    self.insert(&key, instance);
                    let follows = spec
                        .map_or_else(Vec::new, |(spec, _)| life(&key, spec, *revision, chaos, now, random));
                    return Effect { changed: Some(key), follows, beside };
                };
                let free: Vec<usize> =
                    (0..MACHINES).filter(|number| !avoid.contains(&machine(*number))).collect();
                let place = random.pick_or(&free, MACHINES);
                let fits = chaos.is_none() || *alternative >= random.between(0, container.alternatives);
                if place >= MACHINES || !fits {
                    instance.state = InstanceState::Unschedulable;
                    self.insert(&key, instance);
                    return Effect { changed: Some(key), follows: Vec::new(), beside };
                }
                instance.place = Some(Place { node: machine(place) });
                self.insert(&key, instance);
                let doubted = self.machines.get(place).and_then(|machine| machine.doubted);
                let spec = spec.map(|(spec, strategy)| (spec, in_place(spec, strategy)));
                if let Some(process) = self.all.get_mut(&key) {
                    process.machine = place;
                    process.fenced = doubted.is_some_and(|until| now < until);
                    process.in_place = spec.and_then(|(_, in_place)| in_place);
                }
                let follows =
                    spec.map_or_else(Vec::new, |(spec, _)| life(&key, spec, *revision, chaos, now, random));
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
            Action::Abandon { instance, incarnation } => {
                let key = (instance.clone(), *incarnation);
                let may = spec.and_then(|(spec, _)| spec.container).is_some_and(|of| of.force_delete);
                let fenced = self.all.get(&key).is_some_and(|process| process.fenced);
                let beside = (!may || !fenced).then(|| key.clone());
                let removed = self.removed.insert(key.clone());
                Effect { changed: removed.then_some(key), follows: Vec::new(), beside }
            }
            Action::Remove { instance, incarnation } => {
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
        let process = Process {
            instance,
            asked: false,
            was_started: false,
            was_hung: false,
            fenced: false,
            ends: Vec::new(),
            machine: MACHINES,
            dead: false,
            in_place: None,
            quiet: false,
            turn: 0,
        };
        self.all.insert(key.clone(), process);
    }

    fn stop(&mut self, key: &Key, shutdown: Shutdown, now: Timestamp, random: &mut Random) -> Effect {
        let Some(process) = self.all.get_mut(key) else { return Effect::default() };
        let state = process.instance.state;
        if state.is_ended() || (state == InstanceState::Stopping && shutdown != Shutdown::Brutal) {
            return Effect::default();
        }
        process.asked = true;
        process.quiet = matches!(state, InstanceState::Restarting(_)) || process.quiet;
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

    /// A change that was to come comes, and what follows from it; none where something else came first.
    pub(crate) fn become_so(
        &mut self,
        change: &Change,
        spec: Option<&Widget>,
        chaos: Option<Timestamp>,
        now: Timestamp,
        random: &mut Random,
    ) -> Option<Vec<(Duration, Change)>> {
        let process = self.all.get_mut(&change.key)?;
        if process.turn != change.turn || process.instance.state.is_ended() {
            return None;
        }
        if let (InstanceState::Ended(end), false, Some(spec)) = (change.state, process.asked, spec)
            && let Some((after, state)) = process.starts_again(end, now, random)
        {
            self.faults += 1;
            process.turn += 1;
            process.instance.state = state;
            process.instance.since = now;
            process.instance.restarts += 1;
            process.instance.last_end = Some(LastEnd { at: now, end, message: None });
            process.ends.push(end);
            let (turn, revision) = (process.turn, process.instance.revision);
            let follows = life(&change.key, spec, revision, chaos, now, random);
            let again = follows.into_iter().map(|(at, change)| (after + at, Change { turn, ..change }));
            return Some(again.collect());
        }
        let is_ready = |state| spec.is_some_and(|spec| counts_as_ready(spec, state));
        let was_ready = is_ready(process.instance.state);
        // The kubelet follows the word of a sidecar a moment later.
        let is_pod = spec.is_some_and(|spec| spec.container.is_some());
        process.instance.serving = !is_pod || was_ready || !is_ready(change.state);
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
        Some(Vec::new())
    }
}

impl Process {
    /// Whether nothing of it runs between two runs in place, or after the last one.
    fn is_between(&self) -> bool {
        self.quiet || matches!(self.instance.state, InstanceState::Restarting(_))
    }

    /// Whether its end is followed by a restart in place: after how long, and how it stands until then.
    fn starts_again(
        &mut self,
        end: End,
        now: Timestamp,
        random: &mut Random,
    ) -> Option<(Duration, InstanceState)> {
        if !matches!(end, End::Exited(_) | End::Signalled(_) | End::OutOfMemory) {
            return None;
        }
        match &mut self.in_place {
            None => None,
            Some(InPlace::Kubelet) => {
                let last = self.instance.last_end.as_ref().map(|last| last.at);
                let again = last.is_some_and(|last| now.since(last) < Duration::from_mins(10));
                let after = if again { 13_000_000 } else { random.between(200_000, 1_000_000) };
                Some((Duration::from_micros(after), InstanceState::Restarting(end)))
            }
            Some(InPlace::Shim { left, normal }) => {
                let may = *left > 0 && (*normal || end != End::Exited(0));
                *left = left.saturating_sub(1);
                may.then(|| (Duration::from_micros(random.between(1_000, 50_000)), InstanceState::Starting))
            }
        }
    }
}

/// Who starts a process of this widget again in place.
fn in_place(spec: &Widget, strategy: Strategy) -> Option<InPlace> {
    let own = spec.replica_end == ReplicaEnd::ReplacesReplica;
    let alone = strategy == Strategy::OneForOne;
    match (spec.container?.wrapped, spec.restart) {
        (true, restart @ (Restart::Always | Restart::OnFailure)) if alone || own => {
            Some(InPlace::Shim { left: 3, normal: restart == Restart::Always })
        }
        (false, Restart::Always) if alone => Some(InPlace::Kubelet),
        _ => None,
    }
}

/// How a process fares if nobody stops it; `chaos` is the time until which things go wrong.
fn life(
    key: &Key,
    spec: &Widget,
    revision: Revision,
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
        let outside = [End::OutOfMemory, End::Evicted, End::Preempted, End::Deleted];
        let from_outside = spec.container.is_some() && random.percent(25);
        let ends = if from_outside { &outside[..] } else { &ends[..] };
        InstanceState::Ended(random.pick_or(ends, End::Exited(1)))
    };
    if is_bad(revision) {
        then(random.between(1_000, 300_000), InstanceState::Running);
        if spec.health.is_none() || random.percent(50) {
            then(random.between(10_000, 300_000), InstanceState::Ended(End::Exited(1)));
        }
        return follows;
    }
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
    // A pod has callers from the second such change on.
    let is_pod = spec.container.is_some();
    let Some(Health { .. }) = spec.health.as_deref() else {
        if is_pod {
            then(random.between(1_000, 1_000_000), InstanceState::Running);
        }
        if wrong(75, random) {
            then(lifetime(random), crash(random));
        }
        return within(follows, chaos, now);
    };
    if wrong(3, random) {
        return follows;
    }
    then(random.between(1_000, 1_200_000), InstanceState::Ready);
    if is_pod {
        then(random.between(1_000, 1_000_000), InstanceState::Ready);
    }
    if wrong(10, random) {
        then(random.between(1_000, 3_000_000), InstanceState::NotReady);
        then(random.between(1_000, 3_000_000), InstanceState::Ready);
        if is_pod {
            then(random.between(1_000, 1_000_000), InstanceState::Ready);
        }
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

/// Whether a process in this state counts as ready.
fn counts_as_ready(spec: &Widget, state: InstanceState) -> bool {
    state == InstanceState::Ready || (state == InstanceState::Running && spec.health.is_none())
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
