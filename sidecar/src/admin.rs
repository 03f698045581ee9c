//! The admin address: `/metrics`, `/healthz` and `/readyz`, for machines that watch; nothing else, and no secrets. On loopback it is not for web
//! pages. In a pod it listens on all addresses, for the kubelet and for Prometheus, who name the pod's address as the host.
//!
//! `/healthz` answers as soon as the doors are bound, and for as long as the thread that does all the work turns. `/readyz` answers 200 when what a
//! widget asks at the doors can be done: there is a configuration (the operator's, or the one kept from before) and a certificate, and
//! no drain.
//!
//! It is served by the thread that does all the work, so that an answer proves that this thread still turns.

use std::{io, sync::Arc};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Serialize;
use tokio::net::TcpListener;

use crate::{http::guard, hub::HubDoor, metrics, service::Service};

/// What can be watched.
pub trait Watched: Send + Sync + 'static {
    /// The page of `/metrics`.
    fn metrics(&self) -> String;

    /// What has to happen before it can work; empty: it is ready.
    fn pending(&self) -> Vec<&'static str>;

    /// Whom it would like to be connected to and is not. It works all the same, on what it knows.
    fn away(&self) -> Vec<&'static str>;
}

impl Watched for Service {
    fn metrics(&self) -> String {
        metrics::of_sidecar(self)
    }

    fn pending(&self) -> Vec<&'static str> {
        let state = self.state();
        named([
            ("configuration", state.config_version == 0),
            ("certificate", state.certificate_expires == 0),
            ("drain", state.draining),
        ])
    }

    fn away(&self) -> Vec<&'static str> {
        let state = self.state();
        named([("operator", !state.control_connected), ("hub", self.wants_hub() && !state.hub_connected)])
    }
}

impl Watched for Arc<HubDoor> {
    fn metrics(&self) -> String {
        metrics::of_hub(self)
    }

    fn pending(&self) -> Vec<&'static str> {
        named([("configuration", self.version() == 0), ("log", self.hub().is_none())])
    }

    fn away(&self) -> Vec<&'static str> {
        Vec::new()
    }
}

fn named<const N: usize>(conditions: [(&'static str, bool); N]) -> Vec<&'static str> {
    conditions.into_iter().filter(|(_, holds)| *holds).map(|(name, _)| name).collect()
}

/// The admin pages as a tower service, for programs of this machine where `local`.
pub fn router(watched: impl Watched, local: bool) -> Router {
    let pages = Router::new()
        .route("/metrics", get(page))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready));
    let pages = if local { pages.layer(middleware::from_fn(guard::programs_only)) } else { pages };
    pages.with_state(Arc::new(watched) as Arc<dyn Watched>)
}

/// Serves the pages until `drained`.
pub async fn serve(
    watched: impl Watched,
    listener: TcpListener,
    drained: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let local = listener.local_addr()?.ip().is_loopback();
    axum::serve(listener, router(watched, local)).with_graceful_shutdown(drained).await
}

async fn page(State(watched): State<Arc<dyn Watched>>) -> Response {
    ([(header::CONTENT_TYPE, metrics::MEDIA_TYPE)], watched.metrics()).into_response()
}

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    pending: Vec<&'static str>,
    away: Vec<&'static str>,
}

async fn ready(State(watched): State<Arc<dyn Watched>>) -> Response {
    let (pending, away) = (watched.pending(), watched.away());
    let ready = pending.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready, pending, away })).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use tower::Service as _;

    use super::*;

    struct Thing(Vec<&'static str>);

    impl Watched for Thing {
        fn metrics(&self) -> String {
            "kontrol_thing 1\n".to_owned()
        }

        fn pending(&self) -> Vec<&'static str> {
            self.0.clone()
        }

        fn away(&self) -> Vec<&'static str> {
            vec!["hub"]
        }
    }

    async fn get(pending: &[&'static str], path: &str) -> (u16, String) {
        let request = axum::http::Request::get(path).body(Body::empty()).unwrap();
        let response = router(Thing(pending.to_vec()), true).call(request).await.unwrap();
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readiness_names_what_is_pending_and_who_is_away() {
        let (status, body) = get(&["configuration"], "/readyz").await;
        assert_eq!(
            (status, body.as_str()),
            (503, r#"{"ready":false,"pending":["configuration"],"away":["hub"]}"#)
        );
        let (status, body) = get(&[], "/readyz").await;
        assert_eq!((status, body.as_str()), (200, r#"{"ready":true,"pending":[],"away":["hub"]}"#));
    }

    #[tokio::test]
    async fn health_and_metrics_are_plain_pages() {
        assert_eq!(get(&["configuration"], "/healthz").await, (200, "ok\n".to_owned()));
        assert_eq!(get(&[], "/metrics").await, (200, "kontrol_thing 1\n".to_owned()));
    }

    #[tokio::test]
    async fn in_a_pod_the_host_is_the_pods_address() {
        let status = async |local: bool| {
            let request =
                axum::http::Request::get("http://10.0.0.7:7413/healthz").header("host", "10.0.0.7:7413");
            let response = router(Thing(Vec::new()), local).call(request.body(Body::empty()).unwrap()).await;
            response.unwrap().status().as_u16()
        };
        assert_eq!((status(false).await, status(true).await), (200, 403));
    }
}
