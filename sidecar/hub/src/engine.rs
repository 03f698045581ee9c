//! The hub without its threads: what the log says, the log itself, and what waits for a commit. Driven step by step, so that a simulator
//! can be its only thread.

use std::{collections::HashMap, sync::Arc, time::Duration};

use kontrol_core::time::Timestamp;

use crate::{
    api::{Config, Notify, Recovery, Stats},
    clock::Clock,
    error::{Error, Failure, OpenError},
    index::Place,
    io::Io,
    log::{self, Chore, Log, Purpose, Room, Work},
    receipt::{Commit, Receipt},
    record::item::Item,
    recovery,
    segment::{self, Segment},
    state::State,
};

mod configure;
pub(crate) mod consume;
mod publish;
mod signals;
mod tick;

/// What becomes true when a settlement is durable.
#[derive(Clone, Copy, Debug)]
enum Landing {
    /// The message's flight has ended.
    Flight { subscription: u32, sequence: u64 },
    /// The key is free.
    Key { subscription: u32, key: u64 },
}

/// What waits for a commit.
#[derive(Debug, Default)]
struct After {
    landings: Vec<Landing>,
    topics: Vec<u32>,
}

/// The hub without its threads.
pub(crate) struct Engine {
    config: Config,
    pub(crate) log: Log,
    state: State,
    gathering: After,
    writing: After,
    fences: HashMap<String, u64>,
    /// Why consumers ended that were not dropped yet.
    ended: HashMap<u64, Error>,
    next_consumer: u64,
    next_delivery: u64,
    random: u64,
    /// When the owner wants to call [`Engine::tick`] next.
    wake: Option<Timestamp>,
    body: Vec<u8>,
    plans: Vec<publish::Plan>,
    notices: Vec<Notify>,
    failure: Option<Failure>,
    failure_wakers: Arc<Commit>,
    closing: bool,
    pub(crate) closed: bool,
    stats: Stats,
}

impl Engine {
    /// Opens the folder, when the wall clock says `wall`. When it returns, everything that was recovered is durable, and so is the start
    /// of the segment to write to.
    pub(crate) fn open(
        io: &Arc<dyn Io>,
        config: Config,
        wall: Timestamp,
    ) -> Result<(Self, Recovery), OpenError> {
        let segment_size = log::segment_size(&config.storage)?;
        let mut state = State::new(config.dedup_ids);
        let recovered = recovery::recover(io, segment_size, &mut state)?;
        let log = Log::new(config.storage, segment_size, config.spares.max(2), recovered.start);
        let mut engine = Self {
            random: config.seed | 1,
            config,
            log,
            state,
            gathering: After::default(),
            writing: After::default(),
            fences: HashMap::new(),
            ended: HashMap::new(),
            next_consumer: 1,
            next_delivery: 1,
            wake: None,
            body: Vec::new(),
            plans: Vec::new(),
            notices: Vec::new(),
            failure: None,
            failure_wakers: Arc::default(),
            closing: false,
            closed: false,
            stats: Stats::default(),
        };
        if recovered.sealed {
            let now = Clock::new(wall, recovered.report.time).after(Duration::ZERO);
            engine.begin(&**io, segment_size, now)?;
        }
        Ok((engine, recovered.report))
    }

