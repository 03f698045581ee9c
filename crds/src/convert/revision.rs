//! The hash of what a running replica was started with.

use kontrol_core::spec::Revision;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::api;

/// What a change of restarts a replica for: its process, its environment, and its port.
#[derive(Serialize)]
struct Template<'a> {
    process: Option<&'a api::Process>,
    endpoint: Option<&'a api::Endpoint>,
}

/// The revision of a widget. Replicas, scaling, intensity and everything else that a running replica need not know leave it as it is;
/// so does the order of its environment.
pub(super) fn of(widget: &api::WidgetSpec) -> Revision {
    let process = widget.process.as_ref().map(|process| {
        let mut process = process.clone();
        process.env.sort_by(|a, b| a.name.cmp(&b.name));
        process
    });
    let template = Template { process: process.as_ref(), endpoint: widget.endpoint.as_ref() };
    let bytes = serde_json::to_vec(&template).unwrap_or_default();
    let digest: [u8; 32] = Sha256::digest(&bytes).into();
    Revision(digest.iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte)))
}
