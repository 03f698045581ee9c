//! A real Prometheus scrapes operator, sidecar and hub, and finds nothing to say about their metrics.

use std::{
    fs,
    io::Write as _,
    net::TcpListener,
    process::{Child, Command, Stdio},
};

use k8s_openapi::api::core::v1::Pod;
use kontrol_e2e_cluster::lab::{
    Lab,
    kontrol::{object, test_widget},
    operator::operators,
    web::{address, get},
};
use kube::api::ListParams;
use serde_json::{Value, json};

/// Series that one sidecar may have.
const SERIES: usize = 200;

/// A Prometheus that is ended with the test.
pub(crate) struct Prometheus {
    process: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    /// Scrapes `targets` each second, and judges by the rules in the text `rules` as often.
    pub(crate) fn start(targets: &[String], rules: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("rules.yaml"), rules).unwrap();
        let config = json!({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yaml"],
            "scrape_configs": [{"job_name": "kontrol", "static_configs": [{"targets": targets}]}],
        });
        let file = folder.path().join("prometheus.yml");
        fs::write(&file, config.to_string()).unwrap();
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus: hack/setup e2e installs it");
        Self { process, port, _folder: folder }
    }

    /// What it answers; `null` where it does not, as before it listens.
    pub(crate) async fn ask(&self, path: &str) -> Value {
        let answer = get(&format!("127.0.0.1:{}", self.port), path).await.unwrap_or_default();
        serde_json::from_str(&answer).unwrap_or_default()
    }

    /// Waits until it has scraped every target.
    pub(crate) async fn until_up(&self, lab: &Lab, targets: &[String]) {
        lab.wait("every target to be up", async || {
            let answer = self.ask("/api/v1/query?query=up").await;
            let results = answer["data"]["result"].as_array().cloned().unwrap_or_default();
            let up = results.iter().filter(|result| result["value"][1] == "1").count();
            Ok(if up == targets.len() { Ok(()) } else { Err(results) })
        })
        .await
        .unwrap();
    }
}

/// Where the operators serve their metrics.
pub(crate) async fn operators_metrics(lab: &Lab) -> Vec<String> {
    operators(lab.client()).await.unwrap().iter().map(|pod| address(pod, 7401)).collect()
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[tokio::test]
async fn a_prometheus_scrapes_operators_sidecars_and_hubs() {
    let lab = Lab::with_kontrol("metrics").await.unwrap();
    lab.apply(&object("Topic", "notes", &json!({}))).unwrap();
    let spec = json!({"container": test_widget(&[]), "produces": [{"topic": "notes"}]});
    lab.apply(&object("Widget", "hello", &spec)).unwrap();
    lab.until_ready("Widget", "hello").await.unwrap();
    let widget = lab.until_pods("hello", "hello", 1).await.unwrap().remove(0);
    let hub = lab
        .wait("the hub", async || {
            let hubs = lab.api::<Pod>().list(&ListParams::default().labels("kontrol.dev/bus")).await?;
            let up = hubs.into_iter().find(kontrol_e2e_cluster::lab::is_ready);
            Ok(up.ok_or("no hub is ready"))
        })
        .await
        .unwrap();
    let mut targets = operators_metrics(&lab).await;
    targets.extend([address(&widget, 7413), address(&hub, 7413)]);

    for target in &targets {
        let text = get(target, "/metrics").await.unwrap();
        assert!(text.contains("# TYPE kontrol_"), "{target}: {text}");
        check(target, &text);
    }
    let own = get(&address(&widget, 7413), "/metrics").await.unwrap();
    let series = own.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).count();
    assert!(series <= SERIES, "{series} series of one sidecar");

    let prometheus = Prometheus::start(&targets, "");
    prometheus.until_up(&lab, &targets).await;
}

/// `promtool check metrics` says nothing.
fn check(target: &str, text: &str) {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool: hack/setup e2e installs it with prometheus");
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim().is_empty(), "{target}: {said}");
}
