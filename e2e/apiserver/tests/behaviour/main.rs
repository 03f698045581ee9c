//! What the server does, told by a client of kube's: each fact holds of a real API server too, but for the faults, and is shown there too
//! where nothing but a client is needed ([`conformance`]).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

mod conformance;
mod custom;
mod deletion;
mod faults;
mod identity;
mod pods;
mod watching;
mod writing;

use k8s_openapi::api::core::v1::ConfigMap;
use kontrol_e2e_apiserver::ApiServer;
use kube::{Api, core::Status};

/// A config map with one entry.
fn map(name: &str, value: &str) -> ConfigMap {
    serde_json::from_value(serde_json::json!({"metadata": {"name": name}, "data": {"key": value}})).unwrap()
}

fn maps(server: &ApiServer) -> Api<ConfigMap> {
    Api::namespaced(server.client(), "default")
}

/// What the server said, of an answer that must be a refusal.
fn refusal<T: std::fmt::Debug>(answer: Result<T, kube::Error>) -> Status {
    match answer {
        Err(kube::Error::Api(status)) => *status,
        other => panic!("not refused: {other:?}"),
    }
}
