//! What actions of the plan become: pods that are made, and pods that are removed.

use std::{sync::Arc, time::Duration};

use kontrol_core::{
    id::{InstanceId, WidgetId},
    spec::{Revision, Shutdown},
    time::Timestamp,
};
use kontrol_crds as api;
use kontrol_plan::Action;
use serde_json::{Value, json};

use super::{Pause, Purpose, State, Tree, object_name, reconcile::Requests};
use crate::kubernetes::{
    forest::Root,
    kind::Kind,
    object::{Key, Own},
    observe,
    pod::Pod,
    render,
    request::{Request, Verb},
};

impl State {
    /// The requests that carry out actions. Those that are done, or cannot be done yet, are left out: the next plan asks again.
    pub(super) fn act(&self, tree: &mut Tree, actions: Vec<Action>, now: Timestamp) -> Requests {
        let mut requests = Requests::new();
        for action in actions {
            match action {
                Action::Start { ref instance, incarnation, revision, .. } => {
                    let refused = tree.refused.contains_key(&(instance.clone(), incarnation));
                    let denied = tree.denied.get(&(instance.clone(), incarnation));
                    if refused
                        || denied.is_some_and(|denied| denied.next > now)
                        || self.pod_of(instance, incarnation).is_some()
                    {
                        continue;
                    }
                    match self.template(tree, &instance.widget, revision, now) {
                        Template::There(template) => {
                            let made = self.make(tree, &action, &template);
                            requests.extend(
                                made.map(|request| (Purpose::Start(Box::new(action.clone())), request)),
                            );
                        }
                        Template::Elsewhere(request) => {
                            if !requests.iter().any(|(_, known)| known.name == request.name) {
                                requests
                                    .push((Purpose::Template(instance.widget.clone(), revision), request));
                            }
                        }
                        Template::Lost(message) => tree.failed = Some(message.to_string()),
                    }
                }
                Action::Stop { instance, incarnation, shutdown } => {
                    requests.extend(self.stop(&instance, incarnation, Some(shutdown)));
                }
                // What it said can be read as long as its pod is there.
                Action::Remove { instance, incarnation }
                    if observe::stays_ended(&tree.status, &instance, incarnation) => {}
                Action::Remove { instance, incarnation } => {
                    tree.refused.remove(&(instance.clone(), incarnation));
                    requests.extend(self.stop(&instance, incarnation, None));
                }
                Action::Abandon { instance, incarnation } => {
                    if let Some((key, pod)) = self.pod_of(&instance, incarnation) {
                        requests.push((Purpose::Stop, remove(Kind::Pod, key, &pod.meta.uid, Some(0))));
                    }
                }
            }
        }
        requests
    }

    /// Tries again what was not allowed, where it is time, and has the tree looked at when it is for the next.
    pub(super) fn try_denied(&mut self, root: &Root, tree: &mut Tree, now: Timestamp) -> Requests {
        let due = tree.denied.values().filter(|denied| denied.next <= now);
        let due: Vec<Action> = due.map(|denied| denied.action.clone()).collect();
        let requests = self.act(tree, due, now);
        let next = tree.denied.values().map(|denied| denied.next).filter(|next| *next > now).min();
        self.queue.soon(root, next);
        requests
    }

    fn stop(
        &self,
        instance: &InstanceId,
        incarnation: u64,
        shutdown: Option<Shutdown>,
    ) -> Option<(Purpose, Request)> {
        let (key, pod) = self.pod_of(instance, incarnation)?;
        let asked = pod.meta.deleting().is_some();
        let grace = shutdown.map(|shutdown| match shutdown {
            Shutdown::Graceful(grace) => render::grace_seconds(grace, pod.wrapped),
            Shutdown::Brutal => render::grace_seconds(Duration::ZERO, pod.wrapped),
        });
        (!asked).then(|| (Purpose::Stop, remove(Kind::Pod, key, &pod.meta.uid, grace)))
    }

    /// The pod of an incarnation.
    pub(super) fn pod_of(&self, instance: &InstanceId, incarnation: u64) -> Option<(&Key, &Pod)> {
        let WidgetId { namespace, group, .. } = &instance.widget;
        self.store
            .pods_of(namespace, group)
            .find(|(_, pod)| pod.incarnation == incarnation && pod.instance() == Some(instance))
    }

    /// The object of a widget, and whether it is outside of groups.
    #[expect(clippy::unused_self, reason = "every other look-up of an object is one of the state")]
    pub(super) fn object_of(&self, tree: &Tree, id: &WidgetId) -> (Key, bool) {
        let group = Key::new(id.namespace.as_str(), id.group.as_str());
        let lone = tree.members.contains(&(Kind::Widget, group));
        (Key::new(id.namespace.as_str(), &object_name(id, lone)), lone)
    }

