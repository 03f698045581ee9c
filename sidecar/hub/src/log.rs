//! The log: one sequence of records over many segments, written by group commit.
//!
//! ```text
//!   append ──► gathering ──take──► written and synced ──finish──► durable
//!   (short)     a buffer            one at a time, no lock held     receipts resolve
//! ```
//!
//! There is no timer: a commit is what arrived while the one before was being synced. Each commit starts with a mark, and a commit is
//! written only when the one before is durable, so a mark that is there proves that everything before it once was. Segments are made
//! ahead of need by [`Chore`]s, and roll in memory alone.

use std::{collections::VecDeque, io, sync::Arc, time::Duration};

use kontrol_core::{limits, spec::Storage, time::Timestamp};

use crate::{
    error::{Error, OpenError},
    index::Place,
    receipt::Commit,
    record::{self, Header, Kind},
    segment::Segment,
};

mod chores;
mod read;

pub(crate) use chores::Chore;

/// Room that no record may take: for the mark of the commit it starts, and for a last commit of a mark and the seal.
const ENDS: u32 = 3 * 32;
const _: () = assert!(ENDS as usize == 3 * record::HEADER);

/// Segments have a multiple of this many bytes.
pub(crate) const SIZE_UNIT: u32 = limits::SEGMENT_UNIT;

/// More bytes than this are never gathered: who publishes faster than the disk takes is told so.
const GATHER_LIMIT: usize = 32 << 20;

/// Buffers larger than this are given back to the system.
const BUFFER_KEPT: usize = 1 << 20;

/// When to ask again while a segment is being made or the disk is behind.
const RETRY_AFTER: Duration = Duration::from_millis(20);

/// What a record is for: settling may use what publishing may not, or a full hub could never be emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// New messages, and what can do without being written.
    Publish,
    /// What takes messages out of the log, and what declares topics.
    Settle,
}

/// Where the next record can go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// Into the last segment.
    Here,
    /// Into the next one: roll first.
    Roll,
}

/// Bytes of one segment, to be written at one place.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) segment: Segment,
    pub(crate) offset: u32,
    pub(crate) bytes: Vec<u8>,
}

#[derive(Debug, Default)]
struct Gathering {
    chunks: Vec<Chunk>,
    size: usize,
    commit: Arc<Commit>,
    /// Segments before this one are not needed any more when the commit is durable.
    needed: u32,
}

#[derive(Debug)]
struct Writing {
    chunks: Arc<Vec<Chunk>>,
    commit: Arc<Commit>,
    needed: u32,
    end: u64,
}

/// A commit to be written, without holding the log.
#[derive(Debug)]
pub(crate) struct Work(Arc<Vec<Chunk>>);

impl Work {
    /// Writes and syncs, segment after segment: a later one is touched only when the one before is durable.
    pub(crate) fn write(&self) -> io::Result<()> {
        for chunk in self.0.iter() {
            chunk.segment.file.write_at(&chunk.bytes, u64::from(chunk.offset))?;
            chunk.segment.file.sync()?;
        }
        Ok(())
    }
}

/// The log.
#[derive(Debug)]
pub(crate) struct Log {
    storage: Storage,
    segment_size: u32,
    spares_wanted: usize,
    /// The segments that make up the log, oldest first, with the sequence of the first message of each. The last one is written to.
    live: VecDeque<(Segment, u64)>,
    spares: VecDeque<Segment>,
    retired: VecDeque<Segment>,
    chore_under_way: bool,
    disk_full: bool,
    offset: u32,
    sequence: u64,
    time: Timestamp,
    /// The time of the last record.
    noted: Timestamp,
    gathering: Gathering,
    writing: Option<Writing>,
    buffers: Vec<Vec<u8>>,
    /// Messages below this sequence are durable.
    durable: u64,
    /// Where the durable part ends.
    durable_end: (u32, u32),
    marked: bool,
    pub(crate) commits: u64,
    pub(crate) bytes: u64,
}

/// What recovery hands to the log.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) live: VecDeque<(Segment, u64)>,
    pub(crate) spares: VecDeque<Segment>,
    pub(crate) offset: u32,
    pub(crate) sequence: u64,
    pub(crate) time: Timestamp,
}

impl Log {
    /// Goes on where recovery ended.
    pub(crate) fn new(storage: Storage, segment_size: u32, spares_wanted: usize, start: Start) -> Self {
        let epoch = start.live.back().map_or(0, |(segment, _)| segment.epoch);
        Self {
            storage,
            segment_size,
            spares_wanted,
            live: start.live,
            spares: start.spares,
            retired: VecDeque::new(),
            chore_under_way: false,
            disk_full: false,
            offset: start.offset,
            sequence: start.sequence,
            time: start.time,
            noted: start.time,
            gathering: Gathering::default(),
            writing: None,
            buffers: Vec::new(),
            durable: start.sequence,
            durable_end: (epoch, start.offset),
            marked: true,
            commits: 0,
            bytes: 0,
        }
    }

    /// The time of a record that is appended at `now`: never before that of an earlier one.
    pub(crate) fn clock(&self, now: Timestamp) -> Timestamp {
        self.time.max(now)
    }

