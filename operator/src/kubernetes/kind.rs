//! The kinds of objects that the operator deals with, and where the API server keeps them.

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A root of supervisors and groups.
    Supervisor,
    /// Widgets under one strategy.
    WidgetGroup,
    /// One component.
    Widget,
    /// Where messages live.
    MessageBus,
    /// A topic.
    Topic,
    /// Copies between topics.
    Route,
    /// A replica's pod, or a hub's.
    Pod,
    /// A name in DNS.
    Service,
    /// What an eviction has to leave.
    PodDisruptionBudget,
    /// What a widget was at a revision.
    ControllerRevision,
    /// The certificates that sidecars trust.
    ConfigMap,
    /// The authority's key.
    Secret,
    /// A hub's disk.
    PersistentVolumeClaim,
    /// A machine.
    Node,
    /// Who leads; a machine's sign of life.
    Lease,
    /// Something that happened.
    Event,
    /// The proof of a service account token.
    TokenReview,
}

impl Kind {
    /// The kinds of `kontrol.dev`.
    pub const OWN: [Self; 6] =
        [Self::Supervisor, Self::WidgetGroup, Self::Widget, Self::MessageBus, Self::Topic, Self::Route];

    /// Whether only the metadata of its objects is kept, and asked for: they are what others need, written by us alone.
    pub const fn is_metadata_alone(self) -> bool {
        matches!(self, Self::Service | Self::PodDisruptionBudget | Self::ControllerRevision)
    }

    /// The kind as manifests spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Supervisor => "Supervisor",
            Self::WidgetGroup => "WidgetGroup",
            Self::Widget => "Widget",
            Self::MessageBus => "MessageBus",
            Self::Topic => "Topic",
            Self::Route => "Route",
            Self::Pod => "Pod",
            Self::Service => "Service",
            Self::PodDisruptionBudget => "PodDisruptionBudget",
            Self::ControllerRevision => "ControllerRevision",
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
            Self::PersistentVolumeClaim => "PersistentVolumeClaim",
            Self::Node => "Node",
            Self::Lease => "Lease",
            Self::Event => "Event",
            Self::TokenReview => "TokenReview",
        }
    }

    /// Group and version.
    pub const fn api_version(self) -> &'static str {
        match self {
            Self::Supervisor
            | Self::WidgetGroup
            | Self::Widget
            | Self::MessageBus
            | Self::Topic
            | Self::Route => "kontrol.dev/v1alpha1",
            Self::Pod
            | Self::Service
            | Self::ConfigMap
            | Self::Secret
            | Self::PersistentVolumeClaim
            | Self::Node => "v1",
            Self::PodDisruptionBudget => "policy/v1",
            Self::ControllerRevision => "apps/v1",
            Self::Lease => "coordination.k8s.io/v1",
            Self::Event => "events.k8s.io/v1",
            Self::TokenReview => "authentication.k8s.io/v1",
        }
    }

    /// The name in paths.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Supervisor => "supervisors",
            Self::WidgetGroup => "widgetgroups",
            Self::Widget => "widgets",
            Self::MessageBus => "messagebuses",
            Self::Topic => "topics",
            Self::Route => "routes",
            Self::Pod => "pods",
            Self::Service => "services",
            Self::PodDisruptionBudget => "poddisruptionbudgets",
            Self::ControllerRevision => "controllerrevisions",
            Self::ConfigMap => "configmaps",
            Self::Secret => "secrets",
            Self::PersistentVolumeClaim => "persistentvolumeclaims",
            Self::Node => "nodes",
            Self::Lease => "leases",
            Self::Event => "events",
            Self::TokenReview => "tokenreviews",
        }
    }

    /// The path of its objects: all of them, or those of one namespace.
    pub fn path(self, namespace: Option<&str>) -> String {
        let version = self.api_version();
        let root = if version.contains('/') { "apis" } else { "api" };
        match namespace {
            Some(namespace) => format!("/{root}/{version}/namespaces/{namespace}/{}", self.plural()),
            None => format!("/{root}/{version}/{}", self.plural()),
        }
    }
}
