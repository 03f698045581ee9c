//! Images of what lies in folders: an example's files, and the packages that it needs.

use std::path::{Path, PathBuf};

use super::{Content, Image, Written, folder};
use crate::Result;

/// A folder, and where its files are in an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The folder here.
    pub source: PathBuf,
    /// The folder in the image; `/` is its root.
    pub target: String,
}

/// Writes an image called `name` (with a tag) to `archive`. Where two parts hold the same file, the later one has it. It runs nothing by itself:
/// who starts it says the command.
pub fn pack(
    name: &str,
    parts: &[Part],
    environment: &[String],
    working_folder: Option<&str>,
    archive: &Path,
) -> Result<Written> {
    let mut content: Vec<Content> = Vec::new();
    for part in parts {
        content.extend(folder(&part.source, part.target.trim_end_matches('/'))?);
    }
    let image = Image {
        names: vec![name.to_owned()],
        content,
        environment: environment.to_vec(),
        folder: working_folder.map(str::to_owned),
        ..Image::default()
    };
    image.write(archive)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs, io::Read as _, os::unix::fs::symlink};

    use super::*;

    /// The blob of the archive's one layer: path → content, or where a link points.
    fn files(archive: &Path) -> BTreeMap<String, String> {
        let mut outer = tar::Archive::new(fs::File::open(archive).unwrap());
        let mut layer = Vec::new();
        for entry in outer.entries().unwrap() {
            let mut bytes = Vec::new();
            entry.unwrap().read_to_end(&mut bytes).unwrap();
            if bytes.len() > layer.len() {
                layer = bytes;
            }
        }
        let mut found = BTreeMap::new();
        for entry in tar::Archive::new(layer.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let mut text = String::new();
            match entry.link_name().unwrap() {
                Some(to) => text = to.display().to_string(),
                None => drop(entry.read_to_string(&mut text)),
            }
            found.insert(path, text);
        }
        found
    }

    #[test]
    fn folders_lie_where_they_were_asked_for_and_a_later_one_wins() {
        let here = tempfile::tempdir().unwrap();
        let (base, app) = (here.path().join("base"), here.path().join("app"));
        fs::create_dir_all(base.join("usr/bin")).unwrap();
        fs::create_dir_all(base.join("app")).unwrap();
        fs::create_dir_all(&app).unwrap();
        fs::write(base.join("usr/bin/node"), "node").unwrap();
        fs::write(base.join("app/a"), "old").unwrap();
        fs::write(app.join("a"), "new").unwrap();
        symlink("usr/bin", base.join("bin")).unwrap();
        let part =
            |source: &Path, target: &str| Part { source: source.to_owned(), target: target.to_owned() };
        let archive = here.path().join("x.tar");
        let parts = [part(&base, "/"), part(&app, "/app/")];
        let written = pack("kontrol.local/x:dev", &parts, &[], Some("/app"), &archive).unwrap();
        assert_eq!(written.names.first().unwrap(), "kontrol.local/x:dev");
        let found = files(&archive);
        assert_eq!(found["app/a"], "new");
        assert_eq!(found["usr/bin/node"], "node");
        assert_eq!(found["bin"], "usr/bin");
    }
}
