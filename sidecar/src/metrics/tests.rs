use std::{sync::Arc, time::Duration};

use kontrol_core::code::Code;
use kontrol_proto::v1;

use super::{of_sidecar, page::Page, timings::Timings};
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

#[test]
fn durations_and_failures_have_closed_labels() {
    let timings = Timings::new();
    timings.publish(Some("documents"), Duration::from_millis(2), None);
    timings.publish(None, Duration::ZERO, Some(Code::PublishNotDeclared));
    timings.call(Some("default/rag/llm"), Duration::from_secs(2), None);
    timings.call(Some("default/rag/llm"), Duration::ZERO, Some(Code::BreakerOpen));
    let mut page = Page::default();
    timings.write(&mut page);
    let text = page.text();
    for line in [
        "kontrol_publish_duration_seconds_bucket{topic=\"documents\",le=\"0.001\"} 0",
        "kontrol_publish_duration_seconds_bucket{topic=\"documents\",le=\"0.0025\"} 1",
        "kontrol_publish_failures_total{code=\"KTL3002\",topic=\"undeclared\"} 1",
        "kontrol_call_duration_seconds_count{target=\"default/rag/llm\"} 1",
        "kontrol_call_failures_total{code=\"KTL4005\",target=\"default/rag/llm\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing from\n{text}");
    }
}

/// What a page has beside its timings: one line for each series.
fn series(text: &str) -> usize {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count()
}

#[test]
fn a_sidecar_of_four_topics_and_four_targets_stays_below_200_series() {
    let (_certificates, identity) = Identity::new();
    let shared = Arc::new(Shared::new("default/shop/shop/0".parse().unwrap(), identity));
    let names = ["a", "b", "c", "d"];
    let config = v1::SidecarConfig {
        produces: names.map(str::to_owned).into(),
        consumes: names
            .map(|topic| v1::Consume {
                topic: topic.into(),
                subscription: "shop".into(),
                ..Default::default()
            })
            .into(),
        targets: names
            .map(|name| v1::Target { widget: format!("default/{name}/{name}"), ..Default::default() })
            .into(),
        ..Default::default()
    };
    shared.apply(config.into());
    let endpoint: Arc<dyn WidgetEndpoint> = Arc::new(NoEndpoint);
    let (bus, peers) = (Bus::new(Arc::clone(&shared)), Peers::new(Arc::clone(&shared)));
    let serving = Serving::new(Arc::clone(&shared), Arc::clone(&endpoint));
    let health = Health::new(Arc::clone(&shared), endpoint);
    for name in names {
        shared.timings.publish(Some(name), Duration::ZERO, None);
        shared.timings.publish(Some(name), Duration::ZERO, Some(Code::HubUnavailable));
        shared.timings.call(Some(name), Duration::ZERO, None);
        shared.timings.call(Some(name), Duration::ZERO, Some(Code::BreakerOpen));
    }
    let text = of_sidecar(&Service::new(shared, bus, peers, serving, health));
    assert!(text.contains("kontrol_target_ready_replicas{target="), "{text}");
    assert!(series(&text) <= 200, "{} series", series(&text));
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
fn the_process_is_on_the_page() {
    let mut page = Page::default();
    page.build();
    page.process();
    let text = page.text();
    assert!(text.contains("kontrol_build_info{version="), "{text}");
    assert!(text.contains("\nprocess_resident_memory_bytes "), "{text}");
}
