//! Certificates that are not of this world, and tokens whose time is over: refused with a reason, counted and logged.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kontrol_e2e_cluster::lab::{
    Lab,
    kontrol::{SOON, SYSTEM, name_of, object, test_widget},
    web::{address, get},
};
use kontrol_proto::v1::Hello;
use kontrol_sidecar::{
    control::Wire,
    identity::{Material, Tls, authorities, spiffe},
};
use kube::Api;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType, SigningKey as _,
};
use serde_json::{Value, json};
use tokio::{io::AsyncReadExt as _, net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use crate::identity::{Asks, refused, token};

/// How long an answer of the other side may take.
const ANSWER: Duration = Duration::from_secs(10);

/// What stands in the way of using a connection, where something does.
type Refused = Result<(), String>;

/// Another Kontrol's authority.
fn other_authority() -> Issuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    Issuer::new(params, KeyPair::generate().unwrap())
}

/// This cluster's own authority, and its certificate in PEM: what whoever stole its key could sign with.
async fn own_authority(lab: &Lab) -> (Issuer<'static, KeyPair>, String) {
    let secrets = Api::<Secret>::namespaced(lab.client().clone(), SYSTEM);
    let data = secrets.get("kontrol-authority").await.unwrap().data.unwrap();
    let text = |name: &str| String::from_utf8(data[name].0.clone()).unwrap();
    let (certificate, key) = (text("ca.crt"), KeyPair::from_pem(&text("ca.key")).unwrap());
    (Issuer::from_ca_cert_pem(&certificate, key).unwrap(), certificate)
}

/// A certificate for `id` by `issuer`, and the authorities that whoever shows it trusts.
fn material(issuer: &Issuer<'static, KeyPair>, id: &str, trusts: &str) -> Material {
    let mut params = CertificateParams::default();
    params.subject_alt_names.push(SanType::URI(id.try_into().unwrap()));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap();
    Material {
        chain: vec![certificate.der().clone()],
        key: key.into(),
        authorities: authorities(trusts.as_bytes()).unwrap(),
    }
}

/// Opens a session at the operator's control port, as a sidecar does.
async fn opens_session(control: &str, tls: &Tls, subject: &str) -> Refused {
    let hello = Hello { subject: subject.to_owned(), ..Hello::default() };
    let here = "kontrol.local".parse().unwrap();
    Wire::open(control, tls.control(), &here, hello).await.map(drop).map_err(|error| error.to_string())
}

/// Connects to a sidecar's peer port, and waits for the hello that it says to those whom it takes.
pub(crate) async fn is_greeted(peer: &str, tls: &Tls) -> Refused {
    let text = |error: std::io::Error| error.to_string();
    let tcp = TcpStream::connect(peer).await.map_err(text)?;
    let connector = TlsConnector::from(tls.client());
    let mut stream = connector.connect(spiffe::server_name(), tcp).await.map_err(text)?;
    let mut hello = [0; 256];
    match timeout(ANSWER, stream.read(&mut hello)).await {
        Ok(Ok(0)) => Err("closed without a word".to_owned()),
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(text(error)),
        Err(_) => Err("no answer".to_owned()),
    }
}

/// How many strangers' certificates a sidecar has refused.
async fn refused_by(target: &str) -> u64 {
    let text = get(target, "/metrics").await.unwrap();
    let begin = "kontrol_link_refusals_total{reason=\"foreign_certificate\"} ";
    text.lines().find_map(|line| line.strip_prefix(begin)).map_or(0, |count| count.parse().unwrap())
}

/// Waits until a pod's log has each of these words in one line.
pub(crate) async fn until_logged(lab: &Lab, (namespace, pod, container): (&str, &str, &str), words: &[&str]) {
    lab.wait_within(&format!("{pod} to log {words:?}"), SOON, async || {
        let log = lab.cluster().kubectl(&["-n", namespace, "logs", pod, "-c", container, "--tail=400"])?;
        let said = log.lines().any(|line| words.iter().all(|word| line.contains(word)));
        let last = log.lines().rev().take(5).map(str::to_owned).collect::<Vec<_>>();
        Ok(if said { Ok(()) } else { Err(last) })
    })
    .await
    .unwrap();
}

/// A lab with a widget that is ready, and its pod.
async fn with_widget(name: &str) -> (Lab, Pod, String) {
    let lab = Lab::with_kontrol(name).await.unwrap();
    lab.apply(&object("Widget", "known", &json!({"container": test_widget(&[])}))).unwrap();
    lab.until_ready("Widget", "known").await.unwrap();
    let pod = lab.until_pods("known", "known", 1).await.unwrap().remove(0);
    let subject = format!("{}/known/known/0", lab.namespace());
    (lab, pod, subject)
}

