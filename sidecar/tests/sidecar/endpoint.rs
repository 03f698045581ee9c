//! A plain web service behind the real binary: messages and calls are posted to it, its health is asked for, and it knows no library.

use kontrol_proto::v1::{
    self, calls_client::CallsClient, topics_client::TopicsClient, widget_client::WidgetClient,
};
use tonic::Code;

use crate::support::{
    self, Process, World, event, eventually, topic,
    web::{Got, WebService},
};

const INSTANCE: &str = "default/shop/shop/0";

fn config(hub: &Process, service: &WebService, topics: Vec<v1::TopicConfig>) -> v1::SidecarConfig {
    v1::SidecarConfig {
        version: 1,
        incarnation: 1,
        consumes: vec![v1::Consume { http_path: "/orders".into(), ..support::consume("orders", "workers") }],
        produces: vec!["orders".into()],
        serves: vec![v1::Serve { method: "answer".into(), http_path: "/answer".into() }],
        hub: hub.hello.peer.clone(),
        endpoint: service.address.clone(),
        topics,
        resilience: Some(support::resilience()),
        ..Default::default()
    }
}

async fn publish(sidecar: &Process, event: v1::Event) {
    let mut client = TopicsClient::new(sidecar.channel().await);
    client.publish(v1::PublishRequest { topic: "orders".into(), event: Some(event) }).await.unwrap();
}

fn topics() -> Vec<v1::TopicConfig> {
    let orders = v1::TopicConfig { dead_letter: "dead".into(), ..topic("orders", &["workers"]) };
    vec![orders, topic("dead", &["undertaker"])]
}

fn bodies(got: &[Got]) -> Vec<&str> {
    got.iter().map(|got| got.body.as_str()).collect()
}

fn depth(signals: &v1::HubSignals, topic: &str) -> u64 {
    signals.subscriptions.iter().find(|seen| seen.topic == topic).map_or(u64::MAX, |seen| seen.depth)
}

#[tokio::test]
async fn messages_are_posted_retried_after_5xx_and_given_up_after_4xx() {
    let world = World::new().await;
    let hub = world.hub(topics()).await;
    let service = WebService::start(|got, _| {
        let attempt = got.header("kontrol-attempt").parse::<u32>().unwrap();
        match got.body.as_str() {
            "flaky" if attempt < 3 => (503, "text/plain", "not yet".into()),
            "poison" => (422, "text/plain", "no use".into()),
            _ => (204, "text/plain", String::new()),
        }
    })
    .await;
    let sidecar = world.sidecar(INSTANCE, config(&hub, &service, topics())).await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let traced =
        v1::Event { extensions: [("traceparent".to_owned(), trace.to_owned())].into(), ..event("1", "fine") };
    publish(&sidecar, traced).await;
    let first = &service.got("/orders", 1).await[0];
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "/default/shop/shop"),
        ("ce-type", "dev.example.text"),
        ("content-type", "text/plain"),
        ("traceparent", trace),
        ("kontrol-topic", "orders"),
        ("kontrol-attempt", "1"),
        ("kontrol-max-attempts", "4"),
    ] {
        assert_eq!(first.header(name), value, "{name}");
    }
    publish(&sidecar, event("2", "flaky")).await;
    publish(&sidecar, event("3", "poison")).await;
    let signals = world
        .operator
        .hub_signals(|signals| depth(signals, "orders") == 0 && depth(signals, "dead") == 1)
        .await;
    assert_eq!(signals.subscriptions.iter().map(|seen| seen.dead_lettered).sum::<u64>(), 1);
    let got = service.got("/orders", 5).await;
    let count = |body: &str| got.iter().filter(|got| got.body == body).count();
    assert_eq!((count("fine"), count("flaky"), count("poison")), (1, 3, 1));
}

