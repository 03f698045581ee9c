//! The handle, and the two threads around the engine: one writes and syncs, the other makes and removes segments.

use std::{
    future::Future,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use kontrol_core::time::Timestamp;

use crate::{
    api::{Config, Delivery, Nak, Notify, Publish, Published, Recovery, Signal, Stats, TopicConfig, Who},
    engine::{Engine, consume::Handle},
    error::{Error, Failure, OpenError},
    io::Io,
    receipt::Receipt,
};

/// How long nothing arrives before the last commit is made provable.
const IDLE: Duration = Duration::from_millis(20);

struct Inner {
    engine: Engine,
    /// Whether the log's thread sleeps, and has to be woken for a commit.
    sleeping: bool,
    stop: bool,
}

struct Shared {
    io: Arc<dyn Io>,
    inner: Mutex<Inner>,
    work: Condvar,
    chores: Condvar,
}

fn tell(notices: Vec<Notify>) {
    for notify in notices {
        notify();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the engine, wakes the log's thread for what was appended, and notifies whom it concerns.
    fn with<T>(&self, ask: impl FnOnce(&mut Engine) -> T) -> T {
        let mut inner = self.lock();
        let answer = ask(&mut inner.engine);
        let wake = inner.sleeping && inner.engine.has_work();
        if wake {
            inner.sleeping = false;
        }
        let chore = inner.engine.has_chore();
        let notices = inner.engine.take_notices();
        drop(inner);
        if wake {
            self.work.notify_one();
        }
        if chore {
            self.chores.notify_one();
        }
        tell(notices);
        answer
    }

    /// Performs one commit, if there is something to be written.
    fn step(&self) -> bool {
        let Some(work) = self.lock().engine.take() else { return false };
        let result = work.write();
        let mut inner = self.lock();
        let commit = inner.engine.finish(work, result);
        let notices = inner.engine.take_notices();
        drop(inner);
        if let Some(commit) = commit {
            commit.finish(Ok(()));
        }
        tell(notices);
        true
    }

    /// Does one chore, if there is one.
    fn step_folder(&self) -> bool {
        let Some(chore) = self.lock().engine.chore() else { return false };
        let result = chore.run(&*self.io);
        let mut inner = self.lock();
        inner.engine.chore_done(&chore, result);
        let notices = inner.engine.take_notices();
        drop(inner);
        tell(notices);
        true
    }

    fn write_until_stopped(&self) {
        loop {
            if self.step() {
                continue;
            }
            let mut inner = self.lock();
            if inner.engine.has_work() {
                continue;
            }
            if inner.engine.failure().is_some() || (inner.stop && !inner.engine.log.mark()) {
                inner.engine.close();
                return;
            }
            if inner.stop {
                continue;
            }
            inner.sleeping = true;
            if inner.engine.log.is_marked() {
                drop(self.work.wait(inner).unwrap_or_else(PoisonError::into_inner));
            } else {
                let waited = self.work.wait_timeout(inner, IDLE).unwrap_or_else(PoisonError::into_inner);
                let (mut inner, timeout) = waited;
                if timeout.timed_out() {
                    inner.engine.log.mark();
                }
            }
        }
    }

    fn tidy_until_stopped(&self) {
        loop {
            while self.step_folder() {}
            let inner = self.lock();
            if inner.stop || inner.engine.failure().is_some() {
                return;
            }
            if !inner.engine.has_chore() {
                drop(self.chores.wait(inner).unwrap_or_else(PoisonError::into_inner));
            }
        }
    }
}

/// Ends the threads with the last handle.
struct Owner {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Owner {
    fn stop(&self) {
        let mut inner = self.shared.lock();
        inner.stop = true;
        inner.engine.stop_taking();
        drop(inner);
        self.shared.work.notify_all();
        self.shared.chores.notify_all();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the hub ended by a panic");
            }
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The embedded hub. Cheap to clone; every clone is the same hub.
#[derive(Clone)]
pub struct Hub {
    owner: Arc<Owner>,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").finish_non_exhaustive()
    }
}

impl Hub {
    /// Opens the log in the folder of `io`, recovers what it holds and starts the threads that write and prepare segments. `wall` is what the
    /// wall clock says; the times of all that follows are those of a [`Clock`](crate::Clock).
    pub fn open(io: Arc<dyn Io>, config: Config, wall: Timestamp) -> Result<(Self, Recovery), OpenError> {
        let (hub, recovery) = Self::open_stepped(io, config, wall)?;
        let spawn = |name: &str, run: fn(&Shared)| {
            let shared = hub.owner.shared.clone();
            let builder = std::thread::Builder::new().name(name.to_owned()).stack_size(256 << 10);
            builder.spawn(move || run(&shared)).map_err(OpenError::io("starting a thread"))
        };
        let threads = vec![
            spawn("hub-log", Shared::write_until_stopped)?,
            spawn("hub-folder", Shared::tidy_until_stopped)?,
        ];
        *hub.owner.threads.lock().unwrap_or_else(PoisonError::into_inner) = threads;
        Ok((hub, recovery))
    }

    /// Opens a hub without threads: nothing becomes durable but by [`Hub::step`], and no segment is made but by
    /// [`Hub::step_folder`]. For a simulator that wants to be the only thread.
    pub fn open_stepped(
        io: Arc<dyn Io>,
        config: Config,
        wall: Timestamp,
    ) -> Result<(Self, Recovery), OpenError> {
        let (engine, recovery) = Engine::open(&io, config, wall)?;
        if let Some(cut) = &recovery.cut {
            tracing::warn!(file = cut.file, offset = cut.offset, reason = cut.reason, "cut a torn tail");
        }
        let inner = Mutex::new(Inner { engine, sleeping: false, stop: false });
        let shared = Arc::new(Shared { io, inner, work: Condvar::new(), chores: Condvar::new() });
        Ok((Self { owner: Arc::new(Owner { shared, threads: Mutex::default() }) }, recovery))
    }

    /// Performs one commit of a hub without threads; whether there was one.
    pub fn step(&self) -> bool {
        self.owner.shared.step()
    }

    /// Makes, recycles or removes one segment of a hub without threads; whether there was something to do.
    pub fn step_folder(&self) -> bool {
        self.owner.shared.step_folder()
    }

    /// What the log's thread does when nothing has arrived for a while: makes the last commit provable. Returns whether a step
    /// follows from it.
    pub fn step_idle(&self) -> bool {
        self.owner.shared.lock().engine.log.mark()
    }

    fn with<T>(&self, ask: impl FnOnce(&mut Engine) -> T) -> T {
        self.owner.shared.with(ask)
    }

    /// Puts the topics in force; replaces what was there. Subscriptions and topics that are no longer declared are removed with all
    /// they hold. The configuration is kept in the log: a hub that starts again has its topics before anybody configures it.
    pub fn configure(&self, now: Timestamp, topics: &[TopicConfig]) -> Result<Receipt<()>, Error> {
        self.with(|engine| engine.configure(now, topics))
    }

    /// Raises the fence of an instance: its consumers of a lower incarnation end, and none can come back.
    pub fn fence(&self, instance: &str, incarnation: u64) {
        self.with(|engine| engine.fence(instance, incarnation));
    }

    /// Stores the messages in one write: all of them or none. The receipt resolves when they are durable, and not before they can be
    /// delivered.
    pub fn publish(&self, now: Timestamp, batch: &[Publish<'_>]) -> Result<Receipt<Vec<Published>>, Error> {
        self.with(|engine| engine.publish(now, batch))
    }

    /// Opens a consumer of a durable subscription with its first credits. `notify` is called whenever [`Consumer::poll`] may have
    /// something to give, once until the next poll; the first poll needs no notification.
    pub fn subscribe(
        &self,
        namespace: &str,
        topic: &str,
        subscription: &str,
        who: Who,
        credits: u64,
        notify: Notify,
    ) -> Result<Consumer, Error> {
        let handle =
            self.with(|engine| engine.subscribe((namespace, topic, subscription), who, credits, notify))?;
        Ok(Consumer { hub: self.clone(), handle })
    }

    /// Does what is due: leases that ended, delayed messages, retention, space that can be given back. Returns when it wants to be
    /// called again; `None`: nothing is due until something happens.
    pub fn tick(&self, now: Timestamp) -> Option<Timestamp> {
        self.with(|engine| engine.tick(now))
    }

    /// What each subscription looks like now.
    pub fn signals(&self, now: Timestamp) -> Vec<Signal> {
        self.owner.shared.lock().engine.signals(now)
    }

    /// What the log has done.
    pub fn stats(&self) -> Stats {
        self.owner.shared.lock().engine.stats()
    }

    /// Resolves when the disk has refused: every waiter has had its error, and the process is to exit.
    pub fn failed(&self) -> impl Future<Output = Failure> + Send + 'static {
        let failed = Receipt::when(Some(self.owner.shared.lock().engine.failed()), ());
        async move {
            match failed.await {
                Err(Error::Failed(failure)) => failure,
                _ => std::future::pending().await,
            }
        }
    }

    /// Why the disk has refused, if it has.
    pub fn failure(&self) -> Option<Failure> {
        self.owner.shared.lock().engine.failure().cloned()
    }

    /// Takes no new messages, writes what was accepted, and ends the threads. Blocks until that is done.
    pub fn close(&self) -> Result<(), Error> {
        self.owner.stop();
        self.failure().map_or(Ok(()), |failure| Err(failure.into()))
    }
}

/// A consumer of a subscription. Dropping it gives everything in flight back at once, without counting the attempts.
#[derive(Debug)]
pub struct Consumer {
    hub: Hub,
    handle: Handle,
}

impl Consumer {
    /// Takes up to `max` messages, as far as credits reach; each delivery uses one credit and starts a lease. An error ends the
    /// consumer: it was fenced, its subscription was removed, or the hub failed.
    pub fn poll(&self, now: Timestamp, max: usize) -> Result<Vec<Delivery>, Error> {
        self.hub.with(|engine| engine.deliver(now, self.handle, max))
    }

    /// The deliveries whose leases have ended since this was last asked: they can no longer be settled. `notify` is called for each.
    pub fn lapsed(&self) -> Vec<u64> {
        self.hub.with(|engine| engine.lapsed(self.handle))
    }

    /// Adds credits.
    pub fn credit(&self, messages: u64) {
        self.hub.with(|engine| engine.credit(self.handle, messages));
    }

    /// The message is done; the receipt resolves when that is durable. It is not delivered again once this has returned, unless the
    /// hub crashes before the receipt resolves.
    pub fn ack(&self, now: Timestamp, delivery: u64) -> Result<Receipt<()>, Error> {
        self.hub.with(|engine| engine.ack(now, self.handle, delivery))
    }

    /// The message is to be delivered again; if it was the last attempt, it is given up. The receipt resolves when the count of its
    /// attempts is durable.
    pub fn nak(&self, now: Timestamp, delivery: u64, nak: &Nak<'_>) -> Result<Receipt<()>, Error> {
        self.hub.with(|engine| engine.nak(now, self.handle, delivery, nak))
    }

    /// The message is being worked on: its lease starts over.
    pub fn progress(&self, now: Timestamp, delivery: u64) -> Result<(), Error> {
        self.hub.with(|engine| engine.progress(now, self.handle, delivery))
    }

    /// The message will never be done: it is given up at once, moved to the dead letter topic in the same write.
    pub fn term(&self, now: Timestamp, delivery: u64, reason: &str) -> Result<Receipt<()>, Error> {
        self.hub.with(|engine| engine.term(now, self.handle, delivery, reason))
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.hub.with(|engine| engine.unsubscribe(self.handle));
    }
}
