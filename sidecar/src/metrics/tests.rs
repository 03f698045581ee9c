use std::{collections::BTreeMap, pin::pin, sync::Arc, time::Duration};

use futures::poll;
use kontrol_core::code::Code;
use kontrol_proto::v1;

use super::{of_sidecar, page::Page};
use crate::{
    bus::Bus,
    clock,
    health::Health,
    identity::Identity,
    peers::Peers,
    service::{Call, Event, NoEndpoint, Service, WidgetEndpoint},
    serving::Serving,
    shared::Shared,
};

#[test]
fn the_page_is_in_the_text_format() {
    let mut page = Page::default();
    page.counter("kontrol_a_total", "What a is.", 3);
    page.gauges(
        "kontrol_b",
        "What b is.",
        [(vec![("state", "open")], 1.0), (vec![("state", "closed")], 0.0)],
    );
    page.gauges("kontrol_none", "Nothing to say.", []);
    let expected = "\
# HELP kontrol_a_total What a is.
# TYPE kontrol_a_total counter
kontrol_a_total 3
# HELP kontrol_b What b is.
# TYPE kontrol_b gauge
kontrol_b{state=\"open\"} 1
kontrol_b{state=\"closed\"} 0
";
    assert_eq!(page.text(), expected);
}

/// A service that was told to publish to these topics, to consume them, and to call targets of the same names.
fn service(names: &[String]) -> (Arc<Shared>, Service) {
    let (_certificates, identity) = Identity::new();
    let shared = Arc::new(Shared::new("default/shop/shop/0".parse().unwrap(), identity));
    shared.apply(config(names).into());
    let endpoint: Arc<dyn WidgetEndpoint> = Arc::new(NoEndpoint);
    let (bus, peers) = (Bus::new(Arc::clone(&shared)), Peers::new(Arc::clone(&shared)));
    let serving = Serving::new(Arc::clone(&shared), Arc::clone(&endpoint));
    let health = Health::new(Arc::clone(&shared), endpoint);
    (Arc::clone(&shared), Service::new(shared, bus, peers, serving, health))
}

fn config(names: &[String]) -> v1::SidecarConfig {
    let consume = |topic: &String| v1::Consume {
        topic: topic.clone(),
        subscription: "shop".into(),
        ..Default::default()
    };
    let endpoint = |name: &str| v1::Endpoint {
        instance: format!("{}/0", target(name)),
        address: "127.0.0.1:1".into(),
        ready: true,
    };
    let target = |name: &String| v1::Target { widget: target(name), endpoints: vec![endpoint(name)] };
    v1::SidecarConfig {
        produces: names.to_vec(),
        consumes: names.iter().map(consume).collect(),
        targets: names.iter().map(target).collect(),
        version: 1,
        hub: "127.0.0.1:1".into(),
        ..Default::default()
    }
}

fn target(name: &str) -> String {
    format!("default/{name}/{name}")
}

/// So many names, the last of the alphabet first.
fn names(count: usize) -> Vec<String> {
    (0..count).rev().map(|number| format!("n{number:02}")).collect()
}

/// Publishes to every topic and calls every target, and to one that is not declared: once done, and once failed with each of these codes.
fn busy(shared: &Shared, names: &[String], codes: &[Code]) {
    let (timings, config) = (&shared.timings, shared.config());
    for name in names.iter().map(String::as_str).chain(["nobody"]) {
        for failed in codes.iter().copied().map(Some).chain([None]) {
            timings.publish(&config.named, name, Duration::ZERO, failed);
            timings.call(&config.named, &target(name), Duration::ZERO, failed);
        }
    }
}

/// A call of a target that nobody waits for.
fn call(name: &str) -> Call {
    Call { target: target(name), method: "nearest".into(), deadline: Some(clock::now()), ..Call::default() }
}

/// Publishes to this topic and calls this target at the service, where no hub and no peer answers.
async fn ask(service: &Service, name: &str) {
    service.publish(name, Event::default(), Some(clock::now())).await.unwrap_err();
    service.call(call(name)).await.err().unwrap();
}

/// The series of a page: the name with its labels, and the value.
fn series(text: &str) -> BTreeMap<&str, &str> {
    let lines: Vec<_> = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let series: BTreeMap<_, _> = lines.iter().map(|line| line.rsplit_once(' ').unwrap()).collect();
    assert_eq!(series.len(), lines.len(), "a series is there twice:\n{text}");
    series
}

/// The sum of the series of this name that have all of these labels.
fn sum(series: &BTreeMap<&str, &str>, name: &str, labels: &[&str]) -> usize {
    let wanted = |of: &str| {
        of.split_once('{')
            .is_some_and(|(found, rest)| found == name && labels.iter().all(|label| rest.contains(label)))
    };
    series.iter().filter(|(of, _)| wanted(of)).map(|(_, value)| value.parse::<usize>().unwrap()).sum()
}

#[test]
fn durations_and_failures_have_closed_labels() {
    let (shared, service) = service(&["documents".into()]);
    let (timings, config) = (service.timings(), shared.config());
    let (named, target) = (&config.named, "default/documents/documents");
    timings.publish(named, "documents", Duration::from_millis(2), None);
    timings.publish(named, "documents", Duration::ZERO, Some(Code::HubUnavailable));
    timings.publish(named, "documents", Duration::ZERO, Some(Code::InvalidEvent));
    timings.publish(named, "secrets", Duration::ZERO, Some(Code::PublishNotDeclared));
    timings.call(named, target, Duration::from_secs(2), None);
    timings.call(named, target, Duration::ZERO, Some(Code::BreakerOpen));
    timings.call(named, "nowhere at all", Duration::ZERO, Some(Code::InvalidTarget));
    let mut page = Page::default();
    timings.write(&mut page, named);
    let text = page.text();
    for line in [
        "kontrol_publish_duration_seconds_bucket{topic=\"documents\",le=\"0.001\"} 0",
        "kontrol_publish_duration_seconds_bucket{topic=\"documents\",le=\"0.0025\"} 1",
        "kontrol_publish_failures_total{code=\"KTL3008\",topic=\"documents\"} 1",
        "kontrol_publish_failures_total{code=\"_other\",topic=\"documents\"} 1",
        "kontrol_publish_failures_total{code=\"KTL3002\",topic=\"_undeclared\"} 1",
        "kontrol_call_duration_seconds_count{target=\"default/documents/documents\"} 1",
        "kontrol_call_failures_total{code=\"KTL4005\",target=\"default/documents/documents\"} 1",
        "kontrol_call_failures_total{code=\"_other\",target=\"_undeclared\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing from\n{text}");
    }
}

#[test]
fn a_sidecar_of_four_topics_and_four_targets_names_them_all_in_200_series() {
    let names = names(4);
    let (shared, service) = service(&names);
    busy(&shared, &names, &[Code::HubUnavailable, Code::BreakerOpen]);
    let text = of_sidecar(&service);
    let series = series(&text);
    assert!(series.len() <= 200, "{} series", series.len());
    assert!(!text.contains("topic=\"_other\"") && !text.contains("target=\"_other\""), "{text}");
    for name in &names {
        assert!(
            text.contains(&format!("kontrol_publish_duration_seconds_count{{topic=\"{name}\"}} 1")),
            "{text}"
        );
    }
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' ')) {
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
        }
        if let Some(help) = line.strip_prefix("# HELP ") {
            assert!(help.split_once(' ').is_some_and(|(_, help)| !help.is_empty()), "{line}");
        }
    }
}

