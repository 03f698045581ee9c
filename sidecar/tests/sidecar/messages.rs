//! Messages through the real binaries: door, link, hub and back.

use std::time::Duration;

use kontrol_proto::v1::{self, subscribe_request as ask, topics_client::TopicsClient};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, transport::Channel};

use crate::support::{
    self, Process, World, consume, event, eventually, soon, topic,
    web::Events,
    widget::{Reader, text},
};

fn config(hub: &Process, topics: Vec<v1::TopicConfig>) -> v1::SidecarConfig {
    v1::SidecarConfig {
        version: 1,
        incarnation: 1,
        consumes: vec![consume("orders", "workers")],
        produces: vec!["orders".into(), "nowhere".into()],
        hub: hub.hello.peer.clone(),
        topics,
        resilience: Some(v1::Resilience { timeout_ms: 10_000, ..support::resilience() }),
        ..Default::default()
    }
}

async fn publish(
    client: &mut TopicsClient<Channel>,
    event: v1::Event,
) -> Result<v1::PublishResponse, tonic::Status> {
    let request = v1::PublishRequest { topic: "orders".into(), event: Some(event) };
    soon("published", client.publish(request)).await.map(tonic::Response::into_inner)
}

async fn start() -> (World, Process, Process) {
    let world = World::new().await;
    let topics = vec![topic("orders", &["workers"])];
    let hub = world.hub(topics.clone()).await;
    let sidecar = world.sidecar("default/shop/shop/0", config(&hub, topics)).await;
    (world, hub, sidecar)
}

#[tokio::test]
async fn a_message_is_published_delivered_and_acknowledged() {
    let (world, _hub, sidecar) = start().await;
    let mut client = TopicsClient::new(sidecar.channel().await);
    let published = publish(&mut client, event("1", "hello")).await.unwrap();
    assert_eq!((published.id.as_str(), published.duplicate), ("1", false));
    let again = publish(&mut client, event("1", "hello")).await.unwrap();
    assert_eq!((again.sequence, again.duplicate), (published.sequence, true));
    let mut reader = Reader::open(&sidecar, "orders", 10).await;
    let delivery = reader.delivery().await;
    assert_eq!((text(&delivery).as_str(), delivery.attempt, delivery.max_attempts), ("hello", 1, 4));
    let event = delivery.event.unwrap();
    assert_eq!((event.source.as_str(), event.id.as_str()), ("/default/shop/shop", "1"));
    reader.ack(delivery.delivery).await;
    world.operator.hub_signals(|signals| signals.subscriptions.iter().all(|seen| seen.depth == 0)).await;
}

#[tokio::test]
async fn a_message_that_was_given_back_comes_again() {
    let (_world, _hub, sidecar) = start().await;
    let mut client = TopicsClient::new(sidecar.channel().await);
    publish(&mut client, event("1", "hello")).await.unwrap();
    let mut reader = Reader::open(&sidecar, "orders", 10).await;
    let first = reader.delivery().await;
    reader.say(ask::Action::Nak(ask::Nak {
        delivery: first.delivery,
        attempt_counts: true,
        ..Default::default()
    }));
    let second = reader.delivery().await;
    assert_eq!((text(&second).as_str(), second.attempt), ("hello", 2));
    drop(reader);
    let mut reader = Reader::open(&sidecar, "orders", 10).await;
    let third = reader.delivery().await;
    assert_eq!(
        (text(&third).as_str(), third.attempt),
        ("hello", 3),
        "a stream that broke counts the attempt"
    );
    reader.ack(third.delivery).await;
}

#[tokio::test]
async fn a_delivery_whose_lease_has_ended_is_no_longer_held() {
    let world = World::new().await;
    let topics = vec![v1::TopicConfig { ack_timeout_ms: 1_000, ..topic("orders", &["workers"]) }];
    let hub = world.hub(topics.clone()).await;
    let sidecar = world.sidecar("default/shop/shop/0", config(&hub, topics)).await;
    let mut client = TopicsClient::new(sidecar.channel().await);
    let mut reader = Reader::open(&sidecar, "orders", 10).await;
    publish(&mut client, event("1", "hello")).await.unwrap();
    let first = reader.delivery().await;
    let second = reader.delivery().await;
    assert_eq!((second.sequence, second.attempt), (first.sequence, 2));
    reader.ack(second.delivery).await;
    let mut widget = v1::widget_client::WidgetClient::new(sidecar.channel().await);
    let state = widget.state(v1::StateRequest {}).await.unwrap().into_inner();
    assert_eq!((state.in_flight, state.subscriptions[0].in_flight), (0, 0));
}

