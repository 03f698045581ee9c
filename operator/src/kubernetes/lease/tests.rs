use proptest::prelude::*;

use super::*;

fn at(millis: u64) -> Timestamp {
    Timestamp::from_micros(millis * 1000)
}

fn candidate(me: &str) -> Candidate {
    Candidate {
        namespace: "kontrol-system".into(),
        name: "kontrol-operator".into(),
        me: me.into(),
        duration: Duration::from_secs(2),
        renew: Duration::from_millis(500),
    }
}

/// The same, whose renewals are good for so many milliseconds.
fn good_for(me: &str, millis: u64) -> Candidate {
    Candidate { duration: Duration::from_millis(millis), ..candidate(me) }
}

fn lease(version: u64, holder: &str) -> Lease {
    Lease {
        version,
        holder: holder.into(),
        duration: Duration::from_secs(2),
        transitions: 3,
        ..Lease::default()
    }
}

fn object(lease: &Lease) -> Outcome {
    Outcome::Done(
        json!({
            "metadata": {"resourceVersion": lease.version.to_string()},
            "spec": {
                "holderIdentity": &*lease.holder,
                "leaseDurationSeconds": lease.duration.as_secs(),
                "leaseTransitions": lease.transitions,
            },
        })
        .to_string(),
    )
}

/// A candidate that has looked at `lease` at 0.
fn looked(me: &str, lease: Option<&Lease>) -> Election {
    let mut election = Election::new(candidate(me), at(0));
    let (asked, request) = election.next(at(0), at(0)).unwrap();
    assert_eq!((asked.what, request.verb), (What::Look, Verb::Get));
    let outcome = lease.map_or_else(|| Outcome::Gone(String::new()), object);
    election.answered(asked, &outcome, at(0));
    election.watched(true, at(0));
    election
}

/// A candidate that leads since 0.
fn leader() -> Election {
    let mut election = looked("a", None);
    let (asked, request) = election.next(at(0), at(0)).unwrap();
    assert_eq!((asked.what, request.verb), (What::Take, Verb::Create));
    election.answered(asked, &object(&lease(1, "a")), at(5));
    assert_eq!(until(&election), Some(at(2000)));
    election
}

fn until(election: &Election) -> Option<Timestamp> {
    election.tenure().map(|tenure| tenure.until)
}

/// What is asked for, up to and at a time.
fn asks(election: &mut Election, from: u64, to: u64) -> Vec<(u64, What)> {
    (from..=to)
        .filter_map(|now| election.next(at(now), at(now)).map(|(asked, _)| (now, asked.what)))
        .collect()
}

#[test]
fn a_lease_that_is_not_there_is_made_and_a_free_one_taken() {
    leader();
    let mut election = looked("a", Some(&lease(7, "")));
    let (_, request) = election.next(at(0), at(0)).unwrap();
    assert_eq!((request.verb, &request.body["metadata"]["resourceVersion"]), (Verb::Replace, &json!("7")));
    assert_eq!(request.body["spec"]["leaseTransitions"], 4);
}

#[test]
fn anothers_lease_is_taken_exactly_when_it_was_seen_unchanged_for_its_whole_duration() {
    let mut election = looked("a", Some(&lease(7, "b")));
    assert_eq!(asks(&mut election, 0, 1999), []);
    election.see(Some(lease(8, "b")), at(400));
    assert_eq!(election.due(), Some(at(2400)));
    assert_eq!(asks(&mut election, 400, 2399), []);
    is_sure(&mut election, &lease(8, "b"), 2400);
    assert_eq!(asks(&mut election, 2405, 2405), [(2405, What::Take)]);
}

/// The lease has run out by what the watch shows, and is still so when it is asked for, which takes 5 ms.
fn is_sure(election: &mut Election, lease: &Lease, now: u64) {
    let (asked, _) = election.next(at(now), at(now)).unwrap();
    assert_eq!(asked.what, What::Look);
    election.answered(asked, &object(lease), at(now + 5));
}

