//! What containers write, over all the pods of a replica that come and go.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::{AsyncBufReadExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kontrol_core::id::InstanceId;
use kontrol_operator::{
    clock,
    kubernetes::{
        kind::Kind,
        object::Key,
        pod::{CONTAINER, PodOf},
    },
    local::logs::{Level, Stream},
    view::names,
};
use kontrol_proto::v1::LogLine;
use kube::api::{Api, LogParams};
use serde_json::Value;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    access::Access,
    failure::{Asked, Failure},
    known::Known,
    look,
};

/// How often new pods and events are looked for, and a container that did not write before is tried again.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Lines that may wait to be printed.
const BACKLOG: usize = 256;
const SIDECAR: &str = "kontrol-sidecar";
const HUB: &str = "hub";

/// What is to be shown.
pub(super) struct Wanted {
    /// Of what; none: of everything, with all decisions.
    pub(super) name: Option<String>,
    /// Whether to go on.
    pub(super) follow: bool,
    /// Lines from the past, for each container.
    pub(super) tail: u32,
    /// Whether to show what sidecars write.
    pub(super) sidecars: bool,
}

/// One container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Writer {
    namespace: String,
    pod: String,
    container: &'static str,
    source: String,
}

/// A line with the time that the kubelet wrote it at.
struct Line {
    stamp: String,
    line: LogLine,
}

/// Gives every line to `take`, until that has enough or nothing more comes.
pub(super) async fn show(
    access: &Access,
    wanted: &Wanted,
    take: &mut impl FnMut(LogLine) -> bool,
) -> Result<(), Failure> {
    let mut known = look(access).await?;
    let mut hubs = hub_pods(access, wanted).await?;
    let mut writers = writers(access, &known, wanted, &hubs)?;
    let decides = wanted.name.is_none();
    let mut told: BTreeSet<String> = BTreeSet::new();
    let mut past = Vec::new();
    let mut last: BTreeMap<Writer, String> = BTreeMap::new();
    for writer in &writers {
        let lines = read(access, writer, wanted.tail).await?;
        last.extend(lines.last().map(|line| (writer.clone(), line.stamp.clone())));
        past.extend(lines.into_iter().map(|line| line.line));
    }
    if decides {
        let events = events(access, &mut told).await?;
        let skipped = events.len().saturating_sub(wanted.tail as usize);
        past.extend(events.into_iter().skip(skipped));
    }
    past.sort_by_key(|line| line.at_micros);
    for line in past {
        if !take(line) {
            return Ok(());
        }
    }
    if !wanted.follow {
        return Ok(());
    }
    let (sender, mut receiver) = mpsc::channel(BACKLOG);
    let mut followed: BTreeSet<Writer> = BTreeSet::new();
    let mut tasks = JoinSet::new();
    loop {
        for writer in writers.drain(..) {
            if followed.insert(writer.clone()) {
                let since = last.remove(&writer);
                tasks.spawn(follow(access.clone(), writer, since, sender.clone()));
            }
        }
        while let Ok(Some(line)) = timeout(LOOK_EVERY, receiver.recv()).await {
            if !take(line) {
                return Ok(());
            }
        }
        if decides && let Ok(events) = events(access, &mut told).await {
            for line in events {
                if !take(line) {
                    return Ok(());
                }
            }
        }
        // An API server that does not answer for a while ends nothing: what is followed goes on when it is back.
        if let Ok(now) = look(access).await {
            known = now;
            hubs = hub_pods(access, wanted).await.unwrap_or(hubs);
            writers = self::writers(access, &known, wanted, &hubs).unwrap_or_default();
            let there: BTreeSet<&Writer> = writers.iter().collect();
            followed.retain(|writer| there.contains(writer));
        }
    }
}

/// The containers whose lines are wanted.
fn writers(access: &Access, known: &Known, wanted: &Wanted, hubs: &[Key]) -> Result<Vec<Writer>, Failure> {
    let hub = |key: &Key| Writer {
        namespace: key.namespace.to_string(),
        pod: key.name.to_string(),
        container: HUB,
        source: "hub".to_owned(),
    };
    let hubs: Vec<Writer> = hubs.iter().map(hub).collect();
    let instances: Option<Vec<InstanceId>> = match wanted.name.as_deref() {
        None => None,
        Some("hub") => return Ok(hubs),
        Some(name) => {
            let named = known.one(access, name)?;
            let mut instances = names::instances_of(known, &named);
            let ordinal = names::ordinal(known, name).or_else(|| known.ordinal_of(name));
            instances.retain(|instance| ordinal.is_none_or(|ordinal| instance.ordinal == ordinal));
            Some(instances)
        }
    };
    let mut writers = Vec::new();
    for (key, pod) in known.store.pods() {
        let PodOf::Replica(id) = &pod.of else { continue };
        if instances.as_ref().is_some_and(|instances| !instances.contains(id)) {
            continue;
        }
        let writer = |container, source| Writer {
            namespace: key.namespace.to_string(),
            pod: key.name.to_string(),
            container,
            source,
        };
        writers.push(writer(CONTAINER, format!("{id:#}")));
        if wanted.sidecars {
            writers.push(writer(SIDECAR, format!("{id:#} sidecar")));
        }
    }
    if wanted.name.is_none() {
        writers.extend(hubs);
    }
    Ok(writers)
}

async fn hub_pods(access: &Access, wanted: &Wanted) -> Result<Vec<Key>, Failure> {
    if wanted.name.as_deref().is_some_and(|name| name != "hub") {
        return Ok(Vec::new());
    }
    let texts = access.list(Kind::Pod, "kontrol.dev/bus").await?;
    let key = |text: String| {
        let pod: Value = serde_json::from_str(&text).ok()?;
        let metadata = &pod["metadata"];
        Some(Key::new(metadata["namespace"].as_str()?, metadata["name"].as_str()?))
    };
    Ok(texts.into_iter().filter_map(key).collect())
}

