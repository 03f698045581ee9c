//! A reply on its way: chunks in order, credit as they are taken, a cancel when the reader goes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kontrol_core::code::Code;
use kontrol_proto::v1;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use super::{
    balance::{Answer, Answers, Attempt},
    expired,
};
use crate::{
    link::{Frame, Link},
    service::{Chunk, Error},
};

/// Chunks that may be on their way.
pub(super) const CREDITS: u32 = 32;

/// The calls of a link that wait for answers.
#[derive(Debug, Default)]
pub(super) struct Waiters(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    open: Answers,
    ended: Option<Error>,
}

impl Waiters {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn register(&self, stream: u64) -> mpsc::UnboundedReceiver<Answer> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut state = self.lock();
        match &state.ended {
            Some(error) => drop(sender.send(Err(error.clone()))),
            None => drop(state.open.insert(stream, (sender, CREDITS))),
        }
        receiver
    }

    /// An answer came. An error: the other side has sent more than it had credit for.
    pub(super) fn tell(&self, stream: u64, answer: Answer, last: bool) -> Result<(), Error> {
        let mut state = self.lock();
        let Some((sender, credits)) = state.open.get_mut(&stream) else { return Ok(()) };
        if answer.is_ok() {
            *credits = credits.checked_sub(1).ok_or_else(|| {
                Error::new(Code::OutOfOrder, "", "the peer sent more chunks than it had credit for")
            })?;
        }
        // A reader that has gone is about to cancel.
        drop(sender.send(answer));
        if last {
            state.open.remove(&stream);
        }
        Ok(())
    }

    fn credit(&self, stream: u64, chunks: u32) {
        if let Some((_, credits)) = self.lock().open.get_mut(&stream) {
            *credits += chunks;
        }
    }

    /// Whether the stream was still open.
    fn forget(&self, stream: u64) -> bool {
        self.lock().open.remove(&stream).is_some()
    }

    /// The link has ended: everybody who waits is told.
    pub(super) fn end(&self, error: &Error) {
        let mut state = self.lock();
        state.ended = Some(error.clone());
        for (_, (sender, _)) in std::mem::take::<HashMap<_, _>>(&mut state.open) {
            drop(sender.send(Err(error.clone())));
        }
    }
}

/// See [`crate::service::ReplyStream`].
#[derive(Debug)]
pub(crate) struct Replying {
    link: Link,
    stream: u64,
    answers: mpsc::UnboundedReceiver<Answer>,
    waiters: Arc<Waiters>,
    deadline: Instant,
    instance: String,
    first: Option<Chunk>,
    /// The sequence that the next chunk must have.
    next: u64,
    /// Chunks taken since the last credit.
    taken: u32,
    over: bool,
    attempt: Option<Attempt>,
}

impl Replying {
    pub(super) fn new(
        link: Link,
        stream: u64,
        answers: mpsc::UnboundedReceiver<Answer>,
        waiters: Arc<Waiters>,
        deadline: Instant,
        instance: String,
    ) -> Self {
        let (first, next, taken, over, attempt) = (None, 0, 0, false, None);
        Self { link, stream, answers, waiters, deadline, instance, first, next, taken, over, attempt }
    }

    /// The attempt counts as load for as long as the reply lasts.
    pub(super) fn holding(mut self, attempt: Attempt) -> Self {
        self.attempt = (!self.over).then_some(attempt);
        self
    }

    pub(crate) fn answered_by(&self) -> &str {
        &self.instance
    }

    /// Waits for the first chunk and keeps it.
    pub(super) async fn first(&mut self) -> Result<(), Error> {
        match self.receive().await {
            Some(Ok(chunk)) => {
                self.over = chunk.last;
                self.first = Some(chunk);
                Ok(())
            }
            Some(Err(error)) => Err(error),
            None => Err(self.broken("the reply ended before it began")),
        }
    }

    pub(crate) async fn next(&mut self) -> Option<Result<Chunk, Error>> {
        if let Some(first) = self.first.take() {
            return Some(Ok(first));
        }
        if self.over {
            return None;
        }
        let answer = match timeout_at(self.deadline, self.receive()).await {
            Ok(answer) => answer?,
            Err(_) => Err(expired(&self.instance)),
        };
        match answer {
            Ok(chunk) => {
                if chunk.last {
                    self.end();
                }
                Some(Ok(chunk))
            }
            Err(error) => {
                self.end();
                let ours = matches!(error.code, Code::PeerUnreachable | Code::NoReadyReplica);
                Some(Err(if ours { self.broken(&error.message) } else { error }))
            }
        }
    }

    async fn receive(&mut self) -> Option<Answer> {
        let answer = self.answers.recv().await?;
        if let Ok(chunk) = &answer {
            if chunk.sequence != self.next {
                let message = format!("chunk {} came where {} was due", chunk.sequence, self.next);
                return Some(Err(Error::new(Code::InvalidReply, self.instance.as_str(), message)));
            }
            self.next += 1;
            self.taken += 1;
            if self.taken >= CREDITS / 2 && !chunk.last {
                self.waiters.credit(self.stream, self.taken);
                // A link that has ended tells so by itself.
                drop(self.link.push(self.stream, &Frame::Credit(v1::LinkCredit { messages: self.taken })));
                self.taken = 0;
            }
        }
        Some(answer)
    }

    fn broken(&self, why: &str) -> Error {
        let message = format!("the reply of {} broke after {} chunks: {why}", self.instance, self.next);
        Error::new(Code::ReplyBroken, self.instance.as_str(), message)
    }

    fn end(&mut self) {
        self.over = true;
        self.attempt = None;
    }
}

impl Drop for Replying {
    fn drop(&mut self) {
        if self.waiters.forget(self.stream) {
            // A link that has ended cancels everything by itself.
            drop(self.link.push(self.stream, &Frame::Cancel(v1::LinkCancel {})));
        }
    }
}
