//! The edge computing workflow, on the programs and manifests of `examples/edge-pipeline`.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
};

use kontrol_e2e::world::{self, World, alive, replica_of, until};

/// Copies the example, so that its state folder is ours.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// The readings over 80 °C, by the formula of `sensor.py`.
fn hot() -> u64 {
    let mut hot = 0;
    for number in 0..144_u32 {
        for place in 0..3_u32 {
            let (number, place) = (f64::from(number), f64::from(place));
            let celsius = 40.0 + 20.0 * place + 15.0 * (number / 12.0 + place).sin();
            hot += u64::from((celsius * 100.0).round() / 100.0 > 80.0);
        }
    }
    hot
}

/// Calls a method through a sidecar's HTTP door; the reply, if there is one.
fn call(door: &str, target: &str, method: &str) -> Option<serde_json::Value> {
    let mut stream = TcpStream::connect(door.trim_start_matches("http://")).ok()?;
    let head =
        format!("POST /v1/call/{target}/{method} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
    write!(stream, "{head}content-type: application/json\r\ncontent-length: 2\r\n\r\n{{}}").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    head.contains(" 200 ").then(|| serde_json::from_str(body).ok())?
}

#[tokio::test]
async fn a_day_of_readings_reaches_the_dashboard_whole() {
    for program in ["python3", "node"] {
        if std::process::Command::new(program).arg("--version").output().is_err() {
            world::skip(&format!("edge_pipeline: {program} is not installed")).unwrap();
            return;
        }
    }
    let folder = world::folder().unwrap();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    copy(&examples.join("edge-pipeline"), &folder.path().join("edge-pipeline"));
    fs::copy(examples.join("widget.py"), folder.path().join("widget.py")).unwrap();
    let mut world = World::start_at(folder, "edge-pipeline/pipeline.yaml").unwrap();
    let door = world
        .wait("the dashboard is ready", |tree| {
            let dashboard = replica_of(tree, "edge", "dashboard")?;
            (dashboard.state == "Ready").then(|| dashboard.sidecar_http.clone())
        })
        .await
        .unwrap();

    // The dashboard's own sidecar lets it call the analytics, whose report is what the page shows.
    let whole = |report: &serde_json::Value| {
        ["press", "oven", "drill"].iter().all(|machine| report["machines"][machine]["hours"] == 24)
            && report["alarms"] == hot()
    };
    let mut last = None;
    let report = until("the report is whole", async || {
        last = call(&door, "analytics", "report").or(last.take());
        Ok(last.clone().filter(&whole))
    })
    .await;
    let Ok(report) = report else {
        panic!("the last report was {last:?}\n{}\n{}", world.output(), world.log(""))
    };
    assert!(hot() > 0 && report["machines"].as_object().unwrap().len() == 3);

    let all = world.processes();
    assert!(world.down().await.unwrap().success(), "{}", world.output());
    assert!(all.iter().all(|(_, pid)| !alive(*pid)));
}
