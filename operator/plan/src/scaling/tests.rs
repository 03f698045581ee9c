use kontrol_core::spec::ScalingClass;
use proptest::prelude::*;

use super::*;

const DOWN: Duration = Duration::from_mins(5);

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

fn policy(min: u32, max: u32, targets: &[ScalingTarget]) -> Scaling {
    Scaling {
        class: ScalingClass::Kontrol,
        min,
        max,
        targets: targets.to_vec(),
        up_window: Duration::ZERO,
        down_window: DOWN,
    }
}

fn running(in_flight: u64, now: Timestamp) -> Replica {
    let in_flight = Some(Reading { value: in_flight * 1_000, at: now });
    Replica { starting: false, in_flight, reported: BTreeMap::new() }
}

fn starting() -> Replica {
    Replica { starting: true, ..Replica::default() }
}

fn queue(depth: u64, growth: i64, now: Timestamp) -> Queue {
    Queue::Known { depth: depth * 1_000, growth: growth * 1_000, at: now }
}

/// A widget over time.
struct Play {
    policy: Scaling,
    current: u32,
    history: History,
}

impl Play {
    fn new(policy: Scaling, current: u32) -> Self {
        Self { policy, current, history: History::default() }
    }

    fn decide(&mut self, replicas: &[Replica], queue: Queue, now: Timestamp) -> Decision {
        let waiting = Some(Reading { value: 0, at: now });
        let (policy, history) = (&self.policy, &self.history);
        let input = Input { policy, current: self.current, replicas, queue, waiting, history, now };
        let decision = decide(&input);
        self.history = decision.history.clone();
        self.current = decision.desired;
        decision
    }
}

#[test]
fn a_decision_says_why() {
    let mut play = Play::new(policy(0, 8, &[ScalingTarget::InFlight(2_000)]), 1);
    let start = at(14 * 3_600 + 2 * 60);
    let up = play.decide(&[running(3, start)], Queue::Absent, start);
    assert_eq!(up.desired, 2);
    assert_eq!(up.reason.to_string(), "in flight 3, target 2 a replica → ceil(3 / 2) = 2; limits 0 to 8");
    let later = start.plus(Duration::from_secs(11));
    let held = play.decide(&[running(1, later), running(0, later)], Queue::Absent, later);
    assert_eq!((held.desired, held.wake), (2, Some(later.plus(DOWN))));
    assert_eq!(
        held.reason.to_string(),
        "in flight 1, target 2 a replica → ceil(1 / 2) = 1; limits 0 to 8; not lower before 14:07:11Z (down window 5m)"
    );
}

#[test]
fn the_highest_demand_wins() {
    let targets = [
        ScalingTarget::InFlight(2_000),
        ScalingTarget::QueueDepth(10_000),
        ScalingTarget::Reported("tokens".to_owned(), 1_500),
    ];
    let mut play = Play::new(policy(1, 10, &targets), 1);
    let mut replica = running(3, at(0));
    replica.reported.insert("tokens".to_owned(), Reading { value: 7_600, at: at(0) });
    let decision = play.decide(&[replica], queue(25, 0, at(0)), at(0));
    assert_eq!(decision.desired, 6);
    assert!(
        decision.reason.to_string().starts_with("tokens 7.6, target 1.5 a replica → ceil(7.6 / 1.5) = 6"),
        "{}",
        decision.reason
    );
}

#[test]
fn growth_asks_for_what_the_running_replicas_leave_over_and_counts_starting_ones() {
    let mut play = Play::new(policy(1, 10, &[ScalingTarget::QueueGrowth(5_000)]), 2);
    let two = [running(1, at(0)), running(1, at(0))];
    assert_eq!(play.decide(&two, queue(30, 7, at(0)), at(0)).desired, 4);
    let starting = [running(1, at(1)), running(1, at(1)), starting(), starting()];
    let decision = play.decide(&starting, queue(37, 7, at(1)), at(1));
    assert_eq!(decision.desired, 4, "the two that start are the two that are asked for");
    assert!(
        decision
            .reason
            .to_string()
            .starts_with("queue growth 7, target 5 a replica → 2 running + ceil(7 / 5) = 4")
    );
}