#[tokio::test]
async fn calls_are_posted_and_their_answers_mapped() {
    let world = World::new().await;
    let hub = world.hub(topics()).await;
    let service = WebService::start(|got: &Got, _| match got.body.as_str() {
        "stream" => (200, "text/event-stream", "data: a\n\ndata: b\n\n".into()),
        "missing" => (404, "text/plain", "no such thing".into()),
        "busy" => (429, "text/plain", String::new()),
        _ => (200, "application/json", format!("\"{}\"", got.header("kontrol-caller"))),
    })
    .await;
    let back = world.sidecar(INSTANCE, config(&hub, &service, topics())).await;
    let endpoint = v1::Endpoint { instance: INSTANCE.into(), address: back.hello.peer.clone(), ready: true };
    let front = v1::SidecarConfig {
        version: 1,
        incarnation: 1,
        targets: vec![v1::Target { widget: "default/shop/shop".into(), endpoints: vec![endpoint] }],
        resilience: Some(support::resilience()),
        ..Default::default()
    };
    let front = world.sidecar("default/shop/front/0", front).await;
    let mut client = CallsClient::new(front.channel().await);
    let call = |text: &str| v1::CallRequest {
        target: "shop".into(),
        method: "answer".into(),
        data: text.to_owned().into(),
        ..Default::default()
    };
    let reply = client.call(call("hello")).await.unwrap().into_inner();
    assert_eq!(
        (&reply.data[..], reply.datacontenttype.as_str()),
        (&b"\"default/shop/front\""[..], "application/json")
    );
    let mut stream = client.call_stream(call("stream")).await.unwrap().into_inner();
    let mut text = String::new();
    while let Some(chunk) = stream.message().await.unwrap() {
        text.push_str(std::str::from_utf8(&chunk.data).unwrap());
    }
    assert_eq!(text, "ab");
    for (text, code) in [("missing", Code::Unimplemented), ("busy", Code::ResourceExhausted)] {
        assert_eq!(client.call(call(text)).await.unwrap_err().code(), code, "{text}");
    }
    let asked = service.got("/answer", 4).await;
    let deadline: u64 = asked[0].header("kontrol-deadline-ms").parse().unwrap();
    assert!(deadline > 0 && deadline <= 5_000);
}

#[tokio::test]
async fn a_sidecar_that_is_killed_while_it_posts_loses_no_message() {
    let world = World::new().await;
    let mut topics = topics();
    topics[0].retry_limit = 1_000;
    let hub = world.hub(topics.clone()).await;
    let (told, hold) = tokio::sync::watch::channel(true);
    let service =
        WebService::start(move |_, _| (if *hold.borrow() { 503 } else { 200 }, "text/plain", String::new()))
            .await;
    let mut sidecar = world.sidecar(INSTANCE, config(&hub, &service, topics.clone())).await;
    for id in 0..5 {
        publish(&sidecar, event(&id.to_string(), &id.to_string())).await;
    }
    service.got("/orders", 5).await;
    sidecar.kill();
    told.send_replace(false);
    let _sidecar = world.sidecar_again(INSTANCE).await;
    world.operator.hub_signals(|signals| depth(signals, "orders") == 0 && depth(signals, "dead") == 0).await;
}

#[tokio::test]
async fn a_post_that_outlives_its_hub_gives_its_credit_back() {
    let world = World::new().await;
    let mut topics = topics();
    topics[0].ack_timeout_ms = 300;
    let mut hub = world.hub(topics.clone()).await;
    let (service, release) = WebService::patient("long").await;
    let mut config = config(&hub, &service, topics.clone());
    config.consumes[0].max_in_flight = 1;
    let sidecar = world.sidecar(INSTANCE, config).await;
    publish(&sidecar, event("1", "long")).await;
    service.got("/orders", 1).await;
    let address = hub.hello.peer.clone();
    hub.kill();
    let _hub = world.hub_at(topics, &address).await;
    // The one credit of the subscription went with the first post.
    service.got("/orders", 2).await;
    release.send_replace(true);
    publish(&sidecar, event("2", "next")).await;
    assert_eq!(bodies(&service.got("/orders", 3).await), ["long", "long", "next"]);
}

