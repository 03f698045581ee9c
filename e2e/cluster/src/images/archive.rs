//! OCI archives: a tar of an image layout with one uncompressed layer.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, BufWriter, Read as _, Write},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use super::NON_ROOT;
use crate::{Result, error::at};

/// One thing in an image.
#[derive(Clone, Debug)]
pub enum Content {
    /// A file; it may be executed where the source may be.
    File {
        /// Where it is in the image.
        path: String,
        /// Where it is here.
        source: PathBuf,
    },
    /// A symbolic link.
    Link {
        /// Where it is in the image.
        path: String,
        /// Where it points.
        to: String,
    },
}

impl Content {
    /// A program, in `/bin`.
    pub fn program(name: &str, source: &Path) -> Self {
        Self::File { path: format!("/bin/{name}"), source: source.to_owned() }
    }

    fn path(&self) -> &str {
        let (Self::File { path, .. } | Self::Link { path, .. }) = self;
        path.trim_start_matches('/')
    }
}

/// An image that is to be written.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// Its names, with tags.
    pub names: Vec<String>,
    /// What is in it.
    pub content: Vec<Content>,
    /// What it runs.
    pub entrypoint: Vec<String>,
    /// Its environment besides `PATH=/bin`.
    pub environment: Vec<String>,
    /// Where it starts. Default: `/`.
    pub folder: Option<String>,
}

/// An image that was written.
#[derive(Clone, Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Written {
    /// Its names.
    pub names: Vec<String>,
    /// Its digest: the same for the same inputs.
    pub digest: String,
    /// Bytes of its content.
    pub size: u64,
    /// The archive.
    pub archive: PathBuf,
}

/// A writer that hashes and counts what passes through it.
struct Hashing<W> {
    inner: W,
    hash: Sha256,
    count: u64,
}

impl<W: Write> Hashing<W> {
    fn new(inner: W) -> Self {
        Self { inner, hash: Sha256::new(), count: 0 }
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(bytes.get(..written).unwrap_or_default());
        self.count += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The architecture as images name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A header whose owner and time are always the same.
fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

impl Image {
    /// Writes the image to `archive`. To its names a tag is added that is made of its digest.
    pub fn write(&self, archive: &Path) -> Result<Written> {
        if let Some(folder) = archive.parent() {
            fs::create_dir_all(folder).map_err(at(folder))?;
        }
        let layer = archive.with_extension("layer");
        let (layer_digest, layer_size) = self.write_layer(&layer).map_err(at(&layer))?;
        let config = self.config(&layer_digest);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": [{
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": format!("sha256:{layer_digest}"),
                "size": layer_size,
            }],
        })
        .to_string()
        .into_bytes();
        let digest = hex(&Sha256::digest(&manifest));
        let names = self.names_with(&digest);
        let index = index(&manifest, &names);
        let write = || -> io::Result<()> {
            let mut tar = Builder::new(BufWriter::new(File::create(archive)?));
            let mut add = |path: String, bytes: &[u8]| {
                tar.append_data(&mut header(EntryType::Regular, 0o644, bytes.len() as u64), path, bytes)
            };
            add("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
            add("index.json".to_owned(), index.to_string().as_bytes())?;
            add(format!("blobs/sha256/{}", hex(&Sha256::digest(&config))), &config)?;
            add(format!("blobs/sha256/{digest}"), &manifest)?;
            let file = File::open(&layer)?;
            let path = format!("blobs/sha256/{layer_digest}");
            tar.append_data(&mut header(EntryType::Regular, 0o644, layer_size), path, file)?;
            tar.into_inner()?.flush()
        };
        write().map_err(at(archive))?;
        fs::remove_file(&layer).map_err(at(&layer))?;
        Ok(Written {
            names,
            digest: format!("sha256:{digest}"),
            size: layer_size,
            archive: archive.to_owned(),
        })
    }

    /// The names, and the first of them with a tag made of the digest.
    fn names_with(&self, digest: &str) -> Vec<String> {
        let mut names = self.names.clone();
        if let (Some((name, _)), Some(short)) =
            (self.names.first().and_then(|n| n.rsplit_once(':')), digest.get(..12))
        {
            names.push(format!("{name}:{short}"));
        }
        names
    }

    fn write_layer(&self, path: &Path) -> io::Result<(String, u64)> {
        let content: BTreeMap<&str, &Content> =
            self.content.iter().map(|content| (content.path(), content)).collect();
        let mut tar = Builder::new(Hashing::new(BufWriter::new(File::create(path)?)));
        let mut folders: BTreeSet<PathBuf> = BTreeSet::new();
        for path in content.keys() {
            folders.extend(
                Path::new(path).ancestors().skip(1).filter(|p| !p.as_os_str().is_empty()).map(Path::to_owned),
            );
        }
        for folder in folders {
            tar.append_data(&mut header(EntryType::Directory, 0o755, 0), folder, io::empty())?;
        }
        for (path, content) in content {
            match content {
                Content::Link { to, .. } => {
                    tar.append_link(&mut header(EntryType::Symlink, 0o777, 0), path, to)?;
                }
                Content::File { source, .. } => {
                    let file = File::open(source)?;
                    let metadata = file.metadata()?;
                    let mode = if metadata.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 };
                    let length = metadata.len();
                    tar.append_data(&mut header(EntryType::Regular, mode, length), path, file.take(length))?;
                }
            }
        }
        let mut written = tar.into_inner()?;
        written.flush()?;
        Ok((hex(&written.hash.finalize()), written.count))
    }

    fn config(&self, layer: &str) -> Vec<u8> {
        let mut environment = vec!["PATH=/bin:/usr/bin:/usr/local/bin".to_owned()];
        environment.extend(self.environment.iter().cloned());
        json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {
                "User": format!("{NON_ROOT}:{NON_ROOT}"),
                "Env": environment,
                "Entrypoint": self.entrypoint,
                "WorkingDir": self.folder.as_deref().unwrap_or("/"),
            },
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer}")]},
        })
        .to_string()
        .into_bytes()
    }
}

