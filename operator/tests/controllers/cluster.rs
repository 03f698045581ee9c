//! A cluster with an operator in it, simulated time, and one trouble.

use std::{
    fmt::Write as _,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use kontrol_core::time::Timestamp;
use kontrol_e2e_apiserver::{ApiServer, Change, Clock, Ended, Fault, Kubelet, Machine, fault};
use kontrol_operator::kubernetes::Options;
use serde_json::{Value, json};

use crate::operator::Operator;

/// 2026-01-01T00:00:00Z.
const START: u64 = 1_767_225_600_000_000;
/// Rounds at one moment before a scenario counts as one that never rests.
const RESTLESS: usize = 400;

/// The ways in which a call fails that the process survives.
pub(crate) const FAULTS: [Fault; 6] = [
    Fault::Conflict,
    Fault::TooMany(1),
    Fault::ErrorBefore,
    Fault::ErrorAfter,
    Fault::LostBefore,
    Fault::LostAfter,
];

/// What goes wrong once, while the first process of the operator runs.
#[derive(Clone, Debug)]
pub(crate) enum Trouble {
    Nothing,
    /// Its n-th write meets a fault; a crash is followed by a new process.
    Write(usize, Fault),
    /// Its n-th call, watches and lists among them, meets a fault.
    Call(usize, Fault),
    /// From its n-th write on, all its watches stand still for a while.
    Stale(usize, Duration),
    /// At its n-th write, all its watches end and the history is forgotten.
    Gap(usize),
    /// Many faults, drawn from a seed, in its first calls.
    Seed(u64),
}

/// The cluster.
pub(crate) struct Cluster {
    pub(crate) server: ApiServer,
    pub(crate) kubelet: Kubelet,
    pub(crate) operator: Option<Operator>,
    options: Arc<Options>,
    now: Arc<AtomicU64>,
    trouble: Trouble,
    /// Until when the watches stand still; the trouble is over where it is past.
    stale_until: Option<Timestamp>,
    pub(crate) crashes: usize,
    sidecars: bool,
}

/// What every cluster begins as; the schemas are compiled once.
static BLANK: LazyLock<ApiServer> = LazyLock::new(ApiServer::new);

/// A clock that shows this time.
fn clock(now: &Arc<AtomicU64>) -> Clock {
    let micros = Arc::clone(now);
    Clock::new(move || {
        let micros = i64::try_from(micros.load(Ordering::Relaxed)).unwrap();
        jiff::Timestamp::from_microsecond(micros).unwrap()
    })
}

impl Cluster {
    /// Two nodes, some pods of others, and an operator.
    pub(crate) fn new(trouble: Trouble) -> Self {
        Self::with(Options::default(), trouble)
    }

    /// The same, whose operator has these options.
    pub(crate) fn with(options: Options, trouble: Trouble) -> Self {
        let now = Arc::new(AtomicU64::new(START));
        let server = BLANK.fork(clock(&now));
        let kubelet = Kubelet::new(&server);
        kubelet.add(&Machine::named("node-a").with("nvidia.com/gpu", 1));
        kubelet.add(&Machine::named("node-b"));
        let mut cluster = Self {
            server,
            kubelet,
            operator: None,
            options: Arc::new(options),
            now,
            trouble,
            stale_until: None,
            crashes: 0,
            sidecars: false,
        };
        for name in ["web-0", "g-a", "g-b-0"] {
            let spec = json!({"containers": [{"name": "c", "image": "somebody/else:1"}]});
            let labels = json!({"app": "foreign"});
            cluster.put(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}));
        }
        cluster.start();
        cluster
    }

    /// A cluster of its own that is as this one is, whose operator begins.
    pub(crate) fn fork(&self) -> Self {
        let now = Arc::new(AtomicU64::new(self.now.load(Ordering::Relaxed)));
        let server = self.server.fork(clock(&now));
        let kubelet = Kubelet::new(&server);
        kubelet.set_closed_gates(self.sidecars);
        let mut cluster = Self {
            server,
            kubelet,
            operator: None,
            options: Arc::clone(&self.options),
            now,
            trouble: Trouble::Nothing,
            stale_until: None,
            crashes: 0,
            sidecars: self.sidecars,
        };
        cluster.start();
        cluster
    }

    /// Has sidecars speak for their widgets, each second: no pod is ready without. It makes a test many times slower.
    pub(crate) fn with_sidecars(mut self) -> Self {
        self.kubelet.set_closed_gates(true);
        self.sidecars = true;
        self
    }

    fn start(&mut self) {
        let operator = Operator::start(&self.server, Arc::clone(&self.options), self.now());
        if self.crashes == 0 {
            match &self.trouble {
                Trouble::Write(n, fault) => operator.session.set_faults(fault::nth_write(*n, fault.clone())),
                Trouble::Call(n, fault) => operator.session.set_faults(fault::nth_call(*n, fault.clone())),
                Trouble::Seed(seed) => {
                    operator.session.set_faults(fault::seeded(*seed, 250, 200, &FAULTS));
                }
                Trouble::Nothing | Trouble::Stale(..) | Trouble::Gap(_) => {}
            }
        }
        self.operator = Some(operator);
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.now.load(Ordering::Relaxed))
    }

    /// Writes of the operator's present process.
    pub(crate) fn writes(&self) -> usize {
        self.operator.as_ref().map_or(0, |operator| operator.session.writes())
    }

    pub(crate) fn put(&mut self, object: &Value) {
        self.server.put(object.clone()).unwrap_or_else(|refused| panic!("{refused}\n{object}"));
    }

    /// Ends the operator, and starts no other.
    pub(crate) fn leave(&mut self) {
        if let Some(operator) = self.operator.take() {
            operator.session.cut();
        }
    }

    /// Ends the operator, and starts another.
    pub(crate) fn crash(&mut self) {
        self.leave();
        self.crashes += 1;
        self.start();
    }

    fn disturb(&mut self) {
        let (now, writes) = (self.now(), self.writes());
        let Some(operator) = self.operator.as_ref().filter(|_| self.crashes == 0) else { return };
        match (&self.trouble, self.stale_until) {
            (Trouble::Stale(n, time), None) if writes >= *n => {
                operator.session.hold("*");
                self.stale_until = Some(now.plus(*time));
            }
            (Trouble::Stale(..), Some(until)) if until <= now => {
                operator.session.release();
            }
            (Trouble::Gap(n), None) if writes >= *n => {
                operator.session.drop_watches(true);
                self.server.compact();
                self.stale_until = Some(now);
            }
            _ => {}
        }
    }

    /// One round of everybody. `false`: nobody had anything to do.
    pub(crate) fn round(&mut self) -> bool {
        let now = self.now();
        let mut busy = self.kubelet.step();
        if let Some(operator) = &mut self.operator {
            if self.sidecars {
                busy |= operator.sidecars(&self.server, &self.kubelet, now);
            }
            busy |= operator.round(&self.kubelet, now);
            if operator.session.is_cut() {
                self.operator = None;
                self.crash();
                busy = true;
            }
        }
        self.disturb();
        busy
    }

    /// Lets time pass, everybody at work.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now().plus(time);
        let mut rounds = 0;
        while self.now() < end {
            if self.round() {
                rounds += 1;
                assert!(rounds < RESTLESS, "no rest at {:?}; {}", self.now(), self.history());
                continue;
            }
            rounds = 0;
            let soon = self.now().plus(Duration::from_secs(5));
            let wake = self.operator.as_ref().and_then(Operator::wake).filter(|wake| *wake > self.now());
            let next = wake.into_iter().chain([soon, end]).min().unwrap_or(end);
            self.now.store(next.as_micros(), Ordering::Relaxed);
        }
    }

    /// Lets time pass until something is so, five minutes at the most.
    pub(crate) fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        for _ in 0..300 {
            if is_so(self) {
                return;
            }
            self.pass(Duration::from_secs(1));
        }
        panic!("{what} does not come\n{}", self.history());
    }

    /// Lets a minute and a half pass: longer than every pause after a failure.
    pub(crate) fn settle(&mut self) {
        self.pass(Duration::from_secs(90));
    }

    /// The pod of a replica that is not being deleted.
    pub(crate) fn pod(&self, object: &str, ordinal: u32) -> Option<Value> {
        let text = ordinal.to_string();
        self.server.list("pods", "default").into_iter().find(|pod| {
            let labels = &pod["metadata"]["labels"];
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            labels["kontrol.dev/ordinal"] == *text
                && name.strip_prefix(object).is_some_and(|rest| rest.starts_with(&format!("-{ordinal}-")))
                && pod["metadata"]["deletionTimestamp"].is_null()
        })
    }

    /// Ends the widget's container of a replica.
    pub(crate) fn end(&mut self, object: &str, how: &Ended) {
        let pod = self.pod(object, 0).unwrap_or_else(|| panic!("no pod of {object}\n{}", self.history()));
        let name = pod["metadata"]["name"].as_str().unwrap();
        assert!(self.kubelet.end("default", name, "widget", how), "{name} cannot end");
    }

    /// Merges into an object's spec.
    pub(crate) fn edit(&mut self, resource: &str, name: &str, edit: impl FnOnce(&mut Value)) {
        assert!(self.server.edit(resource, "default", name, edit), "{resource}/{name} was not changed");
    }

    /// What happened, one line a write.
    pub(crate) fn history(&self) -> String {
        let mut text = String::new();
        for change in self.server.changes(0) {
            let Change { version, resource, name, before, after, .. } = &change;
            if matches!(
                resource.as_str(),
                "customresourcedefinitions.apiextensions.k8s.io"
                    | "namespaces"
                    | "nodes"
                    | "leases.coordination.k8s.io"
            ) {
                continue;
            }
            let what = match (before, after) {
                (None, Some(_)) => "+",
                (Some(_), None) => "-",
                _ => "~",
            };
            let managers = after.as_ref().and_then(|object| {
                object["metadata"]["managedFields"]
                    .as_array()?
                    .last()
                    .map(|entry| entry["manager"].to_string())
            });
            writeln!(text, "{version} {what} {resource}/{name} {}", managers.unwrap_or_default()).unwrap();
        }
        for refused in self.operator.iter().flat_map(|operator| operator.refused.iter().take(20)) {
            writeln!(text, "refused: {refused}").unwrap();
        }
        for kind in ["supervisors.kontrol.dev", "widgetgroups.kontrol.dev", "widgets.kontrol.dev"] {
            for object in self.server.list(kind, "") {
                for one in object["status"]["conditions"].as_array().into_iter().flatten() {
                    writeln!(
                        text,
                        "{kind}/{} {}={} {}: {}",
                        object["metadata"]["name"], one["type"], one["status"], one["reason"], one["message"]
                    )
                    .unwrap();
                }
            }
        }
        text
    }
}
