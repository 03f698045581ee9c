//! Pods that prove themselves with their service account's token.

use std::sync::atomic::{AtomicUsize, Ordering};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures::future::BoxFuture;
use kontrol_core::{code::Code, trust::TrustDomain};
use kontrol_proto::status::problem_of;

use super::*;
use crate::authority::{Keys, Policy};

/// Tokens that say that they are for us, `{"aud":["kontrol.dev"]}`; their signatures say what the API server says of them.
const GOOD: &str = "h.eyJhdWQiOlsia29udHJvbC5kZXYiXX0.good";
const ELSEWHERE: &str = "h.eyJhdWQiOlsia29udHJvbC5kZXYiXX0.elsewhere";
const NO_POD: &str = "h.eyJhdWQiOlsia29udHJvbC5kZXYiXX0.no-pod";
const STRANGER: &str = "h.eyJhdWQiOlsia29udHJvbC5kZXYiXX0.stranger";
const SILENCE: &str = "h.eyJhdWQiOlsia29udHJvbC5kZXYiXX0.silence";
const UID: &str = "5f0c";

/// An API server and a store with one pod; how many reviews are under way, and were at most.
#[derive(Default)]
struct Cluster {
    reviews: AtomicUsize,
    most: AtomicUsize,
    asked: AtomicUsize,
}

impl Pods for Cluster {
    fn review(&self, token: String) -> BoxFuture<'_, Result<Review, String>> {
        let known = Review {
            authenticated: true,
            audiences: vec![AUDIENCE.to_owned()],
            username: "system:serviceaccount:default:default".to_owned(),
            pod_name: Some("rag-llm-0-3".to_owned()),
            pod_uid: Some(UID.to_owned()),
            node: Some("node-1".to_owned()),
            ..Review::default()
        };
        let review = match token.as_str() {
            GOOD => Ok(known),
            ELSEWHERE => Ok(Review { audiences: vec!["https://kubernetes".to_owned()], ..known }),
            NO_POD => Ok(Review { pod_uid: None, ..known }),
            STRANGER => Ok(Review { pod_uid: Some("other".to_owned()), ..known }),
            SILENCE => Err("timed out".to_owned()),
            _ => Ok(Review { error: "invalid bearer token".to_owned(), ..Review::default() }),
        };
        Box::pin(async move {
            self.asked.fetch_add(1, Ordering::SeqCst);
            let now = self.reviews.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            tokio::task::yield_now().await;
            self.reviews.fetch_sub(1, Ordering::SeqCst);
            review
        })
    }

    fn subject(&self, pod: Pod) -> BoxFuture<'_, Option<String>> {
        Box::pin(async move { (pod.uid == UID).then(|| SUBJECT.to_owned()) })
    }
}

fn token(claims: &str) -> String {
    format!("header.{}.signature", URL_SAFE_NO_PAD.encode(claims))
}

async fn cluster() -> House {
    cluster_of(Arc::default()).await
}

async fn cluster_of(cluster: Arc<Cluster>) -> House {
    let keys = Keys::generate(Policy::default(), clock::now()).unwrap();
    let authority = Authority::from_keys(&keys, TrustDomain::default(), Policy::default()).unwrap();
    let known: Known = Arc::new(|_| true);
    house_with(authority, Proof::Pod(cluster), known).await
}

impl House {
    async fn issue_to(&self, subject: &str, token: &str) -> Result<(IssueResponse, KeyPair), tonic::Status> {
        let key = KeyPair::generate().unwrap();
        let csr = CertificateParams::default().serialize_request(&key).unwrap().der().to_vec();
        let request = IssueRequest {
            subject: subject.into(),
            service_account_token: token.into(),
            csr: csr.into(),
            ..IssueRequest::default()
        };
        let issued = IdentityClient::new(self.connect().await).issue(request).await?;
        Ok((issued.into_inner(), key))
    }
}

