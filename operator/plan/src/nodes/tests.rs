use proptest::prelude::*;

use super::*;

const START: u64 = 1_000_000_000;

fn at(millis: u64) -> Timestamp {
    Timestamp::from_micros((START + millis) * 1_000)
}

fn name(node: &str) -> Arc<str> {
    node.into()
}

/// A listener that has listened for long, without a break until now, and hears the cluster.
fn listener(now: Timestamp) -> Listener {
    Listener { cluster: Some(now), looked: now, ..Listener::new(at(0).minus(Duration::from_hours(1))) }
}

fn heard(millis: u64) -> Signs {
    Signs { expected: 2, heard: Some(at(millis)), ..Signs::default() }
}

fn health(signs: &[(&str, Signs)], now: Timestamp) -> BTreeMap<Arc<str>, NodeHealth> {
    let signs = signs.iter().map(|(node, signs)| (name(node), *signs)).collect();
    listener(now).look(&signs, now)
}

#[test]
fn a_machine_that_is_heard_is_healthy() {
    assert!(health(&[("a", heard(9_000)), ("b", heard(9_200))], at(10_000)).is_empty());
}

#[test]
fn silence_makes_a_machine_suspect_and_then_lost() {
    let signs = |now: u64| [("a", heard(10_000)), ("b", heard(now - 100))];
    assert!(health(&signs(11_499), at(11_499)).is_empty());
    let since = at(10_000);
    assert_eq!(health(&signs(11_500), at(11_500)), [(name("a"), NodeHealth::Suspect { since })].into());
    assert_eq!(health(&signs(12_999), at(12_999)), [(name("a"), NodeHealth::Suspect { since })].into());
    assert_eq!(health(&signs(13_000), at(13_000)), [(name("a"), NodeHealth::Lost { since })].into());
}

#[test]
fn every_other_sign_of_life_keeps_a_machine_whose_sidecars_are_silent() {
    let silent = heard(10_000);
    let sign = Some(at(19_000));
    for signs in
        [Signs { lease: sign, ..silent }, Signs { kubelet: sign, ..silent }, Signs { knock: sign, ..silent }]
    {
        assert!(health(&[("a", signs), ("b", heard(19_900))], at(20_000)).is_empty());
    }
}

#[test]
fn where_all_fall_silent_together_it_is_us_who_are_deaf() {
    assert!(
        health(&[("a", heard(10_000)), ("b", heard(10_200)), ("c", heard(9_900))], at(20_000)).is_empty()
    );
}

#[test]
fn a_machine_alone_is_lost_only_while_something_else_is_heard() {
    let now = at(20_000);
    let alone: BTreeMap<_, _> = [(name("a"), heard(10_000))].into();
    assert_eq!(listener(now).look(&alone, now), [(name("a"), NodeHealth::Lost { since: at(10_000) })].into());
    let mut deaf = Listener { cluster: Some(at(10_500)), ..listener(now) };
    assert!(deaf.look(&alone, now).is_empty());
}

#[test]
fn a_machine_without_sidecars_is_not_suspect_by_silence() {
    let signs = Signs { lease: Some(at(0)), ..Signs::default() };
    assert!(health(&[("a", signs), ("b", heard(29_900))], at(30_000)).is_empty());
}

#[test]
fn a_machine_where_only_a_hub_is_heard_is_healthy_however_old_its_lease() {
    let hub = Signs { expected: 0, heard: Some(at(99_900)), lease: Some(at(0)), ..Signs::default() };
    assert!(health(&[("a", hub)], at(100_000)).is_empty());
}

#[test]
fn no_sign_of_any_kind_for_long_is_a_loss_even_to_the_deaf() {
    let signs = Signs { lease: Some(at(0)), ..Signs::default() };
    let lost = NodeHealth::Lost { since: at(0) };
    assert_eq!(health(&[("a", signs)], at(40_000)), [(name("a"), lost)].into());
    let mut unreachable = Listener { cluster: None, ..listener(at(40_000)) };
    assert!(unreachable.look(&[(name("a"), signs)].into(), at(40_000)).is_empty());
}

#[test]
fn who_has_just_begun_to_listen_gives_everybody_time_to_come_back() {
    let mut listener = Listener::new(at(10_000));
    let silent = Signs { expected: 1, ..Signs::default() };
    for now in (10_000..=16_500).step_by(250) {
        let signs = [(name("a"), silent), (name("b"), heard(now - 10))].into();
        let health = listener.look(&signs, at(now)).get(&name("a")).copied().unwrap_or_default();
        assert_eq!(health != NodeHealth::Healthy, now >= 15_000, "{now}");
        assert_eq!(health.is_lost(), now >= 16_500, "{now}");
    }
}