#[test]
fn a_decrease_waits_for_the_whole_down_window() {
    let mut play = Play::new(policy(0, 8, &[ScalingTarget::InFlight(1_000)]), 4);
    let idle = |now| vec![running(0, now); 4];
    assert_eq!(
        play.decide(
            &[running(4, at(0)), running(0, at(0)), running(0, at(0)), running(0, at(0))],
            Queue::Absent,
            at(0)
        )
        .desired,
        4
    );
    assert_eq!(play.decide(&idle(at(10)), Queue::Absent, at(10)).desired, 4);
    let busy = [running(2, at(200)), running(0, at(200)), running(0, at(200)), running(0, at(200))];
    assert_eq!(play.decide(&busy, Queue::Absent, at(200)).desired, 4);
    assert_eq!(play.decide(&idle(at(210)), Queue::Absent, at(210)).desired, 4);
    assert_eq!(play.decide(&idle(at(309)), Queue::Absent, at(309)).desired, 4);
    assert_eq!(play.decide(&idle(at(310)), Queue::Absent, at(310)).desired, 2, "the highest of the window");
    assert_eq!(play.decide(&idle(at(509)), Queue::Absent, at(509)).desired, 2);
    assert_eq!(play.decide(&idle(at(510)), Queue::Absent, at(510)).desired, 0);
}

#[test]
fn an_increase_waits_for_the_whole_up_window() {
    let mut scaling = policy(1, 8, &[ScalingTarget::InFlight(1_000)]);
    scaling.up_window = Duration::from_secs(10);
    let mut play = Play::new(scaling, 1);
    assert_eq!(play.decide(&[running(5, at(0))], Queue::Absent, at(0)).desired, 1);
    let held = play.decide(&[running(3, at(9))], Queue::Absent, at(9));
    assert_eq!((held.desired, held.wake), (1, Some(at(10))));
    assert_eq!(
        play.decide(&[running(5, at(10))], Queue::Absent, at(10)).desired,
        3,
        "the lowest of the window"
    );
}

#[test]
fn unknown_is_never_zero() {
    let mut play = Play::new(policy(0, 8, &[ScalingTarget::InFlight(1_000)]), 3);
    let silent = vec![Replica::default(); 3];
    for seconds in [0, 100, 400, 1_000] {
        let decision = play.decide(&silent, Queue::Absent, at(seconds));
        assert_eq!(decision.desired, 3);
        assert!(
            decision.reason.to_string().contains("; not known: in flight → not below 3"),
            "{}",
            decision.reason
        );
    }
    let stale = vec![running(0, at(1_000)); 3];
    assert_eq!(play.decide(&stale, Queue::Absent, at(1_016)).desired, 3);
    assert_eq!(
        play.decide(&[], Queue::Absent, at(2_000)).desired,
        3,
        "replicas that should be there and are not"
    );
    let one_says = [running(5, at(2_001)), Replica::default(), Replica::default()];
    assert_eq!(play.decide(&one_says, Queue::Absent, at(2_001)).desired, 5, "what is known still raises");
}

#[test]
fn zero_needs_every_signal_known_and_zero_for_the_whole_window() {
    let mut play = Play::new(policy(0, 8, &[ScalingTarget::InFlight(1_000)]), 1);
    for seconds in [0, 290] {
        assert_eq!(play.decide(&[running(0, at(seconds))], queue(0, 0, at(seconds)), at(seconds)).desired, 1);
    }
    assert_eq!(play.decide(&[running(0, at(300))], Queue::Unknown, at(300)).desired, 1);
    assert_eq!(play.decide(&[running(0, at(301))], queue(0, 0, at(301)), at(301)).desired, 1);
    assert_eq!(play.decide(&[running(0, at(600))], queue(0, 0, at(600)), at(600)).desired, 1);
    assert_eq!(play.decide(&[running(0, at(601))], queue(0, 0, at(601)), at(601)).desired, 0);
}

#[test]
fn what_waits_brings_it_back_from_zero_at_once() {
    let mut scaling = policy(0, 8, &[ScalingTarget::InFlight(1_000)]);
    scaling.up_window = Duration::from_mins(1);
    let mut play = Play::new(scaling.clone(), 0);
    assert_eq!(play.decide(&[], queue(0, 0, at(0)), at(0)).desired, 0);
    let woken = play.decide(&[], queue(1, 0, at(1)), at(1));
    assert_eq!(woken.desired, 1);
    assert!(woken.reason.to_string().contains("queue depth is above 0 → at least 1"), "{}", woken.reason);
    let history = History::default();
    let waiting = Some(Reading { value: 1_000, at: at(0) });
    let input = Input {
        policy: &scaling,
        current: 0,
        replicas: &[],
        queue: Queue::Absent,
        waiting,
        history: &history,
        now: at(0),
    };
    assert_eq!(decide(&input).desired, 1);
}

