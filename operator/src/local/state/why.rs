//! The answer to "why is it so?": what something is and waits for, and what led to it.

use std::time::Duration;

use kontrol_core::{
    duration,
    id::{ObjectId, WidgetId},
    spec::{self, ScalingClass},
    time::Timestamp,
};
use kontrol_plan::{
    InstanceState, Status,
    event::Cause,
    status::{Inner, Node, NodePhase, Reason, Slot as Child, SlotPhase, Widget},
};
use kontrol_proto::v1;

use super::{Named, State, told};
use crate::local::{desired::replicas_rule, folder::Written};

impl State {
    /// Why it is as it is.
    pub fn why(&self, named: &Named, now: Timestamp) -> v1::WhyResponse {
        match named {
            Named::Widget(id) => self.why_widget(id, now),
            Named::Group(id) | Named::Supervisor(id) => self.why_node(id, now),
        }
    }

    fn why_node(&self, id: &ObjectId, now: Timestamp) -> v1::WhyResponse {
        let Some((root, status)) = self.status_of(id) else {
            return answer(vec![format!("{} has not been started yet", id.name)], None);
        };
        let mut lines = vec![match halted(root, now) {
            _ if status.conditions.ready.status => format!("{} is Ready", id.name),
            Some(halted) => format!("{} is not Ready: {halted}", id.name),
            None => format!("{} is not Ready: {}", id.name, in_words(status.conditions.ready.reason)),
        }];
        let mut intensity = None;
        match self.desired.node(id) {
            Some(spec::Node::Group(group)) => {
                intensity = Some(group.intensity);
                for widget in &group.widgets {
                    let ready = child(status, widget).map_or(0, |(_, widget)| widget.ready());
                    let desired = child(status, widget).map_or(widget.replicas, |(_, widget)| widget.desired);
                    lines.push(format!("{}: {ready} of {desired} ready", widget.id.widget));
                }
            }
            Some(spec::Node::Supervisor(supervisor)) => intensity = Some(supervisor.intensity),
            None => {}
        }
        if let Some(intensity) = intensity {
            let window = now.minus(intensity.period);
            let counted = status.restarts.iter().filter(|at| **at >= window).count();
            lines.push(format!(
                "epoch {}, {counted} of {} restarts in {}",
                status.epoch,
                intensity.max_restarts,
                duration::format(intensity.period)
            ));
        }
        answer(lines, status.last.as_deref())
    }

    fn why_widget(&self, id: &WidgetId, now: Timestamp) -> v1::WhyResponse {
        let object = ObjectId { namespace: id.namespace.clone(), name: id.group.clone() };
        let found = self.status_of(&object).and_then(|(root, group)| {
            let (slot, widget) = child(group, self.desired.widget(id)?)?;
            Some((root, group, slot, widget))
        });
        let Some((root, group, slot, widget)) = found else {
            return answer(vec![format!("{}/{} has not been started yet", id.group, id.widget)], None);
        };
        let mut lines = vec![self.replicas_line(id, widget)];
        lines.extend(waits(root, group, slot, now).map(|why| format!("it does not run: {why}")));
        for (instance, place) in self.slots.iter().filter(|(instance, _)| instance.widget == *id) {
            let Some(process) = &place.process else { continue };
            let said = place.signals.as_ref().map(|(_, signals)| signals.message.as_str());
            let said = said.filter(|said| !said.is_empty());
            lines.push(format!(
                "replica {}: {} for {}, incarnation {}, epoch {}{}",
                instance.ordinal,
                state_in_words(process.state()),
                whole(now.since(process.since())),
                process.incarnation,
                process.epoch,
                said.map(|said| format!(": {said}")).unwrap_or_default()
            ));
        }
        let concerns = group.last.as_deref().filter(|last| {
            let leaf = last.chain().last();
            widget.last.as_deref().is_some_and(|own| leaf.is_some_and(|leaf| leaf.event == own.event))
        });
        answer(lines, concerns.or(widget.last.as_deref()))
    }

