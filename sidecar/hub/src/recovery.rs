//! Opening a folder: which segments are the log, where it ends, and what it says.
//!
//! A record that cannot be read is damage if anything after it proves that it had been durable: a later segment, or a mark. Then the
//! hub refuses to open. Otherwise it is what a crash left of a commit that nobody was told about, and is cut.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use kontrol_core::time::Timestamp;

use crate::{
    api::{Cut, Recovery},
    error::OpenError,
    index::{Entry, Place},
    io::Io,
    log::{self, Start},
    record::{self, Bad, Header, Kind, item::each_message},
    segment::{self, Segment},
    state::State,
};

/// What was found.
pub(crate) struct Recovered {
    /// Where the log goes on.
    pub(crate) start: Start,
    /// Whether the last segment can take no more: a new one has to be begun.
    pub(crate) sealed: bool,
    /// For people.
    pub(crate) report: Recovery,
}

fn corrupt(segment: u32, offset: u32, reason: impl Into<String>) -> OpenError {
    OpenError::Corrupt { file: segment::name(segment), offset: offset.into(), reason: reason.into() }
}

/// Reads the folder into `state`. Everything that was found is durable when this returns.
pub(crate) fn recover(
    io: &Arc<dyn Io>,
    segment_size: u32,
    state: &mut State,
) -> Result<Recovered, OpenError> {
    io.lock().map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => OpenError::Locked,
        _ => OpenError::io("locking the folder")(error),
    })?;
    let names = io.list().map_err(OpenError::io("listing the folder"))?;
    if names.iter().any(|name| name == segment::UNFINISHED) {
        io.remove(segment::UNFINISHED).map_err(OpenError::io("removing an unfinished segment"))?;
    }
    io.sync_dir().map_err(OpenError::io("syncing the folder"))?;

    let mut epochs: Vec<u32> = names.iter().filter_map(|name| segment::epoch(name)).collect();
    epochs.sort_unstable();
    let (live, spares) = divide(&**io, &epochs, segment_size)?;
    if let Some(first) = spares.front() {
        scrub(first, 0, segment::search(first, 0)?.0.unwrap_or(0))?;
    }
    let mut recovered = replay(live, spares, state)?;
    complete(&recovered.start, state)?;
    state.settle_down();
    let report = &mut recovered.report;
    report.unsettled = state.topics.values().map(|topic| topic.index.iter().count() as u64).sum();
    report.topics = state.topics.values().map(|topic| topic.config.id.clone()).collect();
    Ok(recovered)
}

fn open(io: &dyn Io, epoch: u32) -> Result<Segment, OpenError> {
    let opening = || OpenError::io(format!("opening {}", segment::name(epoch)));
    let file = io.open(&segment::name(epoch)).map_err(opening())?;
    let size = u32::try_from(file.size().map_err(opening())?).unwrap_or(u32::MAX);
    // A segment gets its name when it is whole, so no crash leaves a short one.
    if size == 0 || !size.is_multiple_of(log::SIZE_UNIT) {
        return Err(corrupt(epoch, size, "the file was cut off here"));
    }
    Ok(Segment { epoch, file, size })
}

/// Whether a segment starts with its own header, and the size that it says.
fn head(segment: &Segment) -> Result<Result<u32, Bad>, OpenError> {
    let mut bytes = vec![0; record::size(4).min(segment.size as usize)];
    segment
        .file
        .read_at(&mut bytes, 0)
        .map_err(OpenError::io(format!("reading {}", segment::name(segment.epoch))))?;
    Ok(record::parse(&bytes, segment.epoch, 0).map(|(_, body, _)| {
        let mut size = [0; 4];
        size.copy_from_slice(&body[..4]);
        u32::from_le_bytes(size)
    }))
}

