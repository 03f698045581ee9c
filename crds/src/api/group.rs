//! An ordered list of widgets under one strategy.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{
    AutoShutdown, Intensity, Rollout, Strategy, WhenExhausted, WidgetGroupStatus, WidgetSpec, text::LABEL,
};

/// An ordered list of widgets under one strategy, as Erlang/OTP's supervisor has them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "kontrol.dev",
    version = "v1alpha1",
    kind = "WidgetGroup",
    plural = "widgetgroups",
    shortname = "kwg",
    category = "kontrol",
    namespaced,
    status = "WidgetGroupStatus",
    derive = "PartialEq",
    doc = "Widgets that are started in order, stopped in reverse, and restarted together by one strategy.",
    printcolumn(name = "Strategy", type_ = "string", json_path = ".spec.strategy", description = "Who is restarted with a widget that ended."),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state", description = "Where the group is."),
    printcolumn(name = "Restarts", type_ = "integer", json_path = ".status.restarts", description = "Restarts within the period."),
    printcolumn(name = "Epoch", type_ = "integer", json_path = ".status.epoch", description = "Restarts so far.", priority = "1"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason", description = "Why it is ready or not."),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("size(self.metadata.name) <= 61").message("the name of a group has at most 61 characters, so that <group>-<widget> fits into 63"),
    validation = Rule::new("self.spec.widgets.all(w, size(self.metadata.name) + size(w.name) <= 62)").message("<group>-<widget> has at most 63 characters; shorten the name of the group or of the widget"),
    validation = Rule::new("self.spec.widgets.all(w, !has(w.container) || size(self.metadata.name) + size(w.name) <= 58)").message("<group>-<widget> has at most 59 characters where it runs on a cluster, so that the host name <group>-<widget>-<ordinal> fits into 63"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') || self.spec.widgets.all(w, !has(w.container))").message("the name of a group that runs on a cluster starts with a letter and has no dots, because it begins the names of Services")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.autoShutdown != 'Never' || self.widgets.all(w, !w.significant)")
    .message("a significant widget needs the group's autoShutdown: AnySignificant or AllSignificant"))]
pub struct WidgetGroupSpec {
    /// Who is restarted with a widget that ended: `OneForOne` only that one, `OneForAll` all of them, `RestForOne` that one and those
    /// after it. Default `OneForOne`. Example: `RestForOne`.
    #[serde(default)]
    pub strategy: Strategy,
    /// How many restarts are too many. Default: `{maxRestarts: 3, period: 30s}`. Example: `{maxRestarts: 10, period: 1m}`.
    #[serde(default)]
    pub intensity: Intensity,
    /// Whether the group ends by itself when its significant widgets have: `Never`, with the first (`AnySignificant`) or with the last
    /// (`AllSignificant`). Default `Never`. Example: `AllSignificant`.
    #[serde(default)]
    pub auto_shutdown: AutoShutdown,
    /// What happens when the intensity is exhausted and the group is no child of a supervisor. Default: `{policy: Retry}`. Example: `{policy: Stop}`.
    #[serde(default)]
    pub when_exhausted: WhenExhausted,
    /// How new revisions of its widgets are rolled out, one widget after the other in order; a widget may say otherwise. Default: one replica at a time.
    /// Example: `{maxUnavailable: 50%, progressDeadline: 2m}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// The widgets, in the order in which they are started. At least one; names differ. Example: `[{name: llm, process: {command: [llm]}}]`.
    #[schemars(length(min = 1, max = 100))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub widgets: Vec<WidgetTemplate>,
}

/// One widget of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WidgetTemplate {
    /// The widget's name within its group: lower-case letters, digits and `-`. Example: `llm`.
    #[schemars(length(min = 1, max = 61), regex(pattern = LABEL))]
    pub name: String,
    /// What a `Widget` has as its `spec`.
    #[serde(flatten)]
    pub spec: WidgetSpec,
}