fn descriptor(kind: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": kind, "digest": format!("sha256:{}", hex(&Sha256::digest(bytes))), "size": bytes.len()})
}

fn index(manifest: &[u8], names: &[String]) -> Value {
    let entry_of = |name: &String| {
        let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", manifest);
        entry["annotations"] =
            json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name});
        entry
    };
    json!({"schemaVersion": 2, "manifests": names.iter().map(entry_of).collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(folder: &Path, text: &str) -> Image {
        let source = folder.join("source");
        fs::write(&source, text).unwrap();
        let link = Content::Link { path: "/a/link".to_owned(), to: "b".to_owned() };
        Image {
            names: vec!["kontrol.local/x:dev".to_owned()],
            content: vec![link, Content::File { path: "/a/b".to_owned(), source }],
            entrypoint: vec!["/a/b".to_owned()],
            ..Image::default()
        }
    }

    #[test]
    fn the_same_inputs_give_the_same_bytes_and_others_give_others() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = image(one.path(), "x").write(&one.path().join("x.tar")).unwrap();
        let second = image(two.path(), "x").write(&two.path().join("x.tar")).unwrap();
        assert_eq!(fs::read(&first.archive).unwrap(), fs::read(&second.archive).unwrap());
        assert_eq!(first.digest, second.digest);
        let third = image(two.path(), "y").write(&two.path().join("y.tar")).unwrap();
        assert_ne!(first.digest, third.digest);
    }

    #[test]
    fn an_image_is_named_as_asked_and_by_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let written = image(folder.path(), "x").write(&folder.path().join("x.tar")).unwrap();
        let short = &written.digest["sha256:".len()..][..12];
        assert_eq!(written.names, ["kontrol.local/x:dev".to_owned(), format!("kontrol.local/x:{short}")]);
    }

    #[test]
    fn every_folder_stands_before_what_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let layer = folder.path().join("layer");
        image(folder.path(), "x").write_layer(&layer).unwrap();
        let mut tar = tar::Archive::new(File::open(&layer).unwrap());
        let paths: Vec<String> =
            tar.entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string()).collect();
        assert_eq!(paths, ["a", "a/b", "a/link"]);
    }
}
