//! What names mean to those who ask, and what they are told where they mean nothing.

use kontrol_core::{code::Code, id::WidgetId};
use tonic::Status;

use super::nearest::{listed, meant};
use crate::{
    control::status,
    local::state::{Named, State},
};

fn unknown(name: &str, message: String) -> Status {
    status(Code::NoSuchObject, name, message)
}

/// The one thing that a name means.
pub(in crate::local) fn one(state: &State, name: &str) -> Result<Named, Status> {
    let mut found = state.named(name);
    let named = match (found.pop(), found.is_empty()) {
        (Some(named), true) => named,
        (Some(last), false) => {
            found.push(last);
            let all: Vec<String> = found.iter().map(Named::describe).collect();
            let message = format!("{name:?} may mean {}; write more of it", all.join(" or "));
            return Err(unknown(name, message));
        }
        (None, _) => {
            let names = state.names();
            let there_are = listed(&names);
            let message = match meant(name, &names) {
                Some(meant) => {
                    format!("there is no {name:?} here; did you mean {meant}? There are {there_are}")
                }
                None => format!("there is no {name:?} here; there are {there_are}"),
            };
            return Err(unknown(name, message));
        }
    };
    if let (Named::Widget(widget), Some(ordinal)) = (&named, state.ordinal(name))
        && let Some(there) = state.lacks(widget, ordinal)
    {
        return Err(unknown(name, format!("{widget} has no replica {ordinal}: {there}")));
    }
    Ok(named)
}

/// A widget whose replicas a user may set, and how many it has.
pub(in crate::local) fn scalable(
    state: &State,
    name: &str,
    replicas: u32,
) -> Result<(WidgetId, u32), Status> {
    let named = one(state, name)?;
    let Some(widget) = state.widget_of(named.clone()) else {
        let widgets = match &named {
            Named::Group(id) | Named::Supervisor(id) => state.widgets_below(id),
            Named::Widget(_) => Vec::new(),
        };
        let message = format!(
            "{} has no replicas of its own; scale one of its widgets: {}",
            named.describe(),
            listed(&widgets)
        );
        return Err(status(Code::NotScalable, name, message));
    };
    if let Some(ordinal) = state.ordinal(name) {
        let message = format!("{name} is replica {ordinal} of {widget}; scale the widget");
        return Err(status(Code::NotScalable, name, message));
    }
    state.may_scale(&widget, replicas).map_err(|reason| status(Code::NotScalable, name, reason))?;
    let before = state.desired().widget(&widget).map_or(0, |widget| widget.replicas);
    Ok((widget, before))
}

/// The log sources of what a name means, of a replica's name those of it alone; an empty name: all.
pub(in crate::local) fn sources(state: &State, name: &str) -> Result<Vec<String>, Status> {
    if name == "hub" {
        return Ok(vec!["hub".to_owned()]);
    }
    let everything = name.is_empty();
    let mut instances = if everything {
        state.desired().widgets().flat_map(|widget| state.instances(&widget.id)).collect()
    } else {
        state.instances_of(&one(state, name)?)
    };
    if let Some(ordinal) = state.ordinal(name) {
        instances.retain(|instance| instance.ordinal == ordinal);
    }
    let of = instances.iter().flat_map(|i| [format!("{i:#}"), format!("{i:#} sidecar")]);
    let decisions = if everything { vec![String::new(), "hub".to_owned()] } else { Vec::new() };
    Ok(of.chain(decisions).collect())
}