    /// It is `now` at least: the next record says so, whichever it is.
    pub(crate) fn pass(&mut self, now: Timestamp) -> Timestamp {
        self.time = self.clock(now);
        self.time
    }

    /// The next message's sequence.
    pub(crate) const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Messages below this sequence are durable.
    pub(crate) const fn durable(&self) -> u64 {
        self.durable
    }

    /// The segment that is written to.
    pub(crate) fn epoch(&self) -> u32 {
        self.live.back().map_or(0, |(segment, _)| segment.epoch)
    }

    fn active_size(&self) -> u32 {
        self.live.back().map_or(0, |(segment, _)| segment.size)
    }

    /// The largest body that a record may have.
    pub(crate) const fn largest_body(&self) -> usize {
        (self.segment_size / 4) as usize
    }

    /// Where a record with this body can go.
    pub(crate) fn room(&self, body: usize, purpose: Purpose) -> Result<Room, Error> {
        if purpose == Purpose::Publish && self.gathering.size > GATHER_LIMIT {
            return Err(Error::Busy { retry_after: RETRY_AFTER });
        }
        let free = self.active_size().saturating_sub(self.offset).saturating_sub(ENDS);
        let fits = record::size(body) <= free as usize;
        let grows = !self.disk_full && self.may_grow();
        // The last empty segment, or what is left of it, is for settling: it is what lets a full hub be emptied.
        let (here, roll) = match (purpose, self.spares.len()) {
            (Purpose::Settle, spares) => (true, spares > 0),
            (Purpose::Publish, 0) => (grows && free > self.active_size() / 2, false),
            (Purpose::Publish, spares) => (true, spares > 1),
        };
        match (fits, here, roll) {
            (true, true, _) => Ok(Room::Here),
            (false, _, true) => Ok(Room::Roll),
            _ if grows => Err(Error::Busy { retry_after: RETRY_AFTER }),
            _ => Err(Error::StorageFull { used: self.disk(), limit: self.storage.size }),
        }
    }

    fn may_grow(&self) -> bool {
        self.disk() + u64::from(self.segment_size) <= self.storage.size
            || !self.retired.is_empty()
            || self.chore_under_way
    }

    /// Bytes that the log takes on disk.
    pub(crate) fn disk(&self) -> u64 {
        let live = self.live.iter().map(|(segment, _)| segment);
        live.chain(&self.spares).chain(&self.retired).map(|segment| u64::from(segment.size)).sum()
    }

    /// Segments that make up the log.
    pub(crate) fn live(&self) -> u64 {
        self.live.len() as u64
    }

    fn put(&mut self, kind: Kind, body: &[u8]) -> Place {
        let header = Header { epoch: self.epoch(), kind, sequence: self.sequence, time: self.time };
        self.noted = self.time;
        let offset = self.offset;
        let fits = self.gathering.chunks.last().is_some_and(|chunk| chunk.segment.epoch == header.epoch);
        if !fits && let Some((segment, _)) = self.live.back() {
            let bytes = self.buffers.pop().unwrap_or_default();
            self.gathering.chunks.push(Chunk { segment: segment.clone(), offset, bytes });
        }
        let length = record::size(body.len());
        if let Some(chunk) = self.gathering.chunks.last_mut() {
            record::put(&mut chunk.bytes, &header, body, offset);
        }
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        self.offset += length;
        self.gathering.size += length as usize;
        Place { epoch: header.epoch, offset, length }
    }

    fn start_commit(&mut self) {
        if self.gathering.chunks.is_empty() && self.offset > 0 {
            self.put(Kind::Mark, &[]);
        }
    }

    /// Appends a record for which [`Log::room`] said `Here`, with `messages` messages in it.
    pub(crate) fn append(&mut self, now: Timestamp, body: &[u8], messages: u64) -> Place {
        self.pass(now);
        self.start_commit();
        let place = self.put(Kind::Data, body);
        self.sequence += messages;
        self.marked = false;
        place
    }

    /// Seals the last segment and goes on in the next spare, which starts with a checkpoint. Only after [`Log::room`] said `Roll`.
    pub(crate) fn roll(&mut self, now: Timestamp, checkpoint: &[u8]) {
        let Some(next) = self.spares.pop_front() else { return };
        self.pass(now);
        self.start_commit();
        self.put(Kind::Seal, &[]);
        self.enter(next, checkpoint);
    }

    /// Starts the first segment of an empty or sealed log.
    pub(crate) fn begin(&mut self, now: Timestamp, checkpoint: &[u8]) {
        let Some(next) = self.spares.pop_front() else { return };
        self.pass(now);
        self.enter(next, checkpoint);
    }

    fn enter(&mut self, next: Segment, checkpoint: &[u8]) {
        let size = next.size.to_le_bytes();
        self.live.push_back((next, self.sequence));
        self.offset = 0;
        self.put(Kind::Segment, &size);
        self.put(Kind::Checkpoint, checkpoint);
        self.marked = false;
    }

