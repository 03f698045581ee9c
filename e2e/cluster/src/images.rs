//! Images, made without a container engine: files, their order and their times are fixed, so that the same inputs give the same bytes.

mod archive;
mod folders;
mod programs;

use std::{
    fs,
    path::{Path, PathBuf},
};

pub use archive::{Content, Image, Written};
pub use folders::{Part, pack};
pub use programs::{Profile, build};

use crate::{Result, Run, Tools, error::at};

/// The name of the image that holds a pod's namespaces.
pub(crate) const PAUSE: &str = "kontrol.local/pause:1";

/// The user that our images run as.
pub const NON_ROOT: u32 = 65532;

/// Writes the image that holds a pod's namespaces, for this run.
pub(crate) fn pause(run: &Run, tools: &Tools) -> Result<PathBuf> {
    let path = run.root().join("pause.tar");
    let image = Image {
        names: vec![PAUSE.to_owned()],
        content: vec![Content::program("pause", tools.path("pause")?)],
        entrypoint: vec!["/bin/pause".to_owned()],
        ..Image::default()
    };
    image.write(&path)?;
    Ok(path)
}

/// The certificates of the authorities that this machine trusts.
pub(crate) fn roots() -> Option<&'static Path> {
    const FILE: &str = "/etc/ssl/certs/ca-certificates.crt";
    Path::new(FILE).exists().then(|| Path::new(FILE))
}

/// All files below `folder`, as they are to be in an image below `target`.
pub fn folder(folder: &Path, target: &str) -> Result<Vec<Content>> {
    let mut found = Vec::new();
    let mut entries: Vec<_> = fs::read_dir(folder)
        .map_err(at(folder))?
        .map(|entry| entry.map_err(at(folder)))
        .collect::<Result<_>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, kind) = (entry.path(), entry.file_type().map_err(at(entry.path()))?);
        let target = format!("{target}/{}", entry.file_name().to_string_lossy());
        if kind.is_dir() {
            found.extend(self::folder(&path, &target)?);
        } else if kind.is_symlink() {
            let to = fs::read_link(&path).map_err(at(&path))?;
            found.push(Content::Link { path: target, to: to.display().to_string() });
        } else {
            found.push(Content::File { path: target, source: path });
        }
    }
    Ok(found)
}
