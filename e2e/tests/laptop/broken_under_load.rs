//! Processes that are killed while messages are on their way: what was acknowledged is delivered, and nothing after its confirmed end.

use kontrol_e2e::bench::{Survived, survive};

fn whole(survived: &Survived) {
    assert!(survived.acknowledged > 1_000, "{survived:?}");
    assert_eq!((survived.lost, survived.beyond), (0, 0), "{survived:?}");
}

#[tokio::test]
async fn a_hub_that_is_killed_while_publishing_loses_nothing_that_it_acknowledged() {
    whole(&survive("hub", 5).await.unwrap());
}

#[tokio::test]
async fn what_a_killed_sidecar_was_delivering_is_delivered_again() {
    let survived = survive("bench/consumer-0 sidecar", 5).await.unwrap();
    whole(&survived);
    assert!(survived.repeated > 0, "it was killed while nothing was being delivered: {survived:?}");
}

#[tokio::test]
async fn a_publishers_sidecar_that_is_killed_stores_nothing_twice() {
    whole(&survive("bench/publisher-0 sidecar", 5).await.unwrap());
}
