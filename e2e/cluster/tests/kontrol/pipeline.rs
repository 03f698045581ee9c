//! The examples on a cluster: the folders that a laptop runs, applied as they are.

use std::{collections::BTreeMap, fs::File, io::Write as _, path::Path, time::Duration};

use kontrol_e2e_cluster::lab::Lab;
use serde_json::{Value, json};
use tokio::time::timeout;

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples");
/// The port of a widget whose endpoint names none.
const PORT: u16 = 8080;
/// A model of 400 MB is read and asked on a machine that does other things too.
const PATIENCE: Duration = Duration::from_mins(4);

/// Applies an example, and waits until its group is ready. False where the nodes lack its image; `test` is counted as skipped then.
async fn runs(lab: &Lab, test: &str, example: &str, group: &str) -> bool {
    let image = format!("kontrol.local/{example}:dev");
    if !lab.cluster().has_image("node0", &image).unwrap() {
        let reason = format!("{test}: {image} is not there: hack/example-images");
        eprintln!("skipped: {reason}");
        if let Some(path) = std::env::var_os("KONTROL_SKIPPED") {
            writeln!(File::options().create(true).append(true).open(path).unwrap(), "{reason}").unwrap();
        }
        return false;
    }
    lab.apply_path(&Path::new(EXAMPLES).join(example)).unwrap();
    lab.wait_within(&format!("the group {group} to be ready"), PATIENCE, async || {
        let ready = lab.condition("WidgetGroup", group, "Ready").await?;
        Ok(if ready.status == "True" { Ok(()) } else { Err(ready) })
    })
    .await
    .unwrap();
    true
}

/// The chunks of answers to `question` in a stream of server-sent events: attempt → sequence → chunk.
fn chunks(events: &str, question: &str) -> BTreeMap<u64, BTreeMap<u64, Value>> {
    let mut attempts: BTreeMap<u64, BTreeMap<u64, Value>> = BTreeMap::new();
    let data =
        events.lines().filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok());
    for chunk in data.filter(|chunk| chunk["question"] == question) {
        let (attempt, sequence) = (chunk["attempt"].as_u64().unwrap(), chunk["sequence"].as_u64().unwrap());
        attempts.entry(attempt).or_default().insert(sequence, chunk);
    }
    attempts
}

/// The answer of the highest attempt, if all of it is there.
fn whole(events: &str, question: &str) -> Option<String> {
    let (_, chunks) = chunks(events, question).pop_last()?;
    let (last, chunk) = chunks.last_key_value()?;
    let complete = chunk["final"] == true && chunks.len() as u64 == last + 1;
    complete.then(|| chunks.values().filter_map(|chunk| chunk["text"].as_str()).collect())
}

#[tokio::test]
async fn the_pipeline_of_a_laptop_answers_on_a_cluster() {
    let lab = Lab::with_kontrol("pipeline").await.unwrap();
    if !runs(&lab, "the_pipeline_of_a_laptop_answers_on_a_cluster", "ai-pipeline", "rag").await {
        return;
    }
    let page = lab.until_pods("rag", "visualization", 1).await.unwrap().remove(0);
    lab.wait_within("pieces of documents to be stored", PATIENCE, async || {
        let stats = lab.inside(&page, PORT, ("GET", "/stats", ""), |text| text.contains('}')).await?;
        Ok(if stats.body.contains("\"pieces\":0") { Err(stats) } else { Ok(()) })
    })
    .await
    .unwrap();

    let body = json!({"question": "How does Kontrol restart a widget?"}).to_string();
    let asked = lab.inside(&page, PORT, ("POST", "/ask", &body), |text| text.contains('}')).await.unwrap();
    let told =
        asked.body.lines().find_map(|line| serde_json::from_str::<Value>(line).ok()).unwrap_or_default();
    let question = told["id"].as_str().unwrap_or_else(|| panic!("{asked:?}")).to_owned();
    let named = question.clone();
    let listening =
        lab.inside(&page, PORT, ("GET", "/events", ""), move |text| whole(text, &named).is_some());
    let events = timeout(PATIENCE, listening).await.expect("the whole answer in time").unwrap();
    let answer = whole(&events.body, &question).unwrap();
    assert!(answer.split_whitespace().count() > 3, "{answer}");
}

#[tokio::test]
async fn the_edge_pipeline_of_a_laptop_reports_on_a_cluster() {
    let lab = Lab::with_kontrol("edge").await.unwrap();
    if !runs(&lab, "the_edge_pipeline_of_a_laptop_reports_on_a_cluster", "edge-pipeline", "edge").await {
        return;
    }
    let dashboard = lab.until_pods("edge", "dashboard", 1).await.unwrap().remove(0);
    lab.wait_within("the report of all machines", PATIENCE, async || {
        let page = lab.inside(&dashboard, PORT, ("POST", "/page", "{}"), |_| false).await?;
        let report = page.json();
        let hours = |machine: &&str| report["machines"][machine]["hours"] == 24;
        let whole = ["press", "oven", "drill"].iter().all(hours) && report["alarms"].as_u64() > Some(0);
        Ok(if whole { Ok(()) } else { Err(page) })
    })
    .await
    .unwrap();
}