#[test]
fn who_is_overtaken_names_its_predecessor() {
    let mut election = looked("a", Some(&lease(7, "b")));
    is_sure(&mut election, &lease(7, "b"), 2000);
    let (asked, _) = election.next(at(2005), at(2005)).unwrap();
    assert_eq!(asked.what, What::Take);
    election.answered(asked, &object(&lease(8, "a")), at(2010));
    assert_eq!(
        election.tenure(),
        Some(&Tenure { until: at(4005), former: "b".into(), silent_since: Some(at(0)) })
    );
}

#[test]
fn since_when_a_predecessor_is_silent_is_known_though_a_watch_shows_the_change_first() {
    let mut election = looked("a", Some(&lease(7, "b")));
    election.see(Some(lease(8, "b")), at(400));
    is_sure(&mut election, &lease(8, "b"), 2400);
    let (asked, _) = election.next(at(2405), at(2405)).unwrap();
    election.see(Some(lease(9, "a")), at(2408));
    election.answered(asked, &object(&lease(9, "a")), at(2410));
    assert_eq!(election.tenure().unwrap().silent_since, Some(at(400)));
}

#[test]
fn a_predecessor_that_gave_the_lease_up_did_not_fall_silent() {
    let mut election = looked("a", Some(&lease(7, "b")));
    election.see(Some(lease(8, "")), at(400));
    let (asked, _) = election.next(at(400), at(400)).unwrap();
    election.answered(asked, &object(&lease(9, "a")), at(410));
    let tenure = election.tenure().unwrap();
    assert_eq!((&*tenure.former, tenure.silent_since), ("b", None));
}

#[test]
fn a_renewal_that_a_watch_has_not_yet_shown_is_found_before_the_lease_is_taken() {
    let mut election = looked("a", Some(&lease(7, "b")));
    is_sure(&mut election, &lease(8, "b"), 2000);
    assert_eq!(asks(&mut election, 2005, 4004), []);
}

#[test]
fn an_api_server_that_answers_late_has_stood_still_for_the_holder_too() {
    let mut election = looked("a", Some(&lease(7, "b")));
    let mut late = |now: u64| {
        let (asked, _) = election.next(at(now), at(now)).unwrap();
        assert_eq!(asked.what, What::Look);
        election.answered(asked, &object(&lease(7, "b")), at(now + 600));
        asks(&mut election, now + 600, now + 2599)
    };
    assert_eq!(late(2000), []);
    // Once for each version: a server that is always slow has a leader all the same.
    assert_eq!(late(4600)[0], (5200, What::Take));
}

#[test]
fn where_no_watch_shows_the_lease_it_is_looked_at_twice_a_second() {
    let mut election = looked("a", Some(&lease(7, "b")));
    election.watched(false, at(100));
    let mut looks = Vec::new();
    for now in 100..=2100 {
        if let Some((asked, _)) = election.next(at(now), at(now)) {
            looks.push((now, asked.what));
            election.answered(asked, &object(&lease(7, "b")), at(now));
        }
    }
    let what = |now| (now, What::Look);
    assert_eq!(looks[..6], [what(100), what(600), what(1100), what(1600), what(2000), (2001, What::Take)]);
}

#[test]
fn silence_of_the_api_server_is_not_silence_of_the_holder() {
    let mut election = looked("a", Some(&lease(7, "b")));
    election.watched(false, at(1000));
    let (asked, _) = election.next(at(1000), at(1000)).unwrap();
    election.answered(asked, &Outcome::Failed("refused".into()), at(1001));
    let mut now = 1001;
    while now < 9000 {
        if let Some((asked, _)) = election.next(at(now), at(now)) {
            assert_eq!(asked.what, What::Look);
            election.answered(asked, &Outcome::Failed("refused".into()), at(now));
        }
        now += 1;
    }
    election.see(Some(lease(7, "b")), at(9000));
    election.look = false;
    election.watched(true, at(9000));
    assert_eq!(asks(&mut election, 9700, 10_999), []);
    is_sure(&mut election, &lease(7, "b"), 11_000);
    assert_eq!(asks(&mut election, 11_005, 11_005), [(11_005, What::Take)]);
}

#[test]
fn a_renewal_is_asked_for_again_whether_or_not_the_one_before_was_answered() {
    let mut election = leader();
    assert_eq!(asks(&mut election, 5, 1700), [500, 1000, 1500].map(|at| (at, What::Renew)));
}

