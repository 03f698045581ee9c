//! Groups and supervisors.

use kontrol_core::{
    code::Code,
    id::{ObjectId, WidgetId},
    spec,
};

use super::{Runtime, container, identity, intensity, when_exhausted, widget};
use crate::{
    api,
    fault::{Checker, Faults},
};

/// A supervisor whose children are still names; [`crate::load`] assembles the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredSupervisor {
    /// The supervisor, without its children.
    pub supervisor: spec::Supervisor,
    /// Its children in start order.
    pub children: Vec<DeclaredChild>,
}

/// A child of a supervisor, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredChild {
    /// The child.
    pub child: spec::ChildRef,
    /// When it is started again.
    pub restart: spec::Restart,
    /// Whether its end by itself counts for the supervisor's automatic shutdown.
    pub significant: bool,
}

impl TryFrom<&api::WidgetGroup> for spec::Group {
    type Error = Faults;

    /// The group as the local world has it.
    fn try_from(object: &api::WidgetGroup) -> Result<Self, Faults> {
        group(object, Runtime::Local)
    }
}

impl TryFrom<&api::Widget> for spec::Group {
    type Error = Faults;

    /// The implicit group of a widget outside any group, as the local world has it.
    fn try_from(object: &api::Widget) -> Result<Self, Faults> {
        lone_widget(object, Runtime::Local)
    }
}

/// A group as a world has it.
pub fn group(object: &api::WidgetGroup, runtime: Runtime) -> Result<spec::Group, Faults> {
    let mut check = Checker::default();
    let id = identity(&mut check, &object.metadata, 61);
    let spec = check.within("spec", |check| {
        let spec = &object.spec;
        let intensity = intensity(check, &spec.intensity);
        let when_exhausted = when_exhausted(check, &spec.when_exhausted);
        if let Some(rollout) = &spec.rollout {
            check.within("rollout", |check| container::check_rollout(check, rollout));
        }
        check.ensure(!spec.widgets.is_empty(), "widgets", "a group needs at least one widget");
        let widgets = check.each("widgets", &spec.widgets, |check, template| {
            if template.spec.significant && spec.auto_shutdown == api::AutoShutdown::Never {
                let message = "a significant widget needs the group's autoShutdown: AnySignificant or AllSignificant";
                check.invalid("significant", message);
            }
            let name = check.name("name", &template.name);
            let id = id.clone().zip(name).map(|(group, widget)| WidgetId {
                namespace: group.namespace,
                group: group.name,
                widget,
            });
            if let Some(id) = &id
                && id.group.as_str().len() + id.widget.as_str().len() > 62
            {
                let message = format!(
                    "{}-{} is too long: at most 63 characters; shorten the name of the group or of the widget",
                    id.group, id.widget
                );
                check.fault("name", Code::InvalidName, message);
            }
            let object = id.as_ref().map(|id| format!("{}-{}", id.group, id.widget)).unwrap_or_default();
            let around =
                widget::Around { runtime, intensity, rollout: spec.rollout.as_ref(), object: &object };
            widget::convert(check, id, &template.spec, &around)
        });
        Some(spec::Group {
            id: id.clone()?,
            strategy: spec.strategy.into(),
            intensity,
            auto_shutdown: spec.auto_shutdown.into(),
            when_exhausted,
            widgets,
        })
    });
    check.finish(spec)
}

/// The implicit group of a widget outside any group, as a world has it.
pub fn lone_widget(object: &api::Widget, runtime: Runtime) -> Result<spec::Group, Faults> {
    let mut check = Checker::default();
    let id = identity(&mut check, &object.metadata, 63);
    let spec = check.within("spec", |check| {
        let message = "means something only in a group with autoShutdown; leave it out";
        check.ensure(!object.spec.significant, "significant", message);
        let widget_id = id.clone().map(|id| WidgetId {
            namespace: id.namespace,
            group: id.name.clone(),
            widget: id.name,
        });
        let name = id.as_ref().map(|id| id.name.to_string()).unwrap_or_default();
        let intensity = spec::Intensity::default();
        let around = widget::Around { runtime, intensity, rollout: None, object: &name };
        let widget = widget::convert(check, widget_id, &object.spec, &around)?;
        Some(spec::Group {
            id: id?,
            strategy: spec::Strategy::OneForOne,
            intensity: widget.intensity,
            auto_shutdown: spec::AutoShutdown::Never,
            when_exhausted: spec::Exhausted::default(),
            widgets: vec![widget],
        })
    });
    check.finish(spec)
}

impl TryFrom<&api::Supervisor> for DeclaredSupervisor {
    type Error = Faults;

    fn try_from(object: &api::Supervisor) -> Result<Self, Faults> {
        let mut check = Checker::default();
        let id = identity(&mut check, &object.metadata, 63);
        let spec = check.within("spec", |check| {
            let spec = &object.spec;
            let intensity = intensity(check, &spec.intensity);
            let when_exhausted = when_exhausted(check, &spec.when_exhausted);
            check.ensure(!spec.children.is_empty(), "children", "a supervisor needs at least one child");
            let children = check.each("children", &spec.children, |check, child| {
                declared(check, id.as_ref(), child, spec.auto_shutdown)
            });
            let supervisor = spec::Supervisor {
                id: id.clone()?,
                strategy: spec.strategy.into(),
                intensity,
                auto_shutdown: spec.auto_shutdown.into(),
                when_exhausted,
                children: Vec::new(),
            };
            Some(Self { supervisor, children })
        });
        check.finish(spec)
    }
}

fn declared(
    check: &mut Checker,
    parent: Option<&ObjectId>,
    child: &api::SupervisorChild,
    auto_shutdown: api::AutoShutdown,
) -> Option<DeclaredChild> {
    let ends = !child.significant || child.restart != api::Restart::Always;
    check.ensure(
        ends,
        "significant",
        "a significant child needs restart: OnFailure or Never, or it would never end by itself",
    );
    let counts = !child.significant || auto_shutdown != api::AutoShutdown::Never;
    check.ensure(
        counts,
        "significant",
        "a significant child needs the supervisor's autoShutdown: AnySignificant or AllSignificant",
    );
    let namespace = parent.map(|id| id.namespace.clone());
    let child_ref = match (&child.group, &child.supervisor) {
        (Some(group), None) => {
            let name = check.name("group", group);
            name.zip(namespace).map(|(name, namespace)| spec::ChildRef::Group(ObjectId { namespace, name }))
        }
        (None, Some(supervisor)) => {
            let name = check.name("supervisor", supervisor);
            name.zip(namespace)
                .map(|(name, namespace)| spec::ChildRef::Supervisor(ObjectId { namespace, name }))
        }
        _ => {
            check.invalid("", "a child is exactly one of group and supervisor");
            None
        }
    };
    Some(DeclaredChild { child: child_ref?, restart: child.restart.into(), significant: child.significant })
}