/// The last lines of a container, and of the one before it in the same pod where that was restarted in place.
async fn read(access: &Access, writer: &Writer, tail: u32) -> Result<Vec<Line>, Failure> {
    if tail == 0 {
        return Ok(Vec::new());
    }
    let pods: Api<Pod> = Api::namespaced(access.client.clone(), &writer.namespace);
    let params = |previous| LogParams {
        container: Some(writer.container.to_owned()),
        tail_lines: Some(i64::from(tail)),
        timestamps: true,
        previous,
        ..LogParams::default()
    };
    // Where there is none before it, that is refused.
    let mut text = pods.logs(&writer.pod, &params(true)).await.unwrap_or_default();
    match pods.logs(&writer.pod, &params(false)).await {
        Ok(now) => text.push_str(&now),
        Err(error) if is_quiet(&error) => {}
        Err(error) => return Err(access.failure(&error, asked(writer))),
    }
    let mut lines: Vec<Line> = text.lines().map(|text| line(writer, text)).collect();
    lines.sort_by(|one, other| one.stamp.cmp(&other.stamp));
    lines.dedup_by(|one, other| one.stamp == other.stamp && one.line.text == other.line.text);
    Ok(lines.split_off(lines.len().saturating_sub(tail as usize)))
}

/// Follows a container until its pod is gone, over its restarts in place.
async fn follow(access: Access, writer: Writer, since: Option<String>, sender: mpsc::Sender<LogLine>) {
    let pods: Api<Pod> = Api::namespaced(access.client.clone(), &writer.namespace);
    let start = clock::now();
    let mut last = since;
    loop {
        let from = last.as_deref().and_then(|stamp| stamp.parse().ok());
        let params = LogParams {
            container: Some(writer.container.to_owned()),
            follow: true,
            timestamps: true,
            since_time: from.or_else(|| {
                jiff::Timestamp::from_microsecond(i64::try_from(start.as_micros()).unwrap_or(0)).ok()
            }),
            ..LogParams::default()
        };
        match pods.log_stream(&writer.pod, &params).await {
            Ok(stream) => {
                let mut lines = stream.lines();
                while let Ok(Some(text)) = lines.try_next().await {
                    let Line { stamp, line } = line(&writer, &text);
                    if last.as_ref().is_some_and(|last| stamp <= *last) {
                        continue;
                    }
                    last = Some(stamp);
                    if sender.send(line).await.is_err() {
                        return;
                    }
                }
            }
            Err(kube::Error::Api(status)) if status.code == 404 => return,
            Err(_) => {}
        }
        sleep(LOOK_EVERY).await;
    }
}

/// What was decided, as the operator's events tell it; each is given once for each time that it happened.
async fn events(access: &Access, told: &mut BTreeSet<String>) -> Result<Vec<LogLine>, Failure> {
    let mut lines = Vec::new();
    for text in access.list(Kind::Event, "").await? {
        let Ok(event) = serde_json::from_str::<Value>(&text) else { continue };
        let ours = event["reportingController"].as_str().is_some_and(|by| by.starts_with("kontrol.dev/"));
        let count = event["series"]["count"].as_u64().unwrap_or(1);
        let uid = event["metadata"]["uid"].as_str().unwrap_or_default();
        if !ours || !told.insert(format!("{uid}/{count}")) {
            continue;
        }
        let at = event["series"]["lastObservedTime"].as_str().or_else(|| event["eventTime"].as_str());
        let level = if event["type"] == "Warning" { Level::Warn } else { Level::Info };
        lines.push(LogLine {
            at_micros: micros(at.unwrap_or_default()),
            source: String::new(),
            stream: Stream::Event.as_str().to_owned(),
            level: level.as_str().to_owned(),
            text: event["note"].as_str().unwrap_or_default().to_owned(),
        });
    }
    lines.sort_by_key(|line| line.at_micros);
    Ok(lines)
}

/// A container that has not begun has written nothing.
fn is_quiet(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 400 | 404))
}

fn asked(writer: &Writer) -> Asked<'_> {
    Asked { verb: "get", kind: Kind::Pod, part: "log", namespace: Some(&writer.namespace), name: &writer.pod }
}

/// A line after its time, as the kubelet gives it.
fn line(writer: &Writer, text: &str) -> Line {
    let (stamp, text) = match text.split_once(' ') {
        Some((stamp, text)) if stamp.parse::<jiff::Timestamp>().is_ok() => (stamp, text),
        _ => ("", text),
    };
    let line = LogLine {
        at_micros: micros(stamp),
        source: writer.source.clone(),
        stream: Stream::Out.as_str().to_owned(),
        level: Level::of(Stream::Out, text).as_str().to_owned(),
        text: text.to_owned(),
    };
    Line { stamp: stamp.to_owned(), line }
}

fn micros(stamp: &str) -> u64 {
    let at = stamp.parse::<jiff::Timestamp>().map(jiff::Timestamp::as_microsecond).unwrap_or_default();
    u64::try_from(at).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_keeps_its_time_its_level_and_its_text() {
        let writer = Writer {
            namespace: "default".into(),
            pod: "rag-llm-0-1".into(),
            container: CONTAINER,
            source: "rag/llm-0".into(),
        };
        let read = line(&writer, r#"2026-11-21T20:00:00.123456789Z {"level":"error","message":"no"}"#);
        assert_eq!(read.line.at_micros, 1_795_291_200_123_456);
        assert_eq!((read.line.level.as_str(), read.line.source.as_str()), ("error", "rag/llm-0"));
        assert_eq!(line(&writer, "no time").line.text, "no time");
    }
}
