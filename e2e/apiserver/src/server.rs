//! The server's handle: what a test does to the cluster behind the clients' backs, and the doors for clients.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

use crate::{
    clock::Clock,
    failure::Failure,
    request::Target,
    review::{Denied, Rules, Token},
    session::Session,
    state::State,
};

/// A cluster's API server. Clones are the same server.
#[derive(Clone)]
pub struct ApiServer {
    state: Arc<Mutex<State>>,
    clock: Clock,
    pulse: watch::Sender<u64>,
}

/// One write, for a test's eyes.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The version that it made.
    pub version: u64,
    /// `pods`, `widgets.kontrol.dev`.
    pub resource: String,
    /// Empty for objects of the cluster.
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// The state before; `None`: it was created.
    pub before: Option<Arc<Value>>,
    /// The state after; `None`: it was removed.
    pub after: Option<Arc<Value>>,
}

impl Default for ApiServer {
    fn default() -> Self {
        Self::new()
    }
}

impl ApiServer {
    /// A cluster with the built-in kinds, Kontrol's, and the namespaces `default`, `kube-system`, `kube-node-lease` and `kontrol-system`.
    /// Its clock starts at the wall clock's time and goes as tokio's does.
    pub fn new() -> Self {
        let server = Self::bare(Clock::from(Timestamp::now()));
        for definition in kontrol_crds::generated::definitions() {
            drop(server.put(definition));
        }
        server
    }

    /// A cluster that does not know Kontrol's kinds, with a clock of the test's own.
    pub fn bare(clock: Clock) -> Self {
        let state = State::new(clock.now());
        Self { state: Arc::new(Mutex::new(state)), clock, pulse: watch::Sender::new(0) }
    }

