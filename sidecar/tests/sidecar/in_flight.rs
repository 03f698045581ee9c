//! What a widget has in its hands: never more than `maxInFlight`, and what becomes of it when its lease ends.

use kontrol_core::trust::TrustDomain;
use kontrol_proto::v1::{
    self, link_settle, session_response::Message, subscribe_request as ask, subscribe_response as tell,
    topics_client::TopicsClient, widget_client::WidgetClient,
};
use kontrol_sidecar::{
    identity::{Material, Tls},
    link::{self, Frame, Inbound},
    service::Error,
};
use tokio::sync::mpsc;
use tonic::Code;

use crate::support::{
    self, Process, World, consume, event, eventually, soon, topic,
    web::{Answer, Events, send},
    widget::{Reader, text},
};

const INSTANCE: &str = "default/shop/shop/0";

/// A sidecar whose widget may have so many messages of each topic in flight: of `orders`, whose leases outlast every test, and of `brief`,
/// whose leases end soon, and which is given up then.
async fn start(max_in_flight: u32) -> (World, Process, Process) {
    let world = World::new().await;
    let orders = v1::TopicConfig { ack_timeout_ms: 600_000, ..topic("orders", &["workers"]) };
    let brief = v1::TopicConfig { ack_timeout_ms: 2_000, retry_limit: 0, ..topic("brief", &["workers"]) };
    let hub = world.hub(vec![orders, brief]).await;
    let sidecar = world.sidecar(INSTANCE, config(&hub, max_in_flight)).await;
    (world, hub, sidecar)
}

fn config(hub: &Process, max_in_flight: u32) -> v1::SidecarConfig {
    v1::SidecarConfig {
        version: 1,
        incarnation: 1,
        consumes: ["orders", "brief"]
            .map(|topic| v1::Consume { max_in_flight, ..consume(topic, "workers") })
            .to_vec(),
        produces: vec!["orders".into(), "brief".into()],
        hub: hub.hello.peer.clone(),
        resilience: Some(support::resilience()),
        ..Default::default()
    }
}

async fn publish(sidecar: &Process, topic: &str, ids: std::ops::Range<u32>) {
    let mut client = TopicsClient::new(sidecar.channel().await);
    for id in ids {
        let event = Some(event(&id.to_string(), &id.to_string()));
        client.publish(v1::PublishRequest { topic: topic.into(), event }).await.unwrap();
    }
}

/// Waits until the hub sees so many messages of `orders` in flight, of so many that are not settled. What it delivers, it delivers to the end of
/// the credits, so that it never sees as few if it was asked for more.
async fn in_flight(world: &World, count: u64, unsettled: u64) {
    let seen = |seen: &v1::hub_signals::Subscription| {
        (seen.topic.as_str(), seen.in_flight, seen.depth) == ("orders", count, unsettled)
    };
    world.operator.hub_signals(|signals| signals.subscriptions.iter().any(seen)).await;
}

/// Waits until the hub has given up so many messages of `brief`.
async fn given_up(world: &World, count: u64) {
    let seen =
        |seen: &v1::hub_signals::Subscription| (seen.topic.as_str(), seen.dead_lettered) == ("brief", count);
    world.operator.hub_signals(|signals| signals.subscriptions.iter().any(seen)).await;
}

#[tokio::test]
async fn credits_beyond_what_may_be_in_flight_wait_until_something_is_settled() {
    let (world, _hub, sidecar) = start(2).await;
    publish(&sidecar, "orders", 0..4).await;
    let mut reader = Reader::open(&sidecar, "orders", 100).await;
    let first = reader.delivery().await;
    assert_eq!((text(&first), text(&reader.delivery().await)), ("0".to_owned(), "1".to_owned()));
    in_flight(&world, 2, 4).await;
    reader.ack(first.delivery).await;
    let third = reader.delivery().await;
    assert_eq!(text(&third), "2");
    in_flight(&world, 2, 3).await;
    reader.say(ask::Action::Nak(ask::Nak {
        delivery: third.delivery,
        delay_ms: 60_000,
        ..Default::default()
    }));
    assert_eq!(text(&reader.delivery().await), "3");
}

#[tokio::test]
async fn a_configuration_that_allows_more_is_heeded_at_once() {
    let (world, hub, sidecar) = start(1).await;
    publish(&sidecar, "orders", 0..4).await;
    let mut reader = Reader::open(&sidecar, "orders", 100).await;
    assert_eq!(text(&reader.delivery().await), "0");
    let wider = v1::SidecarConfig { version: 2, ..config(&hub, 3) };
    world.operator.configure(INSTANCE, Message::Sidecar(wider));
    assert_eq!([text(&reader.delivery().await), text(&reader.delivery().await)], ["1", "2"]);
    in_flight(&world, 3, 4).await;
}

