//! All objects, and the history of their changes. No I/O: a request and the time in, an answer out.

use std::{collections::BTreeMap, sync::Arc};

use http::{Method, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    failure::Failure,
    request::{Request, Target, places},
    resource::{Resource, built_in},
    review::{Denied, Rules},
    watch::Watch,
};

mod admit;
mod collect;
mod delete;
mod read;
mod write;

pub(crate) use read::partial;

/// `pods`, `widgets.kontrol.dev` · namespace · name.
pub(crate) type Key = (Arc<str>, String, String);

/// One write.
#[derive(Clone)]
pub(crate) struct Change {
    pub(crate) version: u64,
    pub(crate) key: Key,
    pub(crate) before: Option<Arc<Value>>,
    /// `None`: it is gone.
    pub(crate) after: Option<Arc<Value>>,
    /// The last state, with the version of its removal.
    pub(crate) last: Arc<Value>,
}

/// What a call is answered with.
pub(crate) enum Answer {
    Json(StatusCode, Value),
    Text(StatusCode, String),
    Watch(Box<Watch>),
}

/// The cluster.
pub(crate) struct State {
    resources: BTreeMap<(String, String), Arc<Resource>>,
    pub(crate) objects: BTreeMap<Key, Arc<Value>>,
    pub(crate) log: Vec<Change>,
    pub(crate) version: u64,
    pub(crate) compacted: u64,
    pages: BTreeMap<u64, (u64, Vec<Arc<Value>>)>,
    ids: u64,
    /// Texts of `pods/log`, by namespace/pod/container.
    pub(crate) logs: BTreeMap<String, String>,
    /// Bearer tokens and whose they are.
    pub(crate) tokens: BTreeMap<String, crate::review::Token>,
    /// What a user may do; a user without an entry may do everything.
    pub(crate) rules: BTreeMap<String, Rules>,
    /// What was taken from a user.
    pub(crate) denied: BTreeMap<String, Vec<Denied>>,
    pub(crate) validator: kube_cel::Validator,
    /// Whether what lost its owner, or its namespace, is removed with each write.
    pub(crate) collecting: bool,
}

impl State {
    pub(crate) fn new(now: Timestamp) -> Self {
        let resources = built_in()
            .into_iter()
            .map(|resource| ((resource.group.clone(), resource.plural.clone()), Arc::new(resource)));
        let mut state = Self {
            resources: resources.collect(),
            objects: BTreeMap::new(),
            log: Vec::new(),
            version: 100,
            compacted: 0,
            pages: BTreeMap::new(),
            ids: 0,
            logs: BTreeMap::new(),
            tokens: BTreeMap::new(),
            rules: BTreeMap::new(),
            denied: BTreeMap::new(),
            validator: kube_cel::Validator::new(),
            collecting: true,
        };
        for name in ["default", "kube-system", "kube-node-lease", "kontrol-system"] {
            let made = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            drop(state.put(made, now));
        }
        state
    }

    /// The same, to go on by itself.
    pub(crate) fn fork(&self) -> Self {
        Self {
            resources: self.resources.clone(),
            objects: self.objects.clone(),
            log: self.log.clone(),
            version: self.version,
            compacted: self.compacted,
            pages: self.pages.clone(),
            ids: self.ids,
            logs: self.logs.clone(),
            tokens: self.tokens.clone(),
            rules: self.rules.clone(),
            denied: self.denied.clone(),
            validator: kube_cel::Validator::new(),
            collecting: self.collecting,
        }
    }

    /// Creates an object as an administrator.
    pub(crate) fn put(&mut self, object: Value, now: Timestamp) -> Result<Value, Failure> {
        let api_version = object["apiVersion"].as_str().unwrap_or_default();
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        let kind = object["kind"].as_str().unwrap_or_default();
        let resource = self
            .resources
            .values()
            .find(|resource| resource.group == group && resource.version == version && resource.kind == kind)
            .cloned()
            .ok_or_else(Failure::no_such_path)?;
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default").to_owned();
        let namespace = if resource.namespaced { namespace } else { String::new() };
        let target = Target { resource, namespace, name: None, subresource: None };
        self.create(&target, object, "admin", false, now)
    }

    /// Answers one request.
    pub(crate) fn handle(&mut self, request: &Request, now: Timestamp) -> Result<Answer, Failure> {
        let Some(target) = self.target(request)? else { return self.discover(request) };
        self.authorize(&target, request)?;
        let answer = self.dispatch(&target, request, now)?;
        if self.collecting && request.method != Method::GET {
            self.collect(now);
        }
        Ok(answer)
    }

