//! What names mean to those who ask, and what they are told where they mean nothing.

use kontrol_core::id::WidgetId;
use tonic::Status;

use crate::{
    control::status,
    local::state::State,
    view::{
        Named,
        names::{self, Refused},
    },
};

impl From<Refused> for Status {
    fn from(Refused { code, subject, message }: Refused) -> Self {
        status(code, &subject, message)
    }
}

/// The one thing that a name means.
pub(in crate::local) fn one(state: &State, name: &str) -> Result<Named, Status> {
    Ok(names::one(state, name)?)
}

/// A widget whose replicas a user may set, and how many it has.
pub(in crate::local) fn scalable(
    state: &State,
    name: &str,
    replicas: u32,
) -> Result<(WidgetId, u32), Status> {
    Ok(names::scalable(state, name, replicas)?)
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
        names::instances_of(state, &one(state, name)?)
    };
    if let Some(ordinal) = names::ordinal(state, name) {
        instances.retain(|instance| instance.ordinal == ordinal);
    }
    let of = instances.iter().flat_map(|i| [format!("{i:#}"), format!("{i:#} sidecar")]);
    let decisions = if everything { vec![String::new(), "hub".to_owned()] } else { Vec::new() };
    Ok(of.chain(decisions).collect())
}
