//! Who asks, and what they may do: tokens, reviews, and rules by user.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use http::{Method, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    failure::Failure,
    request::{Request, Target},
    resource::Resource,
    state::State,
};

/// A minted token: whose it is, for whom, and until when.
#[derive(Clone, Debug)]
pub struct Token {
    /// `system:serviceaccount:<namespace>:<name>`.
    pub user: String,
    /// Whom it is meant for. Empty: the API server.
    pub audiences: Vec<String>,
    /// Pod name, pod uid and node name, as the review's extra tells them.
    pub pod: Option<(String, String, String)>,
    /// When it stops being good.
    pub expires: Timestamp,
}

/// What a user may do. Everything that no rule allows is forbidden. Clones share the knowledge of what was used.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    rules: Vec<Rule>,
    used: Arc<Mutex<BTreeSet<Right>>>,
}

/// A right, by the number of its rule: resource and verb.
type Right = (usize, String, String);

#[derive(Clone, Debug)]
struct Rule {
    groups: Vec<String>,
    resources: Vec<String>,
    verbs: Vec<String>,
    names: Vec<String>,
    /// Where it holds; `None`: everywhere.
    namespace: Option<String>,
}

impl Rules {
    /// Reads the `rules` of a `ClusterRole`, or of a `Role` of `namespace`.
    #[must_use]
    pub fn with(mut self, role: &Value, namespace: Option<&str>) -> Self {
        let texts = |value: &Value| -> Vec<String> {
            value
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|text| text.as_str().map(str::to_owned))
                .collect()
        };
        for rule in role["rules"].as_array().into_iter().flatten() {
            self.rules.push(Rule {
                groups: texts(&rule["apiGroups"]),
                resources: texts(&rule["resources"]),
                verbs: texts(&rule["verbs"]),
                names: texts(&rule["resourceNames"]),
                namespace: namespace.map(str::to_owned),
            });
        }
        self
    }

    /// Everything, everywhere.
    pub fn all() -> Self {
        let any = json!({"rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]});
        Self::default().with(&any, None)
    }

    /// Every triple of group, resource and verb that the rules name.
    pub fn each(&self) -> Vec<(String, String, String)> {
        let mut found = Vec::new();
        for rule in &self.rules {
            for group in &rule.groups {
                for resource in &rule.resources {
                    for verb in &rule.verbs {
                        found.push((group.clone(), resource.clone(), verb.clone()));
                    }
                }
            }
        }
        found
    }

    /// The rights that allowed no call so far, as `patch pods/status`, with the names that they are bound to.
    pub fn unused(&self) -> Vec<String> {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = Vec::new();
        for (number, rule) in self.rules.iter().enumerate() {
            for (resource, verb) in
                rule.resources.iter().flat_map(|one| rule.verbs.iter().map(move |verb| (one, verb)))
            {
                if used.contains(&(number, resource.clone(), verb.clone())) {
                    continue;
                }
                let group = rule.groups.first().filter(|group| !group.is_empty());
                let id = id(group.map_or("", String::as_str), resource);
                let names = if rule.names.is_empty() { String::new() } else { format!(" {:?}", rule.names) };
                let place = rule.namespace.as_deref().map(|own| format!(" in {own}")).unwrap_or_default();
                found.push(format!("{verb} {id}{names}{place}"));
            }
        }
        found
    }

    /// Whether a verb on `pods`, or `pods/eviction`, is allowed.
    fn allow(&self, group: &str, resource: &str, verb: &str, namespace: &str, name: &str) -> bool {
        let has = |list: &[String], one: &str| list.iter().any(|item| item == "*" || item == one);
        let allows = |rule: &Rule| {
            has(&rule.groups, group)
                && has(&rule.resources, resource)
                && has(&rule.verbs, verb)
                && (rule.names.is_empty() || rule.names.iter().any(|one| one == name))
                && rule.namespace.as_deref().is_none_or(|own| own == namespace)
        };
        let number = self.rules.iter().position(allows);
        if let Some(number) = number {
            let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
            used.insert((number, resource.to_owned(), verb.to_owned()));
        }
        number.is_some()
    }
}

/// `pods`, `widgets.kontrol.dev/status`.
fn id(group: &str, resource: &str) -> String {
    match (group, resource.split_once('/')) {
        ("", _) => resource.to_owned(),
        (group, Some((plural, sub))) => format!("{plural}.{group}/{sub}"),
        (group, None) => format!("{resource}.{group}"),
    }
}

/// What was taken away from a user, whatever the rules say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// `create`, `watch` and so on; `*` is every verb.
    pub verb: String,
    /// `pods`, `widgets.kontrol.dev/status`.
    pub resource: String,
}