#[test]
fn a_sidecar_of_64_topics_and_targets_that_fail_in_every_way_has_at_most_200_series() {
    let names = names(64);
    let (shared, service) = service(&names);
    busy(&shared, &names, Code::ALL);
    let text = of_sidecar(&service);
    let series = series(&text);

    assert!(series.len() <= 200, "{} series:\n{text}", series.len());

    let published = |label: &str| sum(&series, "kontrol_publish_duration_seconds_count", &[label]);
    let called = |label: &str| sum(&series, "kontrol_call_duration_seconds_count", &[label]);
    let ready = |label: &str| sum(&series, "kontrol_target_ready_replicas", &[label]);
    for name in &names[..3] {
        let target = format!("target=\"{}\"", target(name));
        assert_eq!((published(&format!("topic=\"{name}\"")), called(&target), ready(&target)), (1, 1, 1));
        let closed = [target.as_str(), "state=\"closed\""];
        assert_eq!(sum(&series, "kontrol_breaker_replicas", &closed), 1);
        assert!(series.contains_key(
            format!("kontrol_delivery_in_flight{{topic=\"{name}\",subscription=\"shop\"}}").as_str()
        ));
    }
    let other = "target=\"_other\"";
    assert_eq!((published("topic=\"_other\""), called(other), ready(other)), (61, 61, 61));
    assert!(!text.contains(&names[3]), "the fourth of 64 has no label:\n{text}");

    // Whatever they are folded into, failures are counted.
    for name in ["kontrol_publish_failures_total", "kontrol_call_failures_total"] {
        assert_eq!(sum(&series, name, &[]), 65 * Code::ALL.len(), "{name}");
        assert_eq!(sum(&series, name, &["\"_undeclared\""]), Code::ALL.len(), "{name}");
    }
    // And those that matter are told apart, for each label and in every replica alike.
    for (labelled, count) in
        [(names[0].as_str(), 1), (names[1].as_str(), 1), (names[2].as_str(), 1), ("_other", 61)]
    {
        let topic = format!("topic=\"{labelled}\"");
        let failed = |code: &str| sum(&series, "kontrol_publish_failures_total", &[&topic, code]);
        for code in ["KTL3004", "KTL3005", "KTL3008", "KTL3009"] {
            assert_eq!(failed(code), count, "{code} of {labelled}");
        }
        assert_eq!(failed("code=\"_other\""), count * (Code::ALL.len() - 4), "{labelled}");
    }
}

