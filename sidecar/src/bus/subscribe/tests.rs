use futures::FutureExt;
use tokio::time::Instant;

use super::*;
use crate::{
    config::{Config, Consume},
    identity::Identity,
    link::Link,
    shared::Shared,
};

const MAX_IN_FLIGHT: u32 = 4;

/// A bus whose link leads nowhere, and an open subscription of it with its stream.
async fn open(credits: u32) -> (Arc<Bus>, Subscription, u64) {
    let (_certificates, identity) = Identity::new();
    let shared = Arc::new(Shared::new("default/shop/shop/0".parse().unwrap(), identity));
    let (topic, subscription) = ("orders".to_owned(), "workers".to_owned());
    let consume = Consume { topic, subscription, path: None, max_in_flight: MAX_IN_FLIGHT };
    shared.apply(Config { version: 1, consumes: vec![consume], ..Config::default() });
    let bus = Bus::new(shared);
    bus.lock().link = Some(Link::new());
    let deadline = Instant::now() + Duration::from_secs(20);
    let answer = async {
        let stream = *bus.lock().streams.keys().next().unwrap();
        bus.subscription_frame(stream, Frame::Subscribed(v1::LinkSubscribed {})).unwrap();
        stream
    };
    let (subscription, stream) =
        tokio::join!(biased; bus.subscribe("orders", "workers", credits, deadline), answer);
    (Arc::clone(&bus), subscription.unwrap(), stream)
}

/// What the hub was asked for and has not delivered.
fn asked(bus: &Bus) -> u64 {
    bus.lock().subscriptions.values().map(|entry| entry.credits).sum()
}

/// The hub delivers all that it was asked for, then the leases end. Returns how many there were.
fn deliver_and_lapse(bus: &Bus, stream: u64, first: u64) -> u64 {
    let asked = asked(bus);
    for delivery in first..first + asked {
        let deliver = v1::LinkDeliver { delivery, attempt: 1, max_attempts: 4, ..Default::default() };
        bus.subscription_frame(stream, Frame::Deliver(deliver)).unwrap();
    }
    for delivery in first..first + asked {
        let error = too_late(delivery);
        let (status, problem) = (error.status.number(), Some(error.problem()));
        bus.subscription_frame(stream, Frame::Refused(v1::LinkRefused { delivery, status, problem }))
            .unwrap();
    }
    asked
}

#[tokio::test]
async fn a_reader_that_stalls_draws_no_more_than_it_may_have_in_flight() {
    let (bus, mut subscription, stream) = open(1_000_000).await;
    let mut drawn = 0;
    for _ in 0..10 {
        drawn += deliver_and_lapse(&bus, stream, drawn + 1);
    }
    assert_eq!((drawn, subscription.events.len()), (u64::from(MAX_IN_FLIGHT), MAX_IN_FLIGHT as usize));
    // It reads again: what it did not come to is nothing to it, and as many are asked for.
    assert_eq!(subscription.next().now_or_never(), None);
    assert_eq!(asked(&bus), u64::from(MAX_IN_FLIGHT));
}