#[tokio::test]
async fn a_delivery_whose_lease_has_ended_leaves_its_place_in_the_window() {
    let world = World::new().await;
    let topics = vec![v1::TopicConfig { ack_timeout_ms: 1_000, ..topic("orders", &["workers"]) }];
    let hub = world.hub(topics.clone()).await;
    let sidecar = world.sidecar("default/shop/shop/0", config(&hub, topics)).await;
    let mut client = TopicsClient::new(sidecar.channel().await);
    publish(&mut client, event("1", "hello")).await.unwrap();
    let url = format!("http://{}/v1/topics/orders/subscribe?credits=2", sidecar.hello.http);
    let mut events = Events::open("GET", &url, "").await;
    for name in ["open", "message", "message"] {
        assert_eq!(events.next().await.unwrap().name, name);
    }
    // Two were delivered, and nothing was settled; only one of them is with the client.
    publish(&mut client, event("2", "next")).await.unwrap();
    let next: serde_json::Value = serde_json::from_str(&events.next().await.unwrap().data).unwrap();
    assert_eq!(next["id"], "2");
}

#[tokio::test]
async fn no_more_than_the_credits_are_delivered() {
    let (_world, _hub, sidecar) = start().await;
    let mut client = TopicsClient::new(sidecar.channel().await);
    for id in 0..3 {
        publish(&mut client, event(&id.to_string(), &id.to_string())).await.unwrap();
    }
    let mut reader = Reader::open(&sidecar, "orders", 1).await;
    assert_eq!(text(&reader.delivery().await), "0");
    let none = tokio::time::timeout(Duration::from_millis(100), reader.responses.message()).await;
    assert!(none.is_err(), "without credit nothing comes: {none:?}");
    reader.say(ask::Action::Credit(ask::Credit { messages: 1 }));
    assert_eq!(text(&reader.delivery().await), "1");
}

#[tokio::test]
async fn what_cannot_be_published_or_subscribed_is_said_with_its_code() {
    let (_world, _hub, sidecar) = start().await;
    let mut client = TopicsClient::new(sidecar.channel().await);
    let problem = |status: &tonic::Status| kontrol_sidecar::grpc::problem_of(status).unwrap().code;
    let request = |topic: &str, event| v1::PublishRequest { topic: topic.into(), event: Some(event) };
    let undeclared = client.publish(request("secrets", event("1", ""))).await.unwrap_err();
    assert_eq!((undeclared.code(), problem(&undeclared).as_str()), (Code::PermissionDenied, "KTL3002"));
    let unknown = client.publish(request("nowhere", event("1", ""))).await.unwrap_err();
    assert_eq!((unknown.code(), problem(&unknown).as_str()), (Code::NotFound, "KTL3001"));
    let large = event("1", &"x".repeat(2 << 20));
    let large = client.publish(request("orders", large)).await.unwrap_err();
    assert_eq!((large.code(), problem(&large).as_str()), (Code::ResourceExhausted, "KTL3003"));
    let open = ask::Open { topic: "orders".into(), subscription: "others".into(), credits: 1 };
    let open = v1::SubscribeRequest { action: Some(ask::Action::Open(open)) };
    let mut responses = client.subscribe(tokio_stream::iter([open])).await.unwrap().into_inner();
    let unknown = responses.message().await.unwrap_err();
    assert_eq!((unknown.code(), problem(&unknown).as_str()), (Code::NotFound, "KTL3006"));
}

#[tokio::test]
async fn a_hub_that_is_killed_while_publishing_loses_and_doubles_nothing() {
    let (world, mut hub, sidecar) = start().await;
    let (requests, outgoing) = mpsc::unbounded_channel();
    let mut client = TopicsClient::new(sidecar.channel().await);
    let mut answers =
        client.publish_stream(UnboundedReceiverStream::new(outgoing)).await.unwrap().into_inner();
    let total = 2_000_u64;
    let mut acknowledged = Vec::new();
    let (mut sent, mut killed) = (0, 0);
    while (acknowledged.len() as u64) < total {
        while sent < total && sent < acknowledged.len() as u64 + 200 {
            let publish =
                v1::PublishRequest { topic: "orders".into(), event: Some(event(&sent.to_string(), "x")) };
            requests.send(v1::PublishStreamRequest { tag: sent, publish: Some(publish) }).unwrap();
            sent += 1;
        }
        let answer = soon("an answer", answers.message()).await.unwrap().unwrap();
        match answer.outcome.unwrap() {
            v1::publish_stream_response::Outcome::Published(_) => acknowledged.push(answer.tag),
            v1::publish_stream_response::Outcome::Error(error) => panic!("refused: {error:?}"),
        }
        if acknowledged.len() >= 300 * (killed + 1) && killed < 3 {
            killed += 1;
            let address = hub.hello.peer.clone();
            hub.kill();
            hub = world.hub_at(vec![topic("orders", &["workers"])], &address).await;
        }
    }
    assert_eq!(killed, 3);
    let mut reader = Reader::open(&sidecar, "orders", 5_000).await;
    let mut received = Vec::new();
    for _ in 0..total {
        let delivery = reader.delivery().await;
        received.push(delivery.event.unwrap().id.parse::<u64>().unwrap());
    }
    received.sort_unstable();
    assert_eq!(received, (0..total).collect::<Vec<_>>(), "each once, none lost");
}