    /// What a widget is to be started from.
    fn template(&self, tree: &Tree, id: &WidgetId, revision: Revision, now: Timestamp) -> Template {
        if let Some(spec) = tree.templates.get(&(id.clone(), revision)) {
            return Template::There(spec.clone());
        }
        let declared =
            tree.node.as_deref().into_iter().flat_map(super::widgets).find(|known| known.id == *id);
        if declared.is_some_and(|declared| declared.revision == revision)
            && let Some(spec) = self.declared_spec(tree, id)
        {
            return Template::There(Box::new(spec));
        }
        if let Some((pause, message)) = tree.unread.get(&(id.clone(), revision))
            && pause.until(now).is_some()
        {
            return Template::Lost(Arc::clone(message));
        }
        let (object, _) = self.object_of(tree, id);
        let name = Key::new(&object.namespace, &revision_name(&object, revision));
        if !self.store.has_owned(Kind::ControllerRevision, &name) {
            return Template::Lost(
                format!("the template of revision {revision} is not kept any more").into(),
            );
        }
        let (namespace, name) = (&name.namespace, &name.name);
        Template::Elsewhere(Request::new(Verb::Get, Kind::ControllerRevision, namespace, name))
    }

    /// The spec of a widget as its object, or its group, declares it now.
    pub(super) fn declared_spec(&self, tree: &Tree, id: &WidgetId) -> Option<api::WidgetSpec> {
        let (object, lone) = self.object_of(tree, id);
        let text = |own: &Own| own.readable().read();
        if lone {
            return serde_json::from_str(&text(self.store.own(Kind::Widget, &object)?)).ok();
        }
        let group = Key::new(id.namespace.as_str(), id.group.as_str());
        let group = self.store.own(Kind::WidgetGroup, &group)?;
        let group: api::WidgetGroupSpec = serde_json::from_str(&text(group)).ok()?;
        let template = group.widgets.into_iter().find(|template| template.name == id.widget.as_str());
        template.map(|template| template.spec)
    }

    /// The request that makes a pod; none: what it belongs to is not there yet.
    fn make(&self, tree: &Tree, action: &Action, template: &api::WidgetSpec) -> Option<Request> {
        let Action::Start { instance, incarnation, epoch, revision, alternative, avoid, rather_not } = action
        else {
            return None;
        };
        let (object, _) = self.object_of(tree, &instance.widget);
        let own = self.store.own(Kind::Widget, &object).filter(|own| own.meta.deleting().is_none())?;
        let node = tree.node.as_deref()?;
        let group = super::groups(node).into_iter().find(|group| {
            group.id.name == instance.widget.group && group.id.namespace == instance.widget.namespace
        })?;
        let owner = render::Owner {
            kind: Kind::Widget.as_str(),
            name: object.name.to_string(),
            uid: own.meta.uid.to_string(),
        };
        let input = render::PodInput {
            settings: &self.settings,
            instance,
            owner: &owner,
            incarnation: *incarnation,
            epoch: *epoch,
            revision: *revision,
            alternative: *alternative,
            avoid,
            rather_not,
            strategy: group.strategy,
            spec: template,
        };
        let pod = render::pod(&input)?;
        let name = render::names::pod(&object.name, instance.ordinal, *incarnation);
        let body = serde_json::to_value(&pod).ok()?;
        let request = Request::new(Verb::Create, Kind::Pod, &object.namespace, &name);
        Some(request.by("kontrol-reconciler").with(body))
    }

    /// Keeps a template that was read, or why it cannot be.
    pub(super) fn keep_template(
        tree: &mut Tree,
        id: &WidgetId,
        revision: Revision,
        text: &str,
        now: Timestamp,
    ) {
        let value: Value = serde_json::from_str(text).unwrap_or_default();
        let of = (id.clone(), revision);
        match serde_json::from_value(value["data"].clone()) {
            Ok(spec) => {
                tree.unread.remove(&of);
                tree.templates.insert(of, Box::new(spec));
            }
            Err(error) => {
                let message = format!("the template of revision {revision} of {id} cannot be read: {error}");
                let (pause, known) = tree.unread.entry(of).or_insert_with(|| (Pause::default(), "".into()));
                if **known != *message {
                    tracing::error!("{message}");
                }
                pause.fail(now);
                *known = message.into();
            }
        }
    }
}

/// Where a template is.
enum Template {
    There(Box<api::WidgetSpec>),
    Elsewhere(Request),
    /// It cannot be had: why.
    Lost(Arc<str>),
}

/// The name of the object that keeps a template.
pub(super) fn revision_name(object: &Key, revision: Revision) -> String {
    format!("{}-{revision}", object.name)
}

/// The request that removes this object, and no other one of its name.
pub(super) fn remove(kind: Kind, key: &Key, uid: &str, grace: Option<u64>) -> Request {
    let mut body = json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}});
    if let Some(grace) = grace {
        body["gracePeriodSeconds"] = json!(grace);
    }
    Request::new(Verb::Delete, kind, &key.namespace, &key.name).with(body)
}
