//! What inputs do to the state.

use std::sync::Arc;

use kontrol_core::{code::Code, id::InstanceId, time::Timestamp};
use kontrol_plan::{End, RestartRequest, StartError};
use kontrol_proto::v1;

use super::{Drain, Effect, Input, Key, Report, State};
use crate::{
    authority::HUB,
    control::{Closed, Event, Upward},
    local::{desired::Desired, logs::Level},
    view,
};

/// How many earlier templates of a widget are kept.
const TEMPLATES: usize = 10;

impl State {
    /// Takes note of an input.
    pub fn take(&mut self, input: Input, now: Timestamp) -> Vec<Effect> {
        match input {
            Input::Manifest(desired) => {
                self.manifest(desired);
                Vec::new()
            }
            Input::Process(key, report) => self.process(&key, report, now),
            Input::Control(event) => self.control(event, now),
            Input::Restart(target) => {
                self.requests.retain(|request| request.target != target);
                self.requests.push(RestartRequest { target, at: now });
                Vec::new()
            }
            Input::Scale(widget, replicas) => {
                let mut desired = Desired::clone(&self.desired);
                let before = desired.set_replicas(&widget, replicas, &mut self.written);
                self.declare(desired);
                let told = before.filter(|before| *before != replicas).map(|before| {
                    let text = format!(
                        "{}/{} scales from {before} to {replicas}: as asked",
                        widget.group, widget.widget
                    );
                    Effect::Say(Level::Info, text)
                });
                told.into_iter().collect()
            }
            Input::Drain { force } => {
                self.drain = Some(if force { Drain::Forced } else { self.drain.unwrap_or(Drain::Asked) });
                if force { self.kill_all() } else { Vec::new() }
            }
        }
    }

    fn manifest(&mut self, mut desired: Desired) {
        desired.scale(&mut self.written);
        self.declare(desired);
    }

    fn declare(&mut self, desired: Desired) {
        for widget in self.desired.widgets() {
            let kept = self.templates.entry(widget.id.clone()).or_default();
            kept.retain(|template| template.revision != widget.revision);
            kept.push(widget.clone());
            let more = kept.len().saturating_sub(TEMPLATES);
            kept.drain(..more);
        }
        self.declared = desired.declared();
        self.desired = Arc::new(desired);
        self.generation += 1;
    }

    fn process(&mut self, key: &Key, report: Report, now: Timestamp) -> Vec<Effect> {
        match key {
            Key::Widget(instance, incarnation) => self.widget_report(instance, *incarnation, report, now),
            Key::Sidecar(instance, generation) => {
                let Some(slot) = self.slots.get_mut(instance) else { return Vec::new() };
                if slot.sidecar.generation() != *generation {
                    return Vec::new();
                }
                if let Report::Started { pid } = report {
                    slot.sidecar.started(pid);
                    return Vec::new();
                }
                slot.signals = None;
                slot.sent = None;
                let by_itself = slot.sidecar.ended(now);
                companion_ended(by_itself, &format!("the sidecar of {instance:#}"), &report)
            }
            Key::Hub(generation) => {
                if self.hub.generation() != *generation {
                    return Vec::new();
                }
                if let Report::Started { pid } = report {
                    self.hub.started(pid);
                    return Vec::new();
                }
                self.queues.clear();
                self.hub_sent = None;
                companion_ended(self.hub.ended(now), "the hub", &report)
            }
        }
    }

    fn widget_report(
        &mut self,
        instance: &InstanceId,
        incarnation: u64,
        report: Report,
        now: Timestamp,
    ) -> Vec<Effect> {
        let slot = self.slots.get_mut(instance);
        let Some(process) =
            slot.and_then(|slot| slot.process.as_mut()).filter(|process| process.incarnation == incarnation)
        else {
            return Vec::new();
        };
        let name = format!("{instance:#}");
        let say = |level, text: String| vec![Effect::Say(level, text)];
        match report {
            Report::Started { pid } => {
                process.started(pid, now);
                Vec::new()
            }
            Report::Failed { error, reason } => {
                process.failed(error, &reason, now);
                if error == StartError::PortTaken {
                    self.give_up_port(instance);
                }
                Vec::new()
            }
            Report::Ended { code, signal, left } => {
                let asked = process.is_stopping().then(|| now.since(process.since()));
                let killed = signal == Some(9);
                let end = match (code, signal) {
                    (Some(code), _) => End::Exited(code),
                    (None, Some(signal)) => End::Signalled(signal),
                    (None, None) => End::Lost,
                };
                process.ended(end, now);
                match asked {
                    Some(_) if killed && self.drain == Some(Drain::Forced) => {
                        say(Level::Info, format!("{name} was killed"))
                    }
                    Some(_) if killed && process.is_brutal() => {
                        say(Level::Info, format!("{name} was killed, as its shutdown policy says"))
                    }
                    Some(after) if killed => {
                        let (code, millis) = (Code::StopTimedOut, after.as_millis());
                        let text = format!(
                            "{code}: {name} did not end within {millis} ms of SIGTERM and was killed"
                        );
                        say(Level::Warn, text)
                    }
                    Some(after) => {
                        say(Level::Info, format!("{name} has stopped after {} ms", after.as_millis()))
                    }
                    None if left > 0 => {
                        let processes = if left == 1 { "process" } else { "processes" };
                        let code = Code::LeftProcesses;
                        let text = format!("{code}: {name} left {left} {processes} behind; all are killed");
                        say(Level::Warn, text)
                    }
                    None => Vec::new(),
                }
            }
            Report::Lost => {
                process.lost("its shim ended, and what was left of it was killed", now);
                Vec::new()
            }
        }
    }

