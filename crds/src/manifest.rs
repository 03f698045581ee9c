//! Where manifests come from: files, folders, standard input. The only module that reads anything.

use std::{
    fs,
    io::{self, Read},
    path::Path,
};

use kontrol_core::code::Code;

use crate::Problem;

/// The name of standard input, as argument and in messages.
pub const STDIN: &str = "-";

/// The largest manifest that is read, in bytes.
const LARGEST: u64 = 16 << 20;

/// One text with manifests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The path it was read from, or [`STDIN`]. Relative folders of processes start at this path's folder.
    pub name: String,
    /// YAML, of any number of documents.
    pub text: String,
}

/// Reads a file, all `*.yaml` and `*.yml` files of a folder in the order of their names (not of the folders within), or standard
/// input where the path is `-`. What could not be read is all in the error.
pub fn read_path(path: &Path) -> Result<Vec<Source>, Vec<Problem>> {
    if path.as_os_str() == STDIN {
        return one(STDIN, io::stdin().lock()).map(|source| vec![source]).map_err(|problem| vec![problem]);
    }
    let name = path.display().to_string();
    let metadata = fs::metadata(path).map_err(|error| vec![unreadable(&name, &error)])?;
    if !metadata.is_dir() {
        return file(path).map(|source| vec![source]).map_err(|problem| vec![problem]);
    }
    let entries: io::Result<Vec<_>> =
        fs::read_dir(path).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    let mut files = entries.map_err(|error| vec![unreadable(&name, &error)])?;
    files.retain(|path| path.extension().is_some_and(|end| end == "yaml" || end == "yml") && !path.is_dir());
    files.sort();
    if files.is_empty() {
        let message =
            "there is no *.yaml or *.yml file in this folder (folders within it are not looked into)"
                .to_owned();
        return Err(vec![about(&name, Code::NothingDeclared, message)]);
    }
    let mut sources = Vec::new();
    let mut problems = Vec::new();
    for path in files {
        match file(&path) {
            Ok(source) => sources.push(source),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(sources) } else { Err(problems) }
}

fn file(path: &Path) -> Result<Source, Problem> {
    let name = path.display().to_string();
    let file = fs::File::open(path).map_err(|error| unreadable(&name, &error))?;
    one(&name, file)
}

fn one(name: &str, reader: impl Read) -> Result<Source, Problem> {
    let mut bytes = Vec::new();
    reader.take(LARGEST + 1).read_to_end(&mut bytes).map_err(|error| unreadable(name, &error))?;
    if bytes.len() as u64 > LARGEST {
        return Err(about(
            name,
            Code::UnreadableSource,
            "is larger than 16 MiB, which no manifest is".to_owned(),
        ));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let before = error.utf8_error().valid_up_to();
        let line = error.as_bytes().iter().take(before).filter(|byte| **byte == b'\n').count() as u64 + 1;
        let message = "is no UTF-8 text from here on; save it as UTF-8".to_owned();
        Problem { line: Some(line), ..about(name, Code::MalformedYaml, message) }
    })?;
    Ok(Source { name: name.to_owned(), text })
}

fn unreadable(name: &str, error: &io::Error) -> Problem {
    about(name, Code::UnreadableSource, format!("cannot be read: {error}"))
}

fn about(name: &str, code: Code, message: String) -> Problem {
    Problem { file: name.to_owned(), line: None, object: None, path: String::new(), code, message }
}
