//! `kontrol.v1.Topics`.

use std::{pin::Pin, time::Duration};

use futures::{FutureExt, Stream, stream};
use kontrol_core::code::Code;
use kontrol_proto::v1::{self, subscribe_request as ask, subscribe_response as tell};
use tonic::{Request, Response, Status, Streaming};

use super::{deadline, pipeline::Pipeline};
use crate::service::{Error, Event, Outcome, Service, Subscription, SubscriptionEvent};

/// See the module.
pub(super) struct Door(pub(super) Service);

fn missing(what: &str) -> Error {
    Error::new(Code::InvalidRequest, "", format!("the request has no {what}"))
}

#[tonic::async_trait]
impl v1::topics_server::Topics for Door {
    async fn publish(
        &self,
        request: Request<v1::PublishRequest>,
    ) -> Result<Response<v1::PublishResponse>, Status> {
        let deadline = deadline(request.metadata());
        let v1::PublishRequest { topic, event } = request.into_inner();
        let event: Event = event.ok_or_else(|| missing("event"))?;
        let published = self.0.publish(&topic, event, deadline).await?;
        Ok(Response::new(published.into()))
    }

    type PublishStreamStream = Pipeline<Streaming<v1::PublishStreamRequest>>;

    async fn publish_stream(
        &self,
        request: Request<Streaming<v1::PublishStreamRequest>>,
    ) -> Result<Response<Self::PublishStreamStream>, Status> {
        let service = self.0.clone();
        let publish = move |request| {
            let v1::PublishRequest { topic, event } = request;
            service.publish(&topic, event.unwrap_or_default(), None).boxed()
        };
        Ok(Response::new(Pipeline::new(request.into_inner(), publish)))
    }

    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<v1::SubscribeResponse, Status>> + Send>>;

    async fn subscribe(
        &self,
        request: Request<Streaming<v1::SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let session =
            Session { service: self.0.clone(), requests: request.into_inner(), phase: Phase::Opening };
        Ok(Response::new(Box::pin(stream::unfold(session, Session::step))))
    }
}

/// A subscription at the door.
struct Session {
    service: Service,
    requests: Streaming<v1::SubscribeRequest>,
    phase: Phase,
}

enum Phase {
    Opening,
    Open(Subscription),
    Over,
}

type Step = Option<(Result<v1::SubscribeResponse, Status>, Session)>;

impl Session {
    async fn step(mut self) -> Step {
        let event = match self.phase {
            Phase::Opening => self.open().await,
            Phase::Open(_) => self.next().await,
            Phase::Over => return None,
        };
        match event {
            Ok(Some(event)) => Some((Ok(v1::SubscribeResponse { event: Some(event) }), self)),
            Ok(None) => None,
            Err(status) => {
                self.phase = Phase::Over;
                Some((Err(status), self))
            }
        }
    }

    async fn open(&mut self) -> Result<Option<tell::Event>, Status> {
        let Some(request) = self.requests.message().await? else { return Ok(None) };
        let Some(ask::Action::Open(open)) = request.action else {
            let message = "a subscription begins with open";
            return Err(Error::new(Code::OutOfOrder, "", message).into());
        };
        let subscription = self.service.subscribe(&open.topic, &open.subscription, open.credits).await?;
        let opened = tell::Opened {
            topic: subscription.topic().to_owned(),
            subscription: subscription.name().to_owned(),
        };
        self.phase = Phase::Open(subscription);
        Ok(Some(tell::Event::Opened(opened)))
    }

    async fn next(&mut self) -> Result<Option<tell::Event>, Status> {
        let Phase::Open(subscription) = &mut self.phase else { return Ok(None) };
        loop {
            tokio::select! {
                biased;
                request = self.requests.message() => match request? {
                    Some(request) => if let Some(event) = act(subscription, request)? {
                        return Ok(Some(event));
                    },
                    None => return Ok(None),
                },
                event = subscription.next() => match event {
                    None => return Ok(None),
                    Some(Err(error)) => return Err(error.into()),
                    Some(Ok(SubscriptionEvent::Reopened | SubscriptionEvent::Lapsed(_))) => {}
                    Some(Ok(SubscriptionEvent::Refused(delivery, error))) => {
                        return Ok(Some(refused(delivery, &error)));
                    }
                    Some(Ok(SubscriptionEvent::Settled(delivery))) => {
                        return Ok(Some(tell::Event::Settled(tell::Settled { delivery })));
                    }
                    Some(Ok(SubscriptionEvent::Delivery(delivery))) => {
                        let crate::service::Delivery { delivery, topic, sequence, attempt, max_attempts, event } = *delivery;
                        let event = Some(event);
                        return Ok(Some(tell::Event::Delivery(v1::Delivery {
                            delivery, topic, sequence, attempt, max_attempts, event,
                        })));
                    }
                },
            }
        }
    }
}

fn refused(delivery: u64, error: &Error) -> tell::Event {
    let (status, problem) = (error.status.number(), Some(error.problem()));
    tell::Event::Refused(tell::Refused { delivery, status, problem })
}

/// What the widget asks for. A settlement of a delivery whose lease is lost is no error of the stream: the message comes again, and who asked for
/// a confirmation is told.
fn act(subscription: &Subscription, request: v1::SubscribeRequest) -> Result<Option<tell::Event>, Error> {
    let control = &subscription.control;
    let settle = |delivery, outcome: &Outcome, confirm| match control.settle(delivery, outcome, confirm) {
        Ok(()) => Ok(None),
        Err(error) if error.code == Code::UnknownDelivery => {
            tracing::debug!(delivery, "settled too late");
            Ok(confirm.then(|| refused(delivery, &error)))
        }
        Err(error) => Err(error),
    };
    match request.action {
        None => Err(missing("action")),
        Some(ask::Action::Open(_)) => {
            Err(Error::new(Code::OutOfOrder, "", "the subscription is open already"))
        }
        Some(ask::Action::Credit(credit)) => {
            control.credit(credit.messages);
            Ok(None)
        }
        Some(ask::Action::Ack(ack)) => settle(ack.delivery, &Outcome::Ack, ack.confirm),
        Some(ask::Action::Progress(progress)) => settle(progress.delivery, &Outcome::Progress, false),
        Some(ask::Action::Term(term)) => settle(term.delivery, &Outcome::Term { reason: term.reason }, false),
        Some(ask::Action::Nak(nak)) => {
            let (delay, attempt_counts) = (Duration::from_millis(nak.delay_ms), nak.attempt_counts);
            settle(nak.delivery, &Outcome::Nak { delay, reason: nak.reason, attempt_counts }, false)
        }
    }
}
