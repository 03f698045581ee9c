use std::{fs, os::unix::fs::PermissionsExt};

use super::*;

mod rotation;

const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

fn authority() -> (tempfile::TempDir, Authority) {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::open(&folder.path().join("ca"), NOW).unwrap();
    (folder, authority)
}

fn request(names: &[&str]) -> Vec<u8> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let key = KeyPair::generate().unwrap();
    CertificateParams::new(names).unwrap().serialize_request(&key).unwrap().der().to_vec()
}

#[test]
fn a_token_proves_its_own_subject_alone() {
    let (_folder, authority) = authority();
    let token = authority.token("default/rag/llm/0");
    authority.verify("default/rag/llm/0", &token).unwrap();
    assert!(authority.verify("default/rag/llm/1", &token).is_err());
    for wrong in ["", "00", "zz", &token[1..], "ä"] {
        assert!(authority.verify("default/rag/llm/0", wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn an_authority_is_the_same_after_it_is_opened_again() {
    let (folder, authority) = authority();
    let again = Authority::open(&folder.path().join("ca"), NOW).unwrap();
    assert_eq!(again.certificate(), authority.certificate());
    assert_eq!(again.token("hub"), authority.token("hub"));
}

#[test]
fn a_certificate_has_the_subjects_name_whatever_the_request_asks() {
    use x509_parser::prelude::{FromDer, X509Certificate};
    let (_folder, authority) = authority();
    let issued = authority.issue("default/rag/llm/0", &request(&["evil.example"]), NOW).unwrap();
    let (_, leaf) = X509Certificate::from_der(&issued.chain[0]).unwrap();
    let names = format!("{:?}", leaf.subject_alternative_name().unwrap().unwrap().value.general_names);
    assert!(names.contains("spiffe://kontrol.local/default/rag/llm/0"), "{names}");
    assert!(!names.contains("evil"), "{names}");
    assert!(!leaf.is_ca());
    assert_eq!(issued.not_after, NOW.plus(LEAF_LIFE));
    let certificate = authority.certificate();
    let (_, root) = X509Certificate::from_der(&certificate).unwrap();
    leaf.verify_signature(Some(root.public_key())).unwrap();
}

#[test]
fn rubbish_is_no_request() {
    let (_folder, authority) = authority();
    assert_eq!(authority.issue("hub", b"rubbish", NOW).unwrap_err().code(), Code::InvalidSigningRequest);
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let (folder, _authority) = authority();
    let key = folder.path().join("ca/ca.key");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let error = Authority::open(&folder.path().join("ca"), NOW).unwrap_err();
    assert_eq!(error.code(), Code::AuthorityUnusable);
    assert!(error.to_string().contains("ca.key"), "{error}");
}
