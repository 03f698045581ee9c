//! What is desired, in types that cannot be wrong. `kontrol-crds` makes them from manifests; plan and sidecar read them.

mod message;
mod rollout;
mod supervision;
mod widget;

pub use message::{Backoff, Buffer, Bus, Overflow, Retention, Retry, Route, RouteRule, Storage, Topic};
pub use rollout::{Container, Rollout, Share};
pub use supervision::{
    AutoShutdown, Child, ChildRef, Exhausted, Group, Intensity, Node, Restart, RetryPolicy, Strategy,
    Supervisor,
};
pub use widget::{
    BreakerPolicy, Consume, ConsumeVia, Endpoint, Health, HealthProbe, Limits, Process, ReplicaEnd,
    Resilience, Revision, Scaling, ScalingClass, ScalingTarget, ServeVia, Served, Shutdown, Start,
    StartedWhen, Widget,
};
