//! How a new revision is rolled out, what keeps an identity, and what may be missing at once.

use std::borrow::Cow;

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::Duration;

/// A number of replicas, or a share of them such as `25%`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Share {
    /// So many.
    Count(u32),
    /// A share, in percent, or a number as a text.
    Text(String),
}

/// A number, or a number of percent.
pub(crate) const SHARE: &str = "^([0-9]{1,4}|[0-9]{1,2}%|100%)$";

impl JsonSchema for Share {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Share".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "pattern": SHARE,
            "minimum": 0,
            "maximum": 1000,
            "maxLength": 4,
        })
    }
}

/// How a new revision is rolled out. What a widget leaves out is that of its group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// How many replicas may be missing meanwhile: a number, or a share such as `25%`, rounded down. With `maxSurge` of 0 it counts as at least 1.
    /// Default: that of the group, else 1. Example: `25%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<Share>,
    /// How many replicas there may be beyond the number desired: a number, or a share such as `25%`, rounded up. A widget with an identity of its own has
    /// none. Default: that of the group, else 0. Example: `1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_surge: Option<Share>,
    /// Whether the roll-out stands still where it is. Ends are still put right, each by its own revision. Default: that of the group, else it goes on.
    /// Example: `true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// How long a roll-out may make no progress before it has failed. A duration above zero. Default: that of the group, else 10 minutes. Example: `2m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress_deadline: Option<Duration>,
    /// Whether a roll-out that failed (too many ends within the intensity, or no progress) returns to the last revision that was good by itself.
    /// Default: that of the group, else it does. Example: `false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_rollback: Option<bool>,
}

/// Whether replicas have an identity of their own: something that only one of them may be at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!self.forceDelete || self.stable")
    .message("forceDelete says what becomes of an identity of its own; set stable: true as well, or leave it out"))]
pub struct Identity {
    /// Whether a replica waits until the pod that it replaces is gone for certain. Without, the replacement starts at once, and what still runs
    /// behind a partition is fenced off by its incarnation. Default `false`. Example: `true`.
    #[serde(default)]
    pub stable: bool,
    /// Whether a pod on a lost node is deleted by force, so that its replacement need not wait for the node. Only where nothing that it still
    /// does there can harm. Default `false`. Example: `true`.
    #[serde(default)]
    pub force_delete: bool,
}

/// How many replicas a drain of nodes may take away at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.maxUnavailable) != has(self.minAvailable)")
    .message("disruption is exactly one of maxUnavailable and minAvailable"))]
pub struct Disruption {
    /// How many may be missing. Exactly one of `maxUnavailable` and `minAvailable`. Example: `1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<Share>,
    /// How many must stay. Exactly one of `maxUnavailable` and `minAvailable`. Example: `50%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_available: Option<Share>,
}