/// Resources that hold no objects.
const REVIEWS: [(&str, &str, &str); 3] = [
    ("authentication.k8s.io", "TokenReview", "tokenreviews"),
    ("authorization.k8s.io", "SelfSubjectAccessReview", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "SubjectAccessReview", "subjectaccessreviews"),
];

pub(crate) fn virtual_resource(group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
    let (group, kind, plural) =
        REVIEWS.into_iter().find(|one| one.0 == group && one.2 == plural && version == "v1")?;
    Some(Arc::new(Resource {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
        short_names: Vec::new(),
        namespaced: false,
        status: false,
        scale: None,
        custom: None,
        typed: None,
        shape: Arc::new(json!({})),
    }))
}

impl State {
    fn allowed(&self, user: &str, group: &str, resource: &str, verb: &str, place: (&str, &str)) -> bool {
        let id = id(group, resource);
        let denied = self.denied.get(user).into_iter().flatten();
        if denied.into_iter().any(|one| (one.verb == "*" || one.verb == verb) && one.resource == id) {
            return false;
        }
        self.rules.get(user).is_none_or(|rules| rules.allow(group, resource, verb, place.0, place.1))
    }

    /// Refuses what the user may not do.
    pub(crate) fn authorize(&self, target: &Target, request: &Request) -> Result<(), Failure> {
        let verb = target.verb(request);
        let resource = match &target.subresource {
            Some(sub) => format!("{}/{sub}", target.resource.plural),
            None => target.resource.plural.clone(),
        };
        let group = &target.resource.group;
        // A list or a watch of one name counts as one of that name.
        let selected = request.text("fieldSelector").and_then(|text| text.strip_prefix("metadata.name="));
        let name = target.name.as_deref().or(selected).unwrap_or_default();
        let place = (target.namespace.as_str(), name);
        let applies = verb == "patch" && request.content_type == "application/apply-patch+yaml";
        let creates = applies && target.subresource.is_none() && self.find(target, name).is_err();
        for verb in [Some(verb), creates.then_some("create")].into_iter().flatten() {
            if self.allowed(&request.user, group, &resource, verb, place) {
                continue;
            }
            let id = if group.is_empty() {
                resource.clone()
            } else {
                format!("{}.{group}", target.resource.plural)
            };
            let id = if name.is_empty() { id } else { format!("{id} \"{name}\"") };
            let scope = if target.namespace.is_empty() {
                "at the cluster scope".to_owned()
            } else {
                format!("in the namespace \"{}\"", target.namespace)
            };
            let message = format!(
                "{id} is forbidden: User \"{}\" cannot {verb} resource \"{resource}\" in API group \"{group}\" {scope}",
                request.user
            );
            return Err(
                Failure::forbidden(message).with(json!({"name": name, "group": group, "kind": resource}))
            );
        }
        self.authorize_owners(target, request)
    }

