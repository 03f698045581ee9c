//! What a widget has in its hands: never more than `maxInFlight`, and what becomes of it when its lease ends.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

mod support;

use std::time::Duration;

use kontrol_proto::v1::{
    self, link_settle, session_response::Message, subscribe_request as ask, subscribe_response as tell,
    topics_client::TopicsClient, widget_client::WidgetClient,
};
use kontrol_sidecar::{
    identity::{Material, Tls},
    link::{self, Frame, Inbound},
    service::Error,
};
use support::{
    Process, World, consume, event, eventually, soon, topic,
    web::{Events, send},
    widget::{Reader, text},
};
use tokio::sync::mpsc;
use tonic::Code;

const INSTANCE: &str = "default/shop/shop/0";

/// A sidecar whose widget may have so many messages in flight. Where nothing is tried again, leases are short.
async fn start(max_in_flight: u32, retry_limit: u32) -> (World, Process, Process) {
    let world = World::new().await;
    let ack_timeout_ms = if retry_limit == 0 { 2_000 } else { 60_000 };
    let orders = v1::TopicConfig { ack_timeout_ms, retry_limit, ..topic("orders", &["workers"]) };
    let hub = world.hub(vec![orders]).await;
    let sidecar = world.sidecar(INSTANCE, config(&hub, max_in_flight)).await;
    (world, hub, sidecar)
}

fn config(hub: &Process, max_in_flight: u32) -> v1::SidecarConfig {
    v1::SidecarConfig {
        version: 1,
        incarnation: 1,
        consumes: vec![v1::Consume { max_in_flight, ..consume("orders", "workers") }],
        produces: vec!["orders".into()],
        hub: hub.hello.peer.clone(),
        resilience: Some(support::resilience()),
        ..Default::default()
    }
}

async fn publish(sidecar: &Process, ids: std::ops::Range<u32>) {
    let mut client = TopicsClient::new(sidecar.channel().await);
    for id in ids {
        let event = Some(event(&id.to_string(), &id.to_string()));
        client.publish(v1::PublishRequest { topic: "orders".into(), event }).await.unwrap();
    }
}

/// Waits until the hub sees so many messages in flight.
async fn in_flight(world: &World, count: u64) {
    world
        .operator
        .hub_signals(|signals| signals.subscriptions.iter().any(|seen| seen.in_flight == count))
        .await;
}

/// Nothing is on its way for a moment.
async fn nothing_comes(reader: &mut Reader) {
    let none = tokio::time::timeout(Duration::from_millis(100), reader.responses.message()).await;
    assert!(none.is_err(), "there is no room for {none:?}");
}

#[tokio::test]
async fn credits_beyond_what_may_be_in_flight_wait_until_something_is_settled() {
    let (_world, _hub, sidecar) = start(2, 3).await;
    publish(&sidecar, 0..4).await;
    let mut reader = Reader::open(&sidecar, "orders", 100).await;
    let first = reader.delivery().await;
    assert_eq!((text(&first), text(&reader.delivery().await)), ("0".to_owned(), "1".to_owned()));
    nothing_comes(&mut reader).await;
    reader.ack(first.delivery).await;
    let third = reader.delivery().await;
    assert_eq!(text(&third), "2");
    reader.say(ask::Action::Nak(ask::Nak {
        delivery: third.delivery,
        delay_ms: 60_000,
        ..Default::default()
    }));
    assert_eq!(text(&reader.delivery().await), "3");
}

#[tokio::test]
async fn a_configuration_that_allows_more_is_heeded_at_once() {
    let (world, hub, sidecar) = start(1, 3).await;
    publish(&sidecar, 0..4).await;
    let mut reader = Reader::open(&sidecar, "orders", 100).await;
    assert_eq!(text(&reader.delivery().await), "0");
    let wider = v1::SidecarConfig { version: 2, ..config(&hub, 3) };
    world.operator.configure(INSTANCE, Message::Sidecar(wider));
    assert_eq!([text(&reader.delivery().await), text(&reader.delivery().await)], ["1", "2"]);
    nothing_comes(&mut reader).await;
}

