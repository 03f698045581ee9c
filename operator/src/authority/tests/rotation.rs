use super::*;

const POLICY: Policy = Policy { authority: Duration::from_hours(90), leaf: Duration::from_hours(3) };
const STEP: Duration = Duration::from_mins(20);

/// The keys of an authority, stepped through time as a leader does it.
struct Leader {
    keys: Keys,
    now: Timestamp,
    /// What was trusted at each time, and which certificate signed.
    history: Vec<(Timestamp, String, String)>,
}

impl Leader {
    fn new() -> Self {
        Self { keys: Keys::generate(POLICY, NOW).unwrap(), now: NOW, history: Vec::new() }
    }

    fn tick(&mut self, requested: bool) {
        if let Due::Now(step) = due(&self.keys, POLICY, requested, self.now).unwrap() {
            let next = take(&self.keys, step, POLICY, self.now).unwrap();
            // What a Secret holds is all that the next leader knows.
            self.keys = Keys::from_data(&next.to_data()).unwrap();
            assert_eq!(self.keys, next);
        }
        self.history.push((self.now, self.keys.bundle(), self.keys.current.certificate.clone()));
        self.now = self.now.plus(STEP);
    }

    fn phase(&self) -> (bool, bool) {
        (self.keys.next.is_some(), self.keys.previous.is_some())
    }
}

#[test]
fn through_rotations_everything_that_is_valid_is_trusted_by_everybody() {
    let mut leader = Leader::new();
    let mut signers = std::collections::BTreeSet::new();
    for _ in 0..600 {
        leader.tick(false);
        let (now, bundle, signer) = leader.history.last().unwrap().clone();
        signers.insert(signer.clone());
        for (then, trusted, signed) in leader.history.iter().rev() {
            if now.since(*then) >= POLICY.leaf {
                break;
            }
            assert!(bundle.contains(signed.trim_end()), "a leaf of {then} is trusted at {now}");
            assert!(
                trusted.contains(signer.trim_end()),
                "who heard at {then} trusts what is signed at {now}"
            );
        }
    }
    assert!(signers.len() >= 3, "{} keys in 200 hours", signers.len());
}

#[test]
fn a_rotation_that_is_asked_for_goes_through_its_phases_once() {
    let mut leader = Leader::new();
    leader.tick(false);
    assert_eq!(leader.phase(), (false, false));
    let first = leader.keys.current.clone();
    leader.tick(true);
    assert_eq!(leader.phase(), (true, false));
    assert_eq!(leader.keys.current, first);
    let next = leader.keys.next.clone().unwrap();
    let mut phases = vec![leader.phase()];
    for _ in 0..24 {
        leader.tick(false);
        if phases.last() != Some(&leader.phase()) {
            phases.push(leader.phase());
        }
    }
    assert_eq!(phases, [(true, false), (false, true), (false, false)]);
    assert_eq!(leader.keys.current, next);
}

#[test]
fn nothing_is_due_before_its_time_and_a_late_leader_does_it_at_once() {
    let keys = Keys::generate(POLICY, NOW).unwrap();
    let Due::At(at) = due(&keys, POLICY, false, NOW).unwrap() else { panic!("due at once") };
    let whole = at.since(NOW);
    assert!(whole.abs_diff(POLICY.authority * 2 / 3) < Duration::from_mins(10), "{whole:?}");
    assert_eq!(due(&keys, POLICY, false, at.plus(POLICY.authority)).unwrap(), Due::Now(Step::Announce));
    assert_eq!(due(&keys, POLICY, true, NOW).unwrap(), Due::Now(Step::Announce));
}

#[test]
fn a_step_that_another_leader_has_taken_changes_nothing() {
    let keys = Keys::generate(POLICY, NOW).unwrap();
    let announced = take(&keys, Step::Announce, POLICY, NOW).unwrap();
    assert_eq!(take(&announced, Step::Announce, POLICY, NOW).unwrap(), announced);
    assert_eq!(take(&keys, Step::Switch, POLICY, NOW).unwrap(), keys);
    assert_eq!(take(&keys, Step::Forget, POLICY, NOW).unwrap(), keys);
}

#[test]
fn an_authority_signs_with_its_new_key_when_it_is_replaced() {
    let keys = Keys::generate(POLICY, NOW).unwrap();
    let trust: TrustDomain = "prod.example.org".parse().unwrap();
    let authority = Authority::from_keys(&keys, trust, POLICY).unwrap();
    let announced = take(&keys, Step::Announce, POLICY, NOW).unwrap();
    authority.replace(&announced).unwrap();
    assert_eq!((authority.bundle().len(), authority.generation()), (2, 1));
    let before = authority.issue("hub", &request(&[]), NOW).unwrap();
    let switched = take(&announced, Step::Switch, POLICY, NOW).unwrap();
    authority.replace(&switched).unwrap();
    let after = authority.issue_to_pod("default/rag/llm/0", Some("uid-7"), &request(&[]), NOW).unwrap();
    assert_ne!(before.chain[1], after.chain[1]);
    assert!(authority.bundle().contains(&before.chain[1]));
    assert_eq!(after.not_after, NOW.plus(POLICY.leaf));
    let (_, leaf) = {
        use x509_parser::prelude::FromDer;
        x509_parser::prelude::X509Certificate::from_der(&after.chain[0]).unwrap()
    };
    let names = format!("{:?} {}", leaf.subject_alternative_name().unwrap().unwrap().value, leaf.subject());
    assert!(
        names.contains("spiffe://prod.example.org/default/rag/llm/0") && names.contains("uid-7"),
        "{names}"
    );
}

#[test]
fn a_damaged_secret_is_refused_by_the_name_of_its_part() {
    let data = Keys::generate(POLICY, NOW).unwrap().to_data();
    for part in ["ca.crt", "ca.key"] {
        let mut missing = data.clone();
        missing.remove(part);
        let error = Keys::from_data(&missing).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
        let mut damaged = data.clone();
        damaged.insert(part.to_owned(), vec![0xff; 9]);
        let error = Keys::from_data(&damaged).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
        assert_eq!(error.code(), Code::AuthorityUnusable);
    }
    let other = Keys::generate(POLICY, NOW).unwrap().to_data();
    let half =
        [("ca.crt".to_owned(), data["ca.crt"].clone()), ("ca.key".to_owned(), other["ca.key"].clone())];
    assert!(Keys::from_data(&half.into()).is_err(), "a key that is not the certificate's");
}
