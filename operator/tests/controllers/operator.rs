//! The operator's state, driven as its world drives it, at the speed of a test.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use kontrol_core::time::Timestamp;
use kontrol_e2e_apiserver::{ApiServer, Following, Session};
use kontrol_operator::kubernetes::{
    Options,
    object::Owned,
    request::{Outcome, Request},
    sources,
    state::{Effect, Input, State},
    store::{Seen, Source},
};
use serde_json::Value;

/// Who the operator is to the API server.
pub(crate) const USER: &str = "system:serviceaccount:kontrol-system:kontrol-operator";
/// The pause before a broken watch is opened again.
const PAUSE: Duration = Duration::from_millis(100);

/// One process of the operator, which leads.
pub(crate) struct Operator {
    pub(crate) session: Session,
    pub(crate) state: State,
    /// What the API server did not do, for a test that failed.
    pub(crate) refused: Vec<String>,
    watches: Vec<Watching>,
}

struct Watching {
    source: Source,
    version: Option<u64>,
    following: Option<Following>,
    not_before: Timestamp,
}

impl Operator {
    pub(crate) fn start(server: &ApiServer, now: Timestamp) -> Self {
        let options = Arc::new(Options::default());
        let sources = sources(&options);
        let mut state = State::new(options, sources.clone());
        state.take(Input::Leads(true), now);
        let watching =
            |source| Watching { source, version: None, following: None, not_before: Timestamp::ZERO };
        Self {
            session: server.session(USER),
            state,
            refused: Vec::new(),
            watches: sources.into_iter().map(watching).collect(),
        }
    }

    /// Hears what there is to hear, and does what is to be done. `false`: nothing happened.
    pub(crate) fn round(&mut self, now: Timestamp) -> bool {
        let mut heard = false;
        for watching in &mut self.watches {
            for seen in watching.round(&self.session, now) {
                heard |= !matches!(seen, Seen::Alive);
                self.state.take(Input::Watch(watching.source.clone(), seen), now);
            }
        }
        let effects = self.state.step(now);
        let busy = heard || !effects.is_empty();
        for effect in effects {
            #[allow(irrefutable_let_patterns, reason = "there may be other effects than requests")]
            if let Effect::Ask(ticket, request) = effect {
                let outcome = match self.session.ask(request.to_http().unwrap()) {
                    Some((code, after, body)) => Outcome::of(code, after, &body),
                    None => Outcome::Failed("the connection was lost".to_owned()),
                };
                if !outcome.is_done() {
                    let Request { verb, kind, name, .. } = &request;
                    self.refused.push(format!("{verb:?} {kind:?} {name}: {outcome:?}"));
                }
                self.state.take(Input::Answer(ticket, outcome), now);
            }
        }
        busy
    }

    /// When it goes on by itself.
    pub(crate) fn wake(&self) -> Option<Timestamp> {
        let watches = self.watches.iter().filter(|watching| watching.following.is_none());
        self.state.wake().into_iter().chain(watches.map(|watching| watching.not_before)).min()
    }
}

impl Watching {
    fn request(&self, query: &str) -> http::Request<Vec<u8>> {
        let path = self.source.kind.path(self.source.namespace.as_deref());
        let label = match self.source.label {
            "" => String::new(),
            label => format!("&labelSelector={}", label.replace('/', "%2F")),
        };
        http::Request::builder().uri(format!("{path}?{query}{label}")).body(Vec::new()).unwrap()
    }

    fn round(&mut self, session: &Session, now: Timestamp) -> Vec<Seen> {
        if self.following.is_none() {
            if now < self.not_before {
                return Vec::new();
            }
            let opened = self.open(session);
            if self.following.is_none() {
                self.not_before = now.plus(PAUSE);
            }
            return opened.unwrap_or_else(|why| vec![Seen::Broken(why)]);
        }
        let Some(lines) = self.following.as_mut().and_then(Following::lines) else {
            self.following = None;
            return Vec::new();
        };
        lines.iter().filter_map(|line| self.hear(line)).collect()
    }

    fn open(&mut self, session: &Session) -> Result<Vec<Seen>, String> {
        let lost = || "the connection was lost".to_owned();
        let mut seen = Vec::new();
        if self.version.is_none() {
            let (code, _, body) = session.ask(self.request("limit=500")).ok_or_else(lost)?;
            let found: Value = serde_json::from_slice(&body).unwrap();
            if code != 200 {
                return Err(found["message"].to_string());
            }
            let mut keys = BTreeSet::new();
            for item in found["items"].as_array().unwrap() {
                let text = item.to_string();
                keys.insert(Owned::read(&text).unwrap().0);
                seen.push(Seen::Is(text));
            }
            let version = found["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
            seen.push(Seen::Listed { version, keys });
            self.version = Some(version);
        }
        let version = self.version.unwrap_or_default();
        let query =
            format!("watch=true&allowWatchBookmarks=true&timeoutSeconds=290&resourceVersion={version}");
        match session.follow(self.request(&query)) {
            Ok(following) => {
                self.following = Some(following);
                seen.push(Seen::Alive);
            }
            Err(answer) => {
                let why = answer.map_or_else(lost, |(code, _, _)| format!("HTTP {code}"));
                seen.push(Seen::Broken(why));
            }
        }
        Ok(seen)
    }

    fn hear(&mut self, line: &str) -> Option<Seen> {
        let event: Value = serde_json::from_str(line).unwrap();
        let text = event["object"].to_string();
        let seen = match event["type"].as_str().unwrap() {
            "ADDED" | "MODIFIED" => Seen::Is(text.clone()),
            "DELETED" => Seen::Removed(text.clone()),
            "BOOKMARK" => Seen::Alive,
            _ => {
                self.following = None;
                self.version = None;
                return None;
            }
        };
        if let Ok((_, owned)) = Owned::read(&text) {
            self.version = self.version.max(Some(owned.meta.version));
        }
        Some(seen)
    }
}
