//! A widget's `Serve` stream: requests out, chunks in.
//!
//! A chunk goes straight to its caller as long as the caller has given credit. Without credit the call gets a queue of its own, so that a
//! slow reader never holds up the other calls of the stream.

use std::collections::HashMap;

use kontrol_core::code::Code;
use kontrol_proto::v1::{self, serve_request as ask, serve_response as tell};
use tokio::sync::mpsc;
use tonic::{Status as GrpcStatus, Streaming};

use crate::{
    clock,
    service::{Chunk, Error, Incoming, Replies, ServeEvent, ServeSession, Service, Status},
};

/// Chunks that wait for a slow reader; beyond, its call fails.
const QUEUE: usize = 1024;

/// See the module.
pub(super) struct Session {
    service: Service,
    requests: Streaming<v1::ServeRequest>,
    phase: Phase,
    calls: HashMap<u64, Way>,
}

enum Phase {
    Opening,
    Open(ServeSession),
    Over,
}

enum Way {
    Direct(Replies),
    Queued(mpsc::Sender<Result<Chunk, Error>>),
}

type Step = Option<(Result<v1::ServeResponse, GrpcStatus>, Session)>;

impl Session {
    pub(super) fn new(service: Service, requests: Streaming<v1::ServeRequest>) -> Self {
        Self { service, requests, phase: Phase::Opening, calls: HashMap::new() }
    }

    pub(super) async fn step(mut self) -> Step {
        let event = match self.phase {
            Phase::Opening => self.open().await,
            Phase::Open(_) => self.next().await,
            Phase::Over => return None,
        };
        match event {
            Ok(Some(event)) => Some((Ok(v1::ServeResponse { event: Some(event) }), self)),
            Ok(None) => None,
            Err(status) => {
                self.phase = Phase::Over;
                self.calls.clear();
                Some((Err(status), self))
            }
        }
    }

    async fn open(&mut self) -> Result<Option<tell::Event>, GrpcStatus> {
        let Some(request) = self.requests.message().await? else { return Ok(None) };
        let Some(ask::Action::Open(open)) = request.action else {
            return Err(Error::new(Code::OutOfOrder, "", "a Serve stream begins with open").into());
        };
        let session = self.service.serve(open.concurrency)?;
        let methods = session.methods().to_vec();
        self.phase = Phase::Open(session);
        Ok(Some(tell::Event::Opened(tell::Opened { methods })))
    }

    async fn next(&mut self) -> Result<Option<tell::Event>, GrpcStatus> {
        let Phase::Open(session) = &mut self.phase else { return Ok(None) };
        loop {
            tokio::select! {
                biased;
                request = self.requests.message() => match request? {
                    None => return Ok(None),
                    Some(request) => answer(&self.service, &mut self.calls, request).await?,
                },
                event = session.next() => return Ok(match event {
                    None => {
                        let message = "the widget has been replaced by a new process";
                        return Err(Error::new(Code::StaleIncarnation, "", message).into());
                    }
                    Some(ServeEvent::Draining) => Some(tell::Event::Draining(tell::Draining {})),
                    Some(ServeEvent::Cancelled(call)) => {
                        self.calls.remove(&call);
                        Some(tell::Event::Cancelled(tell::Cancelled { call }))
                    }
                    Some(ServeEvent::Request(incoming)) => {
                        let Incoming { request, replies } = *incoming;
                        self.calls.insert(request.call, Way::Direct(replies));
                        let left = request.deadline.saturating_duration_since(clock::now()).as_millis();
                        Some(tell::Event::Request(tell::Request {
                            call: request.call,
                            method: request.method,
                            caller: request.caller,
                            headers: request.headers,
                            datacontenttype: request.datacontenttype,
                            data: request.data,
                            deadline_ms: u64::try_from(left).unwrap_or(u64::MAX),
                            streamed: request.streamed,
                        }))
                    }
                }),
            }
        }
    }
}

/// What the widget answers. An answer to a call that is over is dropped: its `Cancelled` has crossed it on the way.
async fn answer(
    service: &Service,
    calls: &mut HashMap<u64, Way>,
    request: v1::ServeRequest,
) -> Result<(), Error> {
    match request.action {
        None => Err(Error::new(Code::InvalidRequest, "", "the request has no action")),
        Some(ask::Action::Open(_)) => {
            Err(Error::new(Code::OutOfOrder, "", "the Serve stream is open already"))
        }
        Some(ask::Action::Failure(failure)) => {
            let error = Error::of_widget(Status::of(failure.status), "", failure.message);
            match calls.remove(&failure.call) {
                None => {}
                Some(Way::Direct(replies)) => replies.fail(&error),
                // A queue that is full ends with the queue: its reader gets the failure of a broken reply.
                Some(Way::Queued(queue)) => drop(queue.try_send(Err(error))),
            }
            Ok(())
        }
        Some(ask::Action::Chunk(ask::Chunk { call, r#final, datacontenttype, data })) => {
            let chunk = Chunk { sequence: 0, last: r#final, datacontenttype, data };
            let over = match calls.get_mut(&call) {
                None => return Ok(()),
                Some(Way::Direct(replies)) if replies.has_credit() => {
                    replies.send(chunk).await.is_err() || r#final
                }
                Some(Way::Direct(_)) => {
                    queue(service, calls, call, chunk);
                    return Ok(());
                }
                Some(Way::Queued(queue)) => queue.try_send(Ok(chunk)).is_err() || r#final,
            };
            if over {
                calls.remove(&call);
            }
            Ok(())
        }
    }
}

/// Gives a call without credit a queue of its own.
fn queue(service: &Service, calls: &mut HashMap<u64, Way>, call: u64, chunk: Chunk) {
    let Some(Way::Direct(mut replies)) = calls.remove(&call) else { return };
    let last = chunk.last;
    let (sender, mut chunks) = mpsc::channel::<Result<Chunk, Error>>(QUEUE);
    service.spawn(async move {
        let mut next = Some(Ok(chunk));
        while let Some(item) = next {
            match item {
                Ok(chunk) => {
                    if replies.send(chunk).await.is_err() {
                        return;
                    }
                }
                Err(error) => return replies.fail(&error),
            }
            next = chunks.recv().await;
        }
    });
    if !last {
        calls.insert(call, Way::Queued(sender));
    }
}
