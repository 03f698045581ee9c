//! The folder as one hub sees it: counts the calls and lets them fail as planned.

use std::{
    io::{Error, ErrorKind, Result},
    sync::{Arc, MutexGuard},
};

use super::{DirOp, Disk, Fault, Inode, Inside, patch};
use crate::io::{File, Io};

/// What kind of call it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    Reads,
    NeedsSpace,
    Other,
}

/// One mount of the disk.
#[derive(Debug)]
pub(super) struct Mount {
    pub(super) disk: Disk,
    pub(super) mount: u64,
}

impl Mount {
    /// Counts a call and lets it fail as planned. The second value says that the call is to be done by half.
    fn call(&self, call: Call) -> Result<(MutexGuard<'_, Inside>, bool)> {
        let mut inside = self.disk.lock();
        if inside.mount != self.mount || inside.stopped {
            return Err(Error::other("the machine is gone"));
        }
        inside.calls += 1;
        match inside.fault {
            Some((at, fault)) if inside.calls >= at => match fault {
                Fault::Stop => {
                    inside.fault = None;
                    inside.stopped = true;
                    return Ok((inside, true));
                }
                // Reading fails in a way of its own, which is not a part of these histories.
                Fault::Broken if call != Call::Reads => {
                    inside.fault = None;
                    return Err(Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error()));
                }
                Fault::NoSpace => {
                    inside.fault = None;
                    inside.full = true;
                }
                Fault::Broken => {}
            },
            _ => {}
        }
        if inside.full && call == Call::NeedsSpace {
            return Err(ErrorKind::StorageFull.into());
        }
        Ok((inside, false))
    }

    fn change(&self, call: Call, change: impl FnOnce(&mut Inside) -> Result<DirOp>) -> Result<()> {
        let (mut inside, halt) = self.call(call)?;
        let op = change(&mut inside)?;
        op.apply(&mut inside.names);
        inside.dir_ops.push(op);
        if halt { Err(Error::other("the machine is gone")) } else { Ok(()) }
    }

    fn handle(&self, inode: usize) -> Arc<dyn File> {
        Arc::new(Handle { mount: Self { disk: self.disk.clone(), mount: self.mount }, inode })
    }
}

impl Io for Mount {
    fn lock(&self) -> Result<()> {
        let (mut inside, _) = self.call(Call::Reads)?;
        if std::mem::replace(&mut inside.locked, true) { Err(ErrorKind::WouldBlock.into()) } else { Ok(()) }
    }

    fn list(&self) -> Result<Vec<String>> {
        let (inside, _) = self.call(Call::Reads)?;
        Ok(inside.names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> Result<Arc<dyn File>> {
        let mut made = 0;
        self.change(Call::NeedsSpace, |inside| {
            if inside.names.contains_key(name) {
                return Err(ErrorKind::AlreadyExists.into());
            }
            made = inside.inodes.len();
            inside.inodes.push(Inode::default());
            Ok(DirOp::Create(name.to_owned(), made))
        })?;
        Ok(self.handle(made))
    }

    fn open(&self, name: &str) -> Result<Arc<dyn File>> {
        let (inside, _) = self.call(Call::Reads)?;
        let inode = *inside.names.get(name).ok_or(ErrorKind::NotFound)?;
        drop(inside);
        Ok(self.handle(inode))
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.change(Call::Other, |inside| {
            if inside.names.contains_key(to) {
                return Err(ErrorKind::AlreadyExists.into());
            }
            let inode = *inside.names.get(from).ok_or(ErrorKind::NotFound)?;
            Ok(DirOp::Rename(from.to_owned(), to.to_owned(), inode))
        })
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.change(Call::Other, |inside| {
            if inside.names.contains_key(name) {
                Ok(DirOp::Remove(name.to_owned()))
            } else {
                Err(ErrorKind::NotFound.into())
            }
        })
    }

    fn sync_dir(&self) -> Result<()> {
        let (mut inside, halt) = self.call(Call::Other)?;
        if halt {
            return Err(Error::other("the machine is gone"));
        }
        let inside = &mut *inside;
        if !inside.omit.sync_dir {
            for op in std::mem::take(&mut inside.dir_ops) {
                op.apply(&mut inside.durable_names);
            }
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Handle {
    mount: Mount,
    inode: usize,
}

impl File for Handle {
    fn size(&self) -> Result<u64> {
        let (inside, _) = self.mount.call(Call::Reads)?;
        Ok(inside.inodes[self.inode].cached.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        let (inside, _) = self.mount.call(Call::Reads)?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = start.saturating_add(buffer.len());
        let bytes = inside.inodes[self.inode].cached.get(start..end).ok_or(ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let known = self.mount.disk.lock().inodes[self.inode].cached.len();
        let call = if start + bytes.len() > known { Call::NeedsSpace } else { Call::Other };
        let (mut inside, halt) = self.mount.call(call)?;
        let written = if halt { bytes.len() / 2 } else { bytes.len() };
        let inode = &mut inside.inodes[self.inode];
        patch(&mut inode.cached, start, &bytes[..written]);
        inode.dirty.push((start, bytes[..written].to_vec()));
        if halt { Err(Error::other("the machine is gone")) } else { Ok(()) }
    }

    fn preallocate(&self, size: u64) -> Result<()> {
        let (mut inside, halt) = self.mount.call(Call::NeedsSpace)?;
        let zeros = vec![0; usize::try_from(size).unwrap_or(0) / if halt { 2 } else { 1 }];
        let inode = &mut inside.inodes[self.inode];
        patch(&mut inode.cached, 0, &zeros);
        inode.dirty.push((0, zeros));
        if halt { Err(Error::other("the machine is gone")) } else { Ok(()) }
    }

    fn sync(&self) -> Result<()> {
        let called = self.mount.call(Call::Other);
        let (mut inside, halt) = match called {
            Ok(called) => called,
            Err(error) => {
                // The pages are dropped and count as clean: the disk never gets them.
                if error.raw_os_error().is_some() {
                    self.mount.disk.lock().inodes[self.inode].dirty.clear();
                }
                return Err(error);
            }
        };
        if halt {
            return Err(Error::other("the machine is gone"));
        }
        if !inside.omit.sync {
            let inode = &mut inside.inodes[self.inode];
            for (offset, bytes) in std::mem::take(&mut inode.dirty) {
                patch(&mut inode.durable, offset, &bytes);
            }
        }
        Ok(())
    }
}
