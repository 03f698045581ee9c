//! What the kubelet itself costs: bare pods, with nothing of Kontrol's but the shim in one row.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::DeleteParams, runtime::wait::await_condition};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::{
    Error, Result, clock,
    lab::{Lab, container, is_ready, probe},
};

/// How long anything may take that is measured.
const PATIENCE: Duration = Duration::from_mins(3);
/// How often a port is knocked at.
const KNOCK: Duration = Duration::from_millis(2);

/// One row: times in milliseconds.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figure {
    /// What was measured.
    pub what: &'static str,
    /// How often.
    pub n: usize,
    /// The median.
    pub median: f64,
    /// The lowest.
    pub lowest: f64,
    /// The highest.
    pub highest: f64,
}

impl Figure {
    fn of(what: &'static str, times: &[Duration]) -> Self {
        let mut times: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1000.0).collect();
        times.sort_by(f64::total_cmp);
        let at = |index: usize| times.get(index).copied().unwrap_or(f64::NAN);
        Self {
            what,
            n: times.len(),
            median: f64::midpoint(at(times.len().saturating_sub(1) / 2), at(times.len() / 2)),
            lowest: at(0),
            highest: at(times.len().saturating_sub(1)),
        }
    }
}

/// Measures each thing `n` times, and the loss of a node `losses` times; `say` gets a line for each row.
pub async fn measure(lab: Lab, n: usize, losses: usize, say: &mut dyn FnMut(&str)) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let mut row = |what: &'static str, times: &[Duration]| {
        let figure = Figure::of(what, times);
        say(&format!(
            "{what}: {:.0} ms [{:.0}-{:.0}], n = {}",
            figure.median, figure.lowest, figure.highest, figure.n
        ));
        figures.push(figure);
    };
    // The first pod of a node warms what later ones find.
    for node in ["node0", "node1"] {
        Bare::start(&lab, pod(&format!("warm-{node}"), Some(node))).await?.delete().await?;
    }
    let (mut plain, mut sidecar, mut shim, mut gone, mut first, mut second) =
        (vec![], vec![], vec![], vec![], vec![], vec![]);
    for round in 0..n {
        let bare = Bare::start(&lab, pod(&format!("plain-{round}"), None)).await?;
        plain.push(bare.started);
        first.push(bare.end_and_wait().await?);
        second.push(bare.end_and_wait().await?);
        gone.push(bare.delete().await?);
        let bare = Bare::start(&lab, with_sidecar(pod(&format!("sidecar-{round}"), None))).await?;
        sidecar.push(bare.started);
        bare.delete().await?;
        let bare = Bare::start(&lab, with_shim(pod(&format!("shim-{round}"), None))).await?;
        shim.push(bare.started);
        bare.delete().await?;
    }
    row("create → Ready, one container", &plain);
    row("create → Ready, with a native sidecar that does nothing", &sidecar);
    row("create → Ready, a shim as process 1, restricted", &shim);
    row("end → listens again, first restart by the kubelet", &first);
    row("end → listens again, second restart by the kubelet", &second);
    row("delete → gone (ends on SIGTERM at once)", &gone);
    for (what, times) in names(&lab, n).await? {
        row(what, &times);
    }
    let mut lost = Vec::new();
    for _ in 0..losses {
        lost.push(node_loss(&lab)?);
    }
    if losses > 0 {
        row("node's power gone → NotReady", &lost);
    }
    Ok(figures)
}

/// A pod that serves.
fn pod(name: &str, node: Option<&str>) -> Value {
    let mut pod = probe(name, node, &["serve", "8080"]);
    pod["spec"]["restartPolicy"] = json!("Always");
    pod["spec"]["terminationGracePeriodSeconds"] = json!(30);
    pod
}

fn with_sidecar(mut pod: Value) -> Value {
    let mut sidecar = container("sidecar", &["wait"]);
    sidecar["restartPolicy"] = json!("Always");
    pod["spec"]["initContainers"] = json!([sidecar]);
    pod
}

/// The shim as the container's first process, with its socket in a volume.
fn with_shim(mut pod: Value) -> Value {
    pod["spec"]["volumes"] = json!([{"name": "run", "emptyDir": {"medium": "Memory"}}]);
    let container = &mut pod["spec"]["containers"][0];
    container["volumeMounts"] = json!([{"name": "run", "mountPath": "/run/kontrol"}]);
    container["command"] = json!([
        "/bin/kontrol-shim",
        "--socket",
        "/run/kontrol/shim.sock",
        "--",
        "/bin/kontrol-probe",
        "serve",
        "8080"
    ]);
    container["args"] = json!([]);
    pod
}

/// A pod that is up.
struct Bare {
    api: Api<Pod>,
    name: String,
    uid: String,
    address: String,
    started: Duration,
}

