//! What is done to an object before it is stored: defaults, types, rules, quotas.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::State;
use crate::{
    clock::seconds,
    failure::Failure,
    request::Target,
    resource::{Custom, Resource},
    schema,
};

impl State {
    /// The object as it would be stored, or what is wrong with it.
    pub(super) fn admit(
        &mut self,
        resource: &Resource,
        old: Option<&Value>,
        mut object: Value,
        new: bool,
        now: Timestamp,
    ) -> Result<Value, Failure> {
        names(resource, &object)?;
        if let Some(custom) = &resource.custom {
            schema::prune(&custom.schema, &mut object);
            let object = kube_cel::apply_defaults(&custom.schema, &object);
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            let mut wrong = self.wrong(custom, &object, old);
            if !wrong.is_empty()
                && let Some(old) = old
            {
                // What was wrong before and has not changed is let pass, as the real server's ratchet does.
                let before = self.wrong(custom, old, None);
                wrong.retain(|one| !before.contains(one));
            }
            if wrong.is_empty() {
                return Ok(object);
            }
            return Err(Failure::invalid(&resource.kind, name, &wrong));
        }
        match resource.plural.as_str() {
            "pods" => pod(&mut object, old, now)?,
            "services" => self.service(&mut object, old)?,
            "namespaces" if new => {
                object["spec"]["finalizers"] = json!(["kubernetes"]);
                object["status"] = json!({"phase": "Active"});
                let name = object["metadata"]["name"].clone();
                object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
            }
            "persistentvolumeclaims" if new => object["status"] = json!({"phase": "Pending"}),
            "secrets" if object["type"].is_null() => object["type"] = "Opaque".into(),
            "customresourcedefinitions" if new => established(&mut object, now),
            "controllerrevisions" => {
                if let Some(old) = old.filter(|old| old["data"] != object["data"]) {
                    let name = old["metadata"]["name"].as_str().unwrap_or_default();
                    let why = "Invalid value: field is immutable".to_owned();
                    return Err(Failure::invalid(&resource.kind, name, &[("data".to_owned(), why)]));
                }
            }
            _ => {}
        }
        if let Some(typed) = resource.typed {
            object = typed(&object).map_err(|why| {
                let message = format!(
                    "{} in version \"{}\" cannot be handled as a {}: {why}",
                    resource.kind, resource.version, resource.kind
                );
                Failure::bad_request(message)
            })?;
            object["apiVersion"] = resource.api_version().into();
            object["kind"] = resource.kind.clone().into();
        }
        Ok(object)
    }

    /// What the schema and its rules refuse.
    fn wrong(&self, custom: &Custom, object: &Value, old: Option<&Value>) -> Vec<(String, String)> {
        let wrong = schema::validate(&custom.schema, object);
        if !wrong.is_empty() {
            return wrong;
        }
        let said = |error: &kube_cel::ValidationError| {
            (error.field_path.clone(), format!("Invalid value: {}", error.message))
        };
        match self.validator.validate_compiled(&custom.rules, object, old) {
            Ok(()) => Vec::new(),
            Err(errors) => errors.iter().map(said).collect(),
        }
    }