    /// A cluster of its own that begins as this one is, with its own clock. Far cheaper than a new one: what was compiled of the kinds'
    /// schemas is shared.
    #[must_use]
    pub fn fork(&self, clock: Clock) -> Self {
        let state = self.lock().fork();
        Self { state: Arc::new(Mutex::new(state)), clock, pulse: watch::Sender::new(0) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn wake(&self) {
        self.pulse.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Tells of every change.
    pub(crate) fn pulse(&self) -> watch::Receiver<u64> {
        self.pulse.subscribe()
    }

    /// The server's time.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A process that speaks to the server, as a user that may do everything until [`Self::rules`] or [`Self::deny`] say otherwise.
    pub fn session(&self, user: &str) -> Session {
        Session::new(self.clone(), user)
    }

    /// A client for an administrator, which meets no fault.
    pub fn client(&self) -> kube::Client {
        self.session("admin").plain_client()
    }

    /// Creates an object from its manifest.
    pub fn put(&self, object: Value) -> Result<Value, Failure> {
        let now = self.now();
        let made = self.lock().put(object, now);
        self.wake();
        made
    }

    /// The object as it is stored.
    pub fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        let key = (resource.into(), namespace.to_owned(), name.to_owned());
        self.lock().objects.get(&key).map(|object| (**object).clone())
    }

    /// All objects of a resource, by namespace and name; with an empty namespace those of all.
    pub fn list(&self, resource: &str, namespace: &str) -> Vec<Value> {
        self.lock().of(resource, namespace).map(|(_, object)| (**object).clone()).collect()
    }

    /// As [`Self::list`], without a copy of each.
    pub(crate) fn all(&self, resource: &str, namespace: &str) -> Vec<Arc<Value>> {
        self.lock().of(resource, namespace).map(|(_, object)| Arc::clone(object)).collect()
    }

    /// Changes an object in place, past all rules, as another component of the cluster would. `false`: there is none, or nothing changed.
    pub fn edit(&self, resource: &str, namespace: &str, name: &str, edit: impl FnOnce(&mut Value)) -> bool {
        let key = (resource.into(), namespace.to_owned(), name.to_owned());
        let mut state = self.lock();
        let Some(old) = state.objects.get(&key).cloned() else { return false };
        let mut new = (*old).clone();
        edit(&mut new);
        if new == *old {
            return false;
        }
        if new["spec"] != old["spec"] {
            let generation = old["metadata"]["generation"].as_i64().unwrap_or_default() + 1;
            new["metadata"]["generation"] = generation.into();
        }
        state.record(&key, new, false);
        drop(state);
        self.wake();
        true
    }

    /// Deletes an object as `kubectl delete` does: gracefully, and dependents in the background.
    pub fn delete(&self, resource: &str, namespace: &str, name: &str) -> Result<(), Failure> {
        self.delete_with(resource, namespace, name, &json!({}))
    }

    /// Deletes with `DeleteOptions`, as `{"gracePeriodSeconds": 0}`.
    pub fn delete_with(
        &self,
        resource: &str,
        namespace: &str,
        name: &str,
        options: &Value,
    ) -> Result<(), Failure> {
        let now = self.now();
        let (plural, group) = resource.split_once('.').unwrap_or((resource, ""));
        let mut state = self.lock();
        let resource = state.resource(group, plural).ok_or_else(Failure::no_such_path)?;
        let target = Target {
            resource,
            namespace: namespace.to_owned(),
            name: Some(name.to_owned()),
            subresource: None,
        };
        let removed = state.remove(&target, name, options, now).map(drop);
        if state.collecting {
            state.collect(now);
        }
        drop(state);
        self.wake();
        removed
    }

    /// The newest version.
    pub fn version(&self) -> u64 {
        self.lock().version
    }

    /// Every write since a version, oldest first.
    pub fn changes(&self, since: u64) -> Vec<Change> {
        let state = self.lock();
        let from = state.log.partition_point(|change| change.version <= since);
        let shown = |change: &crate::state::Change| Change {
            version: change.version,
            resource: change.key.0.to_string(),
            namespace: change.key.1.clone(),
            name: change.key.2.clone(),
            before: change.before.clone(),
            after: change.after.clone(),
        };
        state.log[from..].iter().map(shown).collect()
    }

    /// Forgets the history, as etcd's compaction does: whoever asks for older versions is told `410 Gone`.
    pub fn compact(&self) {
        self.lock().compact();
        self.wake();
    }

    /// Whether the garbage collector and the namespace controller act with each write (they do at first), or only by [`Self::collect`].
    pub fn set_collecting(&self, collecting: bool) {
        self.lock().collecting = collecting;
    }

    /// Removes what lost its owners, and empties namespaces that are being deleted.
    pub fn collect(&self) {
        let now = self.now();
        self.lock().collect(now);
        self.wake();
    }

    /// Lets a user do only what the rules allow.
    pub fn set_rules(&self, user: &str, rules: Rules) {
        self.lock().rules.insert(user.to_owned(), rules);
    }

    /// Takes a verb (`*`: all) on a resource (`pods`, `widgets.kontrol.dev/status`) from a user.
    pub fn deny(&self, user: &str, verb: &str, resource: &str) {
        let denied = Denied { verb: verb.to_owned(), resource: resource.to_owned() };
        self.lock().denied.entry(user.to_owned()).or_default().push(denied);
    }

    /// Gives back all that [`Self::deny`] took.
    pub fn allow_again(&self, user: &str) {
        self.lock().denied.remove(user);
    }

    /// Makes a bearer token good.
    pub fn mint(&self, token: &str, of: Token) {
        self.lock().tokens.insert(token.to_owned(), of);
    }

    /// Sets what `pods/log` answers.
    pub fn set_log(&self, namespace: &str, pod: &str, container: &str, text: &str) {
        self.lock().logs.insert(format!("{namespace}/{pod}/{container}"), text.to_owned());
    }

    /// Waits until the cluster is so, for at most `limit` of tokio's time. `false`: it never was.
    pub async fn until(&self, limit: Duration, mut so: impl FnMut(&Self) -> bool) -> bool {
        let mut pulse = self.pulse();
        let wait = async {
            loop {
                pulse.mark_unchanged();
                if so(self) {
                    return;
                }
                if pulse.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(limit, wait).await.is_ok()
    }

    /// Serves on a port of the loopback, as an administrator where a call bears no token. It ends with the handle.
    pub async fn listen(&self) -> std::io::Result<Listening> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let server = self.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let Ok((stream, _)) = accepted else { continue };
                        let server = server.clone();
                        connections.spawn(async move {
                            let session = server.session("admin");
                            let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                                let session = session.clone();
                                async move { session.serve(request.map(BodyExt::boxed_unsync)).await }
                            });
                            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                            drop(builder.serve_connection(TokioIo::new(stream), service).await);
                        });
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Ok(Listening { address, _tasks: tasks })
    }
}

/// A server behind a socket; it ends when this is dropped.
pub struct Listening {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Listening {
    /// `http://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The text of a kubeconfig whose only context is this server, with its default namespace.
    pub fn kubeconfig(&self, namespace: &str) -> String {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": self.url()}}],
            "users": [{"name": "test", "user": {}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": namespace}}],
        })
        .to_string()
    }
}