#[test]
fn a_renewal_that_failed_is_asked_for_again_at_once() {
    let mut election = leader();
    let (asked, _) = election.next(at(500), at(500)).unwrap();
    election.answered(asked, &Outcome::Failed("reset".into()), at(501));
    assert_eq!(asks(&mut election, 501, 700), [(601, What::Renew)]);
}

#[test]
fn a_lease_counts_whole_seconds_and_at_least_one() {
    for (millis, seconds) in [(0, 1), (900, 1), (1000, 1), (2500, 2), (3999, 3)] {
        let mut election = Election::new(good_for("a", millis), at(0));
        election.look = false;
        let (asked, request) = election.next(at(0), at(0)).unwrap();
        assert_eq!(request.body["spec"]["leaseDurationSeconds"], seconds);
        election.answered(asked, &object(&lease(1, "a")), at(5));
        assert_eq!(until(&election), Some(at(seconds * 1000)), "{millis} ms");
    }
}

#[test]
fn a_renewal_counts_from_when_it_was_asked_for() {
    let mut election = leader();
    let (first, _) = election.next(at(500), at(500)).unwrap();
    let (second, _) = election.next(at(1000), at(1000)).unwrap();
    election.answered(second, &object(&lease(3, "a")), at(1400));
    assert_eq!(until(&election), Some(at(3000)));
    election.answered(first, &object(&lease(2, "a")), at(1500));
    assert_eq!(until(&election), Some(at(3000)));
}

#[test]
fn a_lapse_is_no_loss_and_ends_with_the_next_renewal() {
    let mut election = leader();
    let (asked, _) = election.next(at(500), at(500)).unwrap();
    election.answered(asked, &Outcome::Failed("no answer".into()), at(2500));
    assert_eq!(until(&election), Some(at(2000)));
    let (asked, _) = election.next(at(2500), at(2500)).unwrap();
    assert_eq!(asked.what, What::Renew);
    election.answered(asked, &object(&lease(2, "a")), at(2600));
    assert_eq!(until(&election), Some(at(4500)));
}

#[test]
fn another_holder_that_is_seen_ends_the_tenure() {
    let mut election = leader();
    election.see(Some(lease(2, "b")), at(2100));
    assert_eq!(until(&election), None);
    // A refused renewal alone says nothing of who holds it.
    let mut election = leader();
    let (asked, _) = election.next(at(500), at(500)).unwrap();
    election.answered(asked, &Outcome::Invalid("a test failed".into()), at(510));
    assert_eq!(until(&election), Some(at(2000)));
    let (asked, _) = election.next(at(510), at(510)).unwrap();
    assert_eq!(asked.what, What::Look);
    election.answered(asked, &object(&lease(2, "b")), at(520));
    assert_eq!(until(&election), None);
}

#[test]
fn what_is_older_than_what_is_known_is_nothing_new() {
    let mut election = leader();
    election.see(Some(lease(0, "b")), at(10));
    election.removed(0, at(10));
    assert_eq!(until(&election), Some(at(2000)));
}

#[test]
fn a_lease_that_was_removed_stops_its_holder_until_it_has_made_another() {
    let mut election = leader();
    election.removed(2, at(100));
    assert_eq!(until(&election), Some(at(100)));
    let (asked, request) = election.next(at(100), at(100)).unwrap();
    assert_eq!(request.verb, Verb::Create);
    election.answered(asked, &object(&lease(3, "a")), at(110));
    assert_eq!(until(&election), Some(at(2100)));
}

#[test]
fn a_process_of_the_same_name_takes_its_lease_up_again() {
    let mut election = looked("a", Some(&lease(7, "a")));
    assert_eq!(until(&election), None);
    let (asked, _) = election.next(at(0), at(0)).unwrap();
    assert_eq!(asked.what, What::Renew);
    election.answered(asked, &object(&lease(8, "a")), at(10));
    assert_eq!(until(&election), Some(at(2000)));
}

