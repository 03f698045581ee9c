//! Copies messages of one topic to others.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{RouteStatus, TopicRef};

/// Copies messages of one topic to others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "kontrol.dev",
    version = "v1alpha1",
    kind = "Route",
    plural = "routes",
    shortname = "krt",
    category = "kontrol",
    namespaced,
    status = "RouteStatus",
    derive = "PartialEq",
    doc = "Copies messages of one topic to others, chosen by CEL expressions over the message.",
    printcolumn(name = "From", type_ = "string", json_path = ".spec.from.topic", description = "The topic whose messages it looks at."),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason", description = "Why it is ready or not."),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("size(self.metadata.name) <= 63").message("the name of a route has at most 63 characters")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.rules.all(r, r.to.all(t, t.topic != self.from.topic))")
    .message("a route cannot copy a message back to the topic that it comes from"))]
pub struct RouteSpec {
    /// The topic whose messages it looks at. Example: `{topic: documents}`.
    pub from: TopicRef,
    /// Only messages for which this CEL expression is true are routed. `event` has the message's `id`, `source`, `type`, `subject`,
    /// `time`, `datacontenttype` and its extension attributes, and with a JSON content type `event.data`; `topic` is the topic's name. Default: all messages.
    /// Example: `event.type == 'order.created'`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub filter: Option<String>,
    /// Whether every rule that matches is followed, instead of the first alone. Default `false`. Example: `true`.
    #[serde(default)]
    pub all: bool,
    /// The rules, in order. At least one. Example: `[{when: "event.data.urgent", to: [{topic: urgent}]}, {to: [{topic: normal}]}]`.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub rules: Vec<RouteRule>,
}

/// One rule of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("size(self.to) > 0")
    .message("a rule needs at least one topic that it copies to, such as to: [{topic: urgent}]"))]
pub struct RouteRule {
    /// A CEL expression over the message, with the variables of `filter`. Default: always true. Example: `event.data.priority > 5`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub when: Option<String>,
    /// The topics that get a copy. At least one; they differ. Example: `[{topic: urgent}]`.
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["topic".into()]))]
    pub to: Vec<TopicRef>,
}
