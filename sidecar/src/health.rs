//! The widget's health: its own reports or the answers to probes, folded with its silence; and the signals made of it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kontrol_core::{
    health::{Fold, Verdict, Word},
    limits, report,
    spec::HealthProbe,
};
use kontrol_proto::v1;
use tokio::{sync::Notify, time::sleep};

use crate::{
    service::{Report, WidgetEndpoint},
    shared::Shared,
};

/// See the module. Shared by `Arc`.
pub struct Health {
    shared: Arc<Shared>,
    endpoint: Arc<dyn WidgetEndpoint>,
    state: Mutex<State>,
    /// The widget gave a word.
    heard: Notify,
}

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Health").field("state", &self.lock()).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct State {
    fold: Fold,
    spoken: bool,
    message: String,
    load: HashMap<String, f64>,
}

/// What is seen of the widget now.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Its health; unspecified: nothing was said yet and it has a duty to.
    pub health: v1::Health,
    /// Whether it has been silent for too long; a late word of one that was never ready ends that.
    pub hung: bool,
    /// Why it is not ready.
    pub message: String,
    /// Its own numbers.
    pub load: HashMap<String, f64>,
}

impl Health {
    /// A widget of which nothing is known yet.
    pub fn new(shared: Arc<Shared>, endpoint: Arc<dyn WidgetEndpoint>) -> Arc<Self> {
        let fold = Fold::started(None, shared.origin.now());
        let state = Mutex::new(State { fold, spoken: false, message: String::new(), load: HashMap::new() });
        Arc::new(Self { shared, endpoint, state, heard: Notify::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the widget's word. It counts without a `health` too: a widget may speak without being obliged to.
    pub fn report(&self, report: Report) {
        let now = self.shared.origin.now();
        let mut state = self.lock();
        let before = state.fold.at(now);
        let word = report.health.unwrap_or(match before {
            Verdict::Ready => Word::Ready,
            _ => Word::NotReady,
        });
        let after = state.fold.word(word, now);
        let first = !std::mem::replace(&mut state.spoken, true);
        state.message = report.message;
        state.load = report.load;
        drop(state);
        self.heard.notify_one();
        if first || before != after {
            self.shared.alarm();
        } else {
            self.shared.touch();
        }
    }

    /// What is seen now.
    pub fn seen(&self) -> Seen {
        let mut state = self.lock();
        let verdict = state.fold.at(self.shared.origin.now());
        let health = match verdict {
            Verdict::Ready => v1::Health::Ready,
            Verdict::Failed => v1::Health::Failed,
            Verdict::Starting if !state.spoken => v1::Health::Unspecified,
            Verdict::Starting | Verdict::NotReady | Verdict::Hung => v1::Health::NotReady,
        };
        let hung = verdict == Verdict::Hung;
        Seen { health, hung, message: state.message.clone(), load: state.load.clone() }
    }

    /// Follows the widget from process to process, counts silence and probes, for as long as it is polled.
    pub async fn run(self: Arc<Self>) {
        let mut changes = self.shared.changes();
        let mut lives = self.shared.lives();
        loop {
            let policy = self.shared.config().health.clone();
            let watch = async {
                match &policy {
                    None => std::future::pending().await,
                    Some(policy) => match &policy.probe {
                        HealthProbe::Report => self.wait_for_silence().await,
                        HealthProbe::Http(path) => self.probe(path, policy.interval, policy.timeout).await,
                    },
                }
            };
            tokio::select! {
                changed = lives.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.restart();
                }
                changed = changes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    if self.shared.config().health == policy {
                        continue;
                    }
                    self.restart();
                }
                () = watch => {}
            }
        }
    }

    /// A new process, or a new rule: what was known is over.
    fn restart(&self) {
        let timeout = self.shared.config().health.as_ref().map(|policy| policy.timeout);
        let mut state = self.lock();
        state.fold = Fold::started(timeout, self.shared.origin.now());
        state.spoken = timeout.is_none();
        state.message.clear();
        state.load.clear();
        drop(state);
        self.shared.touch();
    }

    async fn wait_for_silence(&self) {
        loop {
            let now = self.shared.origin.now();
            let deadline = self.lock().fold.deadline();
            match deadline {
                None => self.heard.notified().await,
                Some(deadline) if deadline <= now => self.hung(),
                Some(deadline) => sleep(deadline.since(now)).await,
            }
        }
    }

    fn hung(&self) {
        let (verdict, is_final) = {
            let mut state = self.lock();
            (state.fold.at(self.shared.origin.now()), state.fold.is_final())
        };
        if verdict == Verdict::Hung && is_final {
            tracing::warn!(instance = self.shared.subject, code = %kontrol_core::code::Code::Hung, "the widget is hung");
        } else if verdict == Verdict::Hung {
            tracing::info!(instance = self.shared.subject, "the widget is silent and has not been ready yet");
        }
        self.shared.alarm();
    }

    async fn probe(&self, path: &str, interval: Duration, timeout: Duration) {
        loop {
            let address = self.shared.config().endpoint.clone();
            if let Some(address) = address {
                let asked = tokio::time::timeout(
                    timeout.min(interval.max(Duration::from_millis(500))),
                    self.endpoint.probe(&address, path),
                );
                match asked.await {
                    Ok(Ok(())) => self.word(Word::Ready, ""),
                    Ok(Err(message)) => self.word(Word::NotReady, &message),
                    Err(_) => {}
                }
            }
            let deadline = self.lock().fold.deadline();
            let now = self.shared.origin.now();
            if deadline.is_some_and(|deadline| deadline <= now) {
                self.hung();
            }
            let (is_final, starting) = {
                let state = self.lock();
                (state.fold.is_final(), !state.fold.was_ready())
            };
            if is_final {
                std::future::pending::<()>().await;
            }
            // A widget that is starting is asked more often: its readiness is waited for.
            sleep(if starting { interval.min(Duration::from_millis(50)) } else { interval }).await;
        }
    }

    fn word(&self, word: Word, message: &str) {
        let now = self.shared.origin.now();
        let mut state = self.lock();
        let before = state.fold.at(now);
        let after = state.fold.word(word, now);
        let first = !std::mem::replace(&mut state.spoken, true);
        report::cut(message, limits::REPORT_MESSAGE).clone_into(&mut state.message);
        drop(state);
        if first || before != after {
            self.shared.alarm();
        }
    }
}