#[tokio::test]
async fn certificates_of_another_authority_or_trust_domain_are_refused_counted_and_logged() {
    let (lab, pod, subject) = with_widget("strangers").await;
    let control = Asks::new(&lab).await.control;
    let (peer, page) = (address(&pod, 7412), address(&pod, 7413));
    let (own, trusts) = own_authority(&lab).await;
    let name = name_of(&pod);
    let strangers = [
        // The right name, by somebody else's authority.
        (other_authority(), format!("spiffe://kontrol.local/{subject}"), "kontrol.local", "UnknownIssuer"),
        // By our own authority, but of another trust domain.
        (
            own,
            format!("spiffe://other.example/{subject}"),
            "other.example",
            "names no SPIFFE ID of this trust domain",
        ),
    ];
    for (issuer, id, domain, reason) in &strangers {
        let tls = Tls::new(&material(issuer, id, &trusts), domain.parse().unwrap()).unwrap();
        let leader = lab.leader().await.unwrap();
        let before = (refused(&lab, "foreign_certificate").await, refused_by(&page).await);
        let refusals = [opens_session(&control, &tls, &subject).await, is_greeted(&peer, &tls).await];
        assert!(refusals.iter().all(Result::is_err), "{id}: {refusals:?}");
        println!("{id}: {refusals:?}");
        lab.wait_within("both refusals to be counted", SOON, async || {
            let after = (refused(&lab, "foreign_certificate").await, refused_by(&page).await);
            Ok(if after.0 > before.0 && after.1 > before.1 { Ok(()) } else { Err((before, after)) })
        })
        .await
        .unwrap();
        until_logged(&lab, (SYSTEM, &name_of(&leader), "operator"), &["a certificate was refused", reason])
            .await;
        until_logged(&lab, (lab.namespace(), &name, "kontrol-sidecar"), &["a peer was refused", reason])
            .await;
    }

    // The same steps with a certificate of this world go through: it is the certificate that is refused.
    let (own, trusts) = own_authority(&lab).await;
    let good = material(&own, &format!("spiffe://kontrol.local/{subject}"), &trusts);
    let good = Tls::new(&good, "kontrol.local".parse().unwrap()).unwrap();
    assert_eq!(is_greeted(&peer, &good).await, Ok(()));
}

/// The claims of a token.
fn claims(token: &str) -> Value {
    let middle = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(middle).unwrap()).unwrap()
}

/// The signature as tokens have it, both of its numbers at full length: they are integers in DER.
fn fixed(signature: &[u8]) -> Vec<u8> {
    let integer = |bytes: &[u8]| -> (Vec<u8>, usize) {
        let length = usize::from(bytes[1]);
        let digits: Vec<u8> = bytes[2..2 + length].iter().copied().skip_while(|byte| *byte == 0).collect();
        let mut padded = vec![0; 32 - digits.len()];
        padded.extend(digits);
        (padded, 2 + length)
    };
    let (mut first, next) = integer(&signature[2..]);
    first.extend(integer(&signature[2 + next..]).0);
    first
}

#[allow(clippy::disallowed_methods, reason = "tokens are dated by the wall clock")]
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

/// The token as it would be for another time, signed with the API server's own key.
fn signed(lab: &Lab, token: &str, from: u64, until: u64) -> String {
    let mut claims = claims(token);
    for (name, at) in [("iat", from), ("nbf", from), ("exp", until)] {
        claims[name] = json!(at);
    }
    let head = token.split('.').next().unwrap();
    let text = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let key = fs::read_to_string(lab.cluster().run().pki().join("sa.key")).unwrap();
    let signature = KeyPair::from_pem(&key).unwrap().sign(text.as_bytes()).unwrap();
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(fixed(&signature)))
}

#[tokio::test]
async fn a_token_whose_time_is_over_proves_nothing_is_counted_and_logged() {
    let (lab, pod, subject) = with_widget("expired").await;
    let asks = Asks::new(&lab).await;
    let name = name_of(&pod);
    let bound = ["--bound-object-kind=Pod", "--bound-object-name", &name, "--audience=kontrol.dev"];
    let good = token(&lab, &bound);
    let expired = signed(&lab, &good, now() - 7200, now() - 3600);
    let leader = lab.leader().await.unwrap();
    let before = refused(&lab, "expired").await;
    let refusal = asks.ask(&subject, &expired).await.unwrap_err().to_string();
    assert!(refusal.contains("the token expired"), "{refusal}");
    assert!(!refusal.contains(&expired), "a token is not repeated: {refusal}");
    assert!(refused(&lab, "expired").await > before, "{refusal}");
    let words = ["certificate refused", "expired", &subject];
    until_logged(&lab, (SYSTEM, &name_of(&leader), "operator"), &words).await;

    // It is its time alone that is wrong with it: signed in the same way, what holds is taken.
    let renewed = signed(&lab, &good, now() - 60, now() + 600);
    asks.ask(&subject, &renewed).await.expect("the pod's token proves the pod");
}
