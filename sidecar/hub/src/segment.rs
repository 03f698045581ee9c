//! Segments: files of a fixed size, named by their epoch, that hold records one after the other.

use std::{io, sync::Arc};

use crate::{
    error::OpenError,
    index::Place,
    io::{File, Io},
    record::{self, Bad, Header},
};

/// Where a segment is made before it gets its name.
pub(crate) const UNFINISHED: &str = "unfinished";

/// Bytes that are read at once when a segment is scanned.
const WINDOW: usize = 256 << 10;

/// One segment.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    /// Which one, counted from 1.
    pub(crate) epoch: u32,
    /// Its file.
    pub(crate) file: Arc<dyn File>,
    /// Its size in bytes.
    pub(crate) size: u32,
}

/// The file name of a segment.
pub(crate) fn name(epoch: u32) -> String {
    format!("{epoch:010}.log")
}

/// The epoch that a file name says.
pub(crate) fn epoch(name: &str) -> Option<u32> {
    let number = name.strip_suffix(".log")?;
    (number.len() == 10).then(|| number.parse().ok()).flatten()
}

/// Whether the disk is full.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Makes a segment of zeros. It gets its name when it is whole, so a short file under that name is damage.
pub(crate) fn prepare(io: &dyn Io, epoch: u32, size: u32) -> io::Result<Segment> {
    let made = io.create(UNFINISHED).and_then(|file| {
        file.preallocate(u64::from(size))?;
        file.sync()?;
        Ok(file)
    });
    match made {
        Ok(file) => {
            io.rename(UNFINISHED, &name(epoch))?;
            io.sync_dir()?;
            Ok(Segment { epoch, file, size })
        }
        Err(error) => {
            // A disk that is full may not even have taken the name.
            if is_full(&error)
                && let Err(left) = io.remove(UNFINISHED)
                && left.kind() != io::ErrorKind::NotFound
            {
                return Err(left);
            }
            Err(error)
        }
    }
}

/// Where and why a scan ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    /// Where the first record would start that is none.
    pub(crate) offset: u32,
    /// Why it is none.
    pub(crate) why: Bad,
}

/// Reads records from the start of a segment up to `end`, and says where and why it could go no further.
pub(crate) fn scan(
    segment: &Segment,
    end: u32,
    each: &mut impl FnMut(&Header, &[u8], Place),
) -> Result<End, OpenError> {
    let mut window = Vec::new();
    let mut offset = 0_u32;
    let mut want = WINDOW;
    loop {
        let length = want.min((end - offset) as usize);
        window.resize(length, 0);
        segment
            .file
            .read_at(&mut window, u64::from(offset))
            .map_err(OpenError::io(format!("reading {}", name(segment.epoch))))?;
        let (used, why) = scan_bytes(&window, segment.epoch, offset, each);
        offset += used;
        let claim = record::claimed(&window[used as usize..], segment.epoch);
        let more = length < (end - offset + used) as usize;
        match (why, claim) {
            // The window ends within the record.
            (Bad::Short, Ok(claimed)) if more && claimed <= (end - offset) as usize => {
                want = claimed.max(WINDOW);
            }
            (Bad::Short, Err(Bad::Short)) if more => want = WINDOW,
            _ => return Ok(End { offset, why }),
        }
    }
}

/// Reads records from bytes that lie at `start` of the segment; returns how many bytes were records, and why the next ones are not.
pub(crate) fn scan_bytes(
    bytes: &[u8],
    epoch: u32,
    start: u32,
    each: &mut impl FnMut(&Header, &[u8], Place),
) -> (u32, Bad) {
    let mut used = 0_u32;
    loop {
        match record::parse(&bytes[used as usize..], epoch, start + used) {
            Ok((header, body, length)) => {
                let length = u32::try_from(length).unwrap_or(u32::MAX);
                each(&header, body, Place { epoch, offset: start + used, length });
                used += length;
            }
            Err(why) => return (used, why),
        }
    }
}

/// Looks for records of this epoch anywhere from `from` on: those that a torn commit left behind a gap, or those that prove damage.
/// Returns the end of the last one, and the offset of the first one that proves that what is before it was durable.
pub(crate) fn search(segment: &Segment, from: u32) -> Result<(Option<u32>, Option<u32>), OpenError> {
    let reading = || OpenError::io(format!("reading {}", name(segment.epoch)));
    let mut last = None;
    let mut proof = None;
    let mut window = vec![0; WINDOW];
    let size = segment.size;
    let mut base = from;
    let epoch = segment.epoch.to_le_bytes();
    while base < size {
        let length = window.len().min((size - base) as usize);
        let bytes = &mut window[..length];
        segment.file.read_at(bytes, u64::from(base)).map_err(reading())?;
        for at in (0..length.saturating_sub(record::HEADER - 1)).step_by(record::ALIGN) {
            if bytes[at + 8..at + 12] != epoch {
                continue;
            }
            let offset = base + u32::try_from(at).unwrap_or(u32::MAX);
            let Ok(claimed) = record::claimed(&bytes[at..], segment.epoch) else { continue };
            if claimed > (size - offset) as usize {
                continue;
            }
            let mut whole = vec![0; claimed];
            segment.file.read_at(&mut whole, u64::from(offset)).map_err(reading())?;
            if let Ok((header, _, length)) = record::parse(&whole, segment.epoch, offset) {
                last = last.max(Some(offset + u32::try_from(length).unwrap_or(u32::MAX)));
                if header.kind.proves() && proof.is_none() {
                    proof = Some(offset);
                }
            }
        }
        // Headers that straddle two windows are seen by the next one.
        let step = u32::try_from(length.saturating_sub(record::HEADER - record::ALIGN)).unwrap_or(u32::MAX);
        if step == 0 || length < window.len() {
            break;
        }
        base += step & !7;
    }
    Ok((last, proof))
}
