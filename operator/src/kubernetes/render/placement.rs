//! Where a pod may run: the declared placement with one of its alternatives, away from some nodes.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::core::v1::{
        Affinity, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec,
        PreferredSchedulingTerm, ResourceRequirements, Toleration, TopologySpreadConstraint,
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::LabelSelector},
};
use kontrol_crds as api;
use serde::{Serialize, de::DeserializeOwned};

/// A type of Kubernetes from ours, which has the same fields: a test holds every field against it.
pub(super) fn same<T: DeserializeOwned + Default>(ours: &impl Serialize) -> T {
    serde_json::to_value(ours).and_then(serde_json::from_value).unwrap_or_default()
}

/// What an alternative asks for.
struct Wanted<'a> {
    /// The resource of GPUs, and how many.
    gpu: Option<(&'a str, u32)>,
    cpu: Option<&'a api::Quantity>,
    memory: Option<&'a api::Quantity>,
    node_selector: Option<&'a BTreeMap<String, String>>,
    tolerations: &'a [api::Toleration],
}

/// The alternative with this index; 0, and one that is no more there, is the declared placement.
fn wanted(widget: &api::WidgetSpec, alternative: u32) -> Wanted<'_> {
    let none = Wanted { gpu: None, cpu: None, memory: None, node_selector: None, tolerations: &[] };
    let Some(gpu) = &widget.gpu else { return none };
    let index = usize::try_from(alternative).ok().and_then(|index| index.checked_sub(1));
    match index.and_then(|index| gpu.alternatives.get(index)) {
        None => Wanted {
            gpu: Some((&gpu.resource, gpu.count)),
            node_selector: Some(&gpu.node_selector),
            tolerations: &gpu.tolerations,
            ..none
        },
        Some(other) => Wanted {
            gpu: other.count.map(|count| (other.resource.as_deref().unwrap_or(api::GPU), count)),
            cpu: other.cpu.as_ref(),
            memory: other.memory.as_ref(),
            node_selector: Some(&other.node_selector),
            tolerations: &other.tolerations,
        },
    }
}

fn amounts(amounts: &BTreeMap<String, api::Quantity>) -> BTreeMap<String, Quantity> {
    amounts.iter().map(|(name, amount)| (name.clone(), Quantity(amount.to_string()))).collect()
}

/// What a container asks for, as it is declared.
pub(super) fn declared(resources: &api::Resources) -> ResourceRequirements {
    let some = |amounts: BTreeMap<String, Quantity>| (!amounts.is_empty()).then_some(amounts);
    ResourceRequirements {
        requests: some(amounts(&resources.requests)),
        limits: some(amounts(&resources.limits)),
        claims: None,
    }
}

/// What the widget's container asks for under an alternative.
pub(super) fn resources(widget: &api::WidgetSpec, alternative: u32) -> Option<ResourceRequirements> {
    let wanted = wanted(widget, alternative);
    let declared = widget.container.as_ref().and_then(|container| container.resources.as_ref());
    let mut requests = declared.map(|declared| amounts(&declared.requests)).unwrap_or_default();
    let mut limits = declared.map(|declared| amounts(&declared.limits)).unwrap_or_default();
    for (name, amount) in [("cpu", wanted.cpu), ("memory", wanted.memory)] {
        let Some(amount) = amount else { continue };
        let amount = Quantity(amount.to_string());
        if let Some(limit) = limits.get_mut(name) {
            *limit = amount.clone();
        }
        requests.insert(name.to_owned(), amount);
    }
    if let Some((resource, count)) = wanted.gpu {
        requests.insert(resource.to_owned(), Quantity(count.to_string()));
        limits.insert(resource.to_owned(), Quantity(count.to_string()));
    }
    let some = |amounts: BTreeMap<String, Quantity>| (!amounts.is_empty()).then_some(amounts);
    let (requests, limits) = (some(requests), some(limits));
    (requests.is_some() || limits.is_some()).then_some(ResourceRequirements {
        requests,
        limits,
        claims: None,
    })
}