impl Bare {
    /// Creates the pod, and waits until a watch says that it is ready.
    async fn start(lab: &Lab, pod: Value) -> Result<Self> {
        let api = lab.api::<Pod>();
        let pod: Pod = serde_json::from_value(pod).map_err(crate::error::json("a pod"))?;
        let name = pod.metadata.name.clone().unwrap_or_default();
        let begun = clock::now();
        api.create(&kube::api::PostParams::default(), &pod).await?;
        let ready = await_condition(api.clone(), &name, |pod: Option<&Pod>| pod.is_some_and(is_ready));
        let pod = match tokio::time::timeout(PATIENCE, ready).await {
            Ok(Ok(Some(pod))) => pod,
            Ok(Err(error)) => return Err(Error::Machine(format!("watching {name}: {error}"))),
            Ok(Ok(None)) | Err(_) => return Err(late(lab, &format!("the pod {name} to be ready"))),
        };
        let started = begun.elapsed();
        let address = pod.status.and_then(|status| status.pod_ip).unwrap_or_default();
        Ok(Self {
            api,
            name,
            uid: pod.metadata.uid.unwrap_or_default(),
            address: format!("{address}:8080"),
            started,
        })
    }

    /// Has the program end, and knocks until its successor listens.
    async fn end_and_wait(&self) -> Result<Duration> {
        self.end().await?;
        let begun = clock::now();
        // The old one may still listen for a moment: it is gone when nobody does.
        self.knock(false, begun).await?;
        self.knock(true, begun).await
    }

    async fn end(&self) -> Result<()> {
        use tokio::io::AsyncWriteExt as _;
        let asked = async {
            let mut stream = TcpStream::connect(&self.address).await?;
            stream.write_all(b"GET /exit/1 HTTP/1.1\r\n\r\n").await
        };
        asked.await.map_err(|error| Error::Machine(format!("{}: {error}", self.address)))
    }

    async fn knock(&self, listens: bool, begun: Instant) -> Result<Duration> {
        while begun.elapsed() < PATIENCE {
            if TcpStream::connect(&self.address).await.is_ok() == listens {
                return Ok(begun.elapsed());
            }
            tokio::time::sleep(KNOCK).await;
        }
        Err(Error::Timeout {
            what: format!("{} to be restarted", self.name),
            after: PATIENCE,
            last: "it was not".to_owned(),
        })
    }

    /// Deletes the pod, and waits until it is gone.
    async fn delete(self) -> Result<Duration> {
        let begun = clock::now();
        self.api.delete(&self.name, &DeleteParams::default()).await?;
        let gone =
            await_condition(self.api.clone(), &self.name, kube::runtime::conditions::is_deleted(&self.uid));
        match tokio::time::timeout(PATIENCE, gone).await {
            Ok(Ok(_)) => Ok(begun.elapsed()),
            Ok(Err(error)) => Err(Error::Machine(format!("watching {}: {error}", self.name))),
            Err(_) => Err(Error::Timeout {
                what: format!("the pod {} to be gone", self.name),
                after: PATIENCE,
                last: "it is there".to_owned(),
            }),
        }
    }
}

fn late(lab: &Lab, what: &str) -> Error {
    Error::Timeout { what: what.to_owned(), after: PATIENCE, last: lab.describe() }
}

/// Names that a pod with one static program resolves: with all dots, and by the search path.
async fn names(lab: &Lab, n: usize) -> Result<[(&'static str, Vec<Duration>); 2]> {
    const NAMES: [&str; 2] = ["kubernetes.default.svc.cluster.local.", "kubernetes.default"];
    let mut arguments = vec!["resolve"];
    arguments.extend(std::iter::repeat_n(NAMES, n).flatten());
    lab.apply(&probe("resolves", None, &arguments))?;
    let output = lab.output("resolves").await?;
    let of = |name: &str| -> Vec<Duration> {
        let lines = output.lines().filter(|line| line.split(' ').next() == Some(name));
        let times = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        times.map(|time| Duration::from_secs_f64(time / 1000.0)).collect()
    };
    let [whole, short] = NAMES;
    Ok([
        ("a name with all its dots, resolved in a pod", of(whole)),
        ("a short name, by the search path", of(short)),
    ])
}

/// From the moment that a node has no power until the API server calls it not ready.
fn node_loss(lab: &Lab) -> Result<Duration> {
    const NODE: &str = "node1";
    let cluster = lab.cluster();
    cluster.wait_for_node(NODE, true, PATIENCE)?;
    let begun = clock::now();
    cluster.node_kill(NODE)?;
    let lost = cluster.wait_for_node(NODE, false, PATIENCE).map(|()| begun.elapsed());
    cluster.node_restart(NODE)?;
    cluster.wait_for_node(NODE, true, PATIENCE)?;
    lost
}
