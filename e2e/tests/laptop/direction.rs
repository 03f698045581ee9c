//! Dependencies point one way, transitively: what a crate may not reach, it does not reach through another either.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{CargoOpt, DependencyKind, MetadataCommand, PackageId};

/// Each crate, and the crates of this workspace that it may reach.
const MAY_REACH: [(&str, &[&str]); 8] = [
    ("kontrol-core", &[]),
    ("kontrol-proto", &[]),
    ("kontrol-crds", &["kontrol-core"]),
    ("kontrol-plan", &["kontrol-core"]),
    ("kontrol-hub", &["kontrol-core"]),
    ("kontrol-shim", &["kontrol-core"]),
    ("kontrol-sidecar", &["kontrol-core", "kontrol-proto", "kontrol-hub"]),
    ("kontrol-operator", &["kontrol-core", "kontrol-proto", "kontrol-crds", "kontrol-plan", "kontrol-shim"]),
];

/// Each crate, and what of the outside world it must not reach.
const MUST_NOT_REACH: [(&str, &[&str]); 5] = [
    ("kontrol-core", &["tokio", "tonic", "kube", "kube-core", "k8s-openapi", "axum", "hyper", "rustls"]),
    ("kontrol-plan", &["tokio", "tonic", "kube", "kube-core", "k8s-openapi", "axum", "hyper", "rustls"]),
    ("kontrol-hub", &["tokio", "tonic", "kube", "kube-core", "k8s-openapi"]),
    ("kontrol-crds", &["tokio", "tonic", "kube-client"]),
    ("kontrol-sidecar", &["kube", "kube-core", "k8s-openapi"]),
];

/// The platform that this is built on: crates for others need not be here.
fn host() -> String {
    let output = std::process::Command::new("rustc").arg("-vV").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().find_map(|line| line.strip_prefix("host: ")).unwrap().to_owned()
}

/// Every package that each workspace member reaches by normal dependencies.
fn reached() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .features(CargoOpt::AllFeatures)
        .other_options(vec!["--locked".to_owned(), format!("--filter-platform={}", host())])
        .exec()
        .unwrap();
    let names: BTreeMap<&PackageId, &str> =
        metadata.packages.iter().map(|p| (&p.id, p.name.as_str())).collect();
    let resolve = metadata.resolve.as_ref().unwrap();
    let edges: BTreeMap<&PackageId, Vec<&PackageId>> = resolve
        .nodes
        .iter()
        .map(|node| {
            let normal = |kinds: &[cargo_metadata::DepKindInfo]| {
                kinds.iter().any(|k| k.kind == DependencyKind::Normal)
            };
            (&node.id, node.deps.iter().filter(|dep| normal(&dep.dep_kinds)).map(|dep| &dep.pkg).collect())
        })
        .collect();
    metadata
        .workspace_members
        .iter()
        .map(|member| {
            let mut seen = BTreeSet::new();
            let mut left = vec![member];
            while let Some(id) = left.pop() {
                for next in &edges[id] {
                    if seen.insert(*next) {
                        left.push(next);
                    }
                }
            }
            (names[member].to_owned(), seen.into_iter().map(|id| names[id].to_owned()).collect())
        })
        .collect()
}

#[test]
fn dependencies_point_one_way() {
    let reached = reached();
    for (name, allowed) in MAY_REACH {
        let ours: Vec<_> = reached[name].iter().filter(|n| n.starts_with("kontrol-")).collect();
        for other in ours {
            assert!(allowed.contains(&other.as_str()), "{name} reaches {other}, which it may not");
        }
    }
}

/// Every package that a crate reaches by normal dependencies where it is built alone. The whole workspace shares the features of its
/// dependencies: the operator's Kubernetes client would seem to be everybody's there.
fn reached_alone(name: &str) -> BTreeSet<String> {
    let tree = std::process::Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--all-features", "--edges=normal", "--prefix=none", "--package", name])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let text = String::from_utf8(tree.stdout).unwrap();
    text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn pure_crates_reach_no_runtime_and_the_sidecar_no_kubernetes() {
    for (name, banned) in MUST_NOT_REACH {
        let reached = reached_alone(name);
        assert!(reached.contains("kontrol-core"), "{name} is not read right");
        for other in banned {
            assert!(!reached.contains(*other), "{name} reaches {other}, which it must not");
        }
    }
}