#[tokio::test]
async fn every_refusal_has_its_reason_its_code_and_its_count() {
    let house = cluster().await;
    let now = clock::now().as_micros() / 1_000_000;
    let expired = token(&format!(r#"{{"aud":["kontrol.dev"],"exp":{}}}"#, now - 60));
    let foreign = token(&format!(r#"{{"aud":"vault","exp":{}}}"#, now + 600));
    let forged = token(&format!(r#"{{"aud":["kontrol.dev"],"exp":{}}}"#, now + 600));
    let cases = [
        (forged.as_str(), SUBJECT, Reason::Forged, Code::TokenRefused),
        ("no token at all", SUBJECT, Reason::Forged, Code::TokenRefused),
        ("", SUBJECT, Reason::Forged, Code::TokenRefused),
        (&expired, SUBJECT, Reason::Expired, Code::TokenRefused),
        (&foreign, SUBJECT, Reason::ForeignAudience, Code::ForeignAudience),
        (ELSEWHERE, SUBJECT, Reason::ForeignAudience, Code::ForeignAudience),
        (NO_POD, SUBJECT, Reason::Unbound, Code::TokenRefused),
        (STRANGER, SUBJECT, Reason::Unknown, Code::UnknownSubject),
        (GOOD, "default/rag/llm/1", Reason::ForeignSubject, Code::ForeignSubject),
        (GOOD, "operator", Reason::ForeignSubject, Code::ForeignSubject),
        (SILENCE, SUBJECT, Reason::Unreviewed, Code::ReviewUnavailable),
    ];
    for (token, subject, reason, code) in cases {
        let before = house.figures.refusals(reason);
        let refusal = house.issue_to(subject, token).await.unwrap_err();
        let problem = problem_of(&refusal).unwrap();
        assert_eq!(problem.code, code.as_str(), "{token}: {}", problem.message);
        assert_eq!(i32::from(refusal.code()), code.status().number(), "{token}");
        assert_eq!(house.figures.refusals(reason), before + 1, "{token}");
        assert!(token.len() < 3 || !problem.message.contains(token), "{}", problem.message);
    }
    let join = house.issue(SUBJECT, &house.authority.token(SUBJECT)).await.unwrap_err();
    assert_eq!(
        problem_of(&join).unwrap().code,
        Code::TokenRefused.as_str(),
        "a join token proves nothing here"
    );
}

#[tokio::test]
async fn the_api_server_is_asked_about_a_few_tokens_at_a_time_and_never_about_what_is_none() {
    let cluster = Arc::new(Cluster::default());
    let house = cluster_of(Arc::clone(&cluster)).await;
    for token in ["junk", "a.b.c", &token(r#"{"aud":"vault"}"#), &token("{}")] {
        house.issue_to(SUBJECT, token).await.unwrap_err();
    }
    assert_eq!(cluster.asked.load(Ordering::SeqCst), 0);
    let many = futures::future::join_all((0..40).map(|_| house.issue_to(SUBJECT, GOOD))).await;
    assert!(many.iter().all(Result::is_ok));
    assert_eq!(cluster.asked.load(Ordering::SeqCst), 40);
    assert!(cluster.most.load(Ordering::SeqCst) <= 8, "{:?}", cluster.most);
}

#[tokio::test]
async fn a_pods_certificate_opens_a_session_of_that_pod_alone() {
    let mut house = cluster().await;
    let (issued, key) = house.issue_to(SUBJECT, GOOD).await.unwrap();
    let hello =
        |pod_uid: &str| Hello { subject: SUBJECT.into(), pod_uid: pod_uid.into(), ..Hello::default() };
    let mut wrong = house.says(Some(identity(&issued, &key)), hello("another")).await.unwrap();
    let (_, problem) = goodbye(&mut wrong).await;
    assert_eq!(problem.code, Code::SubjectMismatch.as_str());
    assert_eq!(house.figures.refusals(Reason::ForeignSubject), 1);
    let _open = house.says(Some(identity(&issued, &key)), hello(UID)).await.unwrap();
    let Event::Opened { hello, .. } = house.event().await else { panic!("not opened") };
    assert_eq!(hello.pod_uid, UID);
    assert_eq!(house.figures.sessions(), 1);
}

#[tokio::test]
async fn a_certificate_of_another_trust_domain_is_refused_though_the_same_key_signed_it() {
    let keys = Keys::generate(Policy::default(), clock::now()).unwrap();
    let here = Authority::from_keys(&keys, TrustDomain::default(), Policy::default()).unwrap();
    let there = Authority::from_keys(&keys, "other.example".parse().unwrap(), Policy::default()).unwrap();
    let house = house_with(here, Proof::Pod(Arc::new(Cluster::default())), Arc::new(|_| true)).await;
    let key = KeyPair::generate().unwrap();
    let csr = CertificateParams::default().serialize_request(&key).unwrap().der().to_vec();
    let issued = there.issue(SUBJECT, &csr, clock::now()).unwrap();
    let identity = (issued.chain, PrivateKeyDer::Pkcs8(key.serialize_der().into()));
    assert!(house.refuses(identity).await);
    assert_eq!(house.figures.refusals(Reason::ForeignCertificate), 1);
}

#[tokio::test]
async fn after_a_rotation_old_certificates_serve_on_and_new_ones_come_from_the_new_key() {
    use crate::authority::{Step, take};
    let policy = Policy::default();
    let keys = Keys::generate(policy, clock::now()).unwrap();
    let authority = Authority::from_keys(&keys, TrustDomain::default(), policy).unwrap();
    let mut house = house_with(authority, Proof::Pod(Arc::new(Cluster::default())), Arc::new(|_| true)).await;
    let (before, key) = house.issue_to(SUBJECT, GOOD).await.unwrap();
    let announced = take(&keys, Step::Announce, policy, clock::now()).unwrap();
    let switched = take(&announced, Step::Switch, policy, clock::now()).unwrap();
    house.authority.replace(&switched).unwrap();
    let (after, new_key) = house.issue_to(SUBJECT, GOOD).await.unwrap();
    assert_ne!(before.chain[1], after.chain[1]);
    assert_eq!(after.authorities.len(), 2);
    for identity in [identity(&before, &key), identity(&after, &new_key)] {
        let hello = Hello { subject: SUBJECT.into(), pod_uid: UID.into(), ..Hello::default() };
        let session = house.says(Some(identity), hello).await.unwrap();
        assert!(matches!(house.event().await, Event::Opened { .. }));
        drop(session);
        assert!(matches!(house.event().await, Event::Closed { .. }));
    }
}

#[test]
fn what_is_counted_is_named_by_convention_and_with_closed_labels() {
    use prometheus::core::Collector;
    let families = Figures::default().collect();
    let mut text = String::new();
    prometheus::TextEncoder::new().encode_utf8(&families, &mut text).unwrap();
    assert!(text.contains("kontrol_operator_identity_refused_total{reason=\"expired\"} 0"), "{text}");
    for family in families {
        let counter = family.get_field_type() == prometheus::proto::MetricType::COUNTER;
        assert_eq!(family.name().ends_with("_total"), counter, "{}", family.name());
        assert!(!family.help().is_empty());
    }
}
