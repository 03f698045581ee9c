//! Calls to other widgets: from sidecar to sidecar, to the least loaded of the target's ready replicas.
//!
//! ```text
//!   call ──► target declared? ──► pick replica (ready, breaker, in flight) ──► link ──► its sidecar
//!                 ▲                        │ no first chunk, and the budget allows
//!                 └────── pause ───────────┘
//! ```
//!
//! Invariants: nothing is retried after the first chunk; a call ends at its deadline on both sides; the reader's pace limits the
//! producer, and no other call.

mod accept;
mod balance;
mod reply;

pub use accept::PeerDoor;
pub(crate) use reply::Replying;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kontrol_core::{backoff, budget::Budget, code::Code, id::WidgetId};
use kontrol_proto::v1;
use tokio::time::{sleep_until, timeout_at};

use crate::{
    clock,
    config::{Config, Endpoint},
    link::Frame,
    service::{Call, Error, ReplyStream, Status},
    shared::Shared,
};
use balance::Replica;

/// The client of the other sidecars. Shared by `Arc`.
#[derive(Debug)]
pub struct Peers {
    shared: Arc<Shared>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    replicas: HashMap<String, Arc<Replica>>,
    budget: Budget,
    budget_percent: u32,
}

impl Peers {
    /// A client without links; they are made when they are needed.
    pub fn new(shared: Arc<Shared>) -> Arc<Self> {
        let budget = Budget::new(0, shared.origin.now());
        let state = Mutex::new(State { replicas: HashMap::new(), budget, budget_percent: 0 });
        Arc::new(Self { shared, state })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls a method and waits for the first chunk of its reply, or for the error that came instead.
    pub async fn call(self: &Arc<Self>, call: Call) -> Result<ReplyStream, Error> {
        let stats = &self.shared.stats;
        stats.calls_out.inc();
        let result = self.attempts(call).await;
        if result.is_err() {
            stats.calls_out_errors.inc();
        }
        result
    }

    async fn attempts(self: &Arc<Self>, call: Call) -> Result<ReplyStream, Error> {
        let config = self.shared.config();
        let (target, _) = self.target(&config, &call.target)?;
        let deadline = call.deadline.unwrap_or_else(|| clock::now() + config.resilience.timeout);
        let mut tried: Vec<String> = Vec::new();
        self.begin(config.resilience.retry_budget_percent);
        let frame = v1::LinkCall {
            target: target.clone(),
            method: call.method,
            headers: call.headers,
            datacontenttype: call.datacontenttype,
            data: call.data,
            deadline_ms: 0,
            streamed: call.streamed,
            credits: reply::CREDITS,
        };
        let mut frame = Frame::Call(frame);
        for retry in 0.. {
            let error = match self.pick(&target, &tried) {
                Ok(replica) => {
                    tried.push(replica.instance.clone());
                    let attempt = replica.call(&self.shared, &mut frame, deadline);
                    match timeout_at(deadline, attempt).await.unwrap_or_else(|_| Err(expired(&target))) {
                        Ok(reply) => return Ok(ReplyStream { source: reply }),
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            let again = matches!(error.status, Status::Unavailable | Status::ResourceExhausted)
                && !matches!(error.code, Code::RequestTooLarge | Code::BreakerOpen)
                && retry < config.resilience.max_retries
                && !tried.is_empty();
            let pause = backoff::pause(&config.resilience.backoff, retry, jitter());
            let at = clock::now() + pause;
            if !again || at >= deadline || !self.lock().budget.retry(self.shared.origin.now()) {
                return Err(error);
            }
            self.shared.stats.call_retries.inc();
            sleep_until(at).await;
        }
        Err(expired(&target))
    }

    fn begin(&self, percent: u32) {
        let now = self.shared.origin.now();
        let mut state = self.lock();
        if state.budget_percent != percent {
            state.budget = Budget::new(percent, now);
            state.budget_percent = percent;
        }
        state.budget.call();
    }

    /// The declared target of an address, with its replicas.
    fn target<'a>(&self, config: &'a Config, address: &str) -> Result<(String, &'a [Endpoint]), Error> {
        if config.version == 0 {
            let message = format!("the sidecar of {} has no configuration yet", self.shared.subject);
            return Err(Error::new(Code::NotConfigured, address, message));
        }
        let target = WidgetId::resolve(address, &self.shared.instance.widget)
            .map_err(|error| Error::new(Code::InvalidTarget, address, error.to_string()))?
            .to_string();
        if let Some(endpoints) = config.targets.get(&target) {
            Ok((target, endpoints))
        } else {
            let message = format!("{} does not declare {target} under calls", self.shared.widget);
            Err(Error::new(Code::TargetNotDeclared, target, message))
        }
    }

    /// The least loaded ready replica; where there is a choice one that was not tried yet and has not just failed, and among equals the one
    /// that was called longest ago.
    fn pick(&self, target: &str, tried: &[String]) -> Result<Arc<Replica>, Error> {
        let config = self.shared.peek();
        let endpoints = config.targets.get(target).map_or(&[][..], Vec::as_slice);
        let now = self.shared.origin.now();
        let mut state = self.lock();
        let mut best: Option<(_, Arc<Replica>)> = None;
        let mut refused: Option<(String, std::time::Duration)> = None;
        for endpoint in endpoints.iter().filter(|endpoint| endpoint.ready) {
            let replica = state.replica(endpoint, &config, &self.shared);
            if let Err(after) = replica.allowed(now) {
                if refused.as_ref().is_none_or(|(_, least)| after < *least) {
                    refused = Some((endpoint.instance.clone(), after));
                }
                continue;
            }
            let rank = (
                tried.contains(&endpoint.instance),
                replica.is_suspect(now),
                replica.in_flight(),
                replica.last_call(),
            );
            if best.as_ref().is_none_or(|(least, _)| rank < *least) {
                best = Some((rank, replica));
            }
        }
        if let Some((_, replica)) = best {
            replica.chosen(self.shared.next_id());
            return Ok(replica);
        }
        Err(match refused {
            Some((instance, after)) => {
                let message = format!("the circuit breaker of {instance} is open after repeated failures");
                Error::new(Code::BreakerOpen, target, message).retry_after(after)
            }
            None if endpoints.is_empty() => {
                Error::new(Code::NoReadyReplica, target, format!("{target} has no replica"))
            }
            None => {
                let message = format!("none of the {} replicas of {target} is ready", endpoints.len());
                Error::new(Code::NoReadyReplica, target, message)
            }
        })
    }

    /// Lets go of replicas that are no longer targets, for as long as it is polled.
    pub async fn run(self: Arc<Self>) {
        let mut changes = self.shared.changes();
        let mut identity = self.shared.identity.clone();
        loop {
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                // Links made with the old certificate end with it; calls from now on take new ones.
                () = identity.renewed() => self.lock().replicas.values().for_each(|replica| replica.renew()),
            }
            let config = self.shared.config();
            let wanted = |instance: &str, address: &str| {
                config
                    .targets
                    .values()
                    .flatten()
                    .any(|endpoint| endpoint.instance == instance && endpoint.address == address)
            };
            let mut state = self.lock();
            state.replicas.retain(|instance, replica| wanted(instance, &replica.address));
            for endpoint in config.targets.values().flatten() {
                if let Some(replica) = state.replicas.get(&endpoint.instance) {
                    replica.ready(endpoint.ready);
                }
            }
        }
    }

    /// The state of the replicas of every target that a configuration has, for people and signals.
    pub fn targets(&self, config: &Config) -> Vec<v1::TargetState> {
        let now = self.shared.origin.now();
        let mut state = self.lock();
        let mut targets: Vec<_> = config
            .targets
            .iter()
            .map(|(target, endpoints)| v1::TargetState {
                target: target.clone(),
                ready: u32::try_from(endpoints.iter().filter(|endpoint| endpoint.ready).count())
                    .unwrap_or(u32::MAX),
                endpoints: endpoints
                    .iter()
                    .map(|endpoint| state.replica(endpoint, config, &self.shared).state(endpoint.ready, now))
                    .collect(),
            })
            .collect();
        targets.sort_by(|a, b| a.target.cmp(&b.target));
        targets
    }
}

fn expired(target: &str) -> Error {
    Error::new(Code::DeadlineExceeded, target, format!("{target} did not answer before the deadline"))
}

/// A random number from 0 to 1.
fn jitter() -> f64 {
    let (bits, _, _, _) = uuid::Uuid::new_v4().as_fields();
    f64::from(bits) / f64::from(u32::MAX)
}
