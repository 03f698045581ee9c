//! The floor under every durable acknowledgement: one append and one `fdatasync`, with nothing around them.

use std::{fs::File, os::unix::fs::FileExt as _, path::Path, time::Instant};

use anyhow::Context as _;

use super::stats::Samples;

const SIZE: u64 = 8 << 20;

/// A file that is written and zero-filled once, so that no sync has to write metadata.
pub(super) struct Bare {
    file: File,
    at: u64,
}

impl Bare {
    pub(super) fn create(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join("bare");
        let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
        file.write_all_at(&vec![0; usize::try_from(SIZE)?], 0)?;
        file.sync_all()?;
        Ok(Self { file, at: 0 })
    }

    /// Appends and syncs 256 bytes `times` times.
    pub(super) fn append(&mut self, times: usize, samples: &mut Samples) -> anyhow::Result<()> {
        let record = [0x5a; 256];
        for _ in 0..times {
            let started = Instant::now();
            self.file.write_all_at(&record, self.at)?;
            rustix::fs::fdatasync(&self.file)?;
            samples.push(started.elapsed());
            self.at = (self.at + 256) % SIZE;
        }
        Ok(())
    }
}
