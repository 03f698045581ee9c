//! Receipts: what a caller holds until its record is durable. One cell is shared by everything that one commit covers.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread::Thread,
};

use crate::error::{Error, Failure};

/// The end of one commit, shared by all receipts that wait for it.
#[derive(Debug, Default)]
pub(crate) struct Commit {
    done: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    outcome: Option<Result<(), Failure>>,
    wakers: Vec<Waker>,
}

impl Commit {
    /// Ends the commit and wakes everybody who waits for it.
    pub(crate) fn finish(&self, outcome: Result<(), Failure>) {
        let wakers = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.outcome = Some(outcome);
            self.done.store(true, Ordering::Release);
            std::mem::take(&mut state.wakers)
        };
        for waker in wakers {
            waker.wake();
        }
    }

    /// Whether the commit has ended, and how.
    pub(crate) fn outcome(&self) -> Option<Result<(), Failure>> {
        if !self.done.load(Ordering::Acquire) {
            return None;
        }
        self.state.lock().unwrap_or_else(PoisonError::into_inner).outcome.clone()
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<Result<(), Failure>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(outcome) = &state.outcome {
            return Poll::Ready(outcome.clone());
        }
        // A waker that is polled twice in a row is registered once: the usual caller polls, waits and polls.
        if !state.wakers.last().is_some_and(|last| last.will_wake(cx.waker())) {
            state.wakers.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

/// Resolves to its value when everything it stands for is durable, or to the failure that prevented it.
///
/// Dropping it takes nothing back: what was accepted is stored all the same.
#[must_use = "what a receipt stands for is durable only when it has resolved"]
#[derive(Debug)]
pub struct Receipt<T> {
    value: Option<T>,
    commit: Option<Arc<Commit>>,
}

impl<T> Receipt<T> {
    pub(crate) const fn when(commit: Option<Arc<Commit>>, value: T) -> Self {
        Self { value: Some(value), commit }
    }

    /// The value, if what the receipt stands for is durable by now; `None` while it is not.
    pub fn try_take(&mut self) -> Option<Result<T, Error>> {
        match &self.commit {
            None => self.value.take().map(Ok),
            Some(commit) => {
                let outcome = commit.outcome()?;
                self.commit = None;
                let value = self.value.take();
                match outcome {
                    Ok(()) => value.map(Ok),
                    Err(failure) => Some(Err(failure.into())),
                }
            }
        }
    }

    /// Blocks the thread until what the receipt stands for is durable. For callers without a runtime.
    pub fn wait(mut self) -> Result<T, Error> {
        struct Unpark(Thread);
        impl Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut cx = Context::from_waker(&waker);
        loop {
            match Pin::new(&mut self).poll(&mut cx) {
                Poll::Ready(outcome) => return outcome,
                Poll::Pending => std::thread::park(),
            }
        }
    }
}

impl<T> Unpin for Receipt<T> {}

impl<T> Future for Receipt<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(commit) = &self.commit {
            match commit.poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) => self.commit = None,
                Poll::Ready(Err(failure)) => return Poll::Ready(Err(failure.into())),
            }
        }
        match self.value.take() {
            Some(value) => Poll::Ready(Ok(value)),
            // Polled after it was ready: there is nothing more to come.
            None => Poll::Pending,
        }
    }
}