#[tokio::test]
async fn the_streams_of_a_widget_share_what_may_be_in_flight() {
    let (world, _hub, sidecar) = start(2, 3).await;
    let mut one = Reader::open(&sidecar, "orders", 100).await;
    publish(&sidecar, 0..4).await;
    let held = [one.delivery().await, one.delivery().await];
    let mut other = Reader::open(&sidecar, "orders", 100).await;
    nothing_comes(&mut other).await;
    in_flight(&world, 2).await;
    one.ack(held[0].delivery).await;
    assert_eq!(text(&other.delivery().await), "2", "the one that has least is next");
    drop(one);
    // What the other held leaves room for one more.
    assert!(["1", "3"].contains(&text(&other.delivery().await).as_str()));
    nothing_comes(&mut other).await;
}

#[tokio::test]
async fn a_window_of_server_sent_events_is_no_larger_than_what_may_be_in_flight() {
    let (world, _hub, sidecar) = start(2, 3).await;
    publish(&sidecar, 0..4).await;
    let door = format!("http://{}", sidecar.hello.http);
    let mut events = Events::open("GET", &format!("{door}/v1/topics/orders/subscribe?credits=100"), "").await;
    let open: serde_json::Value = serde_json::from_str(&events.next().await.unwrap().data).unwrap();
    let ids = [events.next().await.unwrap().id, events.next().await.unwrap().id];
    in_flight(&world, 2).await;
    let ack =
        format!("{door}/v1/subscriptions/{}/deliveries/{}/ack", open["session"].as_str().unwrap(), ids[0]);
    assert_eq!(send("POST", &ack, &[], "").await.status, 204);
    let third: serde_json::Value = serde_json::from_str(&events.next().await.unwrap().data).unwrap();
    assert_eq!(third["id"], "2");
}

