use std::{collections::BTreeMap, sync::Arc, time::Duration};

use kontrol_core::code::Code;
use kontrol_proto::v1;

use super::{of_sidecar, page::Page};
use crate::{
    bus::Bus,
    health::Health,
    identity::Identity,
    peers::Peers,
    service::{NoEndpoint, Service, WidgetEndpoint},
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

/// Publishes to every topic and calls every target: once done, and once failed with each of these codes.
fn busy(service: &Service, names: &[String], codes: &[Code]) {
    let (timings, named) = (service.timings(), service.named());
    for name in names {
        let target = target(name);
        let (topic, target) = (named.produces.label(name), named.targets.label(&target));
        for failed in codes.iter().copied().map(Some).chain([None]) {
            timings.publish(Some(topic), Duration::ZERO, failed);
            timings.call(Some(target), Duration::ZERO, failed);
        }
    }
    for code in codes {
        timings.publish(None, Duration::ZERO, Some(*code));
        timings.call(None, Duration::ZERO, Some(*code));
    }
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
    let (_, service) = service(&["documents".into()]);
    let timings = service.timings();
    timings.publish(Some("documents"), Duration::from_millis(2), None);
    timings.publish(None, Duration::ZERO, Some(Code::PublishNotDeclared));
    timings.call(Some("default/documents/documents"), Duration::from_secs(2), None);
    timings.call(Some("default/documents/documents"), Duration::ZERO, Some(Code::BreakerOpen));
    let mut page = Page::default();
    timings.write(&mut page, &service.named());
    let text = page.text();
    for line in [
        "kontrol_publish_duration_seconds_bucket{topic=\"documents\",le=\"0.001\"} 0",
        "kontrol_publish_duration_seconds_bucket{topic=\"documents\",le=\"0.0025\"} 1",
        "kontrol_publish_failures_total{code=\"KTL3002\",topic=\"undeclared\"} 1",
        "kontrol_call_duration_seconds_count{target=\"default/documents/documents\"} 1",
        "kontrol_call_failures_total{code=\"KTL4005\",target=\"default/documents/documents\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing from\n{text}");
    }
}

#[test]
fn a_sidecar_of_four_topics_and_four_targets_names_them_all_in_200_series() {
    let names = names(4);
    let (_, service) = service(&names);
    busy(&service, &names, &[Code::HubUnavailable, Code::BreakerOpen]);
    let text = of_sidecar(&service);
    let series = series(&text);
    assert!(series.len() <= 200, "{} series", series.len());
    assert!(!text.contains("other"), "{text}");
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
    let (_, service) = service(&names);
    busy(&service, &names, Code::ALL);
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
    let other = "target=\"other\"";
    assert_eq!((published("topic=\"other\""), called(other), ready(other)), (61, 61, 61));
    assert!(!text.contains(&names[3]), "the fourth of 64 has no label:\n{text}");

    // Whatever they are folded into, failures are counted.
    for name in ["kontrol_publish_failures_total", "kontrol_call_failures_total"] {
        assert_eq!(sum(&series, name, &[]), 65 * Code::ALL.len(), "{name}");
        assert_eq!(sum(&series, name, &["\"undeclared\""]), Code::ALL.len(), "{name}");
    }
    let first = Code::ALL[0].as_str();
    let first = [format!("code=\"{first}\""), format!("topic=\"{}\"", names[0])];
    assert_eq!(sum(&series, "kontrol_publish_failures_total", &[&first[0], &first[1]]), 1);
}

#[test]
fn a_name_that_is_declared_no_more_leaves_its_label_to_the_next() {
    let names = names(8);
    let (shared, service) = service(&names);
    for (declared, own) in [(&names[..], 3), (&names[..4], 4), (&names[4..], 4), (&names[..4], 4)] {
        shared.apply(config(declared).into());
        busy(&service, declared, Code::ALL);
        let text = of_sidecar(&service);
        let series = series(&text);
        assert!(series.len() <= 200, "{} series:\n{text}", series.len());
        for name in &names {
            let kept = declared[..own].contains(name);
            let count = format!("kontrol_publish_duration_seconds_count{{topic=\"{name}\"}}");
            assert_eq!(series.contains_key(count.as_str()), kept, "{name} of {declared:?}:\n{text}");
            assert_eq!(text.contains(&target(name)), kept, "{name} of {declared:?}:\n{text}");
        }
        let shared = sum(&series, "kontrol_call_duration_seconds_count", &["\"other\""]);
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
