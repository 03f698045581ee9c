//! What is done to the folder ahead of need: segments are made, recycled and removed.

use std::io;

use super::Log;
use crate::{
    io::Io,
    segment::{self, Segment},
};

/// Something to be done to the folder, without holding the log. At most one is under way.
#[derive(Debug)]
pub(crate) enum Chore {
    /// Make a segment of zeros.
    Prepare {
        /// Its epoch.
        epoch: u32,
        /// Its size.
        size: u32,
    },
    /// Make a segment that is not needed any more the next one.
    Recycle {
        /// What it was.
        old: Segment,
        /// Its next epoch.
        epoch: u32,
    },
    /// Remove a segment that is not needed any more.
    Remove {
        /// Which.
        old: Segment,
    },
}

impl Chore {
    /// Does it. Each step is durable before the next one begins, so that a crash leaves no gap between segments.
    pub(crate) fn run(&self, io: &dyn Io) -> io::Result<Option<Segment>> {
        match self {
            Self::Prepare { epoch, size } => segment::prepare(io, *epoch, *size).map(Some),
            Self::Recycle { old, epoch } => {
                io.rename(&segment::name(old.epoch), &segment::name(*epoch))?;
                io.sync_dir()?;
                Ok(Some(Segment { epoch: *epoch, ..old.clone() }))
            }
            Self::Remove { old } => {
                io.remove(&segment::name(old.epoch))?;
                io.sync_dir()?;
                Ok(None)
            }
        }
    }
}

impl Log {
    /// Whether an empty segment is ready.
    pub(crate) fn has_spare(&self) -> bool {
        !self.spares.is_empty()
    }

    /// Takes over an empty segment.
    pub(crate) fn add_spare(&mut self, spare: Segment) {
        self.spares.push_back(spare);
    }

    /// Whether a segment is to be made. One for settling is made even beyond the storage's size: without it nothing could be taken out.
    fn wants_segment(&self) -> bool {
        let short = self.spares.len() < self.spares_wanted;
        short && !self.disk_full && (self.may_grow() || self.spares.is_empty())
    }

    /// Whether there is something to be done to the folder.
    pub(crate) fn has_chore(&self) -> bool {
        !self.chore_under_way && (self.wants_segment() || !self.retired.is_empty())
    }

    /// The next thing to be done to the folder.
    pub(crate) fn chore(&mut self) -> Option<Chore> {
        if self.chore_under_way {
            return None;
        }
        let epoch = self.spares.back().map_or_else(|| self.epoch(), |spare| spare.epoch) + 1;
        let wanted = self.spares.len() < self.spares_wanted;
        let chore = match self.retired.pop_front() {
            Some(old) if wanted && old.size == self.segment_size => Chore::Recycle { old, epoch },
            Some(old) => Chore::Remove { old },
            None if self.wants_segment() => Chore::Prepare { epoch, size: self.segment_size },
            None => return None,
        };
        self.chore_under_way = true;
        Some(chore)
    }

    /// A chore has ended. A full disk is no failure: publishing is refused until there is room again.
    pub(crate) fn chore_done(
        &mut self,
        chore: &Chore,
        result: io::Result<Option<Segment>>,
    ) -> io::Result<()> {
        self.chore_under_way = false;
        match result {
            Ok(made) => {
                self.disk_full = false;
                self.spares.extend(made);
                Ok(())
            }
            Err(error) if matches!(chore, Chore::Prepare { .. }) && segment::is_full(&error) => {
                self.disk_full = true;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Looks again whether the disk has room.
    pub(crate) const fn retry_disk(&mut self) {
        self.disk_full = false;
    }
}