#[tokio::test]
async fn the_streams_of_a_widget_share_what_may_be_in_flight() {
    let (world, _hub, sidecar) = start(2).await;
    let mut one = Reader::open(&sidecar, "orders", 100).await;
    publish(&sidecar, "orders", 0..6).await;
    let held = [one.delivery().await, one.delivery().await];
    let mut other = Reader::open(&sidecar, "orders", 100).await;
    one.ack(held[0].delivery).await;
    let second = other.delivery().await;
    assert_eq!(text(&second), "2", "the one that has least is next");
    in_flight(&world, 2, 5).await;
    drop(one);
    // What the other held leaves room for one more.
    assert!(["1", "3"].contains(&text(&other.delivery().await).as_str()));
    other.ack(second.delivery).await;
    other.delivery().await;
    in_flight(&world, 2, 4).await;
}

#[tokio::test]
async fn a_window_of_server_sent_events_is_no_larger_than_what_may_be_in_flight() {
    let (world, _hub, sidecar) = start(2).await;
    publish(&sidecar, "orders", 0..4).await;
    let door = format!("http://{}", sidecar.hello.http);
    let mut events = Events::open("GET", &format!("{door}/v1/topics/orders/subscribe?credits=100"), "").await;
    let open: serde_json::Value = serde_json::from_str(&events.next().await.unwrap().data).unwrap();
    let ids = [events.next().await.unwrap().id, events.next().await.unwrap().id];
    in_flight(&world, 2, 4).await;
    let ack =
        format!("{door}/v1/subscriptions/{}/deliveries/{}/ack", open["session"].as_str().unwrap(), ids[0]);
    assert_eq!(send("POST", &ack, &[], "").await.status, 204);
    let third: serde_json::Value = serde_json::from_str(&events.next().await.unwrap().data).unwrap();
    assert_eq!(third["id"], "2");
}

#[tokio::test]
async fn a_message_that_is_given_up_for_its_leases_leaves_its_place() {
    let (_world, _hub, sidecar) = start(1).await;
    publish(&sidecar, "brief", 0..3).await;
    let mut reader = Reader::open(&sidecar, "brief", 100).await;
    for id in 0..3 {
        assert_eq!(text(&reader.delivery().await), id.to_string());
    }
    eventually("nothing is held", || async {
        let mut widget = WidgetClient::new(sidecar.channel().await);
        let state = widget.state(v1::StateRequest {}).await.unwrap().into_inner();
        (state.in_flight == 0).then_some(())
    })
    .await;
}

/// Waits until what the widget held is on its way to be settled.
async fn confirming(sidecar: &Process) {
    eventually("the acknowledgement is on its way", || async {
        let mut widget = WidgetClient::new(sidecar.channel().await);
        let state = widget.state(v1::StateRequest {}).await.unwrap().into_inner();
        state.subscriptions.iter().all(|seen| seen.in_flight == 0).then_some(())
    })
    .await;
}

/// A subscription by HTTP.
struct Sse {
    events: Events,
    door: String,
    session: String,
}

impl Sse {
    async fn open(sidecar: &Process, topic: &str) -> Self {
        let door = format!("http://{}", sidecar.hello.http);
        let mut events = Events::open("GET", &format!("{door}/v1/topics/{topic}/subscribe"), "").await;
        let open: serde_json::Value = serde_json::from_str(&events.next().await.unwrap().data).unwrap();
        Self { events, door, session: open["session"].as_str().unwrap().to_owned() }
    }

    async fn ack(&self, delivery: &str) -> Answer {
        ack(&self.door, &self.session, delivery).await
    }
}

/// Acknowledges a delivery and waits until that is durable.
async fn ack(door: &str, session: &str, delivery: &str) -> Answer {
    let url = format!("{door}/v1/subscriptions/{session}/deliveries/{delivery}/ack?confirm=true");
    send("POST", &url, &[], "").await
}

fn code(problem: Option<v1::Problem>) -> String {
    problem.unwrap().code
}

#[tokio::test]
async fn whoever_asks_for_a_confirmation_too_late_is_told_so() {
    let (world, _hub, sidecar) = start(1).await;
    publish(&sidecar, "brief", 0..1).await;
    let mut reader = Reader::open(&sidecar, "brief", 1).await;
    let delivery = reader.delivery().await.delivery;
    // The hub ends the lease while the sidecar can neither hear of it nor pass anything on.
    sidecar.pause();
    given_up(&world, 1).await;
    reader.say(ask::Action::Ack(ask::Ack { delivery, confirm: true }));
    sidecar.resume();
    let tell::Event::Refused(refused) = reader.event().await else { panic!("it is settled") };
    assert_eq!((refused.delivery, refused.status), (delivery, Code::FailedPrecondition as i32));
    assert_eq!(code(refused.problem), "KTL3010");
    // Once more, now that the sidecar knows.
    reader.say(ask::Action::Ack(ask::Ack { delivery, confirm: true }));
    let tell::Event::Refused(refused) = reader.event().await else { panic!("it is settled") };
    assert_eq!((refused.delivery, code(refused.problem)), (delivery, "KTL3010".to_owned()));
}

