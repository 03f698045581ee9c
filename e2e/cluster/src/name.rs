//! The name of a run.

use std::{fmt, path::Path, str::FromStr};

use sha2::{Digest as _, Sha256};

use crate::Error;

/// The most characters of a run's name: namespaces, cgroups and sockets are named after it.
const LONGEST: usize = 24;

/// The name of a run: lower-case letters, digits and dashes, at most 24. Everything that a run makes on the machine bears it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunName(String);

impl RunName {
    /// The name that the work tree at `path` has where none is given: the same each time, another for each work tree.
    pub fn of_work_tree(path: &Path) -> Self {
        let hash = Sha256::digest(path.as_os_str().as_encoded_bytes());
        Self(hash.iter().take(4).fold(String::from("t"), |name, byte| format!("{name}{byte:02x}")))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RunName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let edges = text.starts_with('-') || text.ends_with('-');
        if text.is_empty() || text.len() > LONGEST || edges || !text.chars().all(plain) {
            return Err(Error::Invalid(format!(
                "`{text}` is no name for a run: use 1 to {LONGEST} of a-z, 0-9 and `-`, with no `-` at an end"
            )));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for RunName {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<RunName> for String {
    fn from(name: RunName) -> Self {
        name.0
    }
}

impl fmt::Display for RunName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_work_tree_has_one_name_and_another_work_tree_another() {
        let name = RunName::of_work_tree(Path::new("/a"));
        assert_eq!(name, RunName::of_work_tree(Path::new("/a")));
        assert_ne!(name, RunName::of_work_tree(Path::new("/b")));
        assert_eq!(name.as_str().parse::<RunName>().unwrap(), name);
    }

    #[test]
    fn names_that_could_leave_their_folder_are_refused() {
        for bad in ["", "..", "a/b", "A", "-a", "a-", "a b", "abcdefghijklmnopqrstuvwxyz"] {
            assert!(bad.parse::<RunName>().is_err(), "{bad}");
        }
    }
}
