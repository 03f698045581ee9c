use proptest::prelude::*;

use super::*;

const START: u64 = 1_000_000_000;

fn at(millis: u64) -> Timestamp {
    Timestamp::from_micros((START + millis) * 1_000)
}

fn name(node: &str) -> Arc<str> {
    node.into()
}

/// A listener that has listened for long and hears the cluster.
fn listener(now: Timestamp) -> Listener {
    Listener { since: at(0).minus(Duration::from_hours(1)), cluster: Some(now) }
}

fn heard(millis: u64) -> Signs {
    Signs { expected: 2, heard: Some(at(millis)), ..Signs::default() }
}

fn health(signs: &[(&str, Signs)], now: Timestamp) -> BTreeMap<Arc<str>, NodeHealth> {
    let signs = signs.iter().map(|(node, signs)| (name(node), *signs)).collect();
    fold(&signs, listener(now), now)
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
    assert_eq!(
        fold(&alone, listener(now), now),
        [(name("a"), NodeHealth::Lost { since: at(10_000) })].into()
    );
    let deaf = Listener { cluster: Some(at(10_500)), ..listener(now) };
    assert!(fold(&alone, deaf, now).is_empty());
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
    let unreachable = Listener { cluster: None, ..listener(at(40_000)) };
    assert!(fold(&[(name("a"), signs)].into(), unreachable, at(40_000)).is_empty());
}

#[test]
fn who_has_just_begun_to_listen_gives_everybody_time_to_come_back() {
    let listener = |now| Listener { since: at(10_000), cluster: Some(now) };
    let silent = Signs { expected: 1, ..Signs::default() };
    let signs = |now: u64| [(name("a"), silent), (name("b"), heard(now - 10))].into();
    assert!(fold(&signs(14_900), listener(at(14_900)), at(14_900)).is_empty());
    assert!(matches!(
        fold(&signs(15_000), listener(at(15_000)), at(15_000))[&name("a")],
        NodeHealth::Suspect { .. }
    ));
    assert!(fold(&signs(16_500), listener(at(16_500)), at(16_500))[&name("a")].is_lost());
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
    (0..3_u32, moment(), moment(), moment(), moment())
        .prop_map(|(expected, heard, lease, kubelet, knock)| Signs { expected, heard, lease, kubelet, knock })
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
        let listener = Listener { since: at(since), cluster };
        for (node, health) in fold(&signs, listener, now) {
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
    ) {
        let now = at(now);
        let knocked = Signs { knock: Some(signs.knock.unwrap_or(at(0)).max(at(knock))), ..signs };
        let of = |signs| {
            let all = [(name("a"), signs), (name("b"), Signs { expected: 1, heard: Some(now), ..Signs::default() })];
            fold(&all.into(), listener(now), now).get("a").copied().unwrap_or_default()
        };
        let rank = |health| match health {
            NodeHealth::Healthy => 0,
            NodeHealth::Suspect { .. } => 1,
            NodeHealth::Lost { .. } => 2,
        };
        prop_assert!(rank(of(knocked)) <= rank(of(signs)));
    }
}
