//! The log's records as bytes. Pure: nothing here reads or writes.
//!
//! ```text
//!  0  u32 length      header and body, a multiple of 8
//!  4  u32 checksum    CRC-32 over length, the offset within the segment, and all that follows
//!  8  u32 epoch       of the segment
//! 12  u8  kind        · 3 bytes 0
//! 16  u64 sequence    of the first message in it, or of the next one
//! 24  u64 time        microseconds since the Unix epoch
//! 32  body            items, padded with zeros
//! ```
//!
//! Numbers are little-endian. Epoch and offset are under the checksum, so bytes that a recycled segment still holds, or that ended up
//! somewhere else, never parse. A record is the unit of atomicity: its items are all there or none.

use kontrol_core::time::Timestamp;

pub(crate) mod item;
#[cfg(test)]
mod tests;

/// Bytes of a record without a body.
pub(crate) const HEADER: usize = 32;

/// Records start at multiples of this.
pub(crate) const ALIGN: usize = 8;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The first of a segment. Everything in earlier segments was durable before it was written.
    Segment = 1,
    /// The first of a commit. Everything before it was durable before it was written.
    Mark = 2,
    /// The last of a segment.
    Seal = 3,
    /// Items that change what the log says.
    Data = 4,
    /// Items that repeat all that earlier segments said and that still counts.
    Checkpoint = 5,
}

impl Kind {
    const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Segment,
            2 => Self::Mark,
            3 => Self::Seal,
            4 => Self::Data,
            5 => Self::Checkpoint,
            _ => return None,
        })
    }

    /// Whether its presence proves that everything before it was durable.
    pub(crate) const fn proves(self) -> bool {
        matches!(self, Self::Segment | Self::Mark)
    }
}

/// A record's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Of the segment.
    pub(crate) epoch: u32,
    /// What it is.
    pub(crate) kind: Kind,
    /// Of the first message in it, or of the next one.
    pub(crate) sequence: u64,
    /// When it was appended.
    pub(crate) time: Timestamp,
}

/// A record's size with a body of `body` bytes.
pub(crate) const fn size(body: usize) -> usize {
    (HEADER + body).next_multiple_of(ALIGN)
}

fn checksum(length: [u8; 4], offset: u32, rest: &[u8]) -> u32 {
    let mut head = [0; 8];
    head[..4].copy_from_slice(&length);
    head[4..].copy_from_slice(&offset.to_le_bytes());
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&head);
    hasher.update(rest);
    hasher.finalize()
}

/// Appends a record that will lie at `offset` of its segment.
pub(crate) fn put(out: &mut Vec<u8>, header: &Header, body: &[u8], offset: u32) {
    let start = out.len();
    let length = size(body.len());
    let length_bytes = u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
    out.reserve(length);
    out.extend_from_slice(&length_bytes);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&header.epoch.to_le_bytes());
    out.extend_from_slice(&[header.kind as u8, 0, 0, 0]);
    out.extend_from_slice(&header.sequence.to_le_bytes());
    out.extend_from_slice(&header.time.as_micros().to_le_bytes());
    out.extend_from_slice(body);
    out.resize(start + length, 0);
    let sum = checksum(length_bytes, offset, &out[start + 8..]);
    out[start + 4..start + 8].copy_from_slice(&sum.to_le_bytes());
}

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Bad {
    /// All zeros where a record would start.
    #[error("there is nothing written")]
    Empty,
    /// Fewer bytes than the length says, or than a header has.
    #[error("the record is cut off")]
    Short,
    /// A length that no record has.
    #[error("its length cannot be")]
    Length,
    /// Of another epoch: left over from an earlier use of the file.
    #[error("it belongs to another use of the file")]
    Epoch,
    /// The checksum does not match.
    #[error("its checksum does not match")]
    Checksum,
    /// An unknown kind.
    #[error("its kind is unknown")]
    Kind,
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut array = [0; 4];
    array.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(array)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut array = [0; 8];
    array.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(array)
}

/// The length that the header at the start of `bytes` claims, if it looks like a header of `epoch` at all.
pub(crate) fn claimed(bytes: &[u8], epoch: u32) -> Result<usize, Bad> {
    if bytes.len() < HEADER {
        return Err(Bad::Short);
    }
    let length = u32_at(bytes, 0) as usize;
    if length == 0 && bytes[..HEADER].iter().all(|byte| *byte == 0) {
        return Err(Bad::Empty);
    }
    if u32_at(bytes, 8) != epoch {
        return Err(Bad::Epoch);
    }
    if length < HEADER || !length.is_multiple_of(ALIGN) {
        return Err(Bad::Length);
    }
    Ok(length)
}

/// Reads the record at the start of `bytes`, which lie at `offset` of the segment `epoch`: its header, its body, its length.
pub(crate) fn parse(bytes: &[u8], epoch: u32, offset: u32) -> Result<(Header, &[u8], usize), Bad> {
    let length = claimed(bytes, epoch)?;
    let record = bytes.get(..length).ok_or(Bad::Short)?;
    let mut length_bytes = [0; 4];
    length_bytes.copy_from_slice(&record[..4]);
    if checksum(length_bytes, offset, &record[8..]) != u32_at(record, 4) {
        return Err(Bad::Checksum);
    }
    let kind = Kind::from_byte(record[12]).ok_or(Bad::Kind)?;
    let header = Header {
        epoch,
        kind,
        sequence: u64_at(record, 16),
        time: Timestamp::from_micros(u64_at(record, 24)),
    };
    Ok((header, &record[HEADER..], length))
}
