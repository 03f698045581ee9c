//! How the roll-out of a widget stands, as its status has it.

use kontrol_core::{
    spec::{self, Revision},
    time::Timestamp,
};
use kontrol_crds::{RolloutState, RolloutStatus};
use kontrol_plan::{
    conditions::Finding,
    status::{Reason, Replica, ReplicaPhase, Rollout, Widget},
};

/// All of it. `spec` is the widget as it is declared, where it still is.
pub(super) fn status(widget: &Widget, spec: Option<&spec::Widget>, now: Timestamp) -> RolloutStatus {
    let state = state(widget, spec);
    let newest = newest(widget, spec);
    let good =
        if proven(widget, spec).is_some_and(|at| at <= now) { Some(widget.revision) } else { widget.good };
    let behind = desired(widget).iter().find(|replica| runs(replica) && replica.revision != newest);
    let (from, to) = match (state, &widget.bad) {
        (RolloutState::RollingBack | RolloutState::RolledBack, Some(bad)) => (bad.revision, widget.revision),
        (RolloutState::Complete, _) => (newest, newest),
        _ => (behind.map(|replica| replica.revision).or(widget.good).unwrap_or(widget.revision), newest),
    };
    RolloutStatus {
        state,
        updated_replicas: updated(widget, spec),
        current_revision: Some(from.to_string()),
        update_revision: Some(to.to_string()),
        last_good_revision: good.map(|good| good.to_string()),
        message: message(widget, spec, state),
    }
}

/// Replicas of the newest revision.
pub(super) fn updated(widget: &Widget, spec: Option<&spec::Widget>) -> u32 {
    let newest = newest(widget, spec);
    super::count(widget.replicas.iter().filter(|replica| runs(replica) && replica.revision == newest).count())
}

/// When a revision will have run well for long enough to be gone back to; none: it does not run so, or that is noted.
pub(super) fn proven(widget: &Widget, spec: Option<&spec::Widget>) -> Option<Timestamp> {
    let period = spec?.intensity.period;
    let complete = widget.complete.filter(|_| widget.good != Some(widget.revision))?;
    Some(complete.plus(period))
}

/// The revision that is declared, as far as that is known.
fn newest(widget: &Widget, spec: Option<&spec::Widget>) -> Revision {
    spec.map_or(widget.revision, |spec| spec.revision)
}

fn desired(widget: &Widget) -> &[Replica] {
    widget.replicas.get(..widget.desired as usize).unwrap_or(&widget.replicas)
}

/// Whether a process of it runs, or is started, from the revision that is noted. One that is being stopped has that of the next.
fn runs(replica: &Replica) -> bool {
    matches!(replica.phase, ReplicaPhase::Starting | ReplicaPhase::Up | ReplicaPhase::Failing { .. })
}

/// Whether the declared revision has not been turned to yet.
fn waits(widget: &Widget, spec: Option<&spec::Widget>) -> bool {
    let is_bad = |revision| widget.bad.as_ref().is_some_and(|bad| bad.revision == revision);
    spec.is_some_and(|spec| spec.revision != widget.revision && !is_bad(spec.revision))
}

fn state(widget: &Widget, spec: Option<&spec::Widget>) -> RolloutState {
    let waits = waits(widget, spec);
    let moves = |replica: &Replica| {
        replica.revision != widget.revision
            || matches!(replica.phase, ReplicaPhase::Starting | ReplicaPhase::Stopping)
    };
    let mixed = || desired(widget).iter().any(|replica| replica.revision != widget.revision);
    let paused = spec.is_some_and(|spec| spec.rollout.paused);
    let on_its_way = matches!(widget.rollout, Some(Rollout { complete: None, .. })) && widget.desired > 0;
    match (&widget.bad, widget.rollout) {
        (Some(_), _) if !waits && desired(widget).iter().any(moves) => RolloutState::RollingBack,
        (Some(_), _) if !waits => RolloutState::RolledBack,
        (_, Some(Rollout { stalled: true, .. })) if !waits => RolloutState::Failed,
        _ if paused && (waits || mixed() || on_its_way) => RolloutState::Paused,
        _ if waits || on_its_way => RolloutState::Progressing,
        _ => RolloutState::Complete,
    }
}

fn message(widget: &Widget, spec: Option<&spec::Widget>, state: RolloutState) -> Option<String> {
    Some(match state {
        RolloutState::Complete => return None,
        RolloutState::Paused => "it stands still because spec.rollout.paused is true".to_owned(),
        RolloutState::Progressing if waits(widget, spec) => {
            "it waits for its turn: other work in its group is under way".to_owned()
        }
        RolloutState::Progressing => {
            let newest = newest(widget, spec);
            let ready =
                desired(widget).iter().filter(|replica| replica.ready && replica.revision == newest).count();
            format!("{ready} of {} replicas have the new revision and are ready", widget.desired)
        }
        RolloutState::Failed => format!(
            "revision {} has no good end: it made no progress within its deadline, or had more ends than its intensity bears, and is not returned from",
            widget.revision
        ),
        RolloutState::RollingBack | RolloutState::RolledBack => {
            let bad = widget.bad.as_ref()?;
            let because = bad.because.as_deref().map(|because| format!(" ({})", because.first().event));
            let (failed, why) = (bad.revision, bad.why);
            let what = if state == RolloutState::RolledBack {
                "all replicas have the last good revision again"
            } else {
                "replicas go back to the last good revision"
            };
            format!(
                "revision {failed} failed: {why}{}; {what}, {}",
                because.unwrap_or_default(),
                widget.revision
            )
        }
    })
}

/// The condition `Progressing`. The plan tells it from what it has turned to; what is declared and waits is on its way as well.
pub(super) fn progressing(planned: Finding, widget: &Widget, spec: Option<&spec::Widget>) -> Finding {
    match (planned.reason, state(widget, spec)) {
        (Reason::RolledOut, RolloutState::Paused) => Finding { reason: Reason::Paused, ..planned },
        (Reason::RolledOut, RolloutState::Progressing) => Finding { reason: Reason::RollingOut, ..planned },
        (Reason::RollingOut, RolloutState::Complete) => Finding { reason: Reason::RolledOut, ..planned },
        _ => planned,
    }
}

/// What that means, in one line.
pub(super) fn said(reason: Reason) -> &'static str {
    match reason {
        Reason::RolledOut => "all replicas have the newest revision",
        Reason::RollingOut => "a new revision is on its way",
        Reason::Paused => "a new revision waits, because spec.rollout.paused is true",
        Reason::RolloutStalled => "the new revision does not come further, and is not returned from",
        Reason::Returned => "the new revision failed, and the last good one runs again",
        _ => "",
    }
}