/// Which segments are the log, and which are empty ones after it.
fn divide(
    io: &dyn Io,
    epochs: &[u32],
    segment_size: u32,
) -> Result<(Vec<Segment>, VecDeque<Segment>), OpenError> {
    let mut found = Vec::new();
    for epoch in epochs {
        let segment = open(io, *epoch)?;
        let head = head(&segment)?;
        found.push((segment, head));
    }
    let count = found.iter().rposition(|(_, head)| head.is_ok()).map_or(0, |last| last + 1);
    let rest = found.split_off(count);
    let mut live: Vec<Segment> = Vec::new();
    for (segment, head) in found {
        let size = head.map_err(|why| corrupt(segment.epoch, 0, why.to_string()))?;
        if size != segment.size {
            let reason = format!("the file has {} bytes and was made with {size}", segment.size);
            return Err(corrupt(segment.epoch, segment.size, reason));
        }
        if let Some(before) = live.last()
            && before.epoch + 1 != segment.epoch
        {
            return Err(corrupt(before.epoch + 1, 0, "the file is missing"));
        }
        live.push(segment);
    }
    let mut spares = VecDeque::new();
    let mut next = live.last().map_or(1, |segment| segment.epoch + 1);
    for (segment, _) in rest {
        // Only the first can ever have been written to.
        if spares.is_empty()
            && segment.epoch == next
            && let (_, Some(proof)) = segment::search(&segment, 0)?
        {
            return Err(corrupt(
                segment.epoch,
                0,
                format!("its head is damaged, but the mark at {proof} is whole"),
            ));
        }
        if segment.epoch == next && segment.size == segment_size {
            next += 1;
            spares.push_back(segment);
        } else {
            io.remove(&segment::name(segment.epoch)).map_err(OpenError::io("removing an unused segment"))?;
            io.sync_dir().map_err(OpenError::io("syncing the folder"))?;
        }
    }
    Ok((live, spares))
}

/// Reads the records of all segments, oldest first, and cuts a torn tail.
fn replay(live: Vec<Segment>, spares: VecDeque<Segment>, state: &mut State) -> Result<Recovered, OpenError> {
    let mut report = Recovery { segments: live.len() as u64, ..Recovery::default() };
    let mut reader = Reader {
        state,
        sequence: None,
        time: Timestamp::ZERO,
        records: 0,
        last: None,
        proof: 0,
        wrong: None,
    };
    let mut firsts = Vec::new();
    let mut offset = 0;
    let mut sealed = true;
    let count = live.len();
    for (at, segment) in live.iter().enumerate() {
        reader.last = None;
        reader.proof = 0;
        let mut first = None;
        let end = segment::scan(segment, segment.size, &mut |header, body, place| {
            first.get_or_insert(header.sequence);
            reader.read(header, body, place, at == 0);
        })?;
        if let Some((at, reason)) = reader.wrong {
            return Err(corrupt(segment.epoch, at, reason));
        }
        firsts.push(first.unwrap_or_default());
        sealed = reader.last == Some(Kind::Seal);
        offset = end.offset;
        if at + 1 < count {
            if !sealed {
                return Err(corrupt(segment.epoch, end.offset, end.why.to_string()));
            }
        } else if !sealed {
            report.cut = cut(segment, end.offset, end.why)?;
        }
        if at + 1 == count {
            rewrite(segment, reader.proof, end.offset)?;
        }
    }
    (report.records, report.time) = (reader.records, reader.time);
    let (sequence, time) = (reader.sequence.unwrap_or(1), reader.time);
    let live = live.into_iter().zip(firsts).collect();
    Ok(Recovered { start: Start { live, spares, offset, sequence, time }, sealed, report })
}