/// So many machines, of which the first so many are heard just now, and the others were at `before`.
fn partly_heard(all: usize, heard: usize, before: Option<Timestamp>, now: u64) -> BTreeMap<Arc<str>, Signs> {
    let last = |number| if number < heard { Some(at(now - 10)) } else { before };
    let sign = |number| Signs { expected: 2, heard: last(number), ..Signs::default() };
    (0..all).map(|number| (name(&format!("n{number}")), sign(number))).collect()
}

#[test]
fn where_most_are_silent_together_it_is_us_who_are_deaf() {
    for (all, silent, deaf) in [(2, 1, false), (3, 1, false), (3, 2, true), (4, 2, false), (20, 11, true)] {
        let signs = partly_heard(all, all - silent, Some(at(95_000)), 100_000);
        let lost = listener(at(100_000)).look(&signs, at(100_000));
        assert_eq!(lost.is_empty(), deaf, "{silent} of {all}");
    }
}

#[test]
fn who_was_deaf_counts_silence_anew() {
    let mut listener = listener(at(100_000));
    assert!(listener.look(&partly_heard(20, 2, Some(at(95_000)), 100_000), at(100_000)).is_empty());
    listener.cluster = None;
    assert!(listener.look(&partly_heard(20, 12, Some(at(95_000)), 100_500), at(100_500)).is_empty());
    assert!(listener.look(&partly_heard(20, 12, Some(at(95_000)), 101_900), at(101_900)).is_empty());
    let health = listener.look(&partly_heard(20, 12, Some(at(95_000)), 102_000), at(102_000));
    assert!(health.len() == 8 && health.values().all(|health| !health.is_lost()), "{health:?}");
    let health = listener.look(&partly_heard(20, 12, Some(at(95_000)), 103_500), at(103_500));
    assert!(health.len() == 8 && health.values().all(|health| health.is_lost()), "{health:?}");
}

#[test]
fn as_long_as_machines_come_back_to_a_new_listener_the_others_are_waited_for() {
    let mut listener = Listener::new(at(10_000));
    // One each second: the last one comes long after the time that everybody has.
    for second in 1..=20 {
        let now = 10_000 + 1_000 * second;
        let back = usize::try_from(second).unwrap();
        assert_eq!(
            listener.look(&partly_heard(20, back, None, now), at(now)),
            BTreeMap::new(),
            "after {second} s"
        );
    }
}

#[test]
fn what_comes_and_goes_keeps_no_lost_machine_for_ever() {
    let mut listener = Listener::new(at(10_000));
    let lost = (10_250..60_000).step_by(250).find(|now| {
        // One of four breaks off and comes back each 2.5 s, and one never came.
        let sign = |number| {
            let heard = match number {
                0 => None,
                1 => Some(at(now - now % 2_500)),
                _ => Some(at(now - 10)),
            };
            Signs { expected: 2, heard, ..Signs::default() }
        };
        let signs = (0..4).map(|number| (name(&format!("n{number}")), sign(number))).collect();
        listener.look(&signs, at(*now)).get(&name("n0")).is_some_and(|health| health.is_lost())
    });
    assert!(lost.is_some_and(|lost| (40_000..44_000).contains(&lost)), "{lost:?}");
}

#[test]
fn who_did_not_look_for_a_while_counts_silence_anew() {
    let mut listener = listener(at(2_000));
    assert!(listener.look(&partly_heard(2, 2, None, 2_000), at(2_000)).is_empty());
    // Cut off, or asleep, for a minute: one of two is heard already.
    listener.cluster = Some(at(60_000));
    let signs = |now: u64| partly_heard(2, 1, Some(at(2_000)), now);
    assert!(listener.look(&signs(60_000), at(60_000)).is_empty());
    assert!(listener.look(&signs(61_400), at(61_400)).is_empty());
    for now in [62_500, 63_000] {
        listener.cluster = Some(at(now));
        let health = listener.look(&signs(now), at(now));
        assert_eq!(health[&name("n1")].is_lost(), now == 63_000);
    }
}

#[test]
fn a_clock_that_is_set_back_begins_anew() {
    let mut listener = listener(at(100_000));
    assert_eq!(listener.look(&partly_heard(4, 3, Some(at(90_000)), 100_000), at(100_000)).len(), 1);
    let early = at(50_000);
    assert!(listener.look(&partly_heard(4, 3, None, 50_000), early).is_empty());
    assert_eq!(listener.since(), early);
}

