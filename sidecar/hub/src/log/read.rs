//! Reading the log while it is written: from the disk, or from the buffers where it is not there yet.

use std::io;

use super::Log;
use crate::{
    error::OpenError,
    index::Place,
    record::Header,
    segment::{self, Segment},
};

impl Log {
    /// Reads a record, from the buffers where it is not written yet.
    pub(crate) fn read(&self, place: Place) -> io::Result<Vec<u8>> {
        let writing = self.writing.iter().flat_map(|writing| writing.chunks.iter());
        for chunk in self.gathering.chunks.iter().chain(writing) {
            if chunk.segment.epoch == place.epoch
                && let Some(start) = place.offset.checked_sub(chunk.offset)
                && let Some(bytes) = chunk.bytes.get(start as usize..(start + place.length) as usize)
            {
                return Ok(bytes.to_vec());
            }
        }
        let Some((segment, _)) = self.segment(place.epoch) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let mut bytes = vec![0; place.length as usize];
        segment.file.read_at(&mut bytes, u64::from(place.offset))?;
        Ok(bytes)
    }

    fn segment(&self, epoch: u32) -> Option<&(Segment, u64)> {
        let first = self.live.front()?.0.epoch;
        self.live.get(epoch.checked_sub(first)? as usize)
    }

    /// Reads every data record of the log again, the newest from the buffers.
    pub(crate) fn scan(&self, mut each: impl FnMut(&Header, &[u8], Place)) -> Result<(), OpenError> {
        for (segment, _) in &self.live {
            let end = if segment.epoch == self.durable_end.0 { self.durable_end.1 } else { segment.size };
            if segment.epoch <= self.durable_end.0 {
                segment::scan(segment, end, &mut each)?;
            }
        }
        let writing = self.writing.iter().flat_map(|writing| writing.chunks.iter());
        for chunk in writing.chain(&self.gathering.chunks) {
            segment::scan_bytes(&chunk.bytes, chunk.segment.epoch, chunk.offset, &mut each);
        }
        Ok(())
    }
}
