//! What a world on a cluster is told.

use std::time::Duration;

/// The options of [`super::World`].
#[derive(Clone, Debug)]
pub struct Options {
    /// The operator's own namespace: its lease, its authority. Default `kontrol-system`.
    pub namespace: String,
    /// The name of the operator's pod, which is also who it is in the lease.
    pub pod_name: String,
    /// The namespaces to look at; empty: all.
    pub watch_namespaces: Vec<String>,
    /// The image of sidecars and hubs.
    pub sidecar_image: String,
    /// The image that the shim is copied from; none: the sidecar's.
    pub shim_image: Option<String>,
    /// Where the control server listens, `host:port`.
    pub control: String,
    /// Where `/metrics`, `/healthz` and `/readyz` are served, `host:port`.
    pub admin: String,
    /// What sidecars are told as the operator's address, `host:port`.
    pub control_address: String,
    /// The trust domain of SPIFFE IDs.
    pub trust_domain: String,
    /// The lease's name.
    pub lease_name: String,
    /// For how long the lease is good after a renewal; whole seconds.
    pub lease_duration: Duration,
    /// The time between renewals.
    pub lease_renew: Duration,
    /// Requests to the API server that may be under way at a time.
    pub concurrency: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            namespace: "kontrol-system".to_owned(),
            pod_name: "kontrol-operator".to_owned(),
            watch_namespaces: Vec::new(),
            sidecar_image: concat!("kontrol.dev/kontrol-sidecar:", env!("CARGO_PKG_VERSION")).to_owned(),
            shim_image: None,
            control: "0.0.0.0:7400".to_owned(),
            admin: "0.0.0.0:7401".to_owned(),
            control_address: "kontrol-control.kontrol-system.svc:7400".to_owned(),
            trust_domain: "kontrol.local".to_owned(),
            lease_name: "kontrol-operator".to_owned(),
            lease_duration: Duration::from_secs(2),
            lease_renew: Duration::from_millis(500),
            concurrency: 32,
        }
    }
}
