//! The API types of `kontrol.dev/v1alpha1`, as manifests and the API server hold them: texts are unparsed, references unresolved.
//!
//! What a field means, its unit, its default and an example are said once, in its documentation: the schema, `kubectl explain` and
//! `docs/reference.md` are made from it. A rule that one field alone cannot express is a CEL rule beside the type, and is checked
//! again by the conversion into the valid types of `kontrol_core::spec`.

mod affinity;
mod bus;
mod common;
mod container;
mod group;
mod messaging;
mod placement;
mod process;
mod rollout;
mod route;
mod scaling;
mod status;
mod supervisor;
pub(crate) mod text;
mod topic;
mod volume;
mod widget;

pub use affinity::{
    Affinity, LabelExpression, LabelOperator, LabelSelector, NodeAffinity, NodeExpression, NodeOperator,
    NodeSelector, NodeTerm, PodAffinity, PodTerm, PreferredNode, PreferredPods,
};
pub use bus::{Embedded, MessageBus, MessageBusSpec, Storage};
pub use common::{AutoShutdown, Backoff, ExhaustedPolicy, Intensity, Restart, Strategy, WhenExhausted};
pub use container::{
    Container, ContainerPort, ContainerVariable, EnvFrom, FieldRef, KeyRef, ObjectRef, PodMetadata, Protocol,
    PullPolicy, PullSecret, Quantity, Resources, SecurityContext, VariableSource, VolumeMount,
};
pub use group::{WidgetGroup, WidgetGroupSpec, WidgetTemplate};
pub use messaging::{
    BreakerPolicy, CallTarget, Consume, HttpDelivery, Produce, Resilience, RetryBackoff, ServedMethod,
    TopicRef,
};
pub use placement::{
    Alternative, GPU, Gpu, InclusionPolicy, Placement, TaintEffect, Toleration, TolerationOperator,
    TopologySpread, WhenUnsatisfiable,
};
pub use process::{
    Endpoint, EnvVar, Health, Limits, Process, ReplicaEnd, ReportProbe, Shutdown, ShutdownPolicy, Start,
    StartedWhen,
};
pub use rollout::{Disruption, Identity, Rollout, Share};
pub use route::{Route, RouteRule, RouteSpec};
pub use scaling::{ReportedTarget, Scaling, ScalingClass, ScalingTarget};
pub use status::{
    BreakerStatus, ChildStatus, EndReason, EndStatus, Guarantee, InstanceState, InstanceStatus,
    MessageBusStatus, RolloutState, RolloutStatus, RouteStatus, ScalingStatus, State, Supervision,
    SupervisorStatus, TopicStatus, WidgetGroupStatus, WidgetStateStatus, WidgetStatus,
};
pub use supervisor::{Supervisor, SupervisorChild, SupervisorSpec};
pub use text::{Amount, Duration, Size};
pub use topic::{Buffer, Overflow, Retention, Retry, Topic, TopicSpec};
pub use volume::{
    ClaimVolume, ConfigMapVolume, EmptyDir, ImageVolume, KeyFile, Medium, Projected, ProjectedObject,
    ProjectedSource, ProjectedToken, SecretVolume, Volume,
};
pub use widget::{Widget, WidgetSpec};

/// The API group.
pub const GROUP: &str = "kontrol.dev";
/// The only version.
pub const VERSION: &str = "v1alpha1";
/// Group and version, as manifests write them.
pub const API_VERSION: &str = "kontrol.dev/v1alpha1";
