//! One connection between two sidecars, or a sidecar and the hub: many calls, publishes and subscriptions share it.
//!
//! ```text
//!   callers ─push─► Outbox ─one write for all that waits─► TLS ─► reader ─frame by frame─► Inbound
//! ```
//!
//! Invariants: the reader never waits for anything but bytes, so that one slow stream holds up no other (each stream has credits, and
//! a side that sends beyond them is cut off); what was pushed is written in order; a link ends as a whole, and its end is told to
//! whoever holds it. A link ends when the certificate of either side does.

pub mod frame;
mod outbox;
pub mod server;
mod session;

pub use frame::{Frame, FrameError};
pub use outbox::SendError;
pub use session::{Ended, Handshake, Peer, accept, connect};

use std::sync::Arc;

use outbox::Outbox;
use tokio_util::sync::CancellationToken;

use crate::service::Error;

/// The sending half of a connection, cheap to clone.
#[derive(Clone, Debug)]
pub struct Link {
    outbox: Arc<Outbox>,
    ended: CancellationToken,
}

impl Link {
    pub(crate) fn new() -> Self {
        Self { outbox: Arc::default(), ended: CancellationToken::new() }
    }

    /// Sends a frame without waiting. For what is bounded by something else: credits, settlements, the number of calls.
    pub fn push(&self, stream: u64, frame: &Frame) -> Result<(), SendError> {
        self.outbox.push(stream, frame)
    }

    /// Waits until little enough waits to be written.
    pub async fn room(&self) {
        self.outbox.room().await;
    }

    /// Whether [`Link::room`] would not wait.
    pub fn has_room(&self) -> bool {
        self.outbox.has_room()
    }

    /// Writes what waits and ends the connection.
    pub fn close(&self) {
        self.outbox.close();
    }

    /// Ends the connection, telling the other side why.
    pub fn refuse(&self, error: &Error) {
        let (status, problem) = (error.status.number(), Some(error.problem()));
        let goodbye = Frame::GoAway(kontrol_proto::v1::LinkGoAway { status, problem });
        // A link that has ended already needs no goodbye.
        self.push(0, &goodbye).unwrap_or_default();
        self.close();
    }

    /// Fails one stream of the connection.
    pub fn fail(&self, stream: u64, error: &Error) -> Result<(), SendError> {
        let (status, problem) = (error.status.number(), Some(error.problem()));
        self.push(stream, &Frame::Failure(kontrol_proto::v1::LinkFailure { status, problem }))
    }

    /// Cancelled when the connection has ended.
    pub fn ended(&self) -> &CancellationToken {
        &self.ended
    }

    /// Whether nothing more can be sent.
    pub fn is_closed(&self) -> bool {
        self.outbox.is_closed()
    }
}

/// What becomes of the frames that arrive. Called by the reader in order, and never to wait: what takes longer goes to a task.
pub trait Inbound: Send {
    /// Takes a frame of a stream. An error ends the connection and is told to the other side.
    fn frame(&mut self, stream: u64, frame: Frame) -> Result<(), Error>;

    /// The other side's incarnation has changed. An error (it is fenced) ends the connection.
    fn incarnation(&mut self, incarnation: u64) -> Result<(), Error> {
        let _ = incarnation;
        Ok(())
    }

    /// The other side takes no new streams.
    fn going_away(&mut self) {}
}