#[tokio::test]
async fn a_drain_waits_for_the_post_on_its_way_and_its_answer_counts() {
    let world = World::new().await;
    let hub = world.hub(topics()).await;
    let (service, release) = WebService::patient("long").await;
    let mut sidecar = world.sidecar(INSTANCE, config(&hub, &service, topics())).await;
    publish(&sidecar, event("1", "long")).await;
    service.got("/orders", 1).await;
    sidecar.terminate();
    let drains = eventually("draining", || async {
        let mut client = WidgetClient::new(sidecar.channel().await);
        let state = client.state(v1::StateRequest {}).await.ok()?.into_inner();
        state.draining.then_some(state)
    });
    assert_eq!(drains.await.in_flight, 1);
    release.send_replace(true);
    assert!(sidecar.ended().await.success());
    let sidecar = world.sidecar_again(INSTANCE).await;
    world.operator.applied(INSTANCE, 1).await;
    publish(&sidecar, event("2", "next")).await;
    assert_eq!(bodies(&service.got("/orders", 2).await), ["long", "next"]);
}

#[tokio::test]
async fn an_edit_of_what_is_consumed_takes_nothing_from_a_post_on_its_way() {
    let world = World::new().await;
    let hub = world.hub(topics()).await;
    let (service, release) = WebService::patient("long").await;
    let mut config = config(&hub, &service, topics());
    let sidecar = world.sidecar(INSTANCE, config.clone()).await;
    publish(&sidecar, event("1", "long")).await;
    service.got("/orders", 1).await;
    // Another subscription beside it: this one goes on.
    config.consumes.push(v1::Consume { http_path: "/dead".into(), ..support::consume("dead", "undertaker") });
    config.version = 2;
    world.operator.configure(INSTANCE, v1::session_response::Message::Sidecar(config.clone()));
    world.operator.applied(INSTANCE, 2).await;
    publish(&sidecar, event("2", "beside")).await;
    assert_eq!(bodies(&service.got("/orders", 2).await), ["long", "beside"]);
    // Other terms of its own: they hold when the post has ended.
    config.consumes[0].max_in_flight = 1;
    config.version = 3;
    world.operator.configure(INSTANCE, v1::session_response::Message::Sidecar(config));
    world.operator.applied(INSTANCE, 3).await;
    publish(&sidecar, event("3", "after")).await;
    release.send_replace(true);
    assert_eq!(bodies(&service.got("/orders", 3).await), ["long", "beside", "after"]);
}

#[tokio::test]
async fn readiness_and_hanging_are_seen_by_asking() {
    let world = World::new().await;
    let hub = world.hub(topics()).await;
    let (told, health) = tokio::sync::watch::channel(200_u16);
    let service = WebService::start(move |_, _| (*health.borrow(), "text/plain", "warming up".into())).await;
    let health = v1::HealthConfig { http_path: "/healthz".into(), timeout_ms: 300, interval_ms: 20 };
    let mut config = v1::SidecarConfig { health: Some(health), ..config(&hub, &service, topics()) };
    let _sidecar = world.sidecar(INSTANCE, config.clone()).await;
    world.operator.signals(INSTANCE, |signals| signals.health() == v1::Health::Ready).await;
    told.send_replace(503);
    let not_ready =
        world.operator.signals(INSTANCE, |signals| signals.health() == v1::Health::NotReady).await;
    assert!(not_ready.message.contains("warming up"), "{not_ready:?}");
    // Nobody answers there: it is silent, and that is hung.
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    config.endpoint = nobody.local_addr().unwrap().to_string();
    (config.version, config.incarnation) = (2, 2);
    world.operator.configure(INSTANCE, v1::session_response::Message::Sidecar(config));
    let hung = world.operator.signals(INSTANCE, |signals| signals.incarnation == 2 && signals.hung).await;
    assert_eq!(hung.health(), v1::Health::NotReady);
}
