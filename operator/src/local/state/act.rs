//! What actions of the plan become, and the care of sidecars and the hub.

use std::{collections::BTreeMap, ffi::OsString};

use kontrol_core::{
    id::{InstanceId, WidgetId},
    spec::{Endpoint, Limits, Revision, Shutdown, Widget},
    time::Timestamp,
};
use kontrol_plan::{Action, End, StartError};
use kontrol_shim::Order;

use super::{Command, Drain, Effect, HUB_PATIENCE, Key, Process, Slot, State, WidgetCommand};

impl State {
    /// Turns actions, whose decision is written, into effects.
    pub fn act(&mut self, actions: Vec<Action>, now: Timestamp) -> Vec<Effect> {
        let mut effects = Vec::new();
        for action in actions {
            match action {
                Action::Start { instance, incarnation, epoch, revision, .. } => {
                    let process = Process::new(incarnation, epoch, revision, now);
                    self.start(&instance, process, now);
                }
                Action::Stop { instance, incarnation, shutdown } => {
                    effects.extend(self.stop(&instance, incarnation, shutdown, now));
                }
                Action::Abandon { instance, incarnation } | Action::Remove { instance, incarnation } => {
                    if let Some(slot) = self.slots.get_mut(&instance) {
                        slot.process = slot
                            .process
                            .take()
                            .filter(|process| process.incarnation != incarnation || !process.is_ended());
                        // One that never ran was told to its sidecar all the same: what follows it is above it.
                        slot.fence = slot.fence.max(incarnation);
                    }
                }
            }
        }
        effects
    }

    /// Starts, keeps and stops sidecars and the hub, and launches what has waited long enough.
    pub fn tend(&mut self, now: Timestamp) -> Vec<Effect> {
        let mut effects = Vec::new();
        let hub_there = self.hub_is_there() || self.began.plus(HUB_PATIENCE) <= now;
        if self.needs_hub()
            && let Some((generation, addresses)) = self.hub.start(now)
        {
            effects.push(Effect::Launch(Key::Hub(generation), Command::Hub(addresses)));
        }
        let wanted = self.wanted();
        for (widget, count) in &wanted {
            for ordinal in 0..*count {
                let instance = InstanceId { widget: widget.clone(), ordinal };
                if !self.slots.contains_key(&instance) {
                    let tree = self.tree_of(&instance);
                    self.slots.insert(instance, Slot::new(tree));
                }
            }
        }
        let due: Vec<InstanceId> = self
            .slots
            .iter()
            .filter(|(_, slot)| {
                let applied = slot.process.as_ref().and_then(Process::launch_by);
                hub_there && applied.is_some_and(|at| at <= now)
            })
            .map(|(instance, _)| instance.clone())
            .collect();
        effects.extend(due.iter().filter_map(|instance| self.launch(instance)));
        self.slots.retain(|instance, slot| {
            let wanted = wanted.get(&instance.widget).is_some_and(|count| instance.ordinal < *count);
            let needed = slot.process.is_some() || wanted;
            if needed {
                if let Some((generation, addresses)) = slot.sidecar.start(now) {
                    let key = Key::Sidecar(instance.clone(), generation);
                    effects.push(Effect::Launch(key, Command::Sidecar(instance.clone(), addresses)));
                }
            } else if slot.sidecar.stop() {
                let key = Key::Sidecar(instance.clone(), slot.sidecar.generation());
                effects.push(Effect::Order(key, Order::Stop(None)));
            }
            let kept = needed || !slot.sidecar.is_down();
            if !kept {
                self.written.floor = self.written.floor.max(slot.fence);
            }
            kept
        });
        // With the last sidecar the hub goes, and nothing else may come to say so.
        if !self.needs_hub() && self.hub.stop() {
            effects.push(Effect::Order(Key::Hub(self.hub.generation()), Order::Stop(None)));
        }
        effects
    }

    /// Kills everything that runs.
    pub(super) fn kill_all(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        for (instance, slot) in &mut self.slots {
            if let Some(process) = slot.process.as_ref().filter(|process| process.has_shim()) {
                effects.push(Effect::Order(Key::Widget(instance.clone(), process.incarnation), Order::Kill));
            }
            if slot.sidecar.stop() || slot.sidecar.is_stopping() {
                let key = Key::Sidecar(instance.clone(), slot.sidecar.generation());
                effects.push(Effect::Order(key, Order::Kill));
            }
        }
        effects
    }

    /// Whether the hub serves, or none is needed.
    pub(super) fn hub_is_there(&self) -> bool {
        !self.needs_hub() || self.hub.ever_up()
    }

