//! The chart's alerts in a real Prometheus: silent where all is well, and heard where it is not. Nothing else may go on in the cluster
//! meanwhile, since what is judged is the operator's own count of everything.

use std::{cell::RefCell, collections::BTreeSet, fs, path::Path};

use k8s_openapi::api::core::v1::Pod;
use kontrol_e2e_cluster::lab::{
    Lab, is_ready,
    kontrol::{chart, object, test_widget},
    web::address,
};
use serde_json::{Value, json};

use crate::{
    messaging::hub,
    prometheus::{Prometheus, operators_metrics},
};

/// Looks at the rules, one after the other, in which nothing may be wrong.
const QUIET: usize = 5;
/// What is there only once something was refused.
const OF_ERRORS: [&str; 2] =
    ["kontrol_operator_api_request_failures_total", "kontrol_operator_right_missing"];

fn rules() -> String {
    fs::read_to_string(Path::new(&chart()).join("files/rules.yaml")).unwrap()
}

/// The same rules, where whatever would fire in a while fires at once.
fn at_once(rules: &str) -> String {
    let lines: Vec<&str> = rules.lines().filter(|line| !line.trim_start().starts_with("for: ")).collect();
    lines.join("\n")
}

/// The metrics that rules are about.
fn metrics_of(rules: &str) -> BTreeSet<String> {
    let part_of_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let expressions = rules.lines().filter_map(|line| line.trim_start().strip_prefix("expr: "));
    let words = expressions.flat_map(|text| text.split(|c| !part_of_name(c)));
    words.filter(|word| word.starts_with("kontrol_")).map(str::to_owned).collect()
}

/// The rules as Prometheus sees them: the name, the health, the state, and when they were looked at last.
async fn seen(prometheus: &Prometheus) -> Vec<[String; 4]> {
    let answer = prometheus.ask("/api/v1/rules").await;
    let groups = answer["data"]["groups"].as_array().cloned().unwrap_or_default();
    let rules = groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default());
    let text = |rule: &Value, name: &str| match &rule[name] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    rules.map(|rule| ["name", "health", "state", "lastEvaluation"].map(|name| text(&rule, name))).collect()
}

/// Waits until every one of the rules has been looked at without an error, and has had nothing to say, several times in a row.
async fn until_quiet(lab: &Lab, prometheus: &Prometheus, count: usize) {
    let quiet = RefCell::new(BTreeSet::new());
    lab.wait("no rule to have anything to say", async || {
        let rules = seen(prometheus).await;
        let fine = |[_, health, state, _]: &[String; 4]| health == "ok" && state == "inactive";
        if rules.len() != count || !rules.iter().all(fine) {
            quiet.borrow_mut().clear();
            return Ok(Err(rules.into_iter().filter(|rule| !fine(rule)).collect::<Vec<_>>()));
        }
        quiet.borrow_mut().extend(rules.iter().map(|[.., at]| at.clone()).min());
        Ok(if quiet.borrow().len() >= QUIET { Ok(()) } else { Err(Vec::new()) })
    })
    .await
    .unwrap();
}

/// Where the sidecar of a widget's only pod serves its metrics.
async fn sidecar_of(lab: &Lab, widget: &str) -> String {
    address(&lab.until_pods(widget, widget, 1).await.unwrap().remove(0), 7413)
}

#[tokio::test]
async fn no_alert_is_heard_over_a_plain_widget_and_one_is_where_an_object_is_not_accepted() {
    let lab = Lab::with_kontrol("alerts").await.unwrap();
    lab.until_operators().await.unwrap();
    lab.apply(&object("Widget", "plain", &json!({"container": test_widget(&[])}))).unwrap();
    lab.until_ready("Widget", "plain").await.unwrap();
    let mut targets = operators_metrics(&lab).await;
    targets.push(sidecar_of(&lab, "plain").await);
    let rules = rules();
    let count = rules.matches("- alert: ").count();
    assert!(count > 10, "{count} rules");
    let prometheus = Prometheus::start(&targets, &at_once(&rules));
    prometheus.until_up(&lab, &targets).await;
    until_quiet(&lab, &prometheus, count).await;

    let local = json!({"process": {"command": ["true"]}});
    lab.apply(&object("Widget", "local", &local)).unwrap();
    lab.until_condition("Widget", "local", "Accepted", "False").await.unwrap();
    lab.wait("the alert of what is not accepted to be heard, alone", async || {
        let heard = prometheus.ask("/api/v1/alerts").await;
        let alerts = heard["data"]["alerts"].as_array().cloned().unwrap_or_default();
        let text = |alert: &Value| {
            (alert["labels"]["alertname"].clone(), alert["labels"]["kind"].clone(), alert["state"].clone())
        };
        let told: Vec<_> = alerts.iter().map(text).collect();
        let wanted = (json!("KontrolNotAccepted"), json!("Widget"), json!("firing"));
        Ok(if told == [wanted] { Ok(()) } else { Err(told) })
    })
    .await
    .unwrap();
    lab.kubectl(&["delete", "widget", "local"]).unwrap();
    until_quiet(&lab, &prometheus, count).await;
}

#[tokio::test]
async fn every_metric_that_an_alert_is_about_is_served() {
    let lab = Lab::with_kontrol("alerted").await.unwrap();
    lab.apply(&object("Topic", "notes", &json!({}))).unwrap();
    let topics = json!({
        "container": test_widget(&[]), "produces": [{"topic": "notes"}], "consumes": [{"topic": "notes"}],
    });
    lab.apply(&object("Widget", "talks", &topics)).unwrap();
    lab.until_ready("Widget", "talks").await.unwrap();
    let ready = async || {
        let hubs: Vec<Pod> = hub(&lab).await;
        Ok(hubs.into_iter().find(is_ready).ok_or("no hub is ready"))
    };
    let hub = lab.wait("the hub", ready).await.unwrap();
    let mut targets = operators_metrics(&lab).await;
    targets.extend([sidecar_of(&lab, "talks").await, address(&hub, 7413)]);
    let rules = rules();
    let prometheus = Prometheus::start(&targets, &rules);
    prometheus.until_up(&lab, &targets).await;
    let wanted = metrics_of(&rules);
    assert!(wanted.len() > 10, "{wanted:?}");
    lab.wait("every metric of the rules to be there", async || {
        let answer = prometheus.ask("/api/v1/label/__name__/values").await;
        let there = answer["data"].as_array().cloned().unwrap_or_default();
        let served = |name: &&String| there.iter().any(|known| known.as_str() == Some(name.as_str()));
        let missing: Vec<_> =
            wanted.iter().filter(|name| !OF_ERRORS.contains(&name.as_str()) && !served(name)).collect();
        Ok(if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?} of {}", there.len())) })
    })
    .await
    .unwrap();
}
