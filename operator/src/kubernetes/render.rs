//! What Kontrol's objects become on a cluster: pods, services, budgets, claims, child widgets, revisions. Pure: no clock, no client, and the same input
//! gives the same bytes.
//!
//! ```text
//!   api::WidgetSpec ──┬─ pod ──── sidecar, shim, widget; placement and its alternatives; restricted Pod Security
//!                     ├─ service, disruption_budget
//!                     ├─ controller_revision
//!   api::`WidgetGroup` ─┴─ child_widget
//!   api::`MessageBus` ──── hub_pod, hub_claim, hub_service
//! ```
//!
//! Invariants: names and labels are those of [`names`]; no pod has two containers, volumes or mounts of one name; a pod is within the Pod Security
//! Standard `restricted` unless its manifest says otherwise; the kubelet restarts a widget's container only where the plan lets it
//! ([`restarts_in_place`]).

mod hub;
pub mod names;
mod owned;
mod placement;
mod pod;
mod security;
mod sidecar;

#[cfg(test)]
mod tests;

pub use hub::{HubInput, hub_claim, hub_pod, hub_service};
pub use owned::{BudgetInput, RevisionInput, child_widget, controller_revision, disruption_budget, service};
pub use pod::{PodInput, endpoint_port, grace_seconds, pod, restarts_in_place};

/// What is the same for all pods of an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The image of sidecars and hubs.
    pub sidecar_image: String,
    /// The image that the shim is copied from.
    pub shim_image: String,
    /// The operator as sidecars reach it, `host:port`.
    pub control: String,
    /// The trust domain of SPIFFE IDs.
    pub trust_domain: String,
}

/// The object that an object belongs to, and goes with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its kind, such as `Widget`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}
