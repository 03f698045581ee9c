//! What is generated and checked in is what the types say now.

use std::{fs, path::Path};

use kontrol_crds::generated;

const STALE: &str = "is stale; run: cargo run -p kontrol-crds --bin crdgen";

#[test]
fn the_manifests_are_the_generated_ones() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests");
    let manifests = generated::manifests();
    for (name, text) in &manifests {
        let written = fs::read_to_string(folder.join(name)).unwrap_or_default();
        assert!(written == *text, "crds/manifests/{name} {STALE}");
    }
    assert_eq!(
        fs::read_dir(folder).unwrap().count(),
        manifests.len(),
        "there are files that nothing generates"
    );
}

#[test]
fn the_reference_is_the_generated_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference.md");
    assert!(
        fs::read_to_string(path).unwrap_or_default() == generated::reference(),
        "docs/reference.md {STALE}"
    );
}
