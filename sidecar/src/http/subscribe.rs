//! `GET /v1/topics/{topic}/subscribe`: a durable subscription as server-sent events.
//!
//! `credits` is a window: so many messages are with the client at once, and each one that it settles makes room for the next. The client
//! settles by requests of its own ([`super::settle`]), which name the session that the first event gave it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{extract::State, response::Response};
use bytes::Bytes;
use futures::stream;
use kontrol_core::code::Code;
use serde::Deserialize;
use tokio::{sync::watch, time::timeout};

use super::{
    Door, KEEP_ALIVE, Problem,
    request::{Parameters, Segments, invalid},
    sse,
};
use crate::{
    bus::too_late,
    cloudevents,
    service::{Delivery, Error, Outcome, Subscription, SubscriptionControl, SubscriptionEvent},
};

/// Messages that are with a client at once where it names no number.
const CREDITS: u32 = 16;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    #[serde(default)]
    subscription: String,
    credits: Option<u32>,
}

pub(super) async fn subscribe(
    State(door): State<Door>,
    Segments(topic): Segments<String>,
    Parameters(query): Parameters<Query>,
) -> Result<Response, Problem> {
    let credits = query.credits.unwrap_or(CREDITS);
    if credits == 0 {
        return Err(invalid("credits", "credits=0 would deliver nothing; name at least 1".to_owned()));
    }
    let subscription = door.service.subscribe(&topic, &query.subscription, credits).await?;
    let session = Arc::new(Session { control: subscription.control(), held: Mutex::default() });
    let id = uuid::Uuid::new_v4().to_string();
    door.sessions.lock().insert(id.clone(), Arc::clone(&session));
    let guard = Guard { sessions: Arc::clone(&door.sessions), id };
    let open =
        Open { guard, session, subscription, draining: door.service.draining(), phase: Phase::Opening };
    Ok(sse::response(
        sse::MEDIA_TYPE,
        stream::unfold(open, |mut open| async move {
            let bytes = open.next().await?;
            Some((bytes, open))
        }),
    ))
}

/// The open sessions, by their ids.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<String, Arc<Session>>>);

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Session>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session of an id.
    pub(super) fn get(&self, id: &str) -> Option<Arc<Session>> {
        self.lock().get(id).cloned()
    }
}

/// Takes the session out when its stream has gone.
#[derive(Debug)]
struct Guard {
    sessions: Arc<Sessions>,
    id: String,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.sessions.lock().remove(&self.id);
    }
}

/// What requests to settle have of an open stream.
#[derive(Debug)]
pub(super) struct Session {
    control: SubscriptionControl,
    /// Deliveries that the client has and has not settled.
    held: Mutex<BTreeSet<u64>>,
}

