use std::time::Duration;

use kontrol_core::code::Code;

use super::{page::Page, timings::Timings};

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

#[test]
fn the_process_is_on_the_page() {
    let mut page = Page::default();
    page.build();
    page.process();
    let text = page.text();
    assert!(text.contains("kontrol_build_info{version="), "{text}");
    assert!(text.contains("\nprocess_resident_memory_bytes "), "{text}");
}
