//! What each sidecar and the hub is told; what did not change is not sent again.

use kontrol_core::{id::InstanceId, time::Timestamp};
use kontrol_proto::{session::Configuration, v1};

use super::{Effect, State};
use crate::view;

impl State {
    /// Tells each sidecar and the hub what is new for it. Who is being stopped takes nothing more.
    pub fn configure(&mut self, now: Timestamp) -> Vec<Effect> {
        let mut effects = Vec::new();
        let due: Vec<(InstanceId, v1::SidecarConfig)> = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.sidecar.session().is_some() && !slot.sidecar.is_stopping())
            .filter_map(|(instance, slot)| {
                let config = view::configure::sidecar(self, &slot.replica(instance))?;
                (slot.sent.as_ref() != Some(&config)).then(|| (instance.clone(), config))
            })
            .collect();
        for (instance, config) in due {
            let Some(slot) = self.slots.get_mut(&instance) else { continue };
            slot.version += 1;
            let message = v1::SidecarConfig { version: slot.version, ..config.clone() };
            slot.sent = Some(config);
            if let Some(process) = &mut slot.process {
                process.told(now);
            }
            if let Some(session) = slot.sidecar.session() {
                effects.push(Effect::Tell(session.clone(), Configuration::Sidecar(message.into())));
            }
        }
        // In a drain nothing starts, so no fence rises: what the hub has been told stays right to its end.
        let due = self.drain.is_none() || self.hub_sent.is_none();
        if let Some(session) = self.hub.session().filter(|_| due && !self.hub.is_stopping()) {
            let config = self.hub_config();
            if self.hub_sent.as_ref() != Some(&config) {
                self.hub_version += 1;
                let message = v1::HubConfig { version: self.hub_version, ..config.clone() };
                effects.push(Effect::Tell(session.clone(), Configuration::Hub(message)));
                self.hub_sent = Some(config);
            }
        }
        effects
    }

    fn hub_config(&self) -> v1::HubConfig {
        let storage = self.desired.buses.first().map(|bus| bus.storage).unwrap_or_default();
        view::configure::hub(self, storage, |_| true)
    }
}