/// One machine of `all` that is given up, and the listener.
fn one_lost(all: usize) -> Listener {
    let mut listener = listener(at(100_000));
    let health = listener.look(&partly_heard(all, all - 1, Some(at(90_000)), 100_000), at(100_000));
    assert!(health.len() == 1 && health.values().all(|health| health.is_lost()));
    listener
}

#[test]
fn one_that_was_given_up_stays_so_while_we_are_deaf_and_until_a_sign_of_life() {
    let mut listener = one_lost(4);
    let last = name("n3");
    for (now, heard) in [(100_500, 0), (101_000, 3), (102_400, 3)] {
        let health = listener.look(&partly_heard(4, heard, Some(at(90_000)), now), at(now));
        assert!(health[&last].is_lost(), "{now}");
    }
    let mut signs = partly_heard(4, 3, Some(at(90_000)), 102_500);
    signs.insert(last.clone(), Signs { knock: Some(at(102_400)), ..signs[&last] });
    assert_eq!(listener.look(&signs, at(102_500)), BTreeMap::new());
}

#[test]
fn the_silence_of_one_that_was_given_up_does_not_make_us_deaf() {
    let mut listener = one_lost(3);
    let signs = |now| {
        let mut signs = partly_heard(3, 1, Some(at(90_000)), now);
        signs.insert(name("n1"), heard(100_100));
        signs
    };
    for now in (100_250..103_000).step_by(250) {
        drop(listener.look(&signs(now), at(now)));
    }
    assert!(!listener.is_deaf());
    let health = listener.look(&signs(103_250), at(103_250));
    assert!(health.len() == 2 && health.values().all(|health| health.is_lost()), "{health:?}");
}

#[test]
fn the_age_of_leases_counts_only_while_leases_come() {
    let leases = |newest: u64| {
        let signs = |millis| Signs { lease: Some(at(millis)), ..Signs::default() };
        [("a", signs(0)), ("b", signs(0)), ("c", signs(newest))]
    };
    assert!(health(&leases(5_000), at(45_000)).is_empty());
    assert_eq!(health(&leases(40_000), at(45_000)).len(), 2);
}

fn moment() -> impl Strategy<Value = Option<Timestamp>> {
    proptest::option::of((0..60_000_u64).prop_map(at))
}

/// Moments before one: most of them just before it.
fn before() -> impl Strategy<Value = Option<Duration>> {
    let just = (0..5_000_u64).prop_map(Duration::from_millis);
    let any = (0..60_000_u64).prop_map(Duration::from_millis);
    proptest::option::of(prop_oneof![just, any])
}

fn any_signs() -> impl Strategy<Value = Signs> {
    (0..3_u32, moment(), moment(), moment(), moment(), moment()).prop_map(
        |(expected, heard, lease, kubelet, knock, led)| Signs { expected, heard, lease, kubelet, knock, led },
    )
}