    fn begin(&mut self, io: &dyn Io, size: u32, now: Timestamp) -> Result<(), OpenError> {
        if !self.log.has_spare() {
            let epoch = self.log.epoch() + 1;
            let made = segment::prepare(io, epoch, size);
            self.log.add_spare(made.map_err(OpenError::io("making a segment"))?);
        }
        self.log.begin(now, &self.state.checkpoint());
        if let Some(work) = self.log.take() {
            work.write().map_err(OpenError::io("writing the first records"))?;
            self.log.finish(work);
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Error> {
        match &self.failure {
            Some(failure) => Err(failure.clone().into()),
            None if self.closing => Err(Error::Closing),
            None => Ok(()),
        }
    }

    /// Appends a record, in the next segment if the last one is full. Nothing has happened if it fails, which it does for a body that is larger
    /// than [`Log::largest_body`]: a record never crosses the end of its segment.
    fn append(
        &mut self,
        now: Timestamp,
        body: &[u8],
        messages: u64,
        purpose: Purpose,
    ) -> Result<Place, Error> {
        let (size, limit) = (body.len(), self.log.largest_body());
        if size > limit {
            return Err(Error::TooLarge { topic: String::new(), size: size as u64, limit: limit as u64 });
        }
        if self.log.room(size, purpose)? == Room::Roll {
            let checkpoint = self.state.checkpoint();
            if checkpoint.len() > 2 * limit {
                return Err(Error::StorageFull { used: self.log.disk(), limit: self.config.storage.size });
            }
            self.log.roll(now, &checkpoint);
        }
        Ok(self.log.append(now, body, messages))
    }

    /// Appends one item that is no message.
    fn append_item(&mut self, now: Timestamp, item: &Item<'_>, purpose: Purpose) -> Result<Place, Error> {
        let mut body = std::mem::take(&mut self.body);
        body.clear();
        item.put(&mut body);
        let place = self.append(now, &body, 0, purpose);
        self.body = body;
        place
    }

    /// A receipt for everything that was appended so far.
    fn receipt<T>(&self, value: T) -> Receipt<T> {
        Receipt::when(self.log.pending(), value)
    }

    // Committing.

    /// Takes the next commit, to be written without holding the engine.
    pub(crate) fn take(&mut self) -> Option<Work> {
        if self.failure.is_some() {
            return None;
        }
        let work = self.log.take()?;
        self.writing = std::mem::take(&mut self.gathering);
        for topic in &self.writing.topics {
            if let Some(topic) = self.state.topics.get_mut(topic) {
                topic.touched = false;
            }
        }
        Some(work)
    }

    /// The commit was written, or the disk has refused. Returns whose receipts resolve, to be finished without holding the engine.
    pub(crate) fn finish(&mut self, work: Work, result: std::io::Result<()>) -> Option<Arc<Commit>> {
        if let Err(error) = result {
            drop(work);
            self.fail(&error.to_string());
            return None;
        }
        let commit = self.log.finish(work);
        let After { landings, topics } = std::mem::take(&mut self.writing);
        for landing in landings {
            let (Landing::Flight { subscription, .. } | Landing::Key { subscription, .. }) = landing;
            let Some((topic, at)) = self.state.subscription(subscription) else { continue };
            match landing {
                Landing::Flight { sequence, .. } => topic.subscriptions[at].landed(sequence),
                Landing::Key { key, .. } => topic.subscriptions[at].free(key),
            }
            topic.subscriptions[at].notices(&topic.index, self.log.durable(), &mut self.notices);
        }
        for topic in topics {
            self.notify_topic(topic);
        }
        commit
    }

    /// Everything has ended: who waits is told, and the owner is to exit.
    pub(crate) fn fail(&mut self, reason: &str) {
        if self.failure.is_some() {
            return;
        }
        let failure = Failure(reason.into());
        self.failure = Some(failure.clone());
        for commit in self.log.abandon() {
            commit.finish(Err(failure.clone()));
        }
        for topic in self.state.topics.values() {
            for subscription in &topic.subscriptions {
                subscription.all_notices(&mut self.notices);
            }
        }
        self.failure_wakers.finish(Err(failure));
    }

    /// Why it has failed.
    pub(crate) const fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Ends with an error when the hub fails.
    pub(crate) fn failed(&self) -> Arc<Commit> {
        self.failure_wakers.clone()
    }

    /// Takes no new messages and consumers from now on.
    pub(crate) const fn stop_taking(&mut self) {
        self.closing = true;
    }

    /// Takes nothing at all from now on: nobody would write it.
    pub(crate) const fn close(&mut self) {
        self.closed = true;
    }

    /// Whether there is a commit to be written.
    pub(crate) const fn has_work(&self) -> bool {
        self.failure.is_none() && self.log.has_work()
    }

    /// Whether there is something to be done to the folder.
    pub(crate) fn has_chore(&self) -> bool {
        self.failure.is_none() && self.log.has_chore()
    }

    /// The next thing to be done to the folder.
    pub(crate) fn chore(&mut self) -> Option<Chore> {
        if self.failure.is_some() { None } else { self.log.chore() }
    }

    /// A chore has ended.
    pub(crate) fn chore_done(&mut self, chore: &Chore, result: std::io::Result<Option<Segment>>) {
        if let Err(error) = self.log.chore_done(chore, result) {
            self.fail(&error.to_string());
        }
    }

    // Telling.

    fn touch(&mut self, id: u32) {
        if let Some(topic) = self.state.topics.get_mut(&id)
            && !topic.touched
        {
            topic.touched = true;
            self.gathering.topics.push(id);
        }
    }

    fn notify_topic(&mut self, id: u32) {
        let visible = self.log.durable();
        if let Some(topic) = self.state.topics.get_mut(&id) {
            for subscription in &mut topic.subscriptions {
                subscription.notices(&topic.index, visible, &mut self.notices);
            }
        }
    }

    /// Something is due at this time: the owner is told if that is earlier than it knows.
    fn due(&mut self, at: Timestamp) {
        if self.wake.is_none_or(|wake| at < wake) {
            self.wake = Some(at);
            self.notices.extend(self.config.on_timer.clone());
        }
    }

    /// Whom to notify, without holding the engine.
    pub(crate) fn take_notices(&mut self) -> Vec<Notify> {
        std::mem::take(&mut self.notices)
    }

    /// A number in 0..1.
    fn random(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1_u64 << 53) as f64
    }
}
