//! What keeps a widget's process from being started, as far as the files of this machine tell before anything is tried.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs::File,
    io::Read,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use kontrol_core::{code::Code, spec::Process};
use rustix::fs::{Access, access};

/// Where a program without `/` is looked up by a process whose environment has no `PATH`.
const DEFAULT_PATH: &str = "/bin:/usr/bin";
/// The most bytes of a script's first line that the system reads.
const FIRST_LINE: u64 = 256;

/// What keeps a process from being started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// The code with which its start would fail.
    pub code: Code,
    /// The field of `process` that is at fault: `command` or `workingDir`.
    pub field: &'static str,
    /// What is wrong.
    pub reason: String,
}

/// What keeps this process from being started, if anything; its relative folder starts from `origin`.
pub fn obstacle(process: &Process, origin: &Path) -> Option<Obstacle> {
    let folder = process.working_dir.as_ref().map_or_else(|| origin.to_owned(), |folder| origin.join(folder));
    if !folder.is_dir() {
        return Some(Obstacle { code: Code::StartFailed, field: "workingDir", reason: no_folder(&folder) });
    }
    let program = process.command.first()?;
    let found = if program.contains('/') {
        by_path(&folder.join(program), program)
    } else {
        let path = process.env.get("PATH").map(OsString::from).or_else(|| env::var_os("PATH"));
        in_path(&path.unwrap_or_else(|| DEFAULT_PATH.into()), &folder, program)
    };
    let (code, reason) = found.err()?;
    Some(Obstacle { code, field: "command", reason })
}

/// How it is said that a working folder is not there.
pub(super) fn no_folder(folder: &Path) -> String {
    format!("its working folder {} does not exist", folder.display())
}

type Found = Result<(), (Code, String)>;

fn by_path(path: &Path, program: &str) -> Found {
    if !path.exists() {
        return Err((Code::CommandNotFound, format!("{program} does not exist")));
    }
    if path.is_dir() {
        return Err((Code::CommandNotExecutable, format!("{program} is a folder")));
    }
    if !executable(path) {
        return Err((Code::CommandNotExecutable, format!("{program} has no execute permission")));
    }
    match interpreter(path) {
        Some(interpreter) if interpreter.is_absolute() && !interpreter.exists() => Err((
            Code::CommandNotFound,
            format!("the interpreter that the first line of {program} names does not exist"),
        )),
        _ => Ok(()),
    }
}

fn in_path(path: &OsStr, folder: &Path, program: &str) -> Found {
    let places = || env::split_paths(path).map(|place| folder.join(place).join(program));
    if let Some(path) = places().find(|path| executable(path)) {
        return by_path(&path, program);
    }
    if places().any(|path| path.is_file()) {
        return Err((Code::CommandNotExecutable, format!("{program} has no execute permission")));
    }
    Err((Code::CommandNotFound, format!("{program} is not in PATH")))
}

fn executable(path: &Path) -> bool {
    path.is_file() && access(path, Access::EXEC_OK).is_ok()
}

/// What the first line of a script names.
fn interpreter(path: &Path) -> Option<PathBuf> {
    let mut head = Vec::new();
    File::open(path).ok()?.take(FIRST_LINE).read_to_end(&mut head).ok()?;
    let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let named = line.split(u8::is_ascii_whitespace).find(|word| !word.is_empty())?;
    Some(PathBuf::from(OsStr::from_bytes(named)))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt};

    use kontrol_core::spec::Limits;

    use super::*;

    fn of(origin: &Path, program: &str, folder: Option<&str>, path: Option<&Path>) -> Option<(Code, String)> {
        let env = path.map(|path| ("PATH".to_owned(), path.display().to_string()));
        let process = Process {
            command: vec![program.to_owned()],
            working_dir: folder.map(PathBuf::from),
            env: env.into_iter().collect::<BTreeMap<_, _>>(),
            limits: Limits::default(),
        };
        obstacle(&process, origin).map(|obstacle| (obstacle.code, obstacle.reason))
    }

    #[test]
    fn what_can_be_started_has_no_obstacle_and_what_cannot_is_told_as_its_start_would() {
        let place = tempfile::tempdir().unwrap();
        let origin = place.path();
        let bin = origin.join("bin");
        fs::create_dir(&bin).unwrap();
        let write = |name: &str, text: &str, mode| {
            fs::write(bin.join(name), text).unwrap();
            fs::set_permissions(bin.join(name), fs::Permissions::from_mode(mode)).unwrap();
        };
        write("good", "#!/bin/sh\n", 0o755);
        write("plain", "", 0o644);
        write("orphan", "#!/no/such/interpreter -x\n", 0o755);
        let path = Some(bin.as_path());
        assert_eq!(of(origin, "sh", None, None), None);
        assert_eq!(of(origin, "good", None, path), None);
        assert_eq!(of(origin, "./good", Some("bin"), None), None);
        assert_eq!(of(origin, "bin/good", None, None), None);
        for (program, folder, code, said) in [
            ("nobody", None, Code::CommandNotFound, "nobody is not in PATH"),
            ("plain", None, Code::CommandNotExecutable, "plain has no execute permission"),
            ("bin/plain", None, Code::CommandNotExecutable, "bin/plain has no execute permission"),
            ("./good", None, Code::CommandNotFound, "./good does not exist"),
            ("./bin", None, Code::CommandNotExecutable, "./bin is a folder"),
            (
                "orphan",
                None,
                Code::CommandNotFound,
                "the interpreter that the first line of orphan names does not exist",
            ),
            ("good", Some("gone"), Code::StartFailed, "its working folder "),
        ] {
            let (found, reason) = of(origin, program, folder, path).unwrap();
            assert_eq!(found, code, "{program}: {reason}");
            assert!(reason.starts_with(said), "{reason}");
        }
    }
}