    /// A widget as its template of this revision says; as the manifest says where that is gone.
    fn template(&self, id: &WidgetId, revision: Revision) -> Option<&Widget> {
        let declared = self.desired.widget(id);
        if declared.is_some_and(|widget| widget.revision == revision) {
            return declared;
        }
        let kept =
            self.templates.get(id).and_then(|kept| kept.iter().find(|widget| widget.revision == revision));
        kept.or(declared)
    }

    fn tree_of(&self, instance: &InstanceId) -> String {
        self.declared.tree_of(&instance.widget).map(str::to_owned).unwrap_or_default()
    }

    fn start(&mut self, instance: &InstanceId, mut process: Process, now: Timestamp) {
        let tree = self.tree_of(instance);
        let widget = self.template(&instance.widget, process.revision).cloned();
        let slot = self.slots.entry(instance.clone()).or_insert_with(|| Slot::new(tree.clone()));
        if slot.process.as_ref().is_some_and(|running| running.incarnation >= process.incarnation) {
            return;
        }
        if !tree.is_empty() {
            slot.tree = tree;
        }
        slot.signals = None;
        match widget.filter(|widget| widget.process.is_some()) {
            Some(widget) => {
                process = process.of(&widget);
                slot.port = port_of(widget.endpoint, slot.port, self.free_port);
            }
            None => {
                process.failed(
                    StartError::Other,
                    "its manifest gives it no `process`, so it cannot run here",
                    now,
                );
            }
        }
        slot.process = Some(process);
    }

    fn stop(
        &mut self,
        instance: &InstanceId,
        incarnation: u64,
        shutdown: Shutdown,
        now: Timestamp,
    ) -> Vec<Effect> {
        let Some(slot) = self.slots.get_mut(instance) else { return Vec::new() };
        let Some(process) = slot.process.as_mut().filter(|process| process.incarnation == incarnation) else {
            return Vec::new();
        };
        if process.is_configuring() {
            process.ended(End::NeverRan, now);
            return Vec::new();
        }
        if process.is_ended() {
            return Vec::new();
        }
        let key = Key::Widget(instance.clone(), incarnation);
        let first = !process.is_stopping();
        process.stop(shutdown, now);
        match shutdown {
            Shutdown::Brutal => vec![Effect::Order(key, Order::Kill)],
            _ if self.drain == Some(Drain::Forced) => vec![Effect::Order(key, Order::Kill)],
            Shutdown::Graceful(grace) if first => vec![Effect::Order(key, Order::Stop(Some(grace)))],
            Shutdown::Graceful(_) => Vec::new(),
        }
    }

    /// Launches the process that waits in a slot, and raises the fence against those before it.
    pub(super) fn launch(&mut self, instance: &InstanceId) -> Option<Effect> {
        let revision = self.slots.get(instance)?.process.as_ref()?.revision;
        let widget = self.template(&instance.widget, revision)?.clone();
        let slot = self.slots.get_mut(instance)?;
        let process = slot.process.as_mut().filter(|process| process.is_configuring())?;
        let spec = widget.process.as_ref()?;
        process.launching();
        slot.fence = process.incarnation;
        let mut environment: BTreeMap<OsString, OsString> =
            spec.env.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let mut set = |name: &str, value: String| environment.insert(name.into(), value.into());
        if let Some(addresses) = slot.sidecar.addresses() {
            set("KONTROL_SIDECAR_SOCKET", addresses.socket.clone());
            set("KONTROL_SIDECAR_GRPC", format!("http://{}", addresses.grpc));
            set("KONTROL_SIDECAR_HTTP", format!("http://{}", addresses.http));
        }
        set("KONTROL_NAMESPACE", instance.widget.namespace.to_string());
        set("KONTROL_GROUP", instance.widget.group.to_string());
        set("KONTROL_WIDGET", instance.widget.widget.to_string());
        set("KONTROL_ORDINAL", instance.ordinal.to_string());
        set("KONTROL_INCARNATION", process.incarnation.to_string());
        if let Some(port) = slot.port {
            set("PORT", port.to_string());
        }
        let command = WidgetCommand {
            command: spec.command.iter().map(OsString::from).collect(),
            folder: spec.working_dir.clone(),
            environment,
            limits: Limits { ..spec.limits },
            port: slot.port,
        };
        let key = Key::Widget(instance.clone(), process.incarnation);
        Some(Effect::Launch(key, Command::Widget(command)))
    }
}

/// The declared port, or one that is free: the same as before, as far as that goes.
fn port_of(endpoint: Option<Endpoint>, before: Option<u16>, free_port: fn() -> Option<u16>) -> Option<u16> {
    let endpoint = endpoint?;
    endpoint.port.or(before).or_else(free_port)
}
