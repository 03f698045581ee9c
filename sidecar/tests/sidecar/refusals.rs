//! Who and what is refused, by name: strangers, the replaced, full topics, targets in trouble.

use std::collections::HashMap;

use kontrol_proto::v1::{
    self, calls_client::CallsClient, session_response::Message, subscribe_request as ask,
    topics_client::TopicsClient, widget_client::WidgetClient,
};
use tonic::Code;

use crate::support::{
    self, Process, World, consume, event, eventually, serve, soon, topic,
    web::{get, send},
    widget::{Answering, Reader, text},
};

const INSTANCE: &str = "default/shop/shop/0";

fn problem(status: &tonic::Status) -> v1::Problem {
    kontrol_sidecar::grpc::problem_of(status).unwrap_or_default()
}

fn config(hub: &str, topics: Vec<v1::TopicConfig>) -> v1::SidecarConfig {
    v1::SidecarConfig {
        version: 1,
        incarnation: 1,
        consumes: vec![consume("orders", "workers"), consume("dead", "undertaker")],
        produces: vec!["orders".into()],
        hub: hub.to_owned(),
        topics,
        resilience: Some(v1::Resilience { timeout_ms: 2_000, ..support::resilience() }),
        ..Default::default()
    }
}

async fn publish(sidecar: &Process, id: &str) -> Result<v1::PublishResponse, tonic::Status> {
    let request = v1::PublishRequest { topic: "orders".into(), event: Some(event(id, id)) };
    let mut client = TopicsClient::new(sidecar.channel().await);
    soon("an answer", client.publish(request)).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn a_full_topic_says_which_subscription_and_how_full_or_what_it_dropped() {
    for drop_oldest in [false, true] {
        let world = World::new().await;
        let orders = v1::TopicConfig {
            buffer_limit: 2,
            drop_oldest,
            dead_letter: "dead".into(),
            ..topic("orders", &["workers"])
        };
        let topics = vec![orders, topic("dead", &["undertaker"])];
        let hub = world.hub(topics.clone()).await;
        let sidecar = world.sidecar(INSTANCE, config(&hub.hello.peer, topics)).await;
        for id in ["1", "2"] {
            publish(&sidecar, id).await.unwrap();
        }
        let third = publish(&sidecar, "3").await;
        if drop_oldest {
            let third = third.unwrap();
            assert_eq!((third.dropped, third.dropped_by), (1, vec!["workers".to_owned()]));
            let mut reader = Reader::open(&sidecar, "dead", 10).await;
            assert_eq!(text(&reader.delivery().await), "1");
        } else {
            let status = third.unwrap_err();
            let problem = problem(&status);
            assert_eq!((status.code(), problem.code.as_str()), (Code::ResourceExhausted, "KTL3004"));
            assert!(problem.message.contains("workers") && problem.message.contains('2'), "{problem:?}");
            assert!(problem.retry_after_ms > 0);
            let mut reader = Reader::open(&sidecar, "orders", 10).await;
            let first = reader.delivery().await;
            reader.ack(first.delivery).await;
            publish(&sidecar, "3").await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_a_route_makes_room_for_is_told_to_the_publisher() {
    let world = World::new().await;
    let full =
        |name: &str| v1::TopicConfig { buffer_limit: 1, drop_oldest: true, ..topic(name, &["workers"]) };
    let topics = vec![full("orders"), full("copies")];
    let hub = world.hub(topics.clone()).await;
    let rule = v1::RouteRule { when: String::new(), to: vec!["copies".into()] };
    let (name, from) = ("all".to_owned(), "orders".to_owned());
    let route = v1::RouteConfig { name, from, rules: vec![rule], ..Default::default() };
    let config = v1::SidecarConfig { routes: vec![route], ..config(&hub.hello.peer, topics) };
    let sidecar = world.sidecar(INSTANCE, config).await;
    assert_eq!(publish(&sidecar, "1").await.unwrap().dropped, 0);
    let second = publish(&sidecar, "2").await.unwrap();
    let by = ["workers", "copies/workers"].map(str::to_owned);
    assert_eq!((second.dropped, second.dropped_by), (2, by.to_vec()));
}

#[tokio::test]
async fn a_message_that_no_topic_takes_is_refused_without_ending_its_stream() {
    let world = World::new().await;
    let topics = vec![topic("orders", &["workers"])];
    let hub = world.hub(topics.clone()).await;
    let sidecar = world.sidecar(INSTANCE, config(&hub.hello.peer, topics)).await;
    let large = event("1", &"x".repeat(5 << 20));
    let request = |event| v1::PublishRequest { topic: "orders".into(), event: Some(event) };
    let mut client = TopicsClient::new(sidecar.channel().await);
    let refused = client.publish(request(large.clone())).await.unwrap_err();
    assert_eq!((refused.code(), problem(&refused).code.as_str()), (Code::ResourceExhausted, "KTL3003"));
    assert!(refused.message().contains("keep what is larger elsewhere"), "{refused:?}");
    let requests = [(1, large), (2, event("2", "small"))];
    let requests =
        requests.map(|(tag, event)| v1::PublishStreamRequest { tag, publish: Some(request(event)) });
    let mut answers = client.publish_stream(tokio_stream::iter(requests)).await.unwrap().into_inner();
    let mut stored = Vec::new();
    while let Some(answer) = soon("an answer", answers.message()).await.unwrap() {
        use v1::publish_stream_response::Outcome;
        stored.push((answer.tag, matches!(answer.outcome.unwrap(), Outcome::Published(_))));
    }
    stored.sort_unstable();
    assert_eq!(stored, [(1, false), (2, true)]);
}

#[tokio::test]
async fn a_terminated_message_is_a_dead_letter_that_says_where_from_and_why() {
    let world = World::new().await;
    let orders = v1::TopicConfig { dead_letter: "dead".into(), ..topic("orders", &["workers"]) };
    let topics = vec![orders, topic("dead", &["undertaker"])];
    let hub = world.hub(topics.clone()).await;
    let sidecar = world.sidecar(INSTANCE, config(&hub.hello.peer, topics)).await;
    publish(&sidecar, "1").await.unwrap();
    let mut reader = Reader::open(&sidecar, "orders", 10).await;
    let delivery = reader.delivery().await.delivery;
    reader.say(ask::Action::Progress(ask::Progress { delivery }));
    reader.say(ask::Action::Term(ask::Term { delivery, reason: "no use".into() }));
    let letter = Reader::open(&sidecar, "dead", 10).await.delivery().await.event.unwrap();
    assert_eq!((letter.id.as_str(), &letter.data[..]), ("1", &b"1"[..]));
    for (name, value) in [
        ("kontroldeadtopic", "default/orders"),
        ("kontroldeadsubscription", "workers"),
        ("kontroldeadreason", "no use"),
        ("kontroldeadattempts", "1"),
    ] {
        assert_eq!(letter.extensions[name], value, "{name}");
    }
}

#[tokio::test]
async fn the_hub_refuses_a_foreign_certificate_and_counts_it() {
    let world = World::new().await;
    let topics = vec![topic("orders", &["workers"])];
    let hub = world.hub(topics.clone()).await;
    let foreign = World::new().await;
    let stranger = foreign.sidecar(INSTANCE, config(&hub.hello.peer, topics)).await;
    let status = publish(&stranger, "1").await.unwrap_err();
    assert_eq!((status.code(), problem(&status).code.as_str()), (Code::Unavailable, "KTL3008"), "{status:?}");
    eventually("the refusal is counted", || async {
        let metrics = get(&format!("http://{}/metrics", hub.hello.admin)).await.body;
        let line = metrics.lines().find(|line| line.contains("foreign_certificate"))?;
        (!line.ends_with(" 0")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_hub_refuses_an_incarnation_below_its_fence_until_it_is_replaced() {
    let world = World::new().await;
    let topics = vec![topic("orders", &["workers"])];
    let hub = world.hub(topics.clone()).await;
    let sidecar = world.sidecar(INSTANCE, config(&hub.hello.peer, topics.clone())).await;
    publish(&sidecar, "1").await.unwrap();
    let fenced = v1::HubConfig {
        version: 2,
        topics: topics.clone(),
        fences: vec![v1::Fence { instance: INSTANCE.into(), incarnation: 2 }],
        storage_bytes: 256 << 20,
        segment_bytes: 4 << 20,
    };
    world.operator.configure("hub", Message::Hub(fenced));
    world.operator.applied("hub", 2).await;
    let refused = publish(&sidecar, "2").await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    assert!(matches!(problem(&refused).code.as_str(), "KTL3008" | "KTL3009"), "{refused:?}");
    assert!(refused.message().contains("has been replaced by incarnation 2"), "{refused:?}");
    let next = v1::SidecarConfig { version: 2, incarnation: 2, ..config(&hub.hello.peer, topics) };
    world.operator.configure(INSTANCE, Message::Sidecar(next));
    world.operator.applied(INSTANCE, 2).await;
    publish(&sidecar, "3").await.unwrap();
}

#[tokio::test]
async fn a_hub_with_a_damaged_log_does_not_start_and_names_the_place() {
    let world = World::new().await;
    let topics = vec![topic("orders", &["workers"])];
    let mut hub = world.hub(topics.clone()).await;
    let sidecar = world.sidecar(INSTANCE, config(&hub.hello.peer, topics)).await;
    for id in ["1", "2", "3"] {
        publish(&sidecar, id).await.unwrap();
    }
    hub.kill();
    let file = world.path().join("hub/log/0000000001.log");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[300] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let (status, said) = world.hub_that_ends().await;
    assert!(!status.success());
    for part in ["KTL3012", "0000000001.log is damaged at byte"] {
        assert!(said.contains(part), "{part} is missing from {said}");
    }
}

fn callers_config(endpoints: Vec<v1::Endpoint>) -> v1::SidecarConfig {
    v1::SidecarConfig {
        version: 1,
        incarnation: 1,
        targets: vec![v1::Target { widget: "default/shop/back".into(), endpoints }],
        resilience: Some(support::resilience()),
        ..Default::default()
    }
}

fn replica(ordinal: u32, address: &str) -> v1::Endpoint {
    v1::Endpoint {
        instance: format!("default/shop/back/{ordinal}"),
        address: address.to_owned(),
        ready: true,
    }
}

fn call() -> v1::CallRequest {
    v1::CallRequest { target: "back".into(), method: "echo".into(), ..Default::default() }
}

#[tokio::test]
async fn the_breaker_of_a_target_opens_after_its_failures_and_says_so_everywhere() {
    let world = World::new().await;
    let mut config = callers_config(vec![replica(0, "127.0.0.1:1")]);
    config.resilience.as_mut().unwrap().max_retries = 0;
    let front = world.sidecar("default/shop/front/0", config).await;
    let mut client = CallsClient::new(front.channel().await);
    for _ in 0..5 {
        assert_eq!(problem(&client.call(call()).await.unwrap_err()).code, "KTL4009");
    }
    let refused = problem(&client.call(call()).await.unwrap_err());
    assert_eq!(refused.code, "KTL4005");
    assert!(refused.retry_after_ms > 0 && refused.retry_after_ms <= 60_000, "{refused:?}");
    let open = |signals: &v1::Signals| signals.breakers.iter().any(|breaker| breaker.breaker == "open");
    let signals = world.operator.signals("default/shop/front/0", open).await;
    assert_eq!(signals.breakers[0].instance, "default/shop/back/0");
    assert!(!signals.breakers[0].reason.is_empty());
}

#[tokio::test]
async fn retries_stay_within_the_budget() {
    let world = World::new().await;
    let mut config = callers_config(vec![replica(0, "127.0.0.1:1")]);
    config.resilience.as_mut().unwrap().breaker_failures = 100_000;
    let front = world.sidecar("default/shop/front/0", config).await;
    let mut client = CallsClient::new(front.channel().await);
    let began = tokio::time::Instant::now();
    for _ in 0..100 {
        client.call(call()).await.unwrap_err();
    }
    let metrics = get(&format!("http://{}/metrics", front.hello.admin)).await.body;
    let value = |name: &str| {
        let line = metrics.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    let retries = value("kontrol_call_retries_total");
    // A fifth of the calls, and one a second beside.
    let most = 21.0 + began.elapsed().as_secs_f64();
    assert!(retries > 0.0 && retries <= most, "{retries} retries of 100 calls");
}

#[tokio::test]
async fn calls_go_to_the_least_loaded_of_the_ready_replicas() {
    let world = World::new().await;
    let callee = v1::SidecarConfig {
        version: 1,
        incarnation: 1,
        serves: vec![serve("echo")],
        resilience: Some(support::resilience()),
        ..Default::default()
    };
    let mut replicas = Vec::new();
    let mut endpoints = Vec::new();
    for ordinal in 0..3 {
        let sidecar = world.sidecar(&format!("default/shop/back/{ordinal}"), callee.clone()).await;
        endpoints.push(replica(ordinal, &sidecar.hello.peer));
        replicas.push((Answering::open(&sidecar, 0).await, sidecar));
    }
    endpoints[2].ready = false;
    let front = world.sidecar("default/shop/front/0", callers_config(endpoints)).await;
    let client = CallsClient::new(front.channel().await);
    let mut held = Vec::new();
    for _ in 0..6 {
        let mut client = client.clone();
        held.push(Box::pin(async move { client.call(call()).await }));
    }
    let mut all = futures::future::join_all(held);
    let mut answering = Box::pin(async {
        let mut requests = Vec::new();
        for at in [0, 1] {
            for _ in 0..3 {
                requests.push((at, replicas[at].0.request().await));
            }
        }
        for (at, request) in requests {
            replicas[at].0.chunk(request.call, "done", true);
        }
    });
    // Three each: every call went to the one that had fewer, and none to the one that is not ready.
    tokio::select! {
        _ = &mut all => panic!("answered by nobody"),
        () = &mut answering => {}
    }
    for reply in all.await {
        reply.unwrap();
    }
}

#[tokio::test]
async fn a_report_is_taken_up_to_each_limit_and_refused_beyond_at_both_doors() {
    let world = World::new().await;
    let sidecar = world.sidecar(INSTANCE, config("", Vec::new())).await;
    let mut widget = WidgetClient::new(sidecar.channel().await);
    let names = |count: usize| (0..count).map(|at| (format!("n{at}"), 1.0)).collect::<HashMap<_, _>>();
    let one = |name: &str, value: f64| HashMap::from([(name.to_owned(), value)]);
    let cases = [
        (String::new(), names(32), None),
        ("ü".repeat(1000), one(&"ü".repeat(63), f64::MAX), None),
        ("ü".repeat(1001), names(0), Some(["1001", "1000"])),
        ("x".repeat(1_500_000), names(0), Some(["1500000", "1000"])),
        (String::new(), names(33), Some(["33", "32"])),
        (String::new(), names(10_000), Some(["10000", "32"])),
        (String::new(), one(&"n".repeat(64), 1.0), Some(["64", "63"])),
        (String::new(), one("tokens", f64::NAN), Some(["tokens", "NaN"])),
    ];
    for (message, load, refused) in cases {
        let text = load
            .values()
            .all(|value| value.is_finite())
            .then(|| serde_json::json!({"message": message, "load": load}).to_string());
        if let Some(text) = text {
            let url = format!("http://{}/v1/report", sidecar.hello.http);
            let answer = send("POST", &url, &[], &text).await;
            match &refused {
                None => assert_eq!(answer.status, 204, "{}", answer.body),
                Some(said) => {
                    let problem = answer.json();
                    assert_eq!((answer.status, problem["code"].as_str()), (400, Some("KTL4022")));
                    let detail = problem["detail"].as_str().unwrap();
                    assert!(said.iter().all(|said| detail.contains(said)) && detail.len() < 400, "{detail}");
                }
            }
        }
        let request = v1::ReportRequest { message, load, ..Default::default() };
        let answer = widget.report(request).await;
        match refused {
            None => drop(answer.unwrap()),
            Some(said) => {
                let status = answer.unwrap_err();
                assert_eq!(
                    (status.code(), problem(&status).code.as_str()),
                    (Code::InvalidArgument, "KTL4022")
                );
                assert!(said.iter().all(|said| status.message().contains(said)), "{status:?}");
            }
        }
    }
    // What was refused changed nothing.
    let signals = world.operator.signals(INSTANCE, |signals| !signals.load.is_empty()).await;
    assert_eq!((signals.message.chars().count(), signals.load.len()), (1000, 1));
}