    fn replicas_line(&self, id: &WidgetId, status: &Widget) -> String {
        let count = match status.desired {
            1 => "1 replica".to_owned(),
            count => format!("{count} replicas"),
        };
        let Some(widget) = self.desired.widget(id).filter(|widget| replicas_rule(widget)) else {
            let reason = status.scaling.as_ref().map(|scaling| format!(": {}", scaling.reason));
            return format!("{count}{}", reason.unwrap_or_default());
        };
        let external = widget.scaling.as_ref().is_some_and(|scaling| scaling.class == ScalingClass::External);
        let class = if external { "; its scaling is External" } else { "" };
        match self.written.scaled.get(&Written::scaled_key(id)) {
            Some(scaled) => {
                format!("{count}: set by `kontrol scale` (its manifest says {}{class})", scaled.manifest)
            }
            None => format!("{count}: as its manifest says (spec.replicas{class})"),
        }
    }

    /// The status of an object, and that of its tree.
    fn status_of(&self, id: &ObjectId) -> Option<(&Status, &Node)> {
        self.written.trees.values().find_map(|status| {
            let node = find_node(status.root.as_deref()?, id)?;
            Some((status, node))
        })
    }
}

fn find_node<'a>(node: &'a Node, id: &ObjectId) -> Option<&'a Node> {
    if node.id == *id {
        return Some(node);
    }
    node.children.iter().find_map(|slot| match &slot.inner {
        Inner::Node(inner) => find_node(inner, id),
        Inner::Widget(_) => None,
    })
}

/// A widget's place in its group.
fn child<'a>(group: &'a Node, widget: &spec::Widget) -> Option<(&'a Child, &'a Widget)> {
    let slot = group.children.iter().find(|slot| slot.key.name == widget.id.widget)?;
    match &slot.inner {
        Inner::Widget(widget) => Some((slot, widget)),
        Inner::Node(_) => None,
    }
}

/// Why a whole tree stands still.
fn halted(root: &Status, now: Timestamp) -> Option<String> {
    let exhausted = root.exhausted?;
    let down = root.root.as_ref().is_none_or(|node| matches!(node.phase, NodePhase::Down(_)));
    match exhausted.until {
        _ if !down => None,
        Some(until) => Some(format!("it is started again in {}", whole(until.since(now)))),
        None => Some("it stays stopped until its manifest changes or `kontrol restart` is called".to_owned()),
    }
}

/// What a widget that does not run waits for.
fn waits(root: &Status, group: &Node, slot: &Child, now: Timestamp) -> Option<String> {
    match slot.phase {
        SlotPhase::Ended | SlotPhase::Forgotten => {
            Some("it has ended, and its restart type leaves it so".to_owned())
        }
        SlotPhase::Waiting => {
            halted(root, now).map(|halted| format!("{}: {halted}", group.id.name)).or_else(|| {
                let before = group.children.iter().take_while(|other| other.key != slot.key);
                let first = before.into_iter().find(|other| other.phase != SlotPhase::Up);
                let first = first.map(|other| format!("{} has to be started before it", other.key));
                Some(first.unwrap_or_else(|| {
                    format!("{}: {}", group.id.name, in_words(group.conditions.ready.reason))
                }))
            })
        }
        _ => None,
    }
}

fn in_words(reason: Reason) -> &'static str {
    match reason {
        Reason::AllReady | Reason::Settled => "nothing is under way",
        Reason::NotReady => "a replica is not ready",
        Reason::Starting => "it is being started",
        Reason::Restarting => "it is being restarted",
        Reason::Changing => "it follows its manifest",
        Reason::Stopping => "it is being stopped",
        Reason::BackingOff => "it pauses before it is started again",
        Reason::Exhausted => "it stays stopped",
        Reason::ShutDown => "it shut down when its significant child had ended",
        Reason::Stopped => "it is not to run",
        Reason::Waiting => "it waits to be started",
    }
}

fn state_in_words(state: InstanceState) -> String {
    match state {
        InstanceState::Ended(end) => format!("ended ({end})"),
        InstanceState::NotReady => "not Ready".to_owned(),
        state => format!("{state:?}"),
    }
}

/// In whole seconds.
fn whole(duration: Duration) -> String {
    duration::format(Duration::from_secs(duration.as_secs()))
}

fn answer(lines: Vec<String>, last: Option<&Cause>) -> v1::WhyResponse {
    let chain = last.into_iter().flat_map(Cause::chain);
    v1::WhyResponse {
        lines,
        chain: chain
            .map(|cause| v1::WhyCause { at_micros: cause.at.as_micros(), text: told(&cause.event).1 })
            .collect(),
    }
}