    fn service(&mut self, object: &mut Value, old: Option<&Value>) -> Result<(), Failure> {
        let spec = &mut object["spec"];
        let default = |value: &mut Value, default: Value| {
            if value.is_null() {
                *value = default;
            }
        };
        default(&mut spec["type"], "ClusterIP".into());
        default(&mut spec["sessionAffinity"], "None".into());
        default(&mut spec["internalTrafficPolicy"], "Cluster".into());
        default(&mut spec["ipFamilies"], json!(["IPv4"]));
        default(&mut spec["ipFamilyPolicy"], "SingleStack".into());
        for port in spec["ports"].as_array_mut().into_iter().flatten() {
            default(&mut port["protocol"], "TCP".into());
            let number = port["port"].clone();
            default(&mut port["targetPort"], number);
        }
        if let Some(old) = old {
            let kept = old["spec"]["clusterIP"].clone();
            default(&mut spec["clusterIP"], kept.clone());
            if spec["clusterIP"] != kept {
                let why = "Invalid value: may not change once set".to_owned();
                let name = old["metadata"]["name"].as_str().unwrap_or_default();
                return Err(Failure::invalid("Service", name, &[("spec.clusterIP".to_owned(), why)]));
            }
        } else if spec["clusterIP"].is_null() {
            let host = u32::try_from(self.id() % 60_000).unwrap_or_default();
            let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 96, 0, 10)) + host);
            spec["clusterIP"] = address.to_string().into();
        }
        let addresses = json!([spec["clusterIP"]]);
        default(&mut spec["clusterIPs"], addresses);
        default(&mut object["status"], json!({"loadBalancer": {}}));
        Ok(())
    }

    /// Refuses what the namespace's quotas do not allow.
    pub(super) fn quota(&self, target: &Target, object: &Value) -> Result<(), Failure> {
        let id = target.resource.id();
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        for (_, quota) in self.of("resourcequotas", &target.namespace) {
            let hard = &quota["spec"]["hard"];
            let counted = format!("count/{id}");
            for key in [id.as_str(), counted.as_str()] {
                let Some(limit) = hard[key].as_str().and_then(|limit| limit.parse::<usize>().ok()) else {
                    continue;
                };
                let live = |object: &Value| {
                    !matches!(object["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
                };
                let used = self
                    .of(&id, &target.namespace)
                    .filter(|(_, object)| id != "pods" || live(object))
                    .count();
                if used >= limit {
                    let message = format!(
                        "{id} \"{name}\" is forbidden: exceeded quota: {}, requested: {key}=1, used: {key}={used}, limited: {key}={limit}",
                        quota["metadata"]["name"].as_str().unwrap_or_default()
                    );
                    return Err(Failure::forbidden(message));
                }
            }
        }
        Ok(())
    }

    /// A namespace must be there, and not on its way out.
    pub(super) fn namespace_takes(&self, target: &Target, name: &str) -> Result<(), Failure> {
        if !target.resource.namespaced {
            return Ok(());
        }
        let key = ("namespaces".into(), String::new(), target.namespace.clone());
        let Some(namespace) = self.objects.get(&key) else {
            return Err(Failure::not_found("namespaces", &target.namespace));
        };
        if namespace["metadata"]["deletionTimestamp"].is_null() {
            return Ok(());
        }
        let message = format!(
            "{} \"{name}\" is forbidden: unable to create new content in namespace {} because it is being terminated",
            target.resource.id(),
            target.namespace
        );
        let cause = json!({
            "reason": "NamespaceTerminating", "field": "metadata.namespace",
            "message": format!("namespace {} is being terminated", target.namespace),
        });
        Err(Failure::forbidden(message).with(json!({"name": name, "causes": [cause]})))
    }
}

/// Names and labels that the server would refuse.
fn names(resource: &Resource, object: &Value) -> Result<(), Failure> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let mut wrong = Vec::new();
    let label = |text: &str, more: &str| {
        let inner = |letter: char| letter.is_ascii_alphanumeric() || more.contains(letter);
        !text.is_empty()
            && text.chars().all(inner)
            && text.starts_with(|letter: char| letter.is_ascii_alphanumeric())
            && text.ends_with(|letter: char| letter.is_ascii_alphanumeric())
    };
    let longest = if matches!(resource.plural.as_str(), "services" | "namespaces") { 63 } else { 253 };
    let free = resource.group == "rbac.authorization.k8s.io";
    if !free && (!label(name, "-.") || name.len() > longest || name.chars().any(|c| c.is_ascii_uppercase())) {
        let why = format!(
            "Invalid value: \"{name}\": a lowercase RFC 1123 name of at most {longest} characters is needed"
        );
        wrong.push(("metadata.name".to_owned(), why));
    }
    for (key, value) in object["metadata"]["labels"].as_object().into_iter().flatten() {
        let short = key.rsplit_once('/').map_or(key.as_str(), |(_, short)| short);
        let value = value.as_str().unwrap_or_default();
        if !label(short, "-_.") || short.len() > 63 {
            wrong.push((
                "metadata.labels".to_owned(),
                format!("Invalid value: \"{key}\": not a label's name"),
            ));
        }
        if !value.is_empty() && (!label(value, "-_.") || value.len() > 63) {
            wrong.push((
                "metadata.labels".to_owned(),
                format!("Invalid value: \"{value}\": not a label's value"),
            ));
        }
    }
    for owner in object["metadata"]["ownerReferences"].as_array().into_iter().flatten() {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner[field].as_str().unwrap_or_default().is_empty() {
                wrong.push((
                    format!("metadata.ownerReferences.{field}"),
                    "Invalid value: \"\": must not be empty".into(),
                ));
            }
        }
    }
    let controllers = object["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    if controllers.filter(|owner| owner["controller"] == true).count() > 1 {
        let why = "Invalid value: only one reference can have Controller set to true";
        wrong.push(("metadata.ownerReferences".to_owned(), why.to_owned()));
    }
    if wrong.is_empty() { Ok(()) } else { Err(Failure::invalid(&resource.kind, name, &wrong)) }
}

