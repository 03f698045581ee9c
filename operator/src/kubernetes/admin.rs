//! `/metrics`, `/healthz` and `/readyz`.

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
