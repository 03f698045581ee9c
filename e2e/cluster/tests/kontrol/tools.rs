//! `kubectl kontrol` on a real cluster: the same questions as on a laptop.

use std::{
    path::PathBuf,
    process::{Command, Output},
};

use kontrol_e2e_cluster::lab::{
    Lab,
    kontrol::{Signal, name_of, object, test_widget, wrapped_widget},
};
use serde_json::{Value, json};

/// The program, built beside this one.
fn program() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let folder = own.ancestors().nth(2).unwrap();
    let program = folder.join("kontrol");
    assert!(program.exists(), "{}: cargo build -p kontrol-cli makes it", program.display());
    program
}

/// The exit code, and what was printed.
pub(crate) fn kontrol(lab: &Lab, arguments: &[&str]) -> (i32, String) {
    let output = Command::new(program())
        .args(["--cluster", "--namespace", lab.namespace()])
        .args(arguments)
        .env("KUBECONFIG", lab.cluster().kubeconfig())
        .output();
    text_of(output.unwrap())
}

fn text_of(Output { status, stdout, stderr }: Output) -> (i32, String) {
    let text = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
    (status.code().unwrap_or(-1), text)
}

fn says(lab: &Lab, arguments: &[&str], words: &[&str]) -> String {
    let (code, text) = kontrol(lab, arguments);
    assert_eq!(code, 0, "{arguments:?}: {text}");
    for word in words {
        assert!(text.contains(word), "{arguments:?} says nothing of {word:?}: {text}");
    }
    text
}

fn round(round: &str) -> Value {
    let mut container = test_widget(&[]);
    container["env"] = json!([{"name": "ROUND", "value": round}]);
    json!({"container": container, "replicas": 2, "shutdown": {"grace": "1s"}})
}

#[tokio::test]
async fn a_tree_is_shown_and_why_something_was_restarted() {
    let lab = Lab::with_kontrol("tools").await.unwrap();
    let widgets = json!([
        {"name": "a", "container": wrapped_widget(&[])},
        {"name": "b", "container": test_widget(&[])},
        {"name": "c", "container": test_widget(&["--direct", "127.0.0.1:4000"])},
    ]);
    lab.apply(&object("WidgetGroup", "team", &json!({"widgets": widgets}))).unwrap();
    lab.apply(&object("Supervisor", "chief", &json!({"children": [{"group": "team"}]}))).unwrap();
    says(&lab, &["status", "--wait", "--timeout", "90s"], &["chief"]);
    let pod = lab.until_pods("team", "a", 1).await.unwrap().remove(0);
    says(&lab, &["tree"], &["chief", "team", "a", "b", "node"]);
    let tree: Value = serde_json::from_str(&says(&lab, &["tree", "-o", "json"], &[])).unwrap();
    assert!(tree.to_string().contains(&name_of(&pod)), "{tree:#}");

    lab.signal_child(&pod, "widget", "kontrol-test-widget", Signal::KILL).unwrap();
    lab.wait("why to tell of the end", async || {
        let (code, text) = kontrol(&lab, &["why", "team/a"]);
        let told = code == 0 && (text.contains("SIGKILL") || text.contains("signal 9"));
        Ok(if told { Ok(()) } else { Err((code, text)) })
    })
    .await
    .unwrap();
    says(&lab, &["status", "team", "--wait", "--timeout", "90s"], &["team"]);
    // It prints where it listens.
    let line = "team/c-0 | 127.0.0.1:4000";
    lab.wait("the logs of the group to have that line", async || {
        let (code, text) = kontrol(&lab, &["logs", "team"]);
        Ok(if code == 0 && text.contains(line) { Ok(()) } else { Err((code, text)) })
    })
    .await
    .unwrap();
    says(&lab, &["logs", "team/c-0", "--tail", "1"], &[line]);
    let others = says(&lab, &["logs", "team/b"], &[]);
    assert!(!others.contains("team/c-0"), "{others}");

    let before = lab.until_pods("team", "b", 1).await.unwrap().remove(0);
    says(&lab, &["restart", "team/b"], &[]);
    lab.until_replaced("team", &before).await.unwrap();
    let (code, text) = kontrol(&lab, &["why", "team/nobody"]);
    assert!(code != 0 && text.contains("nobody"), "{code}: {text}");
}

