//! What sidecars say, however much it is.

use kontrol_core::limits;
use kontrol_proto::v1;

use super::*;

fn scaled() -> Cluster {
    let mut cluster = Cluster::new();
    let scaling = json!({"max": 4, "target": {"reported": {"name": "tokens", "value": 100}}});
    let spec = json!({"container": container(), "scaling": scaling});
    cluster.put(Kind::Widget, "llm", json!({"spec": spec}));
    cluster.run();
    cluster.ready("llm-0-1");
    cluster.opens(1);
    cluster
}

fn kept(cluster: &Cluster) -> &v1::Signals {
    &cluster.state.companions.of("u-llm-0-1").unwrap().signals.as_ref().unwrap().1
}

#[test]
fn a_widget_that_fails_with_a_message_of_a_megabyte_is_replaced_and_the_message_is_cut() {
    let mut cluster = scaled();
    let message = "ü".repeat(750_000);
    cluster.hears(1, v1::Signals { message, health: v1::Health::Failed.into(), ..Default::default() });
    assert_eq!(kept(&cluster).message.chars().count(), limits::REPORT_MESSAGE);
    let written = cluster.asked.iter().map(|request| request.body.to_string().len()).max().unwrap();
    assert!(written < 20_000, "{written}");
    cluster.pass(Duration::from_secs(5));
    assert_eq!(cluster.names(Kind::Pod), ["llm-0-2"]);
}

#[test]
fn of_ten_thousand_numbers_those_are_kept_that_scaling_goes_by() {
    let mut cluster = scaled();
    let mut load: std::collections::HashMap<String, f64> =
        (0..10_000).map(|at| (format!("request-{at}"), 1.0)).collect();
    load.insert("tokens".to_owned(), 350.0);
    cluster.hears(1, v1::Signals { load, health: v1::Health::Ready.into(), ..Default::default() });
    assert_eq!(kept(&cluster).load.iter().collect::<Vec<_>>(), [(&"tokens".to_owned(), &350.0)]);
    assert!(kept(&cluster).load.capacity() < 100);
    cluster.pass(Duration::from_secs(5));
    assert_eq!(cluster.names(Kind::Pod).len(), 4);
}

#[test]
fn of_many_breakers_as_many_are_kept_as_a_sidecar_may_tell_of() {
    let mut cluster = scaled();
    let breaker = v1::EndpointState { reason: "x".repeat(100_000), ..v1::EndpointState::default() };
    let breakers = vec![breaker; 1000];
    cluster.hears(1, v1::Signals { breakers, health: v1::Health::Ready.into(), ..Default::default() });
    let breakers = &kept(&cluster).breakers;
    assert_eq!(breakers.len(), limits::BREAKERS);
    assert!(breakers.iter().all(|breaker| breaker.reason.len() == limits::BREAKER_REASON));
}
