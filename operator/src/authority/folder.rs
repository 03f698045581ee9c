//! The authority's folder in a local world.

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use kontrol_core::time::Timestamp;

use super::{Error, Keys, SECRET_BYTES, Signer};

/// An authority that nobody rotates: whoever removes the folder has a new one made.
const LIFE: Duration = Duration::from_hours(24 * 3650);

/// What the folder holds.
pub(super) struct Opened {
    pub(super) keys: Keys,
    pub(super) secret: Vec<u8>,
    pub(super) ca_file: PathBuf,
}

pub(super) fn open(folder: &Path, now: Timestamp) -> Result<Opened, Error> {
    let (ca_file, key_file, secret_file) =
        (folder.join("ca.pem"), folder.join("ca.key"), folder.join("join.secret"));
    if !ca_file.exists() {
        create(folder, &ca_file, &key_file, &secret_file, now)?;
    }
    let unusable = |path: &Path| {
        let path = path.to_owned();
        move |error: &dyn std::fmt::Display| Error::Unusable { path, reason: error.to_string() }
    };
    let certificate =
        String::from_utf8(read_secret(&ca_file)?).map_err(|error| unusable(&ca_file)(&error))?;
    let key = String::from_utf8(read_secret(&key_file)?).map_err(|error| unusable(&key_file)(&error))?;
    let secret = read_secret(&secret_file)?;
    if secret.len() < SECRET_BYTES {
        return Err(unusable(&secret_file)(&"it is too short"));
    }
    let keys = Keys { current: Signer { certificate, key }, next: None, previous: None };
    Ok(Opened { keys, secret, ca_file })
}

/// The certificate comes last: an authority that was half made when the machine went down is made again.
fn create(
    folder: &Path,
    ca_file: &Path,
    key_file: &Path,
    secret_file: &Path,
    now: Timestamp,
) -> Result<(), Error> {
    let file = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::File { path, source }
    };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(file(folder))?;
    let Signer { certificate, key } = Signer::generate("Kontrol local authority", LIFE, now)?;
    write_secret(key_file, key.as_bytes()).map_err(file(key_file))?;
    write_secret(secret_file, &random()?).map_err(file(secret_file))?;
    write_secret(ca_file, certificate.as_bytes()).map_err(file(ca_file))
}

/// A secret that nobody can guess.
pub(super) fn random() -> Result<Vec<u8>, Error> {
    let mut secret = vec![0; SECRET_BYTES];
    let path = Path::new("/dev/urandom");
    fs::File::open(path)
        .and_then(|mut source| source.read_exact(&mut secret))
        .map_err(|source| Error::File { path: path.to_owned(), source })?;
    Ok(secret)
}

/// Writes a file that only the user can read, whole or not at all.
pub(crate) fn write_secret(path: &Path, content: &[u8]) -> io::Result<()> {
    let partial = path.with_extension("partial");
    match fs::remove_file(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&partial, path)
}

fn read_secret(path: &Path) -> Result<Vec<u8>, Error> {
    let file = |source| Error::File { path: path.to_owned(), source };
    if fs::metadata(path).map_err(file)?.mode() & 0o077 != 0 {
        return Err(Error::Exposed(path.to_owned()));
    }
    fs::read(path).map_err(file)
}
