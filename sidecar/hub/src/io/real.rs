//! The disk.

use std::{
    fs,
    io::{self, Result},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use rustix::fs::{FallocateFlags, FlockOperation};

use super::{File, Io};

/// The name of the file that is locked.
const LOCK: &str = "lock";

/// Zeros are written in pieces of this size: large enough to be fast, small enough to stay out of the resident set.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// A folder on the disk.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    handle: fs::File,
    lock: Mutex<Option<fs::File>>,
}

impl Folder {
    /// Opens a folder; creates it, readable by its user alone, if it is not there.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.exists() {
            let mut builder = fs::DirBuilder::new();
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
            builder.recursive(true).create(path)?;
            if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                fs::File::open(parent)?.sync_all()?;
            }
        }
        Ok(Self { path: path.to_owned(), handle: fs::File::open(path)?, lock: Mutex::new(None) })
    }

    fn options() -> fs::OpenOptions {
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true);
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options
    }
}

impl Io for Folder {
    fn lock(&self) -> Result<()> {
        let file = Self::options().create(true).truncate(false).open(self.path.join(LOCK))?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
        Ok(())
    }

    fn list(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            if let Ok(name) = entry?.file_name().into_string()
                && name != LOCK
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> Result<Arc<dyn File>> {
        Ok(Arc::new(Self::options().create_new(true).open(self.path.join(name))?))
    }

    fn open(&self, name: &str) -> Result<Arc<dyn File>> {
        Ok(Arc::new(Self::options().open(self.path.join(name))?))
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        let to = self.path.join(to);
        if to.exists() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        fs::rename(self.path.join(from), to)
    }

    fn remove(&self, name: &str) -> Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync_dir(&self) -> Result<()> {
        self.handle.sync_all()
    }
}

impl File for fs::File {
    fn size(&self) -> Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        self.read_exact_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn preallocate(&self, size: u64) -> Result<()> {
        // Reserves first, so that a full disk says so before anything is written; file systems that cannot are written to all the same.
        match rustix::fs::fallocate(self, FallocateFlags::empty(), 0, size) {
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
        let mut offset = 0;
        while offset < size {
            let piece = usize::try_from(size - offset).map_or(ZEROS.len(), |left| left.min(ZEROS.len()));
            self.write_all_at(&ZEROS[..piece], offset)?;
            offset += piece as u64;
        }
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        self.sync_data()
    }
}