    /// Refuses to block the removal of owners whose finalizers the user may not set, as `OwnerReferencesPermissionEnforcement` does.
    fn authorize_owners(&self, target: &Target, request: &Request) -> Result<(), Failure> {
        if !self.rules.contains_key(&request.user) || request.body.is_empty() {
            return Ok(());
        }
        let Ok(body) = request.json() else { return Ok(()) };
        for owner in body["metadata"]["ownerReferences"].as_array().into_iter().flatten() {
            let text = |field: &str| owner[field].as_str().unwrap_or_default();
            let group = text("apiVersion").rsplit_once('/').map_or("", |(group, _)| group);
            let plural = self.resources().find(|one| one.group == group && one.kind == text("kind"));
            let Some(plural) = plural.map(|one| one.plural.clone()) else { continue };
            let place = (target.namespace.as_str(), text("name"));
            let finalizers = format!("{plural}/finalizers");
            let blocks = owner["blockOwnerDeletion"] == true;
            if blocks && !self.allowed(&request.user, group, &finalizers, "update", place) {
                let why = "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on";
                let name = target.name.as_deref().unwrap_or_default();
                let message = format!("{} \"{name}\" is forbidden: {why}: , <nil>", target.resource.plural);
                return Err(Failure::forbidden(message));
            }
        }
        Ok(())
    }

    /// Whose a bearer token is.
    pub(crate) fn user_of(&self, token: &str, now: Timestamp) -> Result<String, Failure> {
        self.tokens
            .get(token)
            .filter(|token| token.expires > now)
            .map(|token| token.user.clone())
            .ok_or_else(|| Failure::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized"))
    }

    /// Answers a review.
    pub(crate) fn review(
        &self,
        target: &Target,
        request: &Request,
        now: Timestamp,
    ) -> Option<Result<Value, Failure>> {
        let kind = target.resource.kind.as_str();
        if !REVIEWS.iter().any(|one| one.1 == kind) {
            return None;
        }
        if request.method != Method::POST {
            return Some(Err(Failure::no_such_path()));
        }
        let mut review = match request.json() {
            Ok(review) => review,
            Err(failure) => return Some(Err(failure)),
        };
        if kind == "TokenReview" {
            review["status"] = self.token_review(&review["spec"], now);
        } else {
            let asked = &review["spec"]["resourceAttributes"];
            let text = |field: &str| asked[field].as_str().unwrap_or_default();
            let user = review["spec"]["user"].as_str().unwrap_or(&request.user);
            let resource = match text("subresource") {
                "" => text("resource").to_owned(),
                sub => format!("{}/{sub}", text("resource")),
            };
            let place = (text("namespace"), text("name"));
            let allowed = self.allowed(user, text("group"), &resource, text("verb"), place);
            review["status"] = json!({"allowed": allowed});
        }
        Some(Ok(review))
    }

    fn token_review(&self, spec: &Value, now: Timestamp) -> Value {
        let refuse = |why: &str| json!({"authenticated": false, "user": {}, "error": why});
        let Some(token) = spec["token"].as_str().and_then(|token| self.tokens.get(token)) else {
            return refuse("[invalid bearer token]");
        };
        if token.expires <= now {
            return refuse("[invalid bearer token, service account token has expired]");
        }
        let asked: Vec<&str> =
            spec["audiences"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let mut audiences = token.audiences.clone();
        if audiences.is_empty() {
            audiences.push("https://kubernetes.default.svc.cluster.local".to_owned());
        }
        if !asked.is_empty() {
            audiences.retain(|one| asked.contains(&one.as_str()));
        }
        if audiences.is_empty() {
            return refuse("[invalid bearer token, token audiences is invalid for the target audiences]");
        }
        let mut user =
            json!({"username": token.user, "groups": ["system:serviceaccounts", "system:authenticated"]});
        if let Some((pod, uid, node)) = &token.pod {
            // A token that is bound to a pod is good while that pod is there.
            let there = self.of("pods", "").any(|(_, object)| object["metadata"]["uid"] == **uid);
            if !there {
                return refuse("[invalid bearer token, service account token has been invalidated]");
            }
            user["extra"] = json!({
                "authentication.kubernetes.io/pod-name": [pod],
                "authentication.kubernetes.io/pod-uid": [uid],
                "authentication.kubernetes.io/node-name": [node],
            });
        }
        json!({"authenticated": true, "user": user, "audiences": audiences})
    }
}