#[tokio::test]
async fn a_subscription_opens_again_by_itself_after_the_hub_was_killed() {
    let (world, mut hub, sidecar) = start().await;
    let mut client = TopicsClient::new(sidecar.channel().await);
    let mut reader = Reader::open(&sidecar, "orders", 10).await;
    publish(&mut client, event("1", "before")).await.unwrap();
    let before = reader.delivery().await;
    let address = hub.hello.peer.clone();
    hub.kill();
    let _hub = world.hub_at(vec![topic("orders", &["workers"])], &address).await;
    let again = reader.delivery().await;
    assert_eq!(text(&again), "before");
    assert_ne!(again.delivery, before.delivery, "a delivery's number is never used twice");
    reader.ack(again.delivery).await;
    publish(&mut client, event("2", "after")).await.unwrap();
    assert_eq!(text(&reader.delivery().await), "after");
}

#[tokio::test]
async fn while_the_hub_is_away_a_publish_waits_until_its_deadline() {
    let (_world, mut hub, sidecar) = start().await;
    hub.kill();
    let mut client = TopicsClient::new(sidecar.channel().await);
    let mut request =
        tonic::Request::new(v1::PublishRequest { topic: "orders".into(), event: Some(event("1", "")) });
    request.set_timeout(Duration::from_millis(300));
    let began = tokio::time::Instant::now();
    let status = client.publish(request).await.unwrap_err();
    assert!(began.elapsed() >= Duration::from_millis(250), "{status:?}");
    assert!(
        matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled),
        "{status:?}"
    );
}

#[tokio::test]
async fn a_sidecar_that_is_killed_while_delivering_loses_nothing() {
    let (world, _hub, mut sidecar) = start().await;
    let mut client = TopicsClient::new(sidecar.channel().await);
    for id in 0..5 {
        publish(&mut client, event(&id.to_string(), &id.to_string())).await.unwrap();
    }
    let mut reader = Reader::open(&sidecar, "orders", 3).await;
    let done = reader.delivery().await;
    reader.ack(done.delivery).await;
    reader.delivery().await;
    sidecar.kill();
    let sidecar = world.sidecar_again("default/shop/shop/0").await;
    world.operator.applied("default/shop/shop/0", 1).await;
    let mut reader = Reader::open(&sidecar, "orders", 10).await;
    let mut left = Vec::new();
    for _ in 0..4 {
        let delivery = reader.delivery().await;
        left.push(text(&delivery));
        reader.ack(delivery.delivery).await;
    }
    left.sort();
    assert_eq!(left, ["1", "2", "3", "4"]);
}

#[tokio::test]
async fn a_drain_gives_back_what_was_not_started_and_lets_the_rest_end() {
    let (world, _hub, mut sidecar) = start().await;
    let mut client = TopicsClient::new(sidecar.channel().await);
    publish(&mut client, event("1", "in work")).await.unwrap();
    let mut reader = Reader::open(&sidecar, "orders", 10).await;
    let held = reader.delivery().await;
    sidecar.terminate();
    eventually("draining", || async {
        let request = v1::PublishRequest { topic: "orders".into(), event: Some(event("2", "late")) };
        let state =
            v1::widget_client::WidgetClient::new(sidecar.channel().await).state(v1::StateRequest {}).await;
        drop(request);
        state.ok()?.into_inner().draining.then_some(())
    })
    .await;
    reader.ack(held.delivery).await;
    assert!(sidecar.ended().await.success());
    let sidecar = world.sidecar_again("default/shop/shop/0").await;
    let mut client = TopicsClient::new(sidecar.channel().await);
    publish(&mut client, event("3", "next")).await.unwrap();
    let mut reader = Reader::open(&sidecar, "orders", 10).await;
    assert_eq!(text(&reader.delivery().await), "next", "what was acknowledged while draining stays so");
}

#[tokio::test]
async fn a_new_incarnation_ends_the_old_ones_subscription_and_the_fence_holds() {
    let (world, hub, sidecar) = start().await;
    let mut client = TopicsClient::new(sidecar.channel().await);
    let mut reader = Reader::open(&sidecar, "orders", 10).await;
    publish(&mut client, event("1", "hello")).await.unwrap();
    reader.delivery().await;
    let topics = vec![topic("orders", &["workers"])];
    let next = v1::SidecarConfig { version: 2, incarnation: 2, ..config(&hub, topics.clone()) };
    world.operator.configure("default/shop/shop/0", v1::session_response::Message::Sidecar(next));
    world.operator.applied("default/shop/shop/0", 2).await;
    let fence = v1::Fence { instance: "default/shop/shop/0".into(), incarnation: 2 };
    let fenced = v1::HubConfig {
        version: 2,
        topics,
        fences: vec![fence],
        storage_bytes: 256 << 20,
        segment_bytes: 4 << 20,
    };
    world.operator.configure("hub", v1::session_response::Message::Hub(fenced));
    world.operator.applied("hub", 2).await;
    let ended = soon("the end", reader.responses.message()).await.unwrap_err();
    assert_eq!(ended.code(), Code::FailedPrecondition, "{ended:?}");
    let mut reader = Reader::open(&sidecar, "orders", 10).await;
    assert_eq!(text(&reader.delivery().await), "hello");
    publish(&mut client, event("2", "from the new one")).await.unwrap();
    assert_eq!(text(&reader.delivery().await), "from the new one");
}