/// Reads the log once more where a subscription was declared after messages that it is to start with.
fn complete(start: &Start, state: &mut State) -> Result<(), OpenError> {
    let incomplete = state.topics.iter().filter(|(_, topic)| topic.incomplete);
    let mut entries: BTreeMap<u32, Vec<Entry>> =
        incomplete.map(|(number, _)| (*number, Vec::new())).collect();
    if entries.is_empty() {
        return Ok(());
    }
    for (segment, _) in &start.live {
        segment::scan(segment, segment.size, &mut |header, body, place| {
            each_message(header, body, place, |topic, entry| {
                entries.entry(topic).and_modify(|entries| entries.push(entry));
            });
        })?;
    }
    for (number, entries) in entries {
        if let Some(topic) = state.topics.get_mut(&number) {
            topic.rebuild(entries, |_| true);
        }
    }
    Ok(())
}

/// Takes in one record after the other.
struct Reader<'a> {
    state: &'a mut State,
    sequence: Option<u64>,
    time: Timestamp,
    records: u64,
    last: Option<Kind>,
    /// The last record that proves that what is before it was durable.
    proof: u32,
    wrong: Option<(u32, &'static str)>,
}

impl Reader<'_> {
    fn read(&mut self, header: &Header, body: &[u8], place: Place, oldest: bool) {
        // Bytes behind a seal are what an earlier use of the file left.
        if self.wrong.is_some() || self.last == Some(Kind::Seal) {
            return;
        }
        let expected = *self.sequence.get_or_insert(header.sequence);
        if header.sequence != expected {
            self.wrong = Some((place.offset, "its sequence does not follow the record before"));
            return;
        }
        let applied = match header.kind {
            Kind::Data => self.state.apply(header, body, place),
            Kind::Checkpoint if oldest => self.state.apply(header, body, place),
            _ => Some(0),
        };
        match applied {
            Some(messages) => self.sequence = Some(expected + messages),
            None => self.wrong = Some((place.offset, "it was written by another version")),
        }
        if header.kind.proves() {
            self.proof = place.offset;
        }
        self.last = Some(header.kind);
        self.time = self.time.max(header.time);
        self.records += 1;
    }
}

/// Decides what the end of the last segment is: where nothing was written yet, a torn commit, or damage.
fn cut(segment: &Segment, offset: u32, why: Bad) -> Result<Option<Cut>, OpenError> {
    let (left, proof) = segment::search(segment, offset)?;
    if let Some(proof) = proof {
        return Err(corrupt(
            segment.epoch,
            offset,
            format!("{why}, but the mark at {proof} after it is whole"),
        ));
    }
    let torn = !matches!(why, Bad::Empty | Bad::Epoch);
    if !torn && left.is_none() {
        return Ok(None);
    }
    // A whole record behind the gap must never be taken for the successor of what is written into the gap.
    let head = u32::try_from(record::HEADER).unwrap_or(u32::MAX);
    scrub(segment, offset, left.unwrap_or(0).max(offset.saturating_add(head)).min(segment.size))?;
    Ok(Some(Cut { file: segment::name(segment.epoch), offset: offset.into(), reason: why.to_string() }))
}

/// Overwrites with zeros, durably.
fn scrub(segment: &Segment, from: u32, to: u32) -> Result<(), OpenError> {
    if from >= to {
        return Ok(());
    }
    let zeros = vec![0; (to - from) as usize];
    let scrubbed = segment.file.write_at(&zeros, u64::from(from)).and_then(|()| segment.file.sync());
    scrubbed.map_err(OpenError::io(format!("cutting {}", segment::name(segment.epoch))))
}

/// Writes again what no later record proves to be durable, and syncs it: after a failed sync, the system may hold pages that it takes
/// for clean and that the disk never got.
fn rewrite(segment: &Segment, from: u32, to: u32) -> Result<(), OpenError> {
    let mut bytes = vec![0; to.saturating_sub(from) as usize];
    let written = segment
        .file
        .read_at(&mut bytes, u64::from(from))
        .and_then(|()| segment.file.write_at(&bytes, u64::from(from)))
        .and_then(|()| segment.file.sync());
    written.map_err(OpenError::io(format!("syncing {}", segment::name(segment.epoch))))
}