    /// Makes the last commit provable when there is nothing else to do, and notes the time. Returns whether there is something to be
    /// written now.
    pub(crate) fn mark(&mut self) -> bool {
        let news = !self.marked || self.noted < self.time;
        let idle = self.gathering.chunks.is_empty() && self.writing.is_none() && news;
        let fits = self.active_size().saturating_sub(self.offset) >= ENDS;
        if idle && fits {
            self.put(Kind::Mark, &[]);
        }
        if idle {
            self.marked = true;
        }
        idle && fits
    }

    /// Whether the last commit is provable already, or cannot be made so.
    pub(crate) const fn is_marked(&self) -> bool {
        self.marked
    }

    /// What a receipt for everything appended so far waits for; `None`: it is durable.
    pub(crate) fn pending(&self) -> Option<Arc<Commit>> {
        if self.gathering.chunks.is_empty() {
            self.writing.as_ref().map(|writing| writing.commit.clone())
        } else {
            Some(self.gathering.commit.clone())
        }
    }

    /// What a receipt for this message waits for; `None`: it is durable.
    pub(crate) fn pending_for(&self, sequence: u64) -> Option<Arc<Commit>> {
        match &self.writing {
            _ if sequence < self.durable => None,
            Some(writing) if sequence < writing.end => Some(writing.commit.clone()),
            _ => self.pending(),
        }
    }

    /// Says that segments before `epoch` are not needed any more once everything appended so far is durable.
    pub(crate) fn release(&mut self, epoch: u32) {
        if self.gathering.chunks.is_empty() {
            match &mut self.writing {
                Some(writing) => writing.needed = writing.needed.max(epoch),
                None => self.retire(epoch),
            }
        } else {
            self.gathering.needed = self.gathering.needed.max(epoch);
        }
    }

    fn retire(&mut self, needed: u32) {
        // The segment that holds the last durable byte stays: its successor's checkpoint may not be durable yet.
        let needed = needed.min(self.durable_end.0);
        while self.live.len() > 1 && self.live.front().is_some_and(|(segment, _)| segment.epoch < needed) {
            self.retired.extend(self.live.pop_front().map(|(segment, _)| segment));
        }
    }

    /// The oldest segment of the log.
    pub(crate) fn oldest(&self) -> u32 {
        self.live.front().map_or(0, |(segment, _)| segment.epoch)
    }

    /// The segment that holds a sequence.
    pub(crate) fn epoch_of(&self, sequence: u64) -> u32 {
        let after = self.live.partition_point(|(_, first)| *first <= sequence);
        self.live.get(after.saturating_sub(1)).map_or(0, |(segment, _)| segment.epoch)
    }

    /// Takes what was gathered, to be written. `None` while a commit is being written, or when there is nothing.
    pub(crate) fn take(&mut self) -> Option<Work> {
        if self.writing.is_some() || self.gathering.chunks.is_empty() {
            return None;
        }
        let Gathering { chunks, commit, needed, .. } = std::mem::take(&mut self.gathering);
        let chunks = Arc::new(chunks);
        self.writing = Some(Writing { chunks: chunks.clone(), commit, needed, end: self.sequence });
        Some(Work(chunks))
    }

    /// The commit that was taken is durable. Returns what its receipts wait for.
    pub(crate) fn finish(&mut self, work: Work) -> Option<Arc<Commit>> {
        drop(work);
        let writing = self.writing.take()?;
        self.commits += 1;
        self.durable = writing.end;
        if let Some(last) = writing.chunks.last() {
            let length = u32::try_from(last.bytes.len()).unwrap_or(u32::MAX);
            self.durable_end = (last.segment.epoch, last.offset + length);
        }
        self.bytes += writing.chunks.iter().map(|chunk| chunk.bytes.len() as u64).sum::<u64>();
        for mut chunk in Arc::into_inner(writing.chunks).unwrap_or_default() {
            if chunk.bytes.capacity() <= BUFFER_KEPT && self.buffers.len() < 2 {
                chunk.bytes.clear();
                self.buffers.push(chunk.bytes);
            }
        }
        self.retire(writing.needed);
        Some(writing.commit)
    }

    /// Everything that waits, after the disk has refused.
    pub(crate) fn abandon(&mut self) -> Vec<Arc<Commit>> {
        let writing = self.writing.take().map(|writing| writing.commit);
        let gathering = std::mem::take(&mut self.gathering).commit;
        writing.into_iter().chain([gathering]).collect()
    }

    /// Whether there is a commit to be taken.
    pub(crate) const fn has_work(&self) -> bool {
        self.writing.is_none() && !self.gathering.chunks.is_empty()
    }
}

/// The size of segments, checked.
pub(crate) fn segment_size(storage: &Storage) -> Result<u32, OpenError> {
    let size = u32::try_from(storage.segment).unwrap_or(u32::MAX) & !(SIZE_UNIT - 1);
    if size < SIZE_UNIT || u64::from(size) > limits::LARGEST_SEGMENT {
        return Err(OpenError::Config("segments must be of 4 KiB to 1 GiB".to_owned()));
    }
    if storage.size / limits::SEGMENTS < u64::from(size) {
        return Err(OpenError::Config("the storage must hold at least four segments".to_owned()));
    }
    Ok(size)
}