#[tokio::test]
async fn kubectl_finds_it_as_its_plugin() {
    let lab = Lab::with_kontrol("plugin").await.unwrap();
    lab.apply(&object("Widget", "alone", &json!({"container": test_widget(&[])}))).unwrap();
    lab.until_ready("Widget", "alone").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(program(), folder.path().join("kubectl-kontrol")).unwrap();
    let before = std::env::var_os("PATH").unwrap_or_default();
    let path = std::iter::once(folder.path().to_owned()).chain(std::env::split_paths(&before));
    let path = std::env::join_paths(path).unwrap();
    let kubectl = |arguments: &[&str]| {
        let output = Command::new(lab.cluster().program("kubectl").unwrap())
            .arg("kontrol")
            .args(arguments)
            .args(["-n", lab.namespace()])
            .env("KUBECONFIG", lab.cluster().kubeconfig())
            .env("PATH", &path)
            .output()
            .unwrap();
        text_of(output)
    };
    let (code, text) = kubectl(&["tree"]);
    assert!(code == 0 && text.contains("alone") && text.contains("1 of 1"), "{code}: {text}");
    let (code, text) = kubectl(&["why", "nobody"]);
    assert!(code == 1 && text.contains("nobody"), "{code}: {text}");
}

#[tokio::test]
async fn replicas_are_scaled_and_roll_outs_are_paused_resumed_and_undone() {
    let lab = Lab::with_kontrol("tools").await.unwrap();
    lab.apply(&object("Widget", "rolls", &round("one"))).unwrap();
    lab.until_ready("Widget", "rolls").await.unwrap();
    says(&lab, &["scale", "rolls", "3"], &[]);
    lab.until_pods("rolls", "rolls", 3).await.unwrap();
    says(&lab, &["scale", "rolls", "2"], &[]);
    lab.until_pods("rolls", "rolls", 2).await.unwrap();

    says(&lab, &["rollout", "pause", "rolls"], &[]);
    let two = json!({"spec": {"container": {"env": [{"name": "ROUND", "value": "two"}]}}});
    lab.patch("Widget", "rolls", &two).await.unwrap();
    lab.wait("the roll-out to be said to be paused", async || {
        let (code, text) = kontrol(&lab, &["rollout", "status", "rolls", "--no-wait", "-o", "json"]);
        Ok(if code == 1 && text.contains("Paused") { Ok(()) } else { Err((code, text)) })
    })
    .await
    .unwrap();
    says(&lab, &["rollout", "resume", "rolls"], &[]);
    says(&lab, &["rollout", "status", "rolls", "--timeout", "90s"], &[]);
    until_all(&lab, "two").await;
    let history: Value =
        serde_json::from_str(&says(&lab, &["rollout", "history", "rolls", "-o", "json"], &[])).unwrap();
    assert_eq!(history.as_array().map(Vec::len), Some(2), "{history:#}");

    says(&lab, &["rollout", "undo", "rolls"], &[]);
    until_all(&lab, "one").await;
    says(&lab, &["rollout", "status", "rolls", "--timeout", "90s"], &[]);
}

/// Waits until both pods are ready and of this round.
async fn until_all(lab: &Lab, round: &str) {
    lab.wait(&format!("both pods to be of round {round}"), async || {
        let pods = lab.until_pods("rolls", "rolls", 2).await?;
        let text =
            serde_json::to_string(&pods.iter().map(|pod| &pod.spec).collect::<Vec<_>>()).unwrap_or_default();
        let found = text.matches(&format!("{{\"name\":\"ROUND\",\"value\":\"{round}\"}}")).count();
        Ok(if found == 2 { Ok(()) } else { Err(pods.iter().map(name_of).collect::<Vec<_>>()) })
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn manifests_are_checked_for_a_cluster() {
    let lab = Lab::open("lint").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("widget.yaml");
    let path = file.display().to_string();
    std::fs::write(&file, object("Widget", "good", &json!({"container": test_widget(&[])})).to_string())
        .unwrap();
    says(&lab, &["lint", &path], &[]);
    std::fs::write(&file, object("Widget", "local", &json!({"process": {"command": ["true"]}})).to_string())
        .unwrap();
    let (code, text) = kontrol(&lab, &["lint", &path]);
    assert!(code == 2 && text.contains("container"), "{code}: {text}");
}