#[test]
fn only_the_holder_can_renew_or_give_up() {
    let mut election = leader();
    let (_, renewal) = election.next(at(500), at(500)).unwrap();
    let given = election.give_up(at(600)).unwrap();
    for request in [renewal, given] {
        assert_eq!(request.body[0], json!({"op": "test", "path": "/spec/holderIdentity", "value": "a"}));
    }
    assert_eq!((until(&election), election.give_up(at(600))), (None, None));
}

/// A server with one lease, which answers late, or never.
#[derive(Default)]
struct Server {
    lease: Option<Lease>,
    version: u64,
}

impl Server {
    fn carry_out(&mut self, me: &str, what: What, request: &Request) -> Outcome {
        if what == What::Look {
            return self.lease.as_ref().map_or_else(|| Outcome::Gone(String::new()), object);
        }
        let known = request.body["metadata"]["resourceVersion"].as_str().map(|text| text.parse().unwrap());
        let holds = match (what, request.verb, &self.lease) {
            (What::Take, Verb::Create, lease) => lease.is_none(),
            (What::Take, _, lease) => lease.as_ref().map(|lease| lease.version) == known,
            (_, _, lease) => lease.as_ref().is_some_and(|lease| &*lease.holder == me),
        };
        if !holds {
            return Outcome::Conflict(String::new());
        }
        self.version += 1;
        let mut made = lease(self.version, me);
        let body = &request.body;
        let said = &body["spec"]["leaseDurationSeconds"];
        let said = if said.is_null() { &body[1]["value"] } else { said };
        made.duration = Duration::from_secs(said.as_u64().unwrap());
        let outcome = object(&made);
        self.lease = Some(made);
        outcome
    }
}

enum On {
    Server(Asked, Request),
    Client(Asked, Outcome),
    Shown(Lease),
}

proptest! {
    /// Requests and answers take any time or are lost, changes are shown late, processes stand still: never do two act.
    #[test]
    fn never_do_two_act(seed in any::<u64>(), slowest in 1_u64..4000, millis in prop_oneof![Just(2000), 0_u64..4000]) {
        let mut state = seed | 1;
        let mut draw = |most: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % most
        };
        let mut server = Server::default();
        let names = ["a", "b", "c"];
        let mut all = names.map(|name| Election::new(good_for(name, millis), at(0)));
        let mut stands = [0_u64; 3];
        let mut wire: Vec<(u64, usize, On)> = Vec::new();
        let mut led = 0;
        for now in (0..60_000).step_by(10) {
            if draw(300) == 0 {
                stands[usize::try_from(draw(3)).unwrap()] = now + draw(5000);
            }
            let (due, later) = std::mem::take(&mut wire).into_iter().partition::<Vec<_>, _>(|(at, who, on)| {
                *at <= now && (matches!(on, On::Server(..)) || stands[*who] <= now)
            });
            wire = later;
            for (_, who, on) in due {
                match on {
                    On::Server(asked, request) => {
                        let version = server.version;
                        let outcome = server.carry_out(names[who], asked.what, &request);
                        if server.version > version {
                            for other in 0..3 {
                                let shown = server.lease.clone().unwrap();
                                wire.push((now + draw(slowest), other, On::Shown(shown)));
                            }
                        }
                        let lost = draw(10) == 0;
                        let outcome = if lost { Outcome::Failed("lost".into()) } else { outcome };
                        wire.push((now + draw(slowest), who, On::Client(asked, outcome)));
                    }
                    On::Client(asked, outcome) => all[who].answered(asked, &outcome, at(now)),
                    On::Shown(lease) => {
                        all[who].watched(true, at(now));
                        all[who].see(Some(lease), at(now));
                    }
                }
            }
            for (who, election) in all.iter_mut().enumerate() {
                if stands[who] <= now && let Some((asked, request)) = election.next(at(now), at(now)) {
                    wire.push((now + draw(slowest), who, On::Server(asked, request)));
                }
            }
            let acting = all.iter().filter(|election| until(election).is_some_and(|until| until > at(now)));
            let acting = acting.count();
            prop_assert!(acting <= 1, "at {now} ms");
            led += usize::from(acting == 1);
        }
        prop_assert!(slowest > 500 || millis < 2000 || led > 3000, "led for {led} of 6000");
    }
}
