//! The highest incarnation of a hub, kept on its claim, which outlives its pods, its bus and every operator: a number that was given is never
//! given again, so that no two hubs of a bus have one name, and none that comes late from a lost node is taken for the present one.

use kontrol_core::id::ObjectId;
use serde_json::{Value, json};

use super::{Hub, Purpose, State};
use crate::kubernetes::{
    kind::Kind,
    pod::HIGHEST,
    render::names,
    request::{Outcome, Request, Verb},
};

/// Where it is kept.
const ANNOTATION: &str = "kontrol.dev/incarnation";

impl Hub {
    /// Takes note of what a claim that was found says: whoever wrote it may have had a pod of that number.
    pub(super) fn remember(&mut self, claim: &Value) {
        self.read = true;
        self.kept = number_in(claim);
        self.incarnation = self.incarnation.max(self.kept);
    }
}

fn number_in(claim: &Value) -> u64 {
    let text = claim["metadata"]["annotations"][ANNOTATION].as_str();
    text.and_then(|text| text.parse().ok()).filter(|number| *number <= HIGHEST).unwrap_or(0)
}

impl State {
    /// The request that keeps an incarnation. It is its writer's alone: the claim is applied by another one, without it.
    pub(super) fn keep_number(id: &ObjectId, incarnation: u64) -> (Purpose, Request) {
        let (namespace, name) = (id.namespace.as_str(), names::hub(id.name.as_str()));
        let body = json!({"metadata": {"annotations": {ANNOTATION: incarnation.to_string()}}});
        let request = Request::new(Verb::Merge, Kind::PersistentVolumeClaim, namespace, &name);
        (Purpose::Keep(id.clone(), incarnation), request.by("kontrol-incarnation").with(body))
    }

    /// What became of that request.
    pub(in crate::kubernetes::state) fn number_answered(
        &mut self,
        id: &ObjectId,
        number: u64,
        outcome: &Outcome,
    ) {
        let Some(hub) = self.hubs.get_mut(id) else { return };
        match outcome {
            // Kept for a pod that is still to be made: as long as it is refused, the number is not used up.
            Outcome::Done(_) => hub.kept = number,
            // Somebody removed the claim.
            Outcome::Gone(_) => (hub.claimed, hub.kept) = (false, 0),
            _ => {}
        }
    }
}
