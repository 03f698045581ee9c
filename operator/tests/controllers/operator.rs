//! The operator's state, driven as its world drives it, at the speed of a test.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use kontrol_core::time::Timestamp;
use kontrol_e2e_apiserver::{Answered, ApiServer, Following, Kubelet, Session};
use kontrol_operator::{
    control::{Event, Session as Control, SessionId, Upward},
    kubernetes::{
        Options,
        definitions::Lacks,
        kind::Kind,
        request::{Outcome, Request},
        rights::{Asked, Lacking},
        sources,
        state::{Effect, Input, State},
        store::{Seen, Source},
        watch::{Course, End, Next, PROOF},
    },
};
use kontrol_proto::v1::{Health, Hello, Signals};

/// Who the operator is to the API server.
pub(crate) const USER: &str = "system:serviceaccount:kontrol-system:kontrol-operator";
/// After how long the API server ends a watch.
const LIFE: Duration = Duration::from_secs(290);

/// One process of the operator, which leads.
pub(crate) struct Operator {
    pub(crate) session: Session,
    pub(crate) state: State,
    /// What the API server did not do, for a test that failed.
    pub(crate) refused: Vec<String>,
    /// The rights that it was refused.
    pub(crate) lacking: Lacking,
    /// What it asks for, where a test wants to see it.
    pub(crate) asked: Option<Vec<Request>>,
    watches: Vec<Watching>,
    /// The sessions of sidecars, by the uid of their pod.
    sessions: BTreeMap<String, Sidecar>,
    opened: u64,
}

/// A sidecar on its session.
struct Sidecar {
    id: SessionId,
    subject: String,
    node: String,
    signals: Signals,
    /// When it said something last.
    said: Timestamp,
}

/// A watch as the operator has it, without its requests.
struct Watching {
    source: Source,
    course: Course,
    following: Option<Following>,
    opened: Timestamp,
    heard: Timestamp,
    not_before: Timestamp,
}

impl Operator {
    pub(crate) fn start(server: &ApiServer, options: Arc<Options>, now: Timestamp) -> Self {
        let sources = sources(&options);
        let mut state = State::new(options, sources.clone());
        state.take(Input::Leads(true), now);
        let watching = |source: Source| Watching {
            course: Course::new(source.clone(), String::new()),
            source,
            following: None,
            opened: now,
            heard: now,
            not_before: now,
        };
        Self {
            session: server.session(USER),
            state,
            refused: Vec::new(),
            lacking: Lacking::default(),
            asked: None,
            watches: sources.into_iter().map(watching).collect(),
            sessions: BTreeMap::new(),
            opened: 0,
        }
    }

    /// The sidecar of each pod that runs opens its session, and says each second that its widget is ready; that of a pod that is gone, or of
    /// a node that is lost, is silent. `false`: there is nothing to say.
    pub(crate) fn sidecars(&mut self, server: &ApiServer, kubelet: &Kubelet, now: Timestamp) -> bool {
        let pods = server.list("pods", "");
        let mut events = Vec::new();
        let there: BTreeSet<&str> = pods.iter().filter_map(|pod| pod["metadata"]["uid"].as_str()).collect();
        self.sessions.retain(|uid, Sidecar { id, subject, .. }| {
            let stays = there.contains(uid.as_str());
            if !stays {
                events.push(Event::Closed { id: *id, subject: subject.clone() });
            }
            stays
        });
        for pod in &pods {
            let text = |field: &str| pod["metadata"][field].as_str().unwrap_or_default().to_owned();
            let (namespace, name, uid) = (text("namespace"), text("name"), text("uid"));
            let runs = pod["status"]["containerStatuses"][0]["state"]["running"].is_object();
            let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
            if !runs || kubelet.is_lost(node) || self.sessions.contains_key(&uid) {
                continue;
            }
            let Some(subject) = self.state.subject(&namespace, &name, &uid) else { continue };
            let incarnation = pod["metadata"]["labels"]["kontrol.dev/incarnation"].as_str();
            let incarnation = incarnation.and_then(|text| text.parse().ok()).unwrap_or_default();
            self.opened += 1;
            let (id, session) = Control::unheard(self.opened);
            let hello = Hello { subject: subject.clone(), pod_uid: uid.clone(), ..Hello::default() };
            events.push(Event::Opened { id, hello, session });
            let signals = Signals { incarnation, health: Health::Ready.into(), ..Signals::default() };
            let sidecar = Sidecar { id, subject, node: node.to_owned(), signals, said: Timestamp::ZERO };
            self.sessions.insert(uid, sidecar);
        }
        for Sidecar { id, subject, node, signals, said } in self.sessions.values_mut() {
            if now.since(*said) >= Duration::from_secs(1) && !kubelet.is_lost(node) {
                *said = now;
                let message = Upward::Signals(signals.clone());
                events.push(Event::Said { id: *id, subject: subject.clone(), message });
            }
        }
        let is_news = !events.is_empty();
        for event in events {
            self.state.take(Input::Control(event), now);
        }
        is_news
    }

