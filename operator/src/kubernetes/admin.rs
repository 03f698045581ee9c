//! `/metrics`, `/healthz` and `/readyz`.
//!
//! Ready means: everything was listed once, so this process could lead. It stays so, as with other controllers, also where all its watches have
//! been broken for long. Sidecars reach the leader through a Service, which drops a pod that is not ready: an operator that gave its readiness
//! up with its watches would be out of reach for those whose sessions break meanwhile, and gain nothing. A leader that has no API server gives
//! way by its lease; what is stale is not decided on, and `kontrol_operator_watch_stale` says so.

use std::{io, sync::Arc};

use axum::{Router, extract::State, http::StatusCode, http::header, response::IntoResponse, routing::get};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use super::metrics::Metrics;

/// What the pages show.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) metrics: Arc<Metrics>,
    /// What has to happen before this process could lead; empty: it is ready.
    pub(super) pending: watch::Receiver<Vec<String>>,
}

/// Serves until `stop`.
pub(super) async fn serve(listener: TcpListener, shown: Shown, stop: CancellationToken) -> io::Result<()> {
    let app = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(shown);
    axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned()).await
}

async fn metrics(State(shown): State<Shown>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], shown.metrics.page())
}

async fn ready(State(shown): State<Shown>) -> impl IntoResponse {
    let pending = shown.pending.borrow().clone();
    if pending.is_empty() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("waits for: {}\n", pending.join(", ")))
}
