//! Calling another widget, and answering calls, as the doors see them.

use std::collections::HashMap;

use bytes::Bytes;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use super::Error;

/// A call to another widget.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Call {
    /// `widget`, `group/widget` or `namespace/group/widget`, as declared under `calls`.
    pub target: String,
    /// A method that the target declares under `serves`.
    pub method: String,
    /// Free headers; `traceparent` and `tracestate` carry W3C trace context.
    pub headers: HashMap<String, String>,
    /// The media type of `data`; empty: `application/octet-stream`.
    pub datacontenttype: String,
    /// The request.
    pub data: Bytes,
    /// When nobody waits any longer; none: the widget's `resilience.timeout`.
    pub deadline: Option<Instant>,
    /// Whether the caller reads a streamed reply; if not, the first chunk is the reply.
    pub streamed: bool,
}

/// A part of a reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chunk {
    /// From 0, without gaps.
    pub sequence: u64,
    /// Whether this is the last chunk.
    pub last: bool,
    /// The media type of `data`; empty: as the first chunk's.
    pub datacontenttype: String,
    /// The data.
    pub data: Bytes,
}

/// The reply of a call, chunk by chunk. Dropped before its end, it cancels the call.
#[derive(Debug)]
pub struct ReplyStream {
    pub(crate) source: crate::peers::Replying,
}

impl ReplyStream {
    /// The next chunk; none after the last. An error is the end too, and comes after everything that was received before. The reader's
    /// pace is the producer's limit: credit travels as chunks are taken. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Chunk, Error>> {
        self.source.next().await
    }

    /// The instance that answers: `<namespace>/<group>/<widget>/<ordinal>`.
    pub fn answered_by(&self) -> &str {
        self.source.answered_by()
    }
}

/// A call that this widget is to answer.
#[derive(Clone, Debug)]
pub struct Request {
    /// Unique within the sidecar.
    pub call: u64,
    /// The method.
    pub method: String,
    /// The calling widget: `<namespace>/<group>/<widget>`.
    pub caller: String,
    /// Free headers.
    pub headers: HashMap<String, String>,
    /// The media type of `data`.
    pub datacontenttype: String,
    /// The request.
    pub data: Bytes,
    /// The caller's deadline.
    pub deadline: Instant,
    /// Whether the caller reads a streamed reply; if not, the first chunk is the reply.
    pub streamed: bool,
}

/// A call with the means to answer it.
#[derive(Debug)]
pub struct Incoming {
    /// The request.
    pub request: Request,
    /// The way back.
    pub replies: Replies,
}

/// The way back to a caller. Dropped without a last chunk or a failure, the caller gets `UNAVAILABLE`.
#[derive(Debug)]
pub struct Replies {
    pub(crate) sink: crate::serving::ReplySink,
}

impl Replies {
    /// Sends the next chunk (its `sequence` is set here); waits for the caller's credit. An error: the caller has gone or its deadline
    /// has passed, and nothing more is read.
    pub async fn send(&mut self, chunk: Chunk) -> Result<(), Error> {
        self.sink.send(chunk).await
    }

    /// Whether [`Replies::send`] would not wait for the caller's credit.
    pub fn has_credit(&self) -> bool {
        self.sink.has_credit()
    }

    /// Ends the call with an error.
    pub fn fail(self, error: &Error) {
        self.sink.fail(error);
    }

    /// Cancelled when the caller has gone, its deadline has passed, or the widget's incarnation has changed.
    pub fn cancelled(&self) -> &CancellationToken {
        self.sink.cancelled()
    }
}

/// What a widget's `Serve` session receives.
#[derive(Debug)]
pub enum ServeEvent {
    /// A call to answer.
    Request(Box<Incoming>),
    /// The caller of this call has gone; nothing that is answered now will be read.
    Cancelled(u64),
    /// The sidecar drains: no further requests come, those in flight may end.
    Draining,
}

/// A widget that answers calls at a door. Dropped, it takes no more calls.
#[derive(Debug)]
pub struct ServeSession {
    pub(crate) methods: Vec<String>,
    pub(crate) events: mpsc::UnboundedReceiver<ServeEvent>,
    pub(crate) _guard: crate::serving::SessionGuard,
}

impl ServeSession {
    /// The methods that the widget declares to be served at the door.
    pub fn methods(&self) -> &[String] {
        &self.methods
    }

    /// The next event; none: the incarnation has changed and the session is over. Cancel-safe. Bounded by the session's concurrency.
    pub async fn next(&mut self) -> Option<ServeEvent> {
        self.events.recv().await
    }
}