#[tokio::test]
async fn a_message_that_is_given_up_for_its_leases_leaves_its_place() {
    let (_world, _hub, sidecar) = start(1, 0).await;
    publish(&sidecar, 0..3).await;
    let mut reader = Reader::open(&sidecar, "orders", 100).await;
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

fn code(problem: Option<v1::Problem>) -> String {
    problem.unwrap().code
}

#[tokio::test]
async fn whoever_asks_for_a_confirmation_too_late_is_told_so() {
    let (world, _hub, sidecar) = start(1, 0).await;
    publish(&sidecar, 0..1).await;
    let mut reader = Reader::open(&sidecar, "orders", 1).await;
    let delivery = reader.delivery().await.delivery;
    // The hub ends the lease while the sidecar can neither hear of it nor pass anything on.
    sidecar.pause();
    world
        .operator
        .hub_signals(|signals| signals.subscriptions.iter().any(|seen| seen.dead_lettered == 1))
        .await;
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
    let (world, _hub, sidecar) = start(1, 0).await;
    publish(&sidecar, 0..2).await;
    let door = format!("http://{}", sidecar.hello.http);
    let mut events = Events::open("GET", &format!("{door}/v1/topics/orders/subscribe"), "").await;
    let open: serde_json::Value = serde_json::from_str(&events.next().await.unwrap().data).unwrap();
    let session = open["session"].as_str().unwrap();
    let ack = |id: &str| format!("{door}/v1/subscriptions/{session}/deliveries/{id}/ack?confirm=true");
    let first = events.next().await.unwrap();
    assert_eq!(send("POST", &ack(&first.id), &[], "").await.status, 204);
    let mut seen = [events.next().await.unwrap(), events.next().await.unwrap()];
    seen.sort_by(|one, other| one.name.cmp(&other.name));
    let [second, settled] = seen;
    assert_eq!((second.name.as_str(), settled.name.as_str()), ("message", "settled"));
    sidecar.pause();
    world
        .operator
        .hub_signals(|signals| signals.subscriptions.iter().any(|seen| seen.dead_lettered == 1))
        .await;
    let late = ack(&second.id);
    let late = async { send("POST", &late, &[], "").await };
    let (late, ()) = soon("an answer", async { tokio::join!(late, async { sidecar.resume() }) }).await;
    assert_eq!((late.status, late.json()["code"].as_str().unwrap()), (409, "KTL3010"), "{late:?}");
}

#[tokio::test]
async fn a_link_that_ends_before_a_confirmation_is_a_refusal() {
    let (_world, mut hub, sidecar) = start(1, 3).await;
    publish(&sidecar, 0..1).await;
    let mut reader = Reader::open(&sidecar, "orders", 1).await;
    let delivery = reader.delivery().await.delivery;
    hub.pause();
    reader.say(ask::Action::Ack(ask::Ack { delivery, confirm: true }));
    eventually("the acknowledgement is on its way", || async {
        let mut widget = WidgetClient::new(sidecar.channel().await);
        let state = widget.state(v1::StateRequest {}).await.unwrap().into_inner();
        (state.subscriptions[0].in_flight == 0).then_some(())
    })
    .await;
    hub.kill();
    let tell::Event::Refused(refused) = reader.event().await else { panic!("it is settled") };
    assert_eq!((refused.delivery, code(refused.problem)), (delivery, "KTL3010".to_owned()));
}

/// What the hub sends to a sidecar.
struct Frames(mpsc::UnboundedSender<Frame>);

impl Inbound for Frames {
    fn frame(&mut self, _stream: u64, frame: Frame) -> Result<(), Error> {
        drop(self.0.send(frame));
        Ok(())
    }
}

#[tokio::test]
async fn the_hub_says_that_a_lease_has_ended_and_refuses_what_comes_after_it() {
    let (world, hub, sidecar) = start(1, 0).await;
    publish(&sidecar, 0..2).await;
    let (chain, key) = world.operator.authority.issue(INSTANCE);
    let authorities = vec![world.operator.authority.certificate.clone()];
    let tls = Tls::new(Material { chain, key, authorities }).unwrap();
    let hello = v1::LinkHello { subject: INSTANCE.into(), incarnation: 1, version: 1 };
    let connected = link::connect(&hub.hello.peer, "hub", &tls, hello).await.unwrap();
    let (link, (sender, mut frames)) = (connected.link.clone(), mpsc::unbounded_channel());
    let mut inbound = Frames(sender);
    let talk = async {
        let mut next = async || soon("a frame", frames.recv()).await.unwrap();
        let (topic, subscription) = ("orders".to_owned(), "workers".to_owned());
        link.push(7, &Frame::Subscribe(v1::LinkSubscribe { topic, subscription, credits: 2 })).unwrap();
        assert!(matches!(next().await, Frame::Subscribed(_)));
        let mut held = Vec::new();
        for _ in 0..2 {
            let Frame::Deliver(deliver) = next().await else { panic!("no message") };
            held.push(deliver.delivery);
        }
        let settle = |delivery| {
            let outcome = link_settle::Outcome::Ack.into();
            let settle = v1::LinkSettle { delivery, outcome, confirm: true, ..Default::default() };
            link.push(7, &Frame::Settle(settle)).unwrap();
        };
        settle(held[0]);
        assert_eq!(next().await, Frame::Settled(v1::LinkSettled { delivery: held[0] }));
        for again in [false, true] {
            if again {
                settle(held[1]);
            }
            let Frame::Refused(refused) = next().await else { panic!("the lease goes on") };
            assert_eq!((refused.delivery, refused.status), (held[1], Code::FailedPrecondition as i32));
            assert_eq!(code(refused.problem), "KTL3010");
        }
    };
    tokio::select! {
        ended = connected.run(&mut inbound) => panic!("{ended}"),
        () = talk => {}
    }
}
