//! A folder in memory that fails as disks do, the same way for the same seed: writes that were never synced are lost or torn when the
//! power goes, names that were never synced vanish, calls fail with `EIO` or `ENOSPC`, and bits flip. For simulators and tests.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::Io;

mod mount;

use mount::Mount;

/// What the power takes or leaves at once.
const SECTOR: usize = 512;

/// Small, seeded and good enough to choose faults by.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The same seed gives the same numbers.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 if that is 0.
    pub const fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.next() % bound }
    }

    /// True `percent` times out of a hundred.
    pub const fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What happens at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The call does half of what it should, and no later one does anything: the machine is gone.
    Stop,
    /// The call fails with an I/O error. A sync that fails so forgets what it should have written and takes it for clean, as Linux does.
    Broken,
    /// This call and the later ones that need space fail, until [`Disk::make_room`].
    NoSpace,
}

/// How the machine went down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process ended: what it wrote is still in the system's cache.
    Process,
    /// The power went: what was not synced is lost, kept or torn, by chance.
    Power,
}

/// What a test leaves out, to see whether it would notice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Omit {
    /// Syncing a file does nothing.
    pub sync: bool,
    /// Syncing the folder does nothing.
    pub sync_dir: bool,
}

#[derive(Debug, Default)]
struct Inode {
    cached: Vec<u8>,
    durable: Vec<u8>,
    dirty: Vec<(usize, Vec<u8>)>,
}

fn patch(bytes: &mut Vec<u8>, offset: usize, new: &[u8]) {
    let end = offset + new.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(new);
}

#[derive(Clone, Debug)]
enum DirOp {
    Create(String, usize),
    Rename(String, String, usize),
    Remove(String),
}

impl DirOp {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Create(name, inode) => {
                names.insert(name.clone(), *inode);
            }
            Self::Rename(from, to, inode) => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
            Self::Remove(name) => {
                names.remove(name);
            }
        }
    }
}

#[derive(Debug)]
struct Inside {
    random: Random,
    omit: Omit,
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    dir_ops: Vec<DirOp>,
    calls: u64,
    fault: Option<(u64, Fault)>,
    full: bool,
    stopped: bool,
    /// Counts the mounts: handles of an earlier one do nothing any more.
    mount: u64,
    locked: bool,
}

/// The disk itself. It outlives the hubs that use it.
#[derive(Clone, Debug)]
pub struct Disk(Arc<Mutex<Inside>>);

impl Disk {
    /// An empty disk.
    pub fn new(seed: u64, omit: Omit) -> Self {
        Self(Arc::new(Mutex::new(Inside {
            random: Random::new(seed),
            omit,
            inodes: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            dir_ops: Vec::new(),
            calls: 0,
            fault: None,
            full: false,
            stopped: false,
            mount: 0,
            locked: false,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The folder, for one hub. Handles of an earlier mount do nothing any more.
    pub fn mount(&self) -> Arc<dyn Io> {
        let mut inside = self.lock();
        inside.mount += 1;
        inside.stopped = false;
        inside.locked = false;
        Arc::new(Mount { disk: self.clone(), mount: inside.mount })
    }

    /// Lets the call number `in_calls` from now fail.
    pub fn plan(&self, in_calls: u64, fault: Fault) {
        let mut inside = self.lock();
        inside.fault = Some((inside.calls + in_calls, fault));
    }

    /// Forgets the planned fault, and ends a lack of space.
    pub fn make_room(&self) {
        let mut inside = self.lock();
        inside.fault = None;
        inside.full = false;
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// Takes the machine down.
    pub fn crash(&self, crash: Crash) {
        let inside = &mut *self.lock();
        inside.mount += 1;
        inside.fault = None;
        inside.full = false;
        if crash == Crash::Process {
            return;
        }
        // Some outages lose everything, some nothing, most a part.
        let kept = [0, 100, 20, 50, 80, 95][usize::try_from(inside.random.below(6)).unwrap_or(0)];
        for inode in &mut inside.inodes {
            for (offset, bytes) in std::mem::take(&mut inode.dirty) {
                let mut at = 0;
                while at < bytes.len() {
                    let room = SECTOR - (offset + at) % SECTOR;
                    let end = (at + room).min(bytes.len());
                    if inside.random.chance(kept) {
                        let torn = inside.random.chance(10);
                        let length = (end - at) as u64;
                        let keep = if torn { inside.random.below(length) } else { length };
                        let keep = usize::try_from(keep).unwrap_or(0);
                        patch(&mut inode.durable, offset + at, &bytes[at..at + keep]);
                    }
                    at = end;
                }
            }
            inode.cached.clone_from(&inode.durable);
        }
        for op in std::mem::take(&mut inside.dir_ops) {
            if inside.random.chance(kept) {
                op.apply(&mut inside.durable_names);
            }
        }
        inside.names = inside.durable_names.clone();
    }

    /// The names and sizes of the files.
    pub fn files(&self) -> Vec<(String, usize)> {
        let inside = self.lock();
        inside.names.iter().map(|(name, inode)| (name.clone(), inside.inodes[*inode].cached.len())).collect()
    }

    /// Flips one bit of a file, on the disk and in the cache.
    pub fn flip(&self, name: &str, bit: usize) {
        let inside = &mut *self.lock();
        let Some(inode) = inside.names.get(name) else { return };
        let inode = &mut inside.inodes[*inode];
        for bytes in [&mut inode.cached, &mut inode.durable] {
            if let Some(byte) = bytes.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }

    /// Cuts a file off.
    pub fn truncate(&self, name: &str, size: usize) {
        let inside = &mut *self.lock();
        let Some(inode) = inside.names.get(name) else { return };
        let inode = &mut inside.inodes[*inode];
        inode.cached.truncate(size);
        inode.durable.truncate(size);
        inode.dirty.clear();
    }

    /// Removes a file, as somebody who tidies up.
    pub fn remove(&self, name: &str) {
        let mut inside = self.lock();
        inside.names.remove(name);
        inside.durable_names.remove(name);
    }

    /// A disk with the same content and no connection to this one.
    #[must_use]
    pub fn copy(&self) -> Self {
        let inside = self.lock();
        let copy = Self::new(inside.random.0, inside.omit);
        let mut to = copy.lock();
        for inode in &inside.inodes {
            let (cached, durable, dirty) = (inode.cached.clone(), inode.durable.clone(), inode.dirty.clone());
            to.inodes.push(Inode { cached, durable, dirty });
        }
        to.names.clone_from(&inside.names);
        to.durable_names.clone_from(&inside.durable_names);
        to.dir_ops.clone_from(&inside.dir_ops);
        drop(to);
        copy
    }
}