#[tokio::test]
async fn a_request_for_a_confirmation_is_answered_when_it_is_durable_or_refused() {
    let (world, _hub, sidecar) = start(1).await;
    publish(&sidecar, "orders", 0..1).await;
    let mut orders = Sse::open(&sidecar, "orders").await;
    let delivery = orders.events.next().await.unwrap();
    assert_eq!(orders.ack(&delivery.id).await.status, 204);
    assert_eq!(orders.events.next().await.unwrap().name, "settled");
    let mut brief = Sse::open(&sidecar, "brief").await;
    publish(&sidecar, "brief", 0..1).await;
    let delivery = brief.events.next().await.unwrap();
    sidecar.pause();
    given_up(&world, 1).await;
    let late = async { brief.ack(&delivery.id).await };
    let (late, ()) = soon("an answer", async { tokio::join!(late, async { sidecar.resume() }) }).await;
    assert_eq!((late.status, late.json()["code"].as_str().unwrap()), (409, "KTL3010"), "{late:?}");
}

#[tokio::test]
async fn a_link_that_ends_before_a_confirmation_leaves_open_whether_it_is_stored() {
    let (_world, mut hub, sidecar) = start(1).await;
    publish(&sidecar, "orders", 0..1).await;
    let mut reader = Reader::open(&sidecar, "orders", 1).await;
    let delivery = reader.delivery().await.delivery;
    hub.pause();
    reader.say(ask::Action::Ack(ask::Ack { delivery, confirm: true }));
    confirming(&sidecar).await;
    hub.kill();
    let tell::Event::Refused(refused) = reader.event().await else { panic!("it is settled") };
    assert_eq!((refused.delivery, refused.status), (delivery, Code::Unavailable as i32));
    assert_eq!(code(refused.problem), "KTL3017");
}

#[tokio::test]
async fn a_stream_that_ends_before_a_confirmation_leaves_open_whether_it_is_stored() {
    let (_world, hub, sidecar) = start(1).await;
    publish(&sidecar, "orders", 0..1).await;
    let mut orders = Sse::open(&sidecar, "orders").await;
    let delivery = orders.events.next().await.unwrap();
    hub.pause();
    let Sse { events, door, session } = orders;
    let ack = async { ack(&door, &session, &delivery.id).await };
    let end = async {
        confirming(&sidecar).await;
        drop(events);
    };
    let (answer, ()) = soon("an answer", async { tokio::join!(ack, end) }).await;
    assert_eq!((answer.status, answer.json()["code"].as_str().unwrap()), (503, "KTL3017"), "{answer:?}");
    hub.resume();
}

/// What the hub sends to a sidecar, with the stream.
struct Frames(mpsc::UnboundedSender<(u64, Frame)>);

impl Inbound for Frames {
    fn frame(&mut self, stream: u64, frame: Frame) -> Result<(), Error> {
        drop(self.0.send((stream, frame)));
        Ok(())
    }
}

#[tokio::test]
async fn the_hub_says_that_a_lease_has_ended_and_refuses_what_comes_after_it() {
    let (world, hub, sidecar) = start(1).await;
    for topic in ["orders", "brief"] {
        publish(&sidecar, topic, 0..1).await;
    }
    let (chain, key) = world.operator.authority.issue(INSTANCE);
    let authorities = vec![world.operator.authority.certificate.clone()];
    let tls = Tls::new(&Material { chain, key, authorities }, TrustDomain::default()).unwrap();
    let hello = v1::LinkHello { subject: INSTANCE.into(), incarnation: 1, version: 1 };
    let connected = link::connect(&hub.hello.peer, "hub", &tls, hello).await.unwrap();
    let (link, (sender, mut frames)) = (connected.link.clone(), mpsc::unbounded_channel());
    let mut inbound = Frames(sender);
    let talk = async {
        let mut next = async || soon("a frame", frames.recv()).await.unwrap();
        let mut held = Vec::new();
        for (stream, topic) in [(7, "orders"), (8, "brief")] {
            let (topic, subscription) = (topic.to_owned(), "workers".to_owned());
            let subscribe = v1::LinkSubscribe { topic, subscription, credits: 1 };
            link.push(stream, &Frame::Subscribe(subscribe)).unwrap();
            assert!(matches!(next().await, (at, Frame::Subscribed(_)) if at == stream));
            let (_, Frame::Deliver(deliver)) = next().await else { panic!("no message") };
            held.push(deliver.delivery);
        }
        let settle = |stream, delivery| {
            let outcome = link_settle::Outcome::Ack.into();
            let settle = v1::LinkSettle { delivery, outcome, confirm: true, ..Default::default() };
            link.push(stream, &Frame::Settle(settle)).unwrap();
        };
        for again in [false, true] {
            if again {
                settle(8, held[1]);
            }
            let (8, Frame::Refused(refused)) = next().await else { panic!("the lease goes on") };
            assert_eq!((refused.delivery, refused.status), (held[1], Code::FailedPrecondition as i32));
            assert_eq!(code(refused.problem), "KTL3010");
        }
        settle(7, held[0]);
        assert_eq!(next().await, (7, Frame::Settled(v1::LinkSettled { delivery: held[0] })));
    };
    tokio::select! {
        ended = connected.run(&mut inbound) => panic!("{ended}"),
        () = talk => {}
    }
}