    /// Somebody else listens on the port that the widget was given: it gets another one, unless its manifest says that one.
    fn give_up_port(&mut self, instance: &InstanceId) {
        let declared = self.desired.widget(&instance.widget).and_then(|widget| widget.endpoint?.port);
        if let Some(slot) = self.slots.get_mut(instance).filter(|_| declared.is_none()) {
            slot.port = None;
        }
    }

    fn control(&mut self, event: Event, now: Timestamp) -> Vec<Effect> {
        match event {
            Event::Opened { id, hello, session } if hello.subject == HUB => {
                let first = !self.hub.ever_up();
                self.hub.opened(id, session, &hello);
                self.hub_sent = None;
                let text = || format!("the hub is up at {}", hello.peer);
                first.then(|| Effect::Say(Level::Info, text())).into_iter().collect()
            }
            Event::Opened { id, hello, session } => {
                if let Some(slot) = slot_of(&mut self.slots, &hello.subject) {
                    slot.sidecar.opened(id, session, &hello);
                    slot.sent = None;
                }
                self.all_sidecars_are_up().into_iter().collect()
            }
            Event::Closed { id, subject } if subject == HUB => {
                let Closed::Current(former) = self.hub.closed(id) else { return Vec::new() };
                self.queues.clear();
                former.into_iter().map(Effect::End).collect()
            }
            Event::Closed { id, subject } => {
                let Some(slot) = slot_of(&mut self.slots, &subject) else { return Vec::new() };
                let Closed::Current(former) = slot.sidecar.closed(id) else { return Vec::new() };
                slot.signals = None;
                slot.sent = None;
                former.into_iter().map(Effect::End).collect()
            }
            Event::Said { id, message: Upward::Hub(signals), .. } => {
                if self.hub.session_id() == Some(id) {
                    self.hub_signals(signals, now);
                }
                Vec::new()
            }
            Event::Said { id, subject, message } => {
                let Ok(instance) = subject.parse::<InstanceId>() else { return Vec::new() };
                let known =
                    self.slots.get(&instance).is_some_and(|slot| slot.sidecar.session_id() == Some(id));
                match message {
                    Upward::Applied(applied) if known => self.applied(&instance, &applied),
                    Upward::Signals(mut signals) if known => {
                        view::signals::cut(&mut signals);
                        if let Some(slot) = self.slots.get_mut(&instance) {
                            if let Some(process) = &mut slot.process {
                                process.hears(&signals, now);
                            }
                            slot.signals = Some((now, signals));
                        }
                    }
                    _ => {}
                }
                Vec::new()
            }
        }
    }

    /// Told once: that of every replica the sidecar is there.
    fn all_sidecars_are_up(&mut self) -> Option<Effect> {
        if self.sidecars_told || !self.slots.values().all(|slot| slot.sidecar.ever_up()) {
            return None;
        }
        self.sidecars_told = true;
        let text = match self.slots.len() {
            1 => "the sidecar is up".to_owned(),
            count => format!("{count} sidecars are up"),
        };
        Some(Effect::Say(Level::Info, text))
    }

    fn applied(&mut self, instance: &InstanceId, applied: &v1::Applied) {
        if let Some(process) = self.slots.get_mut(instance).and_then(|slot| slot.process.as_mut()) {
            process.applied(applied.incarnation);
        }
    }

    fn hub_signals(&mut self, signals: v1::HubSignals, now: Timestamp) {
        for queue in signals.subscriptions {
            let key = (queue.namespace.clone(), queue.topic.clone(), queue.subscription.clone());
            self.queues.insert(key, (now, queue));
        }
    }
}

fn slot_of<'a>(
    slots: &'a mut std::collections::BTreeMap<InstanceId, super::Slot>,
    subject: &str,
) -> Option<&'a mut super::Slot> {
    slots.get_mut(&subject.parse::<InstanceId>().ok()?)
}

fn companion_ended(by_itself: bool, name: &str, report: &Report) -> Vec<Effect> {
    if !by_itself {
        return Vec::new();
    }
    let how = match report {
        Report::Failed { reason, .. } => reason.clone(),
        Report::Ended { code: Some(code), .. } => format!("exit code {code}"),
        Report::Ended { signal: Some(signal), .. } => format!("signal {signal}"),
        _ => "its shim ended".to_owned(),
    };
    let text = format!("{}: {name} ended ({how}) and is started again", Code::SidecarEnded);
    vec![Effect::Say(Level::Warn, text)]
}
