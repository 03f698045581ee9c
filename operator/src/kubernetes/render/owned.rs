//! What a widget has beside its pods: a Service, a budget of disruptions, revisions; and the widget that a group stamps out.

use k8s_openapi::{
    api::{
        apps::v1::ControllerRevision,
        core::v1::{Service, ServicePort, ServiceSpec},
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, runtime::RawExtension, util::intstr::IntOrString},
};
use kontrol_core::{
    id::WidgetId,
    spec::{Revision, Share},
};
use kontrol_crds::{self as api, quantity};
use serde_json::{Value, json};

use super::{Owner, names, pod};

fn metadata(id: &WidgetId, owner: &Owner, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(id.namespace.to_string()),
        labels: Some(names::labels(id)),
        owner_references: Some(names::owned_by(owner)),
        ..ObjectMeta::default()
    }
}

/// The headless Service of a widget: each replica is found as `<object>-<ordinal>.<object>.<namespace>.svc`, also before it is ready.
pub fn service(id: &WidgetId, owner: &Owner, spec: &api::WidgetSpec) -> Service {
    let ports = spec.container.as_ref().map(|container| pod::ports(spec, container)).unwrap_or_default();
    let ports: Vec<ServicePort> = ports
        .into_iter()
        .map(|port| {
            let protocol = port.protocol.unwrap_or_else(|| "TCP".to_owned());
            let unnamed = || format!("{}-{}", protocol.to_ascii_lowercase(), port.container_port);
            ServicePort {
                name: Some(port.name.clone().unwrap_or_else(unnamed)),
                port: port.container_port,
                target_port: Some(IntOrString::Int(port.container_port)),
                protocol: Some(protocol),
                ..ServicePort::default()
            }
        })
        .collect();
    Service {
        metadata: metadata(id, owner, owner.name.clone()),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            selector: Some(names::selector(id)),
            ports: (!ports.is_empty()).then_some(ports),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// What a budget is rendered from.
#[derive(Clone, Copy, Debug)]
pub struct BudgetInput<'a> {
    /// The widget.
    pub id: &'a WidgetId,
    /// Its `Widget` object.
    pub owner: &'a Owner,
    /// Its spec.
    pub spec: &'a api::WidgetSpec,
    /// How many replicas are desired now.
    pub desired: u32,
}

/// The budget of disruptions of a widget. None where nothing would be protected: then there must be none.
///
/// It says how many pods must stay, as a number: the disruption controller would take a share, or what may be missing, of `spec.replicas`, which is
/// not how many there are where load decides.
pub fn disruption_budget(input: &BudgetInput<'_>) -> Option<PodDisruptionBudget> {
    let desired = input.desired;
    let share = |share: &Option<api::Share>| share.as_ref().and_then(|share| quantity::share(share).ok());
    let declared = input.spec.disruption.as_ref();
    let stay =
        match declared.map(|declared| (share(&declared.min_available), share(&declared.max_unavailable))) {
            Some((Some(least), _)) => least.ceil(desired),
            Some((None, Some(most))) => desired.saturating_sub(most.floor(desired)),
            _ => desired.saturating_sub(Share::Count(1).floor(desired)),
        };
    let stay = stay.min(desired);
    if stay == 0 {
        return None;
    }
    Some(PodDisruptionBudget {
        metadata: metadata(input.id, input.owner, input.owner.name.clone()),
        spec: Some(PodDisruptionBudgetSpec {
            min_available: Some(IntOrString::Int(i32::try_from(stay).unwrap_or(i32::MAX))),
            max_unavailable: None,
            selector: Some(names::label_selector(input.id)),
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
        }),
        status: None,
    })
}

/// The `Widget` that a group stamps out, to be applied. It has no `replicas`, which are set once and then belong to whoever scales, and is not
/// `significant`, which only its group can understand.
pub fn child_widget(id: &WidgetId, group: &Owner, template: &api::WidgetSpec) -> Value {
    let mut spec = serde_json::to_value(template).unwrap_or_default();
    if let Some(fields) = spec.as_object_mut() {
        fields.remove("replicas");
        fields.remove("significant");
    }
    json!({
        "apiVersion": api::API_VERSION,
        "kind": "Widget",
        "metadata": {
            "name": names::child(id),
            "namespace": id.namespace.to_string(),
            "labels": names::labels(id),
            "annotations": {
                "kontrol.dev/group-widget": id.widget.to_string(),
                "kontrol.dev/template-replicas": template.replicas.to_string(),
            },
            "ownerReferences": names::owned_by(group),
        },
        "spec": spec,
    })
}

/// What a revision is rendered from.
#[derive(Clone, Copy, Debug)]
pub struct RevisionInput<'a> {
    /// The widget.
    pub id: &'a WidgetId,
    /// The name of its `Widget` object.
    pub object: &'a str,
    /// The root of its tree, or the object itself.
    pub owner: &'a Owner,
    /// The hash of `spec`.
    pub revision: Revision,
    /// Its number: one more than that of the revision before.
    pub number: i64,
    /// The template.
    pub spec: &'a api::WidgetSpec,
}

/// A revision of a widget, from which its pods can be rendered again.
pub fn controller_revision(input: &RevisionInput<'_>) -> ControllerRevision {
    let mut metadata = metadata(input.id, input.owner, format!("{}-{}", input.object, input.revision));
    let labels = metadata.labels.get_or_insert_default();
    labels.insert("kontrol.dev/widget-object".to_owned(), input.object.to_owned());
    labels.insert("kontrol.dev/revision".to_owned(), input.revision.to_string());
    ControllerRevision {
        metadata,
        revision: Some(input.number),
        data: RawExtension(serde_json::to_value(input.spec).unwrap_or_default()),
    }
}