    fn dispatch(&mut self, target: &Target, request: &Request, now: Timestamp) -> Result<Answer, Failure> {
        let (made, ok) = (StatusCode::CREATED, StatusCode::OK);
        if let Some(answer) = self.review(target, request, now) {
            return answer.map(|value| Answer::Json(made, value));
        }
        match (&request.method, target.name.as_deref(), target.sub()) {
            (&Method::GET, _, "") if request.flag("watch") => self.watch(target, request),
            (&Method::GET, None, _) => self.list(target, request).map(|value| Answer::Json(ok, value)),
            (&Method::GET, Some(name), "log") => self.log(target, name, request),
            (&Method::GET, Some(name), _) => {
                self.get(target, name, request).map(|value| Answer::Json(ok, value))
            }
            (&Method::POST, Some(name), "eviction") => {
                self.evict(target, name, request, now).map(|value| Answer::Json(made, value))
            }
            (&Method::POST, None, "") => self
                .create(target, request.json()?, &request.manager(), request.dry(), now)
                .map(|value| Answer::Json(made, value)),
            (&Method::PUT, Some(name), _) => {
                self.replace(target, name, request, now).map(|value| Answer::Json(ok, value))
            }
            (&Method::PATCH, Some(name), _) => {
                self.patch(target, name, request, now).map(|(code, value)| Answer::Json(code, value))
            }
            (&Method::DELETE, Some(name), "") => {
                self.delete(target, name, request, now).map(|value| Answer::Json(ok, value))
            }
            (&Method::DELETE, None, "") => {
                self.delete_all(target, request, now).map(|value| Answer::Json(ok, value))
            }
            _ => Err(Failure::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "MethodNotAllowed",
                "the server does not allow this method on the requested resource",
            )),
        }
    }

    /// The resource that a path names; `None` for discovery and health.
    pub(crate) fn target(&self, request: &Request) -> Result<Option<Target>, Failure> {
        let (group, version, rest) = match request.path.as_slice() {
            [api, version, rest @ ..] if api == "api" && !rest.is_empty() => ("", version, rest),
            [apis, group, version, rest @ ..] if apis == "apis" && !rest.is_empty() => {
                (group.as_str(), version, rest)
            }
            _ => return Ok(None),
        };
        let (namespace, plural, name, subresource) = places(rest).ok_or_else(Failure::no_such_path)?;
        let resource = self
            .resource(group, plural)
            .filter(|resource| &resource.version == version)
            .or_else(|| crate::review::virtual_resource(group, version, plural))
            .ok_or_else(Failure::no_such_path)?;
        let served = match subresource {
            None => true,
            Some("status") => resource.status,
            Some("scale") => resource.scale.is_some(),
            Some("log" | "eviction") => resource.plural == "pods",
            Some("finalize") => resource.plural == "namespaces",
            Some(_) => false,
        };
        if !served || (namespace.is_empty() && resource.namespaced && name.is_some()) {
            return Err(Failure::no_such_path());
        }
        Ok(Some(Target {
            resource,
            namespace: if plural == "namespaces" { String::new() } else { namespace.to_owned() },
            name: name.map(str::to_owned),
            subresource: subresource.map(str::to_owned),
        }))
    }

    pub(crate) fn resource(&self, group: &str, plural: &str) -> Option<Arc<Resource>> {
        self.resources.get(&(group.to_owned(), plural.to_owned())).cloned()
    }

    pub(crate) fn resources(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.values()
    }

    /// Keeps the kinds in step with the definitions.
    pub(crate) fn define(&mut self, definition: &Value, gone: bool) {
        let Some(resource) = Resource::custom(definition) else { return };
        let key = (resource.group.clone(), resource.plural.clone());
        if gone {
            self.resources.remove(&key);
        } else {
            self.resources.insert(key, Arc::new(resource));
        }
    }

    pub(crate) fn key(resource: &Resource, namespace: &str, name: &str) -> Key {
        (resource.id().into(), namespace.to_owned(), name.to_owned())
    }

    /// All objects of a resource, in one namespace where it is given.
    pub(crate) fn of(&self, id: &str, namespace: &str) -> impl Iterator<Item = (&Key, &Arc<Value>)> {
        let from: Key = (id.into(), namespace.to_owned(), String::new());
        let (id, all, namespace) = (id.to_owned(), namespace.is_empty(), namespace.to_owned());
        self.objects.range(from..).take_while(move |(key, _)| *key.0 == *id && (all || key.1 == namespace))
    }

    /// A new id, the same in each run of the same calls.
    pub(crate) fn id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    pub(crate) fn uid(&mut self) -> String {
        let count = u128::from(self.id());
        uuid::Builder::from_custom_bytes(
            (0x6b6f_6e74_0000_8000_8000_0000_0000_0000_u128 + count).to_be_bytes(),
        )
        .into_uuid()
        .to_string()
    }

    /// Writes an object's next state, or its removal.
    pub(crate) fn record(&mut self, key: &Key, object: Value, gone: bool) -> Arc<Value> {
        self.version += 1;
        let mut object = object;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        if &*key.0 == "customresourcedefinitions.apiextensions.k8s.io" {
            self.define(&object, gone);
        }
        let object = Arc::new(object);
        let before = if gone {
            self.objects.remove(key)
        } else {
            self.objects.insert(key.clone(), Arc::clone(&object))
        };
        self.log.push(Change {
            version: self.version,
            key: key.clone(),
            before,
            after: (!gone).then(|| Arc::clone(&object)),
            last: Arc::clone(&object),
        });
        object
    }

    /// The objects of a resource as they were at a version.
    pub(crate) fn at(&self, id: &str, namespace: &str, version: u64) -> Vec<Arc<Value>> {
        if version >= self.version {
            return self.of(id, namespace).map(|(_, object)| Arc::clone(object)).collect();
        }
        let mut then: BTreeMap<&Key, Arc<Value>> = BTreeMap::new();
        for change in self.log.iter().take_while(|change| change.version <= version) {
            if &*change.key.0 != id || !(namespace.is_empty() || change.key.1 == namespace) {
                continue;
            }
            match &change.after {
                Some(object) => drop(then.insert(&change.key, Arc::clone(object))),
                None => drop(then.remove(&change.key)),
            }
        }
        then.into_values().collect()
    }

    /// Forgets the history: a watch from an older version is told `410 Gone`.
    pub(crate) fn compact(&mut self) {
        self.compacted = self.version;
        self.pages.clear();
    }
}
