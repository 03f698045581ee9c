//! Holding the lease: renews while it is ours, waits while it is another's, gives it up at the end.

use std::time::Duration;

use kontrol_core::time::Timestamp;
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    client::Client,
    kind::Kind,
    lease::{Candidate, Lease, Verdict, evaluate},
    request::{Outcome, Request, Verb},
};
use crate::clock;

/// The most that passes between two looks at another's lease.
const LOOK: Duration = Duration::from_millis(500);

/// Takes part until `stop`, and says in `leads` until when this process may act: a leader that could not renew in time stops acting
/// before another one may begin.
pub(super) async fn run(
    client: Client,
    candidate: Candidate,
    renew: Duration,
    leads: watch::Sender<Option<Timestamp>>,
    stop: CancellationToken,
) {
    let mut seen: Option<(Lease, Timestamp)> = None;
    loop {
        let asked = clock::now();
        let pause = look(&client, &candidate, renew, &mut seen, asked, &leads).await;
        if leads.borrow().is_some_and(|until| until <= clock::now()) {
            tracing::warn!("the lease could not be renewed in time: this process no longer leads");
            leads.send_replace(None);
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = sleep(pause) => {}
        }
    }
    if leads.send_replace(None).is_some()
        && let Some((lease, _)) = seen
    {
        let given = client.send(&candidate.give_up(&lease, clock::now())).await;
        tracing::info!(outcome = given.as_str(), "the lease was given up");
    }
}

/// Looks at the lease once and does what it asks for; gives the time to the next look.
async fn look(
    client: &Client,
    candidate: &Candidate,
    renew: Duration,
    seen: &mut Option<(Lease, Timestamp)>,
    now: Timestamp,
    leads: &watch::Sender<Option<Timestamp>>,
) -> Duration {
    // What one wrote oneself need not be read again.
    let held = leads.borrow().is_some();
    if !held {
        let request = Request::new(Verb::Get, Kind::Lease, &candidate.namespace, &candidate.name);
        match client.send(&request).await {
            done @ Outcome::Done(_) => note(seen, Lease::read(&done.value()), clock::now()),
            Outcome::Gone(_) => *seen = None,
            other => {
                tracing::warn!(message = other.message(), "the lease cannot be read");
                return LOOK;
            }
        }
    }
    let verdict = evaluate(seen.as_ref().map(|(lease, since)| (lease, *since)), &candidate.me, now);
    if let Verdict::Wait(until) = verdict {
        return until.since(clock::now()).min(LOOK).max(Duration::from_millis(10));
    }
    let lease = seen.as_ref().map(|(lease, _)| lease);
    let Some(request) = candidate.request(&verdict, lease, now) else { return LOOK };
    match client.send(&request).await {
        done @ Outcome::Done(_) => {
            note(seen, Lease::read(&done.value()), clock::now());
            let was = leads.send_replace(Some(now.plus(candidate.duration)));
            if was.is_none() {
                tracing::info!(identity = candidate.me, "this process leads");
            }
            renew
        }
        // Whoever wrote it in between is to be seen first.
        Outcome::Conflict(_) | Outcome::Exists(_) | Outcome::Gone(_) => {
            if leads.send_replace(None).is_some() {
                tracing::warn!("another process has the lease: this one no longer leads");
            }
            Duration::from_millis(50)
        }
        other => {
            tracing::warn!(message = other.message(), "the lease cannot be written");
            renew.min(LOOK)
        }
    }
}

/// Takes note of a lease; one that did not change keeps its time.
fn note(seen: &mut Option<(Lease, Timestamp)>, lease: Option<Lease>, now: Timestamp) {
    let Some(lease) = lease else {
        *seen = None;
        return;
    };
    if seen.as_ref().is_none_or(|(old, _)| old.resource_version != lease.resource_version) {
        *seen = Some((lease, now));
    }
}
