//! All that the hub asks of the system: a folder of files. [`real`] is the disk, [`faulty`] its deterministic, fault-injecting twin.

use std::{fmt::Debug, io::Result, sync::Arc};

pub mod faulty;
pub mod real;

/// A folder, held by one hub at a time.
pub trait Io: Debug + Send + Sync + 'static {
    /// Takes the folder for this hub alone; `WouldBlock` if another one holds it. Given back when the value is dropped.
    fn lock(&self) -> Result<()>;
    /// The names of the files in the folder, in no order.
    fn list(&self) -> Result<Vec<String>>;
    /// Creates a file that is not there yet.
    fn create(&self, name: &str) -> Result<Arc<dyn File>>;
    /// Opens a file for reading and writing.
    fn open(&self, name: &str) -> Result<Arc<dyn File>>;
    /// Renames a file, replacing nothing.
    fn rename(&self, from: &str, to: &str) -> Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> Result<()>;
    /// Makes every creation, renaming and removal so far durable.
    fn sync_dir(&self) -> Result<()>;
}

/// An open file.
pub trait File: Debug + Send + Sync + 'static {
    /// Its size in bytes.
    fn size(&self) -> Result<u64>;
    /// Reads until `buffer` is full; `UnexpectedEof` if the file ends before.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()>;
    /// Writes all of `bytes`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()>;
    /// Makes the file `size` bytes of zeros that are really there, so that later writes change no metadata.
    fn preallocate(&self, size: u64) -> Result<()>;
    /// Makes every write so far durable.
    fn sync(&self) -> Result<()>;
}
