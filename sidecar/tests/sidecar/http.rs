//! The HTTP door of the real binary: what a widget does with nothing but HTTP.

use kontrol_proto::v1::{self, session_response::Message};
use serde_json::json;

use crate::support::{
    self, Process, World, serve, shop, topic,
    web::{Answer, Events, get, send},
    widget::Answering,
};

const INSTANCE: &str = "default/shop/shop/0";

async fn start() -> (World, Process, Process) {
    let world = World::new().await;
    let topics = vec![topic("orders", &["workers"])];
    let hub = world.hub(topics.clone()).await;
    let sidecar = world.sidecar(INSTANCE, shop(&hub, topics)).await;
    (world, hub, sidecar)
}

fn url(sidecar: &Process, path: &str) -> String {
    format!("http://{}{path}", sidecar.hello.http)
}

async fn post(sidecar: &Process, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    send("POST", &url(sidecar, path), headers, body).await
}

fn problem(answer: &Answer) -> (u16, String) {
    assert_eq!(answer.headers["content-type"], "application/problem+json", "{answer:?}");
    let problem = answer.json();
    for member in ["type", "title", "detail", "help"] {
        assert!(!problem[member].as_str().unwrap().is_empty(), "{member} of {problem}");
    }
    assert_eq!(problem["status"], answer.status);
    (answer.status, problem["code"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn events_of_every_form_come_out_as_structured_events_and_are_settled_by_requests() {
    let (world, _hub, sidecar) = start().await;
    let publish = "/v1/topics/orders/events";
    let plain =
        post(&sidecar, &format!("{publish}?id=p&type=t.plain"), &[("content-type", "text/plain")], "one")
            .await;
    assert_eq!((plain.status, plain.json()["id"].clone()), (200, json!("p")), "{plain:?}");
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let binary = [
        ("ce-specversion", "1.0"),
        ("ce-id", "b"),
        ("ce-source", "/somewhere"),
        ("ce-type", "t.binary"),
        ("ce-traceparent", trace),
        ("content-type", "application/json"),
    ];
    let first = post(&sidecar, publish, &binary, r#"{"two":2}"#).await;
    assert_eq!((first.status, first.json()["duplicate"].clone()), (200, json!(false)), "{first:?}");
    let again = post(&sidecar, publish, &binary, r#"{"two":2}"#).await;
    assert_eq!(
        (again.json()["duplicate"].clone(), &again.json()["sequence"]),
        (json!(true), &first.json()["sequence"])
    );
    let structured =
        json!({"specversion": "1.0", "id": "s", "source": "/elsewhere", "type": "t.structured", "data": 3});
    let media_type = [("content-type", "application/cloudevents+json")];
    assert_eq!(post(&sidecar, publish, &media_type, &structured.to_string()).await.status, 200);

    let mut events = Events::open("GET", &url(&sidecar, "/v1/topics/orders/subscribe?credits=2"), "").await;
    let open = events.next().await.unwrap();
    assert_eq!(open.name, "open");
    let open: serde_json::Value = serde_json::from_str(&open.data).unwrap();
    let session = open["session"].as_str().unwrap();
    let mut seen = Vec::new();
    for (id, data) in [("p", json!("one")), ("b", json!({"two": 2})), ("s", json!(3))] {
        let message = events.next().await.unwrap();
        assert_eq!(message.name, "message");
        let event: serde_json::Value = serde_json::from_str(&message.data).unwrap();
        assert_eq!(
            (&event["id"], &event["data"], &event["source"]),
            (&json!(id), &data, &json!("/default/shop/shop"))
        );
        assert_eq!((&event["kontrolattempt"], &event["kontrolmaxattempts"]), (&json!(1), &json!(4)));
        if id == "b" {
            assert_eq!(event["traceparent"], trace);
        }
        let settled = format!("/v1/subscriptions/{session}/deliveries/{}/ack", message.id);
        assert_eq!(post(&sidecar, &settled, &[], "").await.status, 204);
        seen.push(settled);
    }
    assert_eq!(problem(&post(&sidecar, &seen[0], &[], "").await), (409, "KTL3010".into()));
    world.operator.hub_signals(|signals| signals.subscriptions.iter().all(|seen| seen.depth == 0)).await;
}

#[tokio::test]
async fn a_message_is_given_back_extended_and_terminated_by_requests() {
    let (world, _hub, sidecar) = start().await;
    post(&sidecar, "/v1/topics/orders/events", &[], "poison").await;
    let mut events = Events::open("GET", &url(&sidecar, "/v1/topics/orders/subscribe"), "").await;
    let open: serde_json::Value = serde_json::from_str(&events.next().await.unwrap().data).unwrap();
    let session = open["session"].as_str().unwrap().to_owned();
    let settle = |id: String, outcome: &str| {
        url(&sidecar, &format!("/v1/subscriptions/{session}/deliveries/{id}/{outcome}"))
    };
    let first = events.next().await.unwrap();
    assert_eq!(send("POST", &settle(first.id.clone(), "progress"), &[], "").await.status, 204);
    let nak = send("POST", &settle(first.id, "nak"), &[], r#"{"delayMs":1,"reason":"not now"}"#).await;
    assert_eq!(nak.status, 204);
    let second = events.next().await.unwrap();
    let event: serde_json::Value = serde_json::from_str(&second.data).unwrap();
    assert_eq!(event["kontrolattempt"], 2);
    let term = send("POST", &settle(second.id, "term"), &[], r#"{"reason":"no use"}"#).await;
    assert_eq!(term.status, 204);
    let signals = world
        .operator
        .hub_signals(|signals| signals.subscriptions.iter().any(|seen| seen.dead_lettered == 1))
        .await;
    assert_eq!(signals.subscriptions[0].dropped, 1, "without a dead letter topic it is counted as dropped");
}

#[tokio::test]
async fn calls_are_answered_whole_as_events_and_as_lines() {
    let world = World::new().await;
    let served = v1::SidecarConfig {
        version: 1,
        incarnation: 1,
        serves: vec![serve("echo")],
        resilience: Some(support::resilience()),
        ..Default::default()
    };
    let back = world.sidecar("default/shop/back/0", served).await;
    let endpoint = v1::Endpoint {
        instance: "default/shop/back/0".into(),
        address: back.hello.peer.clone(),
        ready: true,
    };
    let target = v1::Target { widget: "default/shop/back".into(), endpoints: vec![endpoint] };
    let caller = v1::SidecarConfig {
        version: 1,
        incarnation: 1,
        targets: vec![target],
        resilience: Some(support::resilience()),
        ..Default::default()
    };
    let front = world.sidecar("default/shop/front/0", caller).await;
    let mut widget = Answering::open(&back, 0).await;

    let headers = [("traceparent", "00-1-2-01"), ("kontrol-timeout", "2s"), ("content-type", "text/plain")];
    let answering = async {
        let request = widget.request().await;
        assert_eq!(
            (&request.data[..], request.headers["traceparent"].as_str()),
            (&b"hello"[..], "00-1-2-01")
        );
        assert!(!request.streamed && request.deadline_ms <= 2_000);
        widget.chunk(request.call, "whole", true);
    };
    let (whole, ()) = tokio::join!(post(&front, "/v1/call/back/echo", &headers, "hello"), answering);
    assert_eq!((whole.status, whole.body.as_str()), (200, "whole"));
    assert_eq!(whole.headers["kontrol-answered-by"], "default/shop/back/0");

    let streaming = async {
        let address = url(&front, "/v1/call/default%2Fshop%2Fback/echo");
        let mut events = Events::open("POST", &address, "").await;
        for (id, text) in [("0", "a"), ("1", "b")] {
            let chunk = events.next().await.unwrap();
            assert_eq!((chunk.name.as_str(), chunk.id.as_str(), chunk.data.as_str()), ("chunk", id, text));
        }
        assert_eq!(events.next().await.unwrap().name, "end");
        assert!(events.next().await.is_none());
    };
    let answering = async {
        let request = widget.request().await;
        assert!(request.streamed);
        widget.chunk(request.call, "a", false);
        widget.chunk(request.call, "b", true);
    };
    tokio::join!(streaming, answering);

    let answering = async {
        let request = widget.request().await;
        widget.chunk(request.call, "a", true);
    };
    let lines = post(&front, "/v1/call/back/echo", &[("accept", "application/x-ndjson")], "");
    let (lines, ()) = tokio::join!(lines, answering);
    let lines: Vec<serde_json::Value> =
        lines.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["data"], &lines[1]["end"], lines.len()), (&json!("a"), &json!(true), 2));
}

#[tokio::test]
async fn the_report_reaches_the_operator_and_the_state_shows_it() {
    let (world, hub, sidecar) = start().await;
    let report = json!({"health": "notReady", "message": "loading", "load": {"waiting": 3.5}});
    assert_eq!(post(&sidecar, "/v1/report", &[], &report.to_string()).await.status, 204);
    let signals = world.operator.signals(INSTANCE, |signals| signals.load.contains_key("waiting")).await;
    assert_eq!((signals.load["waiting"], signals.message.as_str()), (3.5, "loading"));
    assert_eq!(signals.health(), v1::Health::NotReady);
    let state = get(&url(&sidecar, "/v1/state")).await.json();
    assert_eq!(
        (&state["instance"], &state["health"], &state["configVersion"]),
        (&json!(INSTANCE), &json!("notReady"), &json!(1))
    );
    let next =
        v1::SidecarConfig { version: 2, incarnation: 2, ..shop(&hub, vec![topic("orders", &["workers"])]) };
    world.operator.configure(INSTANCE, Message::Sidecar(next));
    world.operator.signals(INSTANCE, |signals| signals.incarnation == 2 && signals.load.is_empty()).await;
}

#[tokio::test]
async fn a_message_that_is_too_large_together_with_its_copies_is_refused_at_once() {
    let world = World::new().await;
    let large = |name: &str| v1::TopicConfig { max_message_bytes: 4 << 20, ..topic(name, &["workers"]) };
    let topics = vec![large("orders"), large("copies")];
    let hub = world.hub(topics.clone()).await;
    let rule = v1::RouteRule { when: String::new(), to: vec!["copies".into()] };
    let route = v1::RouteConfig {
        name: "all".into(),
        from: "orders".into(),
        rules: vec![rule],
        ..Default::default()
    };
    let config = v1::SidecarConfig { routes: vec![route], ..shop(&hub, topics) };
    let sidecar = world.sidecar(INSTANCE, config).await;
    let answer = post(&sidecar, "/v1/topics/orders/events", &[], &"x".repeat(3 << 20)).await;
    assert_eq!(problem(&answer), (413, "KTL3003".into()));
}

#[tokio::test]
async fn what_cannot_be_done_is_a_problem_with_its_code_and_the_way_out() {
    let (_world, _hub, sidecar) = start().await;
    let over = "x".repeat(5 << 20);
    let over_topic = "x".repeat(2 << 20);
    let publish = "/v1/topics/orders/events";
    let structured = [("content-type", "application/cloudevents+json")];
    for (path, headers, body, expected) in [
        ("/v1/topics/secrets/events", &[][..], "x", (403, "KTL3002")),
        (publish, &[], over_topic.as_str(), (413, "KTL3003")),
        (publish, &[], over.as_str(), (413, "KTL3003")),
        (publish, &structured[..], "{", (400, "KTL3007")),
        (publish, &[("kontrol-timeout", "soon")], "x", (400, "KTL4017")),
        ("/v1/call/stranger/echo", &[], "", (403, "KTL4001")),
        ("/v1/call/a%2Fb%2Fc%2Fd/echo", &[], "", (400, "KTL4002")),
        ("/v1/report", &[], "", (400, "KTL4017")),
        ("/v1/report", &[], r#"{"health":"fine"}"#, (400, "KTL4017")),
        ("/v1/subscriptions/nobody/deliveries/1/ack", &[], "", (404, "KTL3011")),
        ("/v1/nothing", &[], "", (404, "KTL4018")),
    ] {
        let answer = post(&sidecar, path, headers, body).await;
        assert_eq!(problem(&answer), (expected.0, expected.1.to_owned()), "{path}: {}", answer.body);
    }
    let too_large = post(&sidecar, publish, &[], &over).await.json();
    assert!(too_large["detail"].as_str().unwrap().contains("keep what is larger elsewhere"), "{too_large}");
    for header in [("origin", "https://example.com"), ("host", "example.com")] {
        for address in [url(&sidecar, "/v1/state"), format!("http://{}/metrics", sidecar.hello.admin)] {
            let answer = send("GET", &address, &[header], "").await;
            assert_eq!(problem(&answer), (403, "KTL4017".into()), "{header:?} at {address}");
        }
    }
    let unknown = get(&url(&sidecar, "/v1/topics/orders/subscribe?subscription=others")).await;
    assert_eq!(problem(&unknown), (404, "KTL3006".into()));
    assert_eq!(problem(&get(&url(&sidecar, publish)).await).0, 405);
}
