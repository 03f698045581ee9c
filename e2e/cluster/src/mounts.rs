//! What is mounted below a folder.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rustix::mount::{UnmountFlags, unmount};

use crate::{Result, error::at};

/// The mount points below `folder`, the newest first.
fn below(folder: &Path) -> Result<Vec<PathBuf>> {
    let path = Path::new("/proc/self/mountinfo");
    let text = fs::read_to_string(path).map_err(at(path))?;
    let points = text.lines().filter_map(|line| line.split(' ').nth(4)).map(|p| PathBuf::from(unescape(p)));
    let mut found: Vec<PathBuf> = points.filter(|point| point.starts_with(folder)).collect();
    found.reverse();
    Ok(found)
}

/// Mount tables write a space as `\040`.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// Unmounts everything below `folder`.
pub(crate) fn clear(folder: &Path) -> Result<()> {
    for point in below(folder)? {
        unmount(&point, UnmountFlags::DETACH).map_err(|error| at(point)(error.into()))?;
    }
    Ok(())
}
