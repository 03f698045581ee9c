//! The hash of what a running replica was started with.

use kontrol_core::spec::Revision;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::Runtime;
use crate::api;

/// What a change of restarts a replica for in the local world: its process, its environment, and its port.
#[derive(Serialize)]
struct Local<'a> {
    process: Option<&'a api::Process>,
    endpoint: Option<&'a api::Endpoint>,
}

/// What a change of replaces a replica for on a cluster: all that its pod is rendered from. How it is stopped is not among it: that is said when it
/// is deleted. What is left out is not written, so a field that comes later leaves the revisions of today as they are.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Cluster<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<&'a api::Container>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    volumes: &'a [api::Volume],
    #[serde(skip_serializing_if = "Option::is_none")]
    gpu: Option<&'a api::Gpu>,
    #[serde(skip_serializing_if = "Option::is_none")]
    placement: Option<&'a api::Placement>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_account_name: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    image_pull_secrets: &'a [api::PullSecret],
    #[serde(skip_serializing_if = "Option::is_none")]
    pod_metadata: Option<&'a api::PodMetadata>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<&'a api::Endpoint>,
}

/// The revision of a widget in a world. Replicas, scaling, intensity and everything else that a running replica need not know leave it as it is;
/// so does the order of the environment of a process.
pub(super) fn of(widget: &api::WidgetSpec, runtime: Runtime) -> Revision {
    match runtime {
        Runtime::Local | Runtime::Any => local(widget),
        Runtime::Cluster => cluster(widget),
    }
}

fn local(widget: &api::WidgetSpec) -> Revision {
    let process = widget.process.as_ref().map(|process| {
        let mut process = process.clone();
        process.env.sort_by(|a, b| a.name.cmp(&b.name));
        process
    });
    hash(&Local { process: process.as_ref(), endpoint: widget.endpoint.as_ref() })
}

fn cluster(widget: &api::WidgetSpec) -> Revision {
    hash(&Cluster {
        container: widget.container.as_ref(),
        volumes: &widget.volumes,
        gpu: widget.gpu.as_ref(),
        placement: widget.placement.as_ref(),
        service_account_name: widget.service_account_name.as_deref(),
        image_pull_secrets: &widget.image_pull_secrets,
        pod_metadata: widget.pod_metadata.as_ref(),
        endpoint: widget.endpoint.as_ref(),
    })
}

fn hash(template: &impl Serialize) -> Revision {
    let bytes = serde_json::to_vec(template).unwrap_or_default();
    let digest: [u8; 32] = Sha256::digest(&bytes).into();
    Revision(digest.iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte)))
}
