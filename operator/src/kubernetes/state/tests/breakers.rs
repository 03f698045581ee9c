use kontrol_proto::v1;

use super::*;

/// The sidecar says that these replicas of others fail.
fn says(cluster: &mut Cluster, number: u64, breakers: &[(&str, &str)]) {
    let breakers = breakers.iter().map(|(breaker, reason)| v1::EndpointState {
        instance: "default/store/store/0".to_owned(),
        breaker: (*breaker).to_owned(),
        reason: (*reason).to_owned(),
        ..v1::EndpointState::default()
    });
    let signals = v1::Signals {
        health: v1::Health::Ready.into(),
        breakers: breakers.collect(),
        ..v1::Signals::default()
    };
    cluster.hears(number, signals);
    cluster.pass(Duration::from_secs(5));
}

fn shown(cluster: &Cluster) -> &Value {
    &cluster.status(Kind::Widget, "llm")["instances"][0]["breakers"]
}

#[test]
fn whom_a_replica_does_not_call_is_in_its_status_until_it_calls_again() {
    let mut cluster = lone();
    cluster.run();
    cluster.ready("llm-0-1");
    cluster.opens(1);
    says(&mut cluster, 1, &[]);
    assert_eq!(*shown(&cluster), Value::Null);
    let open = json!([{"instance": "default/store/store/0", "reason": "3 failures in a row"}]);
    says(&mut cluster, 1, &[("open", "3 failures in a row")]);
    assert_eq!(*shown(&cluster), open);

    // A trial is no news, and what was said holds while nobody says anything.
    cluster.asked.clear();
    says(&mut cluster, 1, &[("half-open", "3 failures in a row")]);
    cluster.state.take(Input::Leads(false), cluster.now);
    cluster.state.take(Input::Leads(true), cluster.now);
    cluster.opens(2);
    assert_eq!(*shown(&cluster), open);
    assert_eq!(cluster.asked, []);

    says(&mut cluster, 2, &[]);
    assert_eq!(*shown(&cluster), Value::Null);
}
