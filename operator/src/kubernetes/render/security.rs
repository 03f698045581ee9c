//! Who the containers run as, and what they may do: the Pod Security Standard `restricted`, unless a manifest says otherwise.

use k8s_openapi::api::core::v1::{Capabilities, PodSecurityContext, SeccompProfile, SecurityContext};
use kontrol_crds as api;

/// The user and group of Kontrol's own containers, and of widgets that name none.
pub(super) const USER: i64 = 65532;

/// What holds for the whole pod.
pub(super) fn of_pod(widget: Option<&api::SecurityContext>) -> PodSecurityContext {
    let root = widget.is_some_and(|widget| widget.run_as_non_root == Some(false));
    PodSecurityContext {
        run_as_non_root: (!root).then_some(true),
        fs_group: Some(widget.and_then(|widget| widget.fs_group).unwrap_or(USER)),
        fs_group_change_policy: Some("OnRootMismatch".to_owned()),
        // Sockets belong to the group of Kontrol's own containers, whoever the widget runs as.
        supplemental_groups: Some(vec![USER]),
        seccomp_profile: Some(runtime_default()),
        ..PodSecurityContext::default()
    }
}

fn runtime_default() -> SeccompProfile {
    SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }
}

/// Kontrol's own containers.
pub(super) fn of_ours() -> SecurityContext {
    SecurityContext {
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        run_as_non_root: Some(true),
        read_only_root_filesystem: Some(true),
        allow_privilege_escalation: Some(false),
        privileged: None,
        capabilities: Some(Capabilities { add: None, drop: Some(vec!["ALL".to_owned()]) }),
        seccomp_profile: Some(runtime_default()),
        ..SecurityContext::default()
    }
}

/// The widget's own container.
pub(super) fn of_widget(widget: Option<&api::SecurityContext>) -> SecurityContext {
    let Some(widget) = widget else { return of_ours() };
    let root = widget.run_as_non_root == Some(false);
    let default = (!root).then_some(USER);
    let added = widget.add_capabilities.clone();
    SecurityContext {
        run_as_user: widget.run_as_user.or(default),
        run_as_group: widget.run_as_group.or(default),
        run_as_non_root: Some(!root),
        read_only_root_filesystem: Some(widget.read_only_root_filesystem.unwrap_or(true)),
        capabilities: Some(Capabilities {
            add: (!added.is_empty()).then_some(added),
            drop: Some(vec!["ALL".to_owned()]),
        }),
        ..of_ours()
    }
}