impl Session {
    fn held(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Settles a delivery; a final outcome makes room for the next message. With `confirm`, resolves when it is durable, and not before does
    /// it make room.
    pub(super) async fn settle(&self, delivery: u64, outcome: &Outcome, confirm: bool) -> Result<(), Error> {
        if !self.held().contains(&delivery) {
            return Err(too_late(delivery));
        }
        let settled = if confirm && outcome.is_final() {
            match self.control.confirm(delivery, outcome) {
                Ok(confirmed) => confirmed.await,
                Err(error) => Err(error),
            }
        } else {
            self.control.settle(delivery, outcome, false)
        };
        match &settled {
            Ok(()) if outcome.is_final() => self.release(delivery),
            Ok(()) => {}
            Err(error) => self.refused(delivery, error),
        }
        settled
    }

    /// A settlement was refused: the client has the delivery still where it can be settled again.
    fn refused(&self, delivery: u64, error: &Error) {
        if matches!(error.code, Code::UnknownDelivery | Code::SettleUncertain) {
            self.release(delivery);
        }
    }

    /// The client has been given a delivery.
    fn hold(&self, delivery: u64) {
        self.held().insert(delivery);
    }

    /// The client has a delivery no longer: there is room for the next message.
    fn release(&self, delivery: u64) {
        if self.held().remove(&delivery) {
            self.control.credit(1);
        }
    }

    /// Everything that was held is lost: it comes again.
    fn forget(&self) {
        let held = std::mem::take(&mut *self.held()).len();
        self.control.credit(u32::try_from(held).unwrap_or(u32::MAX));
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Opening,
    Open,
    Over,
}

/// The stream of events. Dropped, it ends the subscription and gives back what was not settled.
struct Open {
    guard: Guard,
    session: Arc<Session>,
    subscription: Subscription,
    draining: watch::Receiver<Option<Duration>>,
    phase: Phase,
}

impl Open {
    async fn next(&mut self) -> Option<Bytes> {
        match self.phase {
            Phase::Opening => {
                self.phase = Phase::Open;
                let opened = serde_json::json!({
                    "session": self.guard.id,
                    "topic": self.subscription.topic(),
                    "subscription": self.subscription.name(),
                });
                Some(sse::event("open", None, &opened.to_string()))
            }
            Phase::Open => self.event().await,
            Phase::Over => None,
        }
    }

    async fn event(&mut self) -> Option<Bytes> {
        loop {
            let drained = async {
                // No sender any more: the sidecar is going down as well.
                drop(self.draining.wait_for(Option::is_some).await);
                if !self.session.held().is_empty() {
                    std::future::pending::<()>().await;
                }
            };
            let event = tokio::select! {
                event = timeout(KEEP_ALIVE, self.subscription.next()) => event,
                () = drained => return None,
            };
            return match event {
                Err(_) => Some(sse::COMMENT),
                Ok(None) => None,
                Ok(Some(Err(error))) => {
                    self.phase = Phase::Over;
                    Some(sse::event("error", None, &Problem::from(error).to_json()))
                }
                Ok(Some(Ok(SubscriptionEvent::Settled(delivery)))) => {
                    // The request that waits for it may have been given up.
                    self.session.release(delivery);
                    Some(sse::event("settled", None, &serde_json::json!({"delivery": delivery}).to_string()))
                }
                Ok(Some(Ok(SubscriptionEvent::Refused(delivery, error)))) => {
                    self.session.refused(delivery, &error);
                    let problem = Problem::from(error).to_json();
                    Some(sse::event(
                        "refused",
                        None,
                        &format!(r#"{{"delivery":{delivery},"problem":{problem}}}"#),
                    ))
                }
                Ok(Some(Ok(SubscriptionEvent::Lapsed(delivery)))) => {
                    self.session.release(delivery);
                    continue;
                }
                Ok(Some(Ok(SubscriptionEvent::Reopened))) => {
                    self.session.forget();
                    Some(sse::event("reopened", None, "{}"))
                }
                Ok(Some(Ok(SubscriptionEvent::Delivery(delivery)))) => match message(&delivery) {
                    Ok(text) => {
                        self.session.hold(delivery.delivery);
                        Some(sse::event("message", Some(delivery.delivery), &text))
                    }
                    Err(error) => {
                        self.refuse(&delivery, &error);
                        continue;
                    }
                },
            };
        }
    }

    /// A message that cannot be written as a `CloudEvent` will never be: it goes to the dead letter topic.
    fn refuse(&self, delivery: &Delivery, error: &cloudevents::Error) {
        tracing::warn!(topic = delivery.topic, id = delivery.event.id, %error, "the message cannot be delivered");
        let outcome = Outcome::Term { reason: error.to_string() };
        // A lease that is lost by now has been given to somebody else.
        drop(self.session.control.settle(delivery.delivery, &outcome, false));
        self.session.control.credit(1);
    }
}

/// The event with what a widget must know of its delivery beside.
fn message(delivery: &Delivery) -> Result<String, cloudevents::Error> {
    cloudevents::to_json(
        &delivery.event,
        &[
            ("kontroldelivery", delivery.delivery),
            ("kontrolsequence", delivery.sequence),
            ("kontrolattempt", delivery.attempt.into()),
            ("kontrolmaxattempts", delivery.max_attempts.into()),
        ],
    )
}