#[test]
fn limits_hold_at_once() {
    let mut play = Play::new(policy(2, 4, &[ScalingTarget::InFlight(1_000)]), 9);
    assert_eq!(play.decide(&[], Queue::Absent, at(0)).desired, 4);
    play.current = 0;
    assert_eq!(play.decide(&[], Queue::Absent, at(1)).desired, 2);
}

#[test]
fn signals_that_change_nothing_write_nothing() {
    let mut play = Play::new(policy(0, 8, &[ScalingTarget::InFlight(2_000)]), 1);
    play.decide(&[running(1, at(0))], Queue::Absent, at(0));
    let before = play.history.clone();
    play.decide(&[running(2, at(1))], Queue::Absent, at(1));
    assert_eq!(play.history, before);
}

fn readings() -> impl Strategy<Value = Option<Reading>> {
    prop::option::weighted(
        0.8,
        (0_u64..20_000, 0_u64..30).prop_map(|(value, age)| Reading { value, at: at(1_000 - age) }),
    )
}

prop_compose! {
    fn steps()(
        replicas in prop::collection::vec((any::<bool>(), readings()), 0..6),
        queue in prop_oneof![
            Just(Queue::Absent),
            Just(Queue::Unknown),
            (0_u64..50_000, -5_000_i64..5_000, 0_u64..30)
                .prop_map(|(depth, growth, age)| Queue::Known { depth, growth, at: at(1_000 - age) }),
        ],
        waiting in readings(),
        elapsed in 0_u64..200,
    ) -> (Vec<Replica>, Queue, Option<Reading>, u64) {
        let replicas = replicas
            .into_iter()
            .map(|(starting, in_flight)| Replica { starting, in_flight, reported: BTreeMap::new() })
            .collect();
        (replicas, queue, waiting, elapsed)
    }
}

/// The same signals, moved to a time.
fn moved(reading: Reading, by: Duration) -> Reading {
    Reading { at: reading.at.plus(by), ..reading }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_history_is_decided_within_limits_and_never_lowered_by_the_unknown(
        min in 0_u32..3,
        span in 0_u32..8,
        up in 0_u64..60,
        steps in prop::collection::vec(steps(), 1..12),
        extra in 0_u64..30_000,
    ) {
        let mut policy = policy(min, min + span, &[
            ScalingTarget::InFlight(2_000), ScalingTarget::QueueDepth(7_000), ScalingTarget::QueueGrowth(1_000),
        ]);
        policy.up_window = Duration::from_secs(up);
        let (mut current, mut history, mut elapsed) = (min, History::default(), Duration::ZERO);
        for (replicas, queue, waiting, pause) in steps {
            elapsed += Duration::from_secs(pause);
            let now = at(1_000).plus(elapsed);
            let replicas: Vec<_> = replicas
                .into_iter()
                .map(|replica| Replica { in_flight: replica.in_flight.map(|reading| moved(reading, elapsed)), ..replica })
                .collect();
            let queue = match queue {
                Queue::Known { depth, growth, at } => Queue::Known { depth, growth, at: at.plus(elapsed) },
                other => other,
            };
            let waiting = waiting.map(|reading| moved(reading, elapsed));
            let input = Input { policy: &policy, current, replicas: &replicas, queue, waiting, history: &history, now };
            let decision = decide(&input);
            prop_assert_eq!(&decision, &decide(&input), "the same input gives the same decision");
            prop_assert!((policy.min..=policy.max).contains(&decision.desired));
            let silent = replicas.iter().any(|replica| replica.in_flight.and_then(|reading| reading.fresh(now)).is_none());
            if silent || queue == Queue::Unknown {
                prop_assert!(decision.desired >= current, "unknown never lowers: {}", decision.reason);
            }
            prop_assert!(decision.wake.is_none_or(|wake| wake > now));

            let mut more = replicas.clone();
            if let Some(reading) = more.iter_mut().find_map(|replica| replica.in_flight.as_mut()) {
                reading.value += extra;
            }
            let higher = decide(&Input { replicas: &more, ..input.clone() });
            prop_assert!(higher.desired >= decision.desired, "monotone: {} then {}", decision.reason, higher.reason);
            current = decision.desired;
            history = decision.history;
        }
    }
}
