//! What waits to be written on a link: frames are encoded straight into one buffer, and the writer takes all of it at once, so that
//! whatever became ready together leaves in one write.

use std::sync::{Mutex, PoisonError};

use bytes::BytesMut;
use tokio::sync::Notify;

use super::frame::{self, Frame, FrameError};

/// Bytes beyond which those who can wait, wait.
const HIGH_WATER: usize = 256 << 10;
/// Bytes beyond which the connection is given up: the other side does not read.
const LIMIT: usize = 64 << 20;
/// The largest buffer that is kept for the next round.
const KEEP: usize = 32 << 10;

/// Why a frame was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The link has ended.
    #[error("the connection has ended")]
    Closed,
    /// The frame cannot be written.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

#[derive(Debug, Default)]
struct State {
    buffer: BytesMut,
    closed: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    state: Mutex<State>,
    filled: Notify,
    drained: Notify,
}

impl Outbox {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a frame now, whatever waits already. Beyond [`LIMIT`] the connection ends, and what waited is lost with it.
    pub(super) fn push(&self, stream: u64, frame: &Frame) -> Result<(), SendError> {
        let mut state = self.lock();
        if state.closed {
            return Err(SendError::Closed);
        }
        frame::encode(stream, frame, &mut state.buffer)?;
        if state.buffer.len() > LIMIT {
            state.closed = true;
            state.buffer = BytesMut::new();
            drop(state);
            self.filled.notify_one();
            self.drained.notify_waiters();
            return Err(SendError::Closed);
        }
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    /// Waits until there is room, or the link has ended.
    pub(super) async fn room(&self) {
        loop {
            let drained = self.drained.notified();
            if self.has_room() {
                return;
            }
            drained.await;
        }
    }

    /// Whether there is room, or the link has ended.
    pub(super) fn has_room(&self) -> bool {
        let state = self.lock();
        state.closed || state.buffer.len() < HIGH_WATER
    }

    /// Waits for something to write and takes it, handing back the buffer written before; none: closed, and everything is written.
    pub(super) async fn take(&self, mut spare: BytesMut) -> Option<BytesMut> {
        spare.clear();
        if spare.capacity() > KEEP {
            spare = BytesMut::new();
        }
        loop {
            {
                let mut state = self.lock();
                if !state.buffer.is_empty() {
                    let taken = std::mem::replace(&mut state.buffer, spare);
                    drop(state);
                    self.drained.notify_waiters();
                    return Some(taken);
                }
                if state.closed {
                    return None;
                }
            }
            self.filled.notified().await;
        }
    }

    /// Takes nothing more; what is there is still written.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_one();
        self.drained.notify_waiters();
    }

    /// Whether nothing more is taken.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }
}

#[cfg(test)]
mod tests {
    use kontrol_proto::v1;

    use super::*;

    #[tokio::test]
    async fn frames_that_wait_together_are_taken_together() {
        let outbox = Outbox::default();
        for nonce in 0..3 {
            outbox.push(0, &Frame::Ping(v1::LinkPing { nonce })).unwrap();
        }
        let mut taken = outbox.take(BytesMut::new()).await.unwrap();
        for nonce in 0..3 {
            assert_eq!(frame::decode(&mut taken), Ok(Some((0, Frame::Ping(v1::LinkPing { nonce })))));
        }
    }

    #[tokio::test]
    async fn what_was_taken_before_the_end_is_still_written() {
        let outbox = Outbox::default();
        outbox.push(0, &Frame::Ping(v1::LinkPing { nonce: 1 })).unwrap();
        outbox.close();
        assert_eq!(outbox.push(0, &Frame::Ping(v1::LinkPing { nonce: 2 })), Err(SendError::Closed));
        assert!(outbox.take(BytesMut::new()).await.is_some());
        assert!(outbox.take(BytesMut::new()).await.is_none());
    }

    #[tokio::test]
    async fn the_frame_that_is_too_much_is_refused_and_who_waits_for_room_goes_on() {
        let outbox = Outbox::default();
        let chunk = Frame::Chunk(v1::LinkChunk { data: vec![0; 4 << 20].into(), ..Default::default() });
        let taken = (0..LIMIT).take_while(|_| outbox.push(1, &chunk).is_ok()).count();
        assert_eq!(taken, LIMIT / (4 << 20) - 1);
        assert_eq!(outbox.push(1, &chunk), Err(SendError::Closed));
        outbox.room().await;
        assert!(outbox.take(BytesMut::new()).await.is_none());
    }
}
