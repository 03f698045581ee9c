//! The way back to a caller.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use kontrol_core::code::Code;
use kontrol_proto::v1;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::{
    link::{Frame, Link},
    service::{Chunk, Error, ServeEvent},
    shared::Shared,
};

/// A call that is open on a link, as the link's reader knows it.
#[derive(Debug)]
pub(crate) struct CallHandle {
    call: u64,
    credits: Semaphore,
    token: CancellationToken,
    /// The session that answers it. Weak: a session is over when `Serving` lets go of it, whatever it has open.
    session: OnceLock<mpsc::WeakUnboundedSender<ServeEvent>>,
}

/// The open calls of one link, by stream.
pub(crate) type OpenCalls = Arc<Mutex<HashMap<u64, Arc<CallHandle>>>>;

impl CallHandle {
    pub(crate) fn new(call: u64, credits: u32) -> Arc<Self> {
        let credits = Semaphore::new((credits as usize).min(Semaphore::MAX_PERMITS));
        Arc::new(Self { call, credits, token: CancellationToken::new(), session: OnceLock::new() })
    }

    /// The caller takes this many more chunks.
    pub(crate) fn credit(&self, chunks: u32) {
        let room = (Semaphore::MAX_PERMITS - self.credits.available_permits()).min(chunks as usize);
        self.credits.add_permits(room);
    }

    /// The caller has gone.
    pub(crate) fn cancel(&self) {
        self.token.cancel();
        if let Some(session) = self.session.get().and_then(mpsc::WeakUnboundedSender::upgrade) {
            // A session that is gone needs no word.
            drop(session.send(ServeEvent::Cancelled(self.call)));
        }
    }
}

/// A place among the calls that the widget works on; free again when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    shared: Arc<Shared>,
    in_flight: Arc<AtomicU32>,
}

impl Slot {
    pub(crate) fn new(shared: Arc<Shared>, in_flight: Arc<AtomicU32>) -> Self {
        in_flight.fetch_add(1, Ordering::Relaxed);
        shared.stats.calls_in_flight.inc();
        shared.touch();
        Self { shared, in_flight }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.shared.stats.calls_in_flight.dec();
        self.shared.touch();
    }
}

/// See [`crate::service::Replies`].
#[derive(Debug)]
pub(crate) struct ReplySink {
    link: Link,
    stream: u64,
    handle: Arc<CallHandle>,
    open: OpenCalls,
    sequence: u64,
    streamed: bool,
    finished: bool,
    slot: Option<Slot>,
}

impl ReplySink {
    pub(crate) fn new(
        link: Link,
        stream: u64,
        streamed: bool,
        handle: Arc<CallHandle>,
        open: OpenCalls,
    ) -> Self {
        Self { link, stream, handle, open, sequence: 0, streamed, finished: false, slot: None }
    }

    pub(super) fn occupy(&mut self, slot: Slot) {
        self.slot = Some(slot);
    }

    pub(super) fn tell_session(&self, session: &mpsc::UnboundedSender<ServeEvent>) {
        // Set once: a call is dispatched once.
        drop(self.handle.session.set(session.downgrade()));
    }

    pub(crate) fn cancelled(&self) -> &CancellationToken {
        &self.handle.token
    }

    /// Whether [`Self::send`] would not wait: the caller takes another chunk, and its link is not held up.
    pub(crate) fn has_credit(&self) -> bool {
        self.handle.credits.available_permits() > 0 && self.link.has_room()
    }

    pub(crate) async fn send(&mut self, chunk: Chunk) -> Result<(), Error> {
        let gone = || Error::new(Code::Cancelled, "", "the caller has gone, or its deadline has passed");
        if self.finished || self.handle.token.is_cancelled() {
            return Err(gone());
        }
        if let Ok(credit) = self.handle.credits.try_acquire() {
            credit.forget();
        } else {
            tokio::select! {
                credit = self.handle.credits.acquire() => credit.map_err(|_| gone())?.forget(),
                () = self.handle.token.cancelled() => return Err(gone()),
            }
        }
        self.link.room().await;
        let last = chunk.last || !self.streamed;
        let Chunk { datacontenttype, data, .. } = chunk;
        let frame =
            Frame::Chunk(v1::LinkChunk { sequence: self.sequence, r#final: last, datacontenttype, data });
        match self.link.push(self.stream, &frame) {
            Ok(()) => {}
            Err(crate::link::SendError::Closed) => return Err(gone()),
            Err(crate::link::SendError::Frame(error)) => {
                let error = Error::new(Code::RequestTooLarge, "", error.to_string());
                self.end(Some(&error));
                return Err(error);
            }
        }
        self.sequence += 1;
        if last {
            self.end(None);
        }
        Ok(())
    }

    pub(crate) fn fail(mut self, error: &Error) {
        self.end(Some(error));
    }

    fn end(&mut self, error: Option<&Error>) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        if let Some(error) = error
            && !self.handle.token.is_cancelled()
        {
            // A link that has ended has told the caller already.
            drop(self.link.fail(self.stream, error));
        }
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.stream);
        self.slot = None;
    }
}

impl Drop for ReplySink {
    fn drop(&mut self) {
        if !self.finished {
            let message = "the widget went away before its reply was complete";
            self.end(Some(&Error::new(Code::ReplyBroken, "", message)));
        }
    }
}
