//! Against a small real server.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{any, post},
};
use tokio::{
    net::TcpListener,
    sync::{Mutex, oneshot},
    task::JoinSet,
};

use super::super::HttpEndpoint;
use crate::service::{Delivery, Event, Outcome, WidgetEndpoint};

/// What the widget was sent last.
type Seen = Arc<Mutex<Option<(HeaderMap, Bytes)>>>;

struct Widget {
    address: String,
    seen: Seen,
    server: JoinSet<()>,
}

async fn status(Path(status): Path<u16>) -> Response {
    (StatusCode::from_u16(status).unwrap(), [("retry-after", "3")], "because of\n this").into_response()
}

async fn take(State(seen): State<Seen>, headers: HeaderMap, body: Bytes) -> StatusCode {
    *seen.lock().await = Some((headers, body));
    StatusCode::NO_CONTENT
}

async fn widget() -> Widget {
    let (listener, seen) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), Seen::default());
    let address = listener.local_addr().unwrap().to_string();
    let router = Router::new()
        .route("/documents", post(take))
        .route("/status/{status}", any(status))
        .with_state(Arc::clone(&seen));
    let mut server = JoinSet::new();
    server.spawn(async move { axum::serve(listener, router).await.unwrap() });
    Widget { address, seen, server }
}

fn delivery() -> Delivery {
    let event = Event {
        id: "42".into(),
        source: "/default/rag/input".into(),
        r#type: "dev.example.document".into(),
        subject: "größe".into(),
        extensions: [(
            "traceparent".to_owned(),
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
        )]
        .into(),
        data: Bytes::from_static(b"hello"),
        ..Event::default()
    };
    Delivery { delivery: 7, topic: "documents".into(), sequence: 9, attempt: 2, max_attempts: 4, event }
}

#[tokio::test]
async fn a_message_is_posted_as_a_binary_cloudevent() {
    let widget = widget().await;
    let outcome = HttpEndpoint::new().deliver(&widget.address, "/documents", &delivery()).await;
    assert_eq!(outcome, Outcome::Ack);
    let (headers, body) = widget.seen.lock().await.take().unwrap();
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-id", "42"),
        ("ce-source", "/default/rag/input"),
        ("ce-type", "dev.example.document"),
        ("ce-subject", "gr%C3%B6%C3%9Fe"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("content-type", "application/octet-stream"),
        ("kontrol-topic", "documents"),
        ("kontrol-sequence", "9"),
        ("kontrol-attempt", "2"),
        ("kontrol-max-attempts", "4"),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
    assert_eq!(body, "hello");
}

#[tokio::test]
async fn the_reason_says_what_the_widget_said() {
    let widget = widget().await;
    let endpoint = HttpEndpoint::new();
    let outcome = endpoint.deliver(&widget.address, "/status/422", &delivery()).await;
    let reason = "POST /status/422 answered 422 Unprocessable Entity: because of this".to_owned();
    assert_eq!(outcome, Outcome::Term { reason });
    let outcome = endpoint.deliver(&widget.address, "/status/503", &delivery()).await;
    let reason = "POST /status/503 answered 503 Service Unavailable: because of this".to_owned();
    assert_eq!(outcome, Outcome::Nak { delay: Duration::from_secs(3), reason, attempt_counts: true });
}

#[tokio::test]
async fn a_widget_that_does_not_listen_has_had_no_attempt_and_is_left_alone_for_longer_each_time() {
    let endpoint = HttpEndpoint::new();
    let address = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let mut delays = Vec::new();
    for _ in 0..9 {
        match endpoint.deliver(&address, "/documents", &delivery()).await {
            Outcome::Nak { delay, reason, attempt_counts: false } => {
                assert!(reason.starts_with("the widget does not listen"), "{reason}");
                delays.push(delay.as_millis());
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(delays, [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
}

#[tokio::test]
async fn a_widget_that_goes_away_over_a_message_has_had_an_attempt() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (gone, went) = oneshot::channel();
    let mut server = JoinSet::new();
    server.spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        stream.readable().await.unwrap();
        drop(stream);
        gone.send(()).unwrap();
    });
    let outcome = HttpEndpoint::new().deliver(&address, "/documents", &delivery()).await;
    went.await.unwrap();
    assert!(
        matches!(outcome, Outcome::Nak { delay: Duration::ZERO, attempt_counts: true, .. }),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_probe_is_well_only_with_success() {
    let mut widget = widget().await;
    let endpoint = HttpEndpoint::new();
    assert_eq!(endpoint.probe(&widget.address, "/status/204").await, Ok(()));
    let error = endpoint.probe(&widget.address, "status/503").await.unwrap_err();
    assert_eq!(error, "GET status/503 answers 503 Service Unavailable: because of this");
    widget.server.shutdown().await;
    assert!(endpoint.probe(&widget.address, "/status/204").await.is_err());
}
