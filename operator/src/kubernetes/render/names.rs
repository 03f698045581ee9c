//! Names, labels, ports and paths that others rely on.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference};
use kontrol_core::id::WidgetId;
use kontrol_crds::API_VERSION;
use sha2::{Digest, Sha256};

use super::Owner;

/// The `ConfigMap` of each namespace with the authority's certificates.
pub const TRUST: &str = "kontrol-trust";
/// The key in it.
pub const TRUST_KEY: &str = "ca.crt";
/// The audience of the sidecar's token.
pub const AUDIENCE: &str = "kontrol.dev";

/// The readiness gate of a replica's pod: what its sidecar says of the widget, as the operator writes it.
pub const READY: &str = "kontrol.dev/Ready";

/// The container of the widget itself.
pub const WIDGET: &str = "widget";
/// The sidecar.
pub const SIDECAR: &str = "kontrol-sidecar";
/// The copy of the shim.
pub const SHIM: &str = "kontrol-shim";
/// The container of a hub.
pub const HUB: &str = "hub";

/// The port of the sidecar for other sidecars, and of the hub.
pub const PEER_PORT: u16 = 7412;
/// The port of `/metrics`, `/healthz` and `/readyz`.
pub const ADMIN_PORT: u16 = 7413;

/// The folder of the sockets.
pub const RUN: &str = "/run/kontrol";
/// The socket of the sidecar's gRPC door.
pub const SOCKET: &str = "/run/kontrol/sidecar.sock";
/// The socket of the shim.
pub const SHIM_SOCKET: &str = "/run/kontrol/shim.sock";
/// The folder of the shim.
pub const BIN: &str = "/kontrol/bin";
/// Where the sidecar keeps its last configuration, out of the widget's sight.
pub const STATE: &str = "/var/lib/kontrol";
/// The folder of the sidecar's token.
pub const TOKEN: &str = "/var/run/secrets/kontrol.dev/serviceaccount";
/// The folder of the authority's certificates.
pub const TRUST_FOLDER: &str = "/var/run/kontrol-trust";

/// The name of the `Widget` object that a group stamps out. A widget in no group has the name of its own object.
pub fn child(id: &WidgetId) -> String {
    format!("{}-{}", id.group, id.widget)
}

/// The name of a pod of a widget.
pub fn pod(object: &str, ordinal: u32, incarnation: u64) -> String {
    format!("{object}-{ordinal}-{incarnation}")
}

/// The host name of a replica, which is the first part of its DNS name `<host>.<object>.<namespace>.svc`.
pub fn host(object: &str, ordinal: u32) -> String {
    format!("{object}-{ordinal}")
}

/// The name of the Service and the claim of a bus, and what the names of its pods begin with.
pub fn hub(bus: &str) -> String {
    short(&format!("kontrol-hub-{bus}"), 63)
}

/// The name of a pod of a bus.
pub fn hub_pod(bus: &str, incarnation: u64) -> String {
    format!("{}-{incarnation}", hub(bus))
}

/// The name itself where it is short enough, else its beginning and a hash of all of it.
fn short(name: &str, longest: usize) -> String {
    if name.len() <= longest {
        return name.to_owned();
    }
    let digest: [u8; 32] = Sha256::digest(name).into();
    let hash = digest.iter().take(4).fold(0_u32, |hash, byte| hash << 8 | u32::from(*byte));
    let kept: String = name.chars().take(longest - 9).collect();
    format!("{}-{hash:08x}", kept.trim_end_matches('-'))
}

fn texts<const N: usize>(pairs: [(&str, String); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The labels that tell the pods of one widget from all others.
pub fn selector(id: &WidgetId) -> BTreeMap<String, String> {
    texts([("kontrol.dev/group", id.group.to_string()), ("kontrol.dev/widget", id.widget.to_string())])
}

/// The same as a selector of objects.
pub(super) fn label_selector(id: &WidgetId) -> LabelSelector {
    LabelSelector { match_labels: Some(selector(id)), match_expressions: None }
}

/// The same as a text, for the scale subresource.
pub fn selector_text(id: &WidgetId) -> String {
    format!("kontrol.dev/group={},kontrol.dev/widget={}", id.group, id.widget)
}

/// The labels of everything that belongs to a widget.
pub fn labels(id: &WidgetId) -> BTreeMap<String, String> {
    let mut labels = selector(id);
    labels.extend(texts([
        ("app.kubernetes.io/name", id.widget.to_string()),
        ("app.kubernetes.io/part-of", id.group.to_string()),
        ("app.kubernetes.io/managed-by", "kontrol".to_owned()),
    ]));
    labels
}

/// The labels of everything that belongs to the hub of a bus.
pub fn hub_labels(bus: &str) -> BTreeMap<String, String> {
    texts([
        ("kontrol.dev/bus", bus.to_owned()),
        ("app.kubernetes.io/name", "kontrol-hub".to_owned()),
        ("app.kubernetes.io/instance", bus.to_owned()),
        ("app.kubernetes.io/managed-by", "kontrol".to_owned()),
    ])
}

/// The reference of something to the object that controls it.
pub(super) fn owned_by(owner: &Owner) -> Vec<OwnerReference> {
    vec![OwnerReference {
        api_version: API_VERSION.to_owned(),
        kind: owner.kind.to_owned(),
        name: owner.name.clone(),
        uid: owner.uid.clone(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }]
}