fn pod(object: &mut Value, old: Option<&Value>, _now: Timestamp) -> Result<(), Failure> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let default = |value: &mut Value, default: Value| {
        if value.is_null() {
            *value = default;
        }
    };
    let spec = &mut object["spec"];
    default(&mut spec["restartPolicy"], "Always".into());
    default(&mut spec["terminationGracePeriodSeconds"], 30.into());
    default(&mut spec["dnsPolicy"], "ClusterFirst".into());
    default(&mut spec["schedulerName"], "default-scheduler".into());
    default(&mut spec["securityContext"], json!({}));
    default(&mut spec["serviceAccountName"], "default".into());
    default(&mut spec["enableServiceLinks"], true.into());
    let mut wrong = Vec::new();
    let mut seen: Vec<String> = Vec::new();
    for list in ["initContainers", "containers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            default(&mut container["imagePullPolicy"], "IfNotPresent".into());
            default(&mut container["resources"], json!({}));
            default(&mut container["terminationMessagePath"], "/dev/termination-log".into());
            default(&mut container["terminationMessagePolicy"], "File".into());
            for port in container.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
                default(&mut port["protocol"], "TCP".into());
            }
            let called = container["name"].as_str().unwrap_or_default().to_owned();
            if called.is_empty() || called.len() > 63 || seen.contains(&called) {
                wrong.push((format!("spec.{list}.name"), format!("Invalid value: \"{called}\"")));
            }
            seen.push(called);
            if container["image"].as_str().unwrap_or_default().is_empty() {
                wrong.push((format!("spec.{list}.image"), "Required value".to_owned()));
            }
        }
    }
    if spec["containers"].as_array().is_none_or(Vec::is_empty) {
        wrong.push(("spec.containers".to_owned(), "Required value".to_owned()));
    }
    for field in ["hostname", "subdomain"] {
        if spec[field].as_str().is_some_and(|text| text.len() > 63) {
            wrong.push((
                format!("spec.{field}"),
                "Invalid value: must be no more than 63 characters".to_owned(),
            ));
        }
    }
    match old {
        Some(old) => {
            if fixed(&old["spec"]) != fixed(spec) {
                let why = "Forbidden: pod updates may not change fields other than images, activeDeadlineSeconds, terminationGracePeriodSeconds and additions to tolerations";
                wrong.push(("spec".to_owned(), why.to_owned()));
            }
        }
        None => object["status"] = json!({"phase": "Pending", "qosClass": "Burstable"}),
    }
    if wrong.is_empty() { Ok(()) } else { Err(Failure::invalid("Pod", &name, &wrong)) }
}

/// What of a pod's spec nobody changes but the scheduler.
fn fixed(spec: &Value) -> Value {
    let mut spec = spec.clone();
    for list in ["initContainers", "containers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            container["image"] = Value::Null;
        }
    }
    if let Some(fields) = spec.as_object_mut() {
        for free in [
            "activeDeadlineSeconds",
            "tolerations",
            "nodeName",
            "schedulingGates",
            "terminationGracePeriodSeconds",
        ] {
            fields.remove(free);
        }
        fields.retain(|_, value| !value.is_null());
    }
    spec
}

fn established(object: &mut Value, now: Timestamp) {
    let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": kind, "message": "", "lastTransitionTime": seconds(now)});
    let names = object["spec"]["names"].clone();
    let versions = object["spec"]["versions"].as_array().into_iter().flatten();
    let stored: Vec<_> = versions
        .filter(|version| version["storage"] == true)
        .map(|version| version["name"].clone())
        .collect();
    object["status"] = json!({
        "conditions": [condition("NamesAccepted"), condition("Established")],
        "acceptedNames": names, "storedVersions": stored,
    });
}
