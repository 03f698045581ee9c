//! A tree above groups.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{AutoShutdown, Intensity, Restart, Strategy, SupervisorStatus, WhenExhausted, text::LABEL};

/// An ordered list of groups and supervisors under one strategy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "kontrol.dev",
    version = "v1alpha1",
    kind = "Supervisor",
    plural = "supervisors",
    shortname = "ksv",
    category = "kontrol",
    namespaced,
    status = "SupervisorStatus",
    derive = "PartialEq",
    doc = "Groups and supervisors that are started in order, stopped in reverse, and restarted together by one strategy.",
    printcolumn(name = "Strategy", type_ = "string", json_path = ".spec.strategy", description = "Who is restarted with a child that ended."),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state", description = "Where the supervisor is."),
    printcolumn(name = "Restarts", type_ = "integer", json_path = ".status.restarts", description = "Restarts within the period."),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason", description = "Why it is ready or not."),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("size(self.metadata.name) <= 63").message("the name of a supervisor has at most 63 characters"),
    validation = Rule::new("self.spec.children.all(c, !has(c.supervisor) || c.supervisor != self.metadata.name)").message("a supervisor cannot be its own child")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.autoShutdown != 'Never' || self.children.all(c, !c.significant)")
    .message("a significant child needs the supervisor's autoShutdown: AnySignificant or AllSignificant"))]
pub struct SupervisorSpec {
    /// Who is restarted with a child that ended: `OneForOne` only that one, `OneForAll` all of them, `RestForOne` that one and those
    /// after it. Default `OneForOne`. Example: `OneForAll`.
    #[serde(default)]
    pub strategy: Strategy,
    /// How many restarts are too many. Default: `{maxRestarts: 3, period: 30s}`. Example: `{maxRestarts: 10, period: 1m}`.
    #[serde(default)]
    pub intensity: Intensity,
    /// Whether it ends by itself when its significant children have: `Never`, with the first (`AnySignificant`) or with the last
    /// (`AllSignificant`). Default `Never`. Example: `AnySignificant`.
    #[serde(default)]
    pub auto_shutdown: AutoShutdown,
    /// What happens when the intensity is exhausted and it is no child itself. Default: `{policy: Retry}`. Example: `{policy: Stop}`.
    #[serde(default)]
    pub when_exhausted: WhenExhausted,
    /// The children, in the order in which they are started; each has one parent. At least one. Example: `[{group: rag}]`.
    #[schemars(length(min = 1, max = 100))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub children: Vec<SupervisorChild>,
}

/// One child of a supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.group) != has(self.supervisor)")
    .message("a child is exactly one of group and supervisor"))]
#[x_kube(validation = Rule::new("!self.significant || self.restart != 'Always'")
    .message("a significant child needs restart: OnFailure or Never, or it would never end by itself"))]
pub struct SupervisorChild {
    /// A `WidgetGroup` of the same namespace, or a `Widget` outside any group. Exactly one of `group` and `supervisor`. Example: `rag`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = LABEL))]
    pub group: Option<String>,
    /// A `Supervisor` of the same namespace. Exactly one of `group` and `supervisor`. Example: `edge`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = LABEL))]
    pub supervisor: Option<String>,
    /// When it is started again after it ended: `Always`, `OnFailure` (unless it ended normally), or `Never`. Default `Always`.
    /// Example: `OnFailure`.
    #[serde(default)]
    pub restart: Restart,
    /// Whether its end by itself counts for `autoShutdown`. Only with `restart: OnFailure` or `Never`. Default `false`. Example: `true`.
    #[serde(default)]
    pub significant: bool,
}