/// Writes a placement into the spec of a pod. `own` selects the pods of the widget.
pub(super) fn place(
    spec: &mut PodSpec,
    widget: &api::WidgetSpec,
    alternative: u32,
    (avoid, rather_not): (&[Arc<str>], &[Arc<str>]),
    own: &LabelSelector,
) {
    let wanted = wanted(widget, alternative);
    let declared = widget.placement.clone().unwrap_or_default();
    let mut selector = declared.node_selector;
    selector.extend(wanted.node_selector.cloned().unwrap_or_default());
    spec.node_selector = (!selector.is_empty()).then_some(selector);
    let mut tolerations: Vec<Toleration> =
        declared.tolerations.iter().chain(wanted.tolerations).map(same).collect();
    if let Some((resource, _)) = wanted.gpu {
        let own = Toleration {
            key: Some(resource.to_owned()),
            operator: Some("Exists".to_owned()),
            ..Toleration::default()
        };
        if !tolerations.contains(&own) {
            tolerations.push(own);
        }
    }
    spec.tolerations = (!tolerations.is_empty()).then_some(tolerations);
    let affinity = declared.affinity.as_ref().map(same::<Affinity>);
    let affinity = if avoid.is_empty() { affinity } else { Some(away(affinity.unwrap_or_default(), avoid)) };
    spec.affinity =
        if rather_not.is_empty() { affinity } else { Some(rather(affinity.unwrap_or_default(), rather_not)) };
    let spread: Vec<TopologySpreadConstraint> = declared
        .topology_spread
        .iter()
        .map(|spread| {
            let mut spread: TopologySpreadConstraint = same(spread);
            spread.label_selector.get_or_insert_with(|| own.clone());
            spread
        })
        .collect();
    spec.topology_spread_constraints = (!spread.is_empty()).then_some(spread);
    spec.priority_class_name = declared.priority_class_name;
    spec.runtime_class_name = declared.runtime_class_name;
    spec.scheduler_name = declared.scheduler_name;
}

/// The weight of a wish, of 1 to 100: more than whatever a manifest wishes as a rule.
const WISH: i32 = 100;

/// Requirements that a node is none of these. A requirement about a node's name takes one name.
fn others(nodes: &[Arc<str>]) -> Vec<NodeSelectorRequirement> {
    let others = nodes.iter().map(|node| NodeSelectorRequirement {
        key: "metadata.name".to_owned(),
        operator: "NotIn".to_owned(),
        values: Some(vec![node.to_string()]),
    });
    others.collect()
}

/// Adds the wish for a node that is none of these.
fn rather(mut affinity: Affinity, rather_not: &[Arc<str>]) -> Affinity {
    let preference = NodeSelectorTerm { match_fields: Some(others(rather_not)), match_expressions: None };
    let nodes = affinity.node_affinity.get_or_insert_with(NodeAffinity::default);
    nodes
        .preferred_during_scheduling_ignored_during_execution
        .get_or_insert_with(Vec::new)
        .push(PreferredSchedulingTerm { preference, weight: WISH });
    affinity
}

/// Adds to each way in which a node may fit that it is none of these.
fn away(mut affinity: Affinity, avoid: &[Arc<str>]) -> Affinity {
    let others = others(avoid);
    let nodes = affinity.node_affinity.get_or_insert_with(NodeAffinity::default);
    let required =
        nodes.required_during_scheduling_ignored_during_execution.get_or_insert_with(NodeSelector::default);
    if required.node_selector_terms.is_empty() {
        required.node_selector_terms.push(NodeSelectorTerm::default());
    }
    for term in &mut required.node_selector_terms {
        term.match_fields.get_or_insert_with(Vec::new).extend(others.iter().cloned());
    }
    affinity
}