#[tokio::test]
async fn publishes_to_64_topics_and_calls_of_64_targets_count_under_four_labels_each() {
    let names = names(64);
    let (_, service) = service(&names);
    for name in names.iter().map(String::as_str).chain(["nobody"]) {
        ask(&service, name).await;
    }
    let text = of_sidecar(&service);
    let series = series(&text);
    for (name, label) in
        [("kontrol_publish_failures_total", "topic"), ("kontrol_call_failures_total", "target")]
    {
        let failed = |of: &str| sum(&series, name, &[&format!("{label}=\"{of}\"")]);
        for own in &names[..3] {
            let own = if label == "topic" { own.clone() } else { target(own) };
            assert_eq!(failed(&own), 1, "{own}:\n{text}");
        }
        assert_eq!((failed("_other"), failed("_undeclared")), (61, 1), "{text}");
        assert_eq!(sum(&series, name, &[]), 65, "{text}");
    }
}

#[tokio::test]
async fn a_topic_that_is_called_other_keeps_its_own_numbers() {
    let mut names = names(8);
    names.insert(0, "other".into());
    names.insert(1, "undeclared".into());
    let (_, service) = service(&names);
    for name in names.iter().map(String::as_str).chain(["nobody"]) {
        ask(&service, name).await;
    }
    let text = of_sidecar(&service);
    let series = series(&text);
    let failed =
        |topic: &str| sum(&series, "kontrol_publish_failures_total", &[&format!("topic=\"{topic}\"")]);
    let found = ["other", "undeclared", "_other", "_undeclared"].map(failed);
    assert_eq!(found, [1, 1, 7, 1], "{text}");
}

#[tokio::test]
async fn what_ends_counts_under_the_configuration_that_is_in_force_at_its_end() {
    let (shared, service) = service(&["documents".into()]);
    let publish = service.publish("documents", Event::default(), None);
    let mut call = pin!(service.call(Call { deadline: None, ..call("documents") }));
    assert!(poll!(call.as_mut()).is_pending(), "the call is on its way");
    shared.apply(config(&["answers".into()]).into());
    publish.await.unwrap_err();
    call.await.err().unwrap();
    let text = of_sidecar(&service);
    for name in ["kontrol_publish_failures_total", "kontrol_call_failures_total"] {
        assert_eq!(sum(&series(&text), name, &["\"_undeclared\""]), 1, "{name}:\n{text}");
    }
    assert!(!text.contains("documents"), "{text}");
}

#[test]
fn a_name_that_comes_again_begins_at_0_though_nobody_read_the_page_between() {
    let (shared, service) = service(&["documents".into()]);
    busy(&shared, &["documents".into()], &[Code::HubUnavailable]);
    for declared in ["answers", "documents"] {
        shared.apply(config(&[declared.into()]).into());
    }
    let text = of_sidecar(&service);
    assert!(!text.contains("topic=\"documents\"}"), "{text}");
    busy(&shared, &["documents".into()], &[Code::HubUnavailable]);
    let text = of_sidecar(&service);
    for name in ["kontrol_publish_duration_seconds_count", "kontrol_publish_failures_total"] {
        assert_eq!(sum(&series(&text), name, &["\"documents\""]), 1, "{name}:\n{text}");
    }
}

#[test]
fn what_the_configuration_does_not_name_is_not_on_its_page() {
    let (shared, service) = service(&["documents".into()]);
    let old = shared.config();
    shared.apply(config(&["answers".into()]).into());
    // As one does that looked at the configuration a moment too early.
    for failed in [None, Some(Code::HubUnavailable)] {
        service.timings().publish(&old.named, "documents", Duration::ZERO, failed);
        service.timings().call(&old.named, &target("documents"), Duration::ZERO, failed);
    }
    let text = of_sidecar(&service);
    assert!(!text.contains("documents"), "{text}");
}

#[test]
fn a_name_that_is_declared_no_more_leaves_its_label_to_the_next() {
    let names = names(8);
    let (shared, service) = service(&names);
    for (declared, own) in [(&names[..], 3), (&names[..4], 4), (&names[4..], 4), (&names[..4], 4)] {
        shared.apply(config(declared).into());
        busy(&shared, declared, Code::ALL);
        let text = of_sidecar(&service);
        let series = series(&text);
        assert!(series.len() <= 200, "{} series:\n{text}", series.len());
        for name in &names {
            let kept = declared[..own].contains(name);
            let count = format!("kontrol_publish_duration_seconds_count{{topic=\"{name}\"}}");
            assert_eq!(series.contains_key(count.as_str()), kept, "{name} of {declared:?}:\n{text}");
            assert_eq!(text.contains(&target(name)), kept, "{name} of {declared:?}:\n{text}");
        }
        let shared = sum(&series, "kontrol_call_duration_seconds_count", &["\"_other\""]);
        assert_eq!(shared, declared.len() - own, "{declared:?}:\n{text}");
    }
}

#[test]
fn the_process_is_on_the_page() {
    let mut page = Page::default();
    page.build();
    page.process();
    let text = page.text();
    assert!(text.contains("kontrol_build_info{version="), "{text}");
    assert!(text.contains("\nprocess_resident_memory_bytes "), "{text}");
}