proptest! {
    #[test]
    fn nothing_is_given_up_while_it_gives_any_sign_of_life(
        all in proptest::collection::btree_map("[a-e]", any_signs(), 0..5),
        now in 60_000..120_000_u64,
        since in 0..60_000_u64,
        cluster in before(),
        heard in proptest::collection::vec(before(), 5),
    ) {
        let now = at(now);
        let ago = |ago: Option<Duration>| ago.map(|ago| now.minus(ago));
        let all = all.into_iter().zip(heard).map(|((node, signs), heard)| (node, Signs { heard: ago(heard), ..signs }));
        let cluster = ago(cluster);
        let signs: BTreeMap<Arc<str>, Signs> = all.map(|(node, signs)| (node.into(), signs)).collect();
        let mut listener = Listener { cluster, looked: now, ..Listener::new(at(since)) };
        for (node, health) in listener.look(&signs, now) {
            let NodeHealth::Lost { since } = health else { continue };
            let Signs { heard, lease, kubelet, knock, .. } = signs[&node];
            let newest = [heard, lease, kubelet, knock].into_iter().flatten().max();
            prop_assert!(newest.is_none_or(|newest| now.since(newest) >= LOST_AFTER));
            prop_assert!(now.since(since) >= LOST_AFTER);
        }
    }

    #[test]
    fn more_signs_of_life_never_make_a_machine_worse(
        signs in any_signs(),
        knock in 0..60_000_u64,
        now in 60_000..120_000_u64,
        since in proptest::option::of(0..60_000_u64),
    ) {
        let now = at(now);
        let begun = |since| Listener { cluster: Some(now), looked: now, ..Listener::new(at(since)) };
        let knocked = Signs { knock: Some(signs.knock.unwrap_or(at(0)).max(at(knock))), ..signs };
        let of = |signs| {
            let other = Signs { expected: 1, heard: Some(now), ..Signs::default() };
            let all = [(name("a"), signs), (name("b"), other)];
            since.map_or_else(|| listener(now), begun).look(&all.into(), now).get("a").copied().unwrap_or_default()
        };
        let rank = |health| match health {
            NodeHealth::Healthy => 0,
            NodeHealth::Suspect { .. } => 1,
            NodeHealth::Lost { .. } => 2,
        };
        prop_assert!(rank(of(knocked)) <= rank(of(signs)));
    }

    /// Whatever the others do, one that never gives a sign is given up in the end, and stays so.
    #[test]
    fn what_is_gone_is_given_up_in_the_end(
        others in proptest::collection::vec(proptest::collection::vec(any::<bool>(), 30), 1..5),
    ) {
        let (mut listener, mut lost) = (Listener::new(at(0)), None);
        for now in (250..90_000).step_by(250) {
            // Each is heard, or is not, for three seconds at a time.
            let of = |beats: &Vec<bool>| {
                let slot = usize::try_from(now / 3_000).unwrap().min(beats.len() - 1);
                let last = (0..=slot).rev().find(|slot| beats[*slot]);
                let last = last.map(|last| at((u64::try_from(last).unwrap() * 3_000 + 2_999).min(now)));
                Signs { expected: 1, heard: last, lease: Some(at(now - now % 10_000)), ..Signs::default() }
            };
            let mut signs: BTreeMap<_, _> =
                others.iter().enumerate().map(|(number, beats)| (name(&format!("n{number}")), of(beats))).collect();
            signs.insert(name("gone"), Signs { expected: 1, ..Signs::default() });
            listener.cluster = Some(at(now));
            let is_lost = listener.look(&signs, at(now)).get(&name("gone")).is_some_and(|health| health.is_lost());
            prop_assert!(is_lost || lost.is_none(), "lost at {lost:?}, and no more at {now}");
            lost = lost.or(is_lost.then_some(now));
        }
        prop_assert!(lost.is_some_and(|lost| lost <= 44_000), "{lost:?}");
    }
}

/// When `a` is given up first by who began to lead at 1.8 s, after one that was heard last at 0: `a` and `b` are expected to be heard, and are as
/// `signs` gives them at a time.
fn given_up(begun: Listener, signs: impl Fn(u64) -> [Signs; 2]) -> Option<u64> {
    let mut listener = begun;
    (1_800..8_000).step_by(50).find(|now| {
        listener.cluster = Some(at(*now));
        let [a, b] = signs(*now);
        let all = [(name("a"), a), (name("b"), b)].into();
        listener.look(&all, at(*now)).get("a").is_some_and(|health| health.is_lost())
    })
}

/// A machine of which nothing was heard yet.
fn unheard(led: Option<u64>) -> Signs {
    Signs { expected: 2, led: led.map(at), ..Signs::default() }
}

#[test]
fn a_machine_that_went_with_who_led_is_given_up_by_that_ones_last_word() {
    let begun = || Listener::new(at(1_800));
    assert_eq!(given_up(begun(), |_| [unheard(Some(0)), unheard(None)]), Some(3_000));
    let renewed = Signs { lease: Some(at(1_000)), ..unheard(Some(0)) };
    assert_eq!(given_up(begun(), |_| [renewed, unheard(None)]), Some(4_000));
    let of_two = given_up(begun(), |now| [unheard(Some(0)), Signs { heard: Some(at(now)), ..unheard(None) }]);
    assert_eq!(of_two, Some(3_000));
}

#[test]
fn who_led_and_fell_silent_alone_takes_no_machine_along() {
    let begun = || Listener::new(at(1_800));
    let usual = given_up(begun(), |_| [unheard(None), unheard(None)]);
    let heard = |now: u64| (now >= 2_900).then_some(at(2_900));
    assert_eq!(
        given_up(begun(), |now| [Signs { heard: heard(now), ..unheard(Some(0)) }, unheard(None)]),
        usual
    );
    let opens = |now: u64| (now >= 2_000).then(|| at(now));
    assert_eq!(
        given_up(begun(), |now| [Signs { knock: opens(now), ..unheard(Some(0)) }, unheard(None)]),
        None
    );
    let nothing_runs = Signs { expected: 0, ..unheard(Some(0)) };
    assert_eq!(given_up(begun(), |_| [nothing_runs, unheard(None)]), None);
    let was_deaf = Listener { deaf: Some(at(1_800)), ..begun() };
    assert_eq!(given_up(was_deaf, |_| [unheard(Some(0)), unheard(None)]), usual);
    let broken = Listener { hears: at(1_900), ..begun() };
    assert_eq!(given_up(broken, |_| [unheard(Some(0)), unheard(None)]), usual);
}
