//! What the controller manager does: it removes what lost its owner, and empties namespaces.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Key, State};
use crate::request::Target;

impl State {
    /// Removes, until nothing is left to remove.
    pub(crate) fn collect(&mut self, now: Timestamp) {
        for _ in 0..64 {
            let before = self.version;
            self.namespaces(now);
            self.owners(now);
            if self.version == before {
                return;
            }
        }
    }

    fn path_of(&self, key: &Key) -> Option<Target> {
        let (plural, group) = key.0.split_once('.').unwrap_or((&*key.0, ""));
        let resource = self.resource(group, plural)?;
        Some(Target { resource, namespace: key.1.clone(), name: Some(key.2.clone()), subresource: None })
    }

    fn namespaces(&mut self, now: Timestamp) {
        let ending: Vec<_> = self
            .of("namespaces", "")
            .filter(|(_, namespace)| namespace["metadata"]["deletionTimestamp"].is_string())
            .map(|(key, object)| (key.clone(), Arc::clone(object)))
            .collect();
        for (key, namespace) in ending {
            let content: Vec<Key> = self.objects.keys().filter(|object| object.1 == key.2).cloned().collect();
            if content.is_empty() {
                if namespace["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty) {
                    self.record(&key, (*namespace).clone(), true);
                }
                continue;
            }
            for one in content {
                let marked = self
                    .objects
                    .get(&one)
                    .is_some_and(|object| object["metadata"]["deletionTimestamp"].is_string());
                if let Some(target) = self.path_of(&one).filter(|_| !marked) {
                    drop(self.remove(&target, &one.2, &json!({}), now));
                }
            }
        }
    }

    fn owners(&mut self, now: Timestamp) {
        let ids: BTreeMap<String, (Key, bool)> = self
            .objects
            .iter()
            .map(|(key, object)| {
                let finalizers = object["metadata"]["finalizers"].as_array().into_iter().flatten();
                let waits = object["metadata"]["deletionTimestamp"].is_string()
                    && finalizers.into_iter().any(|one| one == "foregroundDeletion");
                let uid = object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
                (uid, (key.clone(), waits))
            })
            .collect();
        let mut blocked: Vec<String> = Vec::new();
        for (key, object) in self.objects.clone() {
            let owners = object["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
            if owners.is_empty() {
                continue;
            }
            let found = |owner: &Value| {
                let (owner_key, waits) = ids.get(owner["uid"].as_str()?)?;
                (owner_key.1.is_empty() || owner_key.1 == key.1).then_some(*waits)
            };
            let solid = owners.iter().any(|owner| found(owner) == Some(false));
            let waiting: Vec<_> = owners.iter().filter(|owner| found(owner) == Some(true)).collect();
            for owner in &waiting {
                if owner["blockOwnerDeletion"] == true {
                    blocked.push(owner["uid"].as_str().unwrap_or_default().to_owned());
                }
            }
            if !solid
                && object["metadata"]["deletionTimestamp"].is_null()
                && let Some(target) = self.path_of(&key)
            {
                let policy = if waiting.is_empty() { "Background" } else { "Foreground" };
                let options =
                    json!({"propagationPolicy": policy, "preconditions": {"uid": object["metadata"]["uid"]}});
                drop(self.remove(&target, &key.2, &options, now));
            }
        }
        for (uid, (key, _)) in ids {
            let Some(object) = self.objects.get(&key).cloned() else { continue };
            if object["metadata"]["deletionTimestamp"].is_null() {
                continue;
            }
            let finalizers = object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
            if finalizers.contains(&"orphan".into()) {
                self.orphan(&uid);
            } else if !finalizers.contains(&"foregroundDeletion".into()) || blocked.contains(&uid) {
                continue;
            }
            let left: Vec<_> =
                finalizers.into_iter().filter(|one| one != "foregroundDeletion" && one != "orphan").collect();
            let gone = left.is_empty()
                && object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or_default() == 0;
            let mut object = (*object).clone();
            object["metadata"]["finalizers"] = left.into();
            self.record(&key, object, gone);
        }
    }

    fn orphan(&mut self, uid: &str) {
        for (key, object) in self.objects.clone() {
            let owners = object["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
            if owners.iter().any(|owner| owner["uid"] == uid) {
                let mut object = (*object).clone();
                let kept: Vec<_> = owners.into_iter().filter(|owner| owner["uid"] != uid).collect();
                object["metadata"]["ownerReferences"] = kept.into();
                self.record(&key, object, false);
            }
        }
    }
}

/// Whether labels satisfy a `LabelSelector`; one that is absent selects nothing.
pub(crate) fn label_selector(selector: &Value, labels: &Value) -> bool {
    let Some(selector) = selector.as_object() else { return false };
    let wanted = selector.get("matchLabels").and_then(Value::as_object);
    let expressions = selector.get("matchExpressions").and_then(Value::as_array);
    wanted.into_iter().flatten().all(|(key, value)| labels[key] == *value)
        && expressions.into_iter().flatten().all(|one| {
            let value = &labels[one["key"].as_str().unwrap_or_default()];
            let within = one["values"].as_array().is_some_and(|values| values.contains(value));
            match one["operator"].as_str() {
                Some("In") => within,
                Some("NotIn") => !within,
                Some("Exists") => !value.is_null(),
                Some("DoesNotExist") => value.is_null(),
                _ => false,
            }
        })
}
