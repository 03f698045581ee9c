//! The last configuration on disk, so that a sidecar that starts while the operator is away still works.

use std::{
    fs, io,
    io::Write,
    path::{Path, PathBuf},
};

use kontrol_proto::{Message, v1};

const FILE: &str = "config.bin";

/// The folder that holds the last configuration.
#[derive(Clone, Debug)]
pub struct Store(PathBuf);

impl Store {
    /// A store in `folder`, which is made where it is missing.
    pub fn new(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }

    /// What was written last. None: nothing was, or it cannot be read, which is logged.
    pub fn load(&self) -> Option<v1::SidecarConfig> {
        let path = self.0.join(FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the last configuration cannot be read");
                return None;
            }
        };
        v1::SidecarConfig::decode(&bytes[..])
            .inspect_err(
                |error| tracing::warn!(path = %path.display(), %error, "the last configuration is damaged"),
            )
            .ok()
    }

    /// Writes a configuration beside the old one and then puts it in its place: a crash leaves either, whole. It is not synced: after a
    /// crash of the machine the operator is asked again anyway.
    pub fn save(&self, config: &v1::SidecarConfig) -> io::Result<()> {
        replace(&self.0, FILE, &config.encode_to_vec())
    }
}

/// Replaces a file of a folder whole.
pub(crate) fn replace(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let part = folder.join("config.part");
    let mut file = fs::File::create(&part)?;
    file.write_all(bytes)?;
    fs::rename(part, folder.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_reads_back_and_a_damaged_one_counts_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().join("state")).unwrap();
        assert_eq!(store.load(), None);
        let config = v1::SidecarConfig { version: 3, hub: "127.0.0.1:1".into(), ..Default::default() };
        store.save(&config).unwrap();
        assert_eq!(store.load(), Some(config));
        fs::write(folder.path().join("state").join(FILE), [0xff, 0xff]).unwrap();
        assert_eq!(store.load(), None);
    }
}