    /// Hears what there is to hear, and does what is to be done. `false`: nothing happened.
    pub(crate) fn round(&mut self, kubelet: &Kubelet, now: Timestamp) -> bool {
        let mut heard = false;
        for watching in &mut self.watches {
            for seen in watching.round(&self.session, &mut self.lacking, now) {
                heard |= !matches!(seen, Seen::Alive);
                self.state.take(Input::Watch(watching.source.clone(), seen), now);
            }
        }
        let effects = self.state.step(now);
        let busy = heard || !effects.is_empty();
        for effect in effects {
            match effect {
                Effect::Ask(ticket, request) => {
                    self.asked.iter_mut().for_each(|asked| asked.push(request.clone()));
                    let outcome = match self.session.ask(request.to_http().unwrap()) {
                        Some((code, after, body)) => Outcome::of(code, after, &body),
                        None => Outcome::Failed("the connection was lost".to_owned()),
                    };
                    drop(self.lacking.note(&Asked::of(&request), &outcome, now));
                    if !outcome.is_done() {
                        let Request { verb, kind, name, .. } = &request;
                        self.refused.push(format!("{verb:?} {kind:?} {name}: {outcome:?}"));
                    }
                    self.state.take(Input::Answer(ticket, outcome), now);
                }
                // Every kubelet listens, but for those that are lost.
                Effect::Knock(node, _) if !kubelet.is_lost(&node) => self.state.take(Input::Open(node), now),
                Effect::Knock(..) | Effect::Tell(..) | Effect::End(_) | Effect::Refused(_) => {}
            }
        }
        busy
    }

    /// Looks at the definitions of its kinds, as its world does every some minutes.
    pub(crate) fn look_at_definitions(&mut self, now: Timestamp) {
        let root = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        let read = |kind: Kind| {
            let uri = format!("{root}/{}.kontrol.dev", kind.plural());
            let (_, _, body) = self.session.ask(request(&uri)).unwrap();
            (kind, serde_json::from_slice(&body).unwrap())
        };
        let installed = Kind::OWN.into_iter().map(read).collect();
        self.state.take(Input::Definitions(Lacks::of(&installed)), now);
    }

    /// When it goes on by itself.
    pub(crate) fn wake(&self) -> Option<Timestamp> {
        self.state.wake().into_iter().chain(self.watches.iter().filter_map(Watching::wake)).min()
    }
}

impl Watching {
    fn round(&mut self, session: &Session, lacking: &mut Lacking, now: Timestamp) -> Vec<Seen> {
        let mut seen = Vec::new();
        while let Err(end) = self.go_on((session, &mut *lacking), now, &mut seen) {
            let lasted = self.following.take().is_some() && now >= self.opened.plus(PROOF);
            let (said, pause) = self.course.ended(&end, lasted);
            seen.extend(said);
            self.not_before = now.plus(pause);
        }
        seen
    }

    fn go_on(
        &mut self,
        (session, lacking): (&Session, &mut Lacking),
        now: Timestamp,
        seen: &mut Vec<Seen>,
    ) -> Result<(), End> {
        let Source { kind, namespace, .. } = self.source.clone();
        let mut note = |verb, answer: &Option<Answered>| {
            let outcome = match answer {
                Some((code, after, body)) => Outcome::of(*code, *after, body),
                None => Outcome::Failed(String::new()),
            };
            drop(lacking.note(&Asked::all(verb, kind, namespace.as_deref()), &outcome, now));
        };
        while self.following.is_none() {
            if now < self.not_before {
                return Ok(());
            }
            match self.course.next(LIFE) {
                Next::List(uri) => {
                    let answer = session.ask(request(&uri));
                    note("list", &answer);
                    let Some((200, _, body)) = answer else { return Err(ended(answer)) };
                    seen.extend(self.course.listed(&body)?);
                }
                Next::Follow(uri) => {
                    let following = session.follow(request(&uri)).map_err(|answer| {
                        note("watch", &answer);
                        ended(answer)
                    })?;
                    note("watch", &Some((200, None, Vec::new())));
                    self.following = Some(following);
                    self.course.opened();
                    (self.opened, self.heard) = (now, now);
                }
            }
        }
        let lines = self.following.as_mut().and_then(Following::lines).ok_or(End::Over)?;
        for line in lines {
            self.heard = now;
            seen.extend(self.course.line(line.as_bytes())?);
        }
        if self.proven().is_some_and(|at| at <= now) {
            seen.extend(self.course.works());
        }
        Ok(())
    }

    /// When it works if nothing more comes.
    fn proven(&self) -> Option<Timestamp> {
        let patience = self.course.patience()?;
        Some(self.heard.plus(patience).min(self.opened.plus(PROOF)))
    }

    fn wake(&self) -> Option<Timestamp> {
        if self.following.is_none() { Some(self.not_before) } else { self.proven() }
    }
}

fn request(uri: &str) -> http::Request<Vec<u8>> {
    http::Request::builder().uri(uri).body(Vec::new()).unwrap()
}

/// What an answer that is no good means; none: the connection was lost.
fn ended(answer: Option<Answered>) -> End {
    let Some((code, after, body)) = answer else { return End::failed("the connection was lost") };
    match Outcome::of(code, after, &body) {
        _ if code == 410 => End::Old,
        Outcome::Forbidden(message) => End::Refused(message),
        Outcome::Busy(after) => End::Failed("busy".to_owned(), Some(after)),
        other => End::failed(other.message()),
    }
}
