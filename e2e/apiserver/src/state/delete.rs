//! Delete, delete a collection, evict.

use std::sync::Arc;

use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::State;
use crate::{
    clock::seconds,
    failure::Failure,
    request::{Request, Target},
    selector::Selector,
};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

impl State {
    pub(super) fn delete(
        &mut self,
        target: &Target,
        name: &str,
        request: &Request,
        now: Timestamp,
    ) -> Result<Value, Failure> {
        let mut options = if request.body.is_empty() { json!({}) } else { request.json()? };
        if let Some(grace) = request.number("gracePeriodSeconds")? {
            options["gracePeriodSeconds"] = grace.into();
        }
        if let Some(policy) = request.text("propagationPolicy") {
            options["propagationPolicy"] = policy.into();
        }
        if !options["dryRun"].is_null() && options["dryRun"] != json!([]) {
            return self.find(target, name).map(|object| (*object).clone());
        }
        self.remove(target, name, &options, now)
    }

    /// Deletes an object, or marks it as being deleted.
    pub(crate) fn remove(
        &mut self,
        target: &Target,
        name: &str,
        options: &Value,
        now: Timestamp,
    ) -> Result<Value, Failure> {
        let resource = Arc::clone(&target.resource);
        let old = self.find(target, name)?;
        let wanted = &options["preconditions"];
        if let Some(uid) = wanted["uid"].as_str().filter(|uid| old["metadata"]["uid"] != *uid) {
            let why = format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                old["metadata"]["uid"].as_str().unwrap_or_default()
            );
            return Err(Failure::conflict(&resource.id(), name, &why));
        }
        if wanted["resourceVersion"]
            .as_str()
            .is_some_and(|version| old["metadata"]["resourceVersion"] != version)
        {
            let why = "the ResourceVersion in the precondition does not match the ResourceVersion in record. The object might have been modified";
            return Err(Failure::conflict(&resource.id(), name, why));
        }
        let mut object = (*old).clone();
        let own = if resource.plural == "pods" { pod_grace(&object) } else { 0 };
        let grace = if own == 0 { 0 } else { options["gracePeriodSeconds"].as_i64().unwrap_or(own).max(0) };
        let mut finalizers = object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
        let policy = match options["propagationPolicy"].as_str() {
            Some("Foreground") => Some(FOREGROUND),
            Some("Orphan") => Some(ORPHAN),
            _ => None,
        };
        if let Some(policy) = policy.filter(|policy| !finalizers.contains(&(*policy).into())) {
            finalizers.push(policy.into());
            object["metadata"]["finalizers"] = finalizers.clone().into();
        }
        let held = !finalizers.is_empty()
            || object["spec"]["finalizers"].as_array().is_some_and(|list| !list.is_empty());
        let key = Self::key(&resource, &target.namespace, name);
        if grace == 0 && !held {
            let gone = self.record(&key, object, true);
            if matches!(resource.plural.as_str(), "pods" | "services" | "serviceaccounts") {
                return Ok((*gone).clone());
            }
            return Ok(json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
                "details": {"name": name, "group": resource.group, "kind": resource.plural, "uid": gone["metadata"]["uid"]},
            }));
        }
        let marked = object["metadata"]["deletionTimestamp"].is_string();
        let shorter =
            object["metadata"]["deletionGracePeriodSeconds"].as_i64().is_some_and(|had| grace < had);
        if !marked || shorter {
            let end = now.checked_add(SignedDuration::from_secs(grace)).unwrap_or(now);
            object["metadata"]["deletionTimestamp"] = seconds(end).into();
            object["metadata"]["deletionGracePeriodSeconds"] = grace.into();
            let generation = object["metadata"]["generation"].as_i64().unwrap_or_default() + 1;
            object["metadata"]["generation"] = generation.into();
            if resource.plural == "namespaces" {
                object["status"]["phase"] = "Terminating".into();
            }
        }
        if object == *old {
            return Ok(object);
        }
        Ok((*self.record(&key, object, false)).clone())
    }

    pub(super) fn delete_all(
        &mut self,
        target: &Target,
        request: &Request,
        now: Timestamp,
    ) -> Result<Value, Failure> {
        let selector = Selector::parse(request.text("labelSelector"), request.text("fieldSelector"))?;
        let options = if request.body.is_empty() { json!({}) } else { request.json()? };
        let found: Vec<_> = self
            .of(&target.resource.id(), &target.namespace)
            .filter(|(_, object)| selector.matches(object))
            .map(|(key, object)| (key.clone(), Arc::clone(object)))
            .collect();
        for (key, _) in &found {
            let one = Target { namespace: key.1.clone(), name: Some(key.2.clone()), ..target.clone() };
            self.remove(&one, &key.2, &options, now)?;
        }
        let items: Vec<_> = found.iter().map(|(_, object)| (**object).clone()).collect();
        Ok(json!({
            "apiVersion": target.resource.api_version(), "kind": format!("{}List", target.resource.kind),
            "metadata": {"resourceVersion": self.version.to_string()}, "items": items,
        }))
    }

    pub(super) fn evict(
        &mut self,
        target: &Target,
        name: &str,
        request: &Request,
        now: Timestamp,
    ) -> Result<Value, Failure> {
        let pod = self.find(target, name)?;
        for (_, budget) in self.of("poddisruptionbudgets.policy", &target.namespace) {
            let matches =
                super::collect::label_selector(&budget["spec"]["selector"], &pod["metadata"]["labels"]);
            let allowed = self.disruptions_allowed(budget);
            if matches && allowed <= 0 && pod["status"]["phase"] == "Running" {
                let message = "Cannot evict pod as it would violate the pod's disruption budget.";
                return Err(Failure::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message)
                    .with(json!({"causes": [{"reason": "DisruptionBudget", "message": message}]})));
            }
        }
        let options = request.json()?["deleteOptions"].clone();
        let options = if options.is_object() { options } else { json!({}) };
        let mut marked = (*pod).clone();
        let condition = json!({
            "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting", "lastTransitionTime": seconds(now),
        });
        match marked["status"]["conditions"].as_array_mut() {
            Some(conditions) => conditions.push(condition),
            None => marked["status"]["conditions"] = json!([condition]),
        }
        let key = Self::key(&target.resource, &target.namespace, name);
        self.record(&key, marked, false);
        self.remove(target, name, &options, now)?;
        Ok(json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}))
    }

    /// How many more pods a budget lets go.
    fn disruptions_allowed(&self, budget: &Value) -> i64 {
        let namespace = budget["metadata"]["namespace"].as_str().unwrap_or_default();
        let mine: Vec<_> = self
            .of("pods", namespace)
            .map(|(_, pod)| pod)
            .filter(|pod| {
                super::collect::label_selector(&budget["spec"]["selector"], &pod["metadata"]["labels"])
            })
            .collect();
        let count = i64::try_from(mine.len()).unwrap_or_default();
        let ready = |pod: &&&Arc<Value>| {
            let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
            pod["metadata"]["deletionTimestamp"].is_null()
                && conditions.into_iter().any(|one| one["type"] == "Ready" && one["status"] == "True")
        };
        let healthy = i64::try_from(mine.iter().filter(ready).count()).unwrap_or_default();
        let share = |value: &Value| match value {
            Value::String(text) => {
                let percent = text.trim_end_matches('%').parse::<i64>().unwrap_or_default();
                (count * percent + 99) / 100
            }
            other => other.as_i64().unwrap_or_default(),
        };
        let spec = &budget["spec"];
        if spec["maxUnavailable"].is_null() {
            healthy - share(&spec["minAvailable"])
        } else {
            share(&spec["maxUnavailable"]) - (count - healthy)
        }
    }
}

/// How long a pod is given: nothing where no kubelet has it, or it has ended.
fn pod_grace(pod: &Value) -> i64 {
    let idle = pod["spec"]["nodeName"].as_str().unwrap_or_default().is_empty();
    let ended = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if idle || ended { 0 } else { pod["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(30) }
}
