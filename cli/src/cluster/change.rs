//! What a user changes: restarts and numbers of replicas.

use kontrol_core::{id::WidgetId, time::Timestamp};
use kontrol_operator::{
    kubernetes::{kind::Kind, object::Key, time::rfc3339},
    view::{Named, names},
};
use serde_json::json;

use super::{
    access::{Access, Patch},
    failure::Failure,
    known::Known,
};

/// Who has changed what this program changes.
pub(super) const MANAGER: &str = "kubectl-kontrol";

/// Asks the operator to restart something, by an annotation of its object.
pub(super) async fn restart(
    access: &Access,
    known: &Known,
    named: &Named,
    now: Timestamp,
) -> Result<(), Failure> {
    let (kind, key) = object_of(known, named)?;
    let patch = json!({"metadata": {"annotations": {"kontrol.dev/restart-requested-at": rfc3339(now)}}});
    access.patch((kind, ""), (&key.namespace, &key.name), MANAGER, (Patch::Merge, &patch)).await?;
    Ok(())
}

/// Sets the replicas of a widget; gives how many it was to have before.
pub(super) async fn scale(
    access: &Access,
    known: &Known,
    name: &str,
    replicas: u32,
) -> Result<(WidgetId, u32), Failure> {
    let full = match known.one(access, name)? {
        Named::Widget(id) => id.to_string(),
        Named::Group(_) | Named::Supervisor(_) => name.to_owned(),
    };
    let (widget, before) = names::scalable(known, &full, replicas)?;
    let (kind, key) = object_of(known, &Named::Widget(widget.clone()))?;
    if before != replicas {
        let patch = json!({"spec": {"replicas": replicas}});
        access.patch((kind, "scale"), (&key.namespace, &key.name), MANAGER, (Patch::Merge, &patch)).await?;
    }
    Ok((widget, before))
}

/// The object that something is declared by, or that its group has stamped out.
pub(super) fn object_of(known: &Known, named: &Named) -> Result<(Kind, Key), Failure> {
    let key = |id: &kontrol_core::id::ObjectId| Key::new(id.namespace.as_str(), id.name.as_str());
    match named {
        Named::Supervisor(id) => Ok((Kind::Supervisor, key(id))),
        Named::Group(id) => {
            let group = known.store.own(Kind::WidgetGroup, &key(id)).is_some();
            Ok((if group { Kind::WidgetGroup } else { Kind::Widget }, key(id)))
        }
        Named::Widget(id) => match known.object(id) {
            Some((key, _)) => Ok((Kind::Widget, key)),
            None => Err(Failure::new(format!(
                "the group {} has not stamped out a Widget for {} yet: the operator does so when it has seen the group; \
                 see `kubectl get pods -n kontrol-system` for whether it runs",
                id.group, id.widget
            ))),
        },
    }
}
