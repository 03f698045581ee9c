//! The manifests of a running `kontrol up`: read once, then followed.
//!
//! An edit with mistakes, or one that asks for what this machine cannot start, changes nothing: it is said once, and taken as soon as it
//! is mended, in the manifest or on the machine.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use kontrol_core::code::Code;
use kontrol_crds::{Problem, Source};
use kontrol_operator::local::{Desired, Handle, logs::Level};
use tokio::time::{MissedTickBehavior, interval};

use crate::{
    lint::{desired_of, sources},
    preflight::obstacles,
};

/// How often they are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The manifests, as they were looked at last.
pub(crate) struct Manifests {
    paths: Vec<PathBuf>,
    /// Where relative working folders start from.
    origin: PathBuf,
    stamps: Stamps,
    /// What the world was given last.
    running: Desired,
    /// An edit that waits for this machine to be able to start it.
    waiting: Option<Edit>,
}

/// An edit without mistakes of its own.
struct Edit {
    sources: Vec<Source>,
    desired: Desired,
    /// Whether it was said what it waits for.
    said: bool,
}

/// What a look has found.
#[derive(Debug)]
enum Look {
    /// Nothing to do.
    Same,
    /// The world is to be this.
    Changed(Desired),
    /// Nothing can be done until this is mended.
    Refused(Vec<Problem>),
}

impl Manifests {
    /// Reads them, and says what they declare.
    pub(crate) fn read(paths: Vec<PathBuf>, origin: PathBuf) -> Result<(Self, Desired), Vec<Problem>> {
        // Looked at before they are read: an edit in between is seen as one.
        let stamps = stamps_of(&paths);
        let desired = desired_of(&sources(&paths)?)?;
        let running = desired.clone();
        Ok((Self { paths, origin, stamps, running, waiting: None }, desired))
    }

    /// Follows edits. What came from stdin cannot be read again, so where it is one of them nothing is followed.
    pub(crate) async fn watch(mut self, handle: Handle) {
        if self.paths.iter().any(|path| path.as_os_str() == "-") {
            return;
        }
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            match self.look() {
                Look::Same => {}
                Look::Changed(desired) => {
                    handle.say(Level::Info, "the manifest has changed".to_owned());
                    handle.manifest(desired).await;
                }
                Look::Refused(problems) => handle.say(Level::Error, refusal(&problems)),
            }
        }
    }

    /// Looks once. The content decides, so that a touched file or one written twice changes nothing.
    fn look(&mut self) -> Look {
        let now = stamps_of(&self.paths);
        if now != self.stamps {
            self.stamps = now;
            let read = sources(&self.paths).and_then(|sources| Ok((desired_of(&sources)?, sources)));
            let (desired, sources) = match read {
                Ok(read) => read,
                Err(problems) => {
                    self.waiting = None;
                    return Look::Refused(problems);
                }
            };
            let said = self.waiting.as_ref().is_some_and(|edit| edit.said && edit.desired == desired);
            self.waiting = (desired != self.running).then_some(Edit { sources, desired, said });
        }
        let Some(edit) = &mut self.waiting else { return Look::Same };
        let problems = obstacles(&edit.desired, &self.running, &edit.sources, &self.origin);
        if !problems.is_empty() {
            let said = std::mem::replace(&mut edit.said, true);
            return if said { Look::Same } else { Look::Refused(problems) };
        }
        self.running.clone_from(&edit.desired);
        self.waiting = None;
        Look::Changed(self.running.clone())
    }
}

fn refusal(problems: &[Problem]) -> String {
    let list: Vec<String> = problems.iter().map(|problem| format!("\n  {problem}")).collect();
    format!(
        "{}: the changed manifest cannot be followed; what runs goes on as it was{}",
        Code::ManifestRejected,
        list.concat()
    )
}

/// Name, size and time of each manifest: what a change of content changes.
type Stamps = Vec<(PathBuf, Option<(u64, SystemTime)>)>;

fn stamps_of(paths: &[PathBuf]) -> Stamps {
    let stamp = |path: PathBuf| {
        let metadata = fs::metadata(&path).ok();
        (path, metadata.and_then(|metadata| Some((metadata.len(), metadata.modified().ok()?))))
    };
    let mut stamps = Vec::new();
    for path in paths {
        if path.is_dir() {
            stamps.extend(files_in(path).map(stamp));
        }
        stamps.push(stamp(path.clone()));
    }
    stamps.sort();
    stamps
}

fn files_in(folder: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    struct Place {
        folder: tempfile::TempDir,
        edits: u64,
    }

    impl Place {
        fn new() -> Self {
            Self { folder: tempfile::tempdir().unwrap(), edits: 0 }
        }

        fn edit(&mut self, command: &str) {
            let text = format!(
                "apiVersion: kontrol.dev/v1alpha1\nkind: Widget\nmetadata: {{name: w}}\nspec: {{process: {{command: [{command}]}}}}\n"
            );
            let path = self.folder.path().join("m.yaml");
            fs::write(&path, text).unwrap();
            // Two edits within one tick of the file system's clock are two all the same.
            self.edits += 1;
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(self.edits);
            fs::File::options().write(true).open(path).unwrap().set_modified(at).unwrap();
        }

        fn read(&self) -> Manifests {
            let folder = self.folder.path().to_owned();
            Manifests::read(vec![folder.join("m.yaml")], folder).unwrap().0
        }
    }

    fn command(look: Look) -> String {
        match look {
            Look::Changed(desired) => {
                desired.widgets().next().unwrap().process.as_ref().unwrap().command[0].clone()
            }
            Look::Same => "the same".to_owned(),
            Look::Refused(problems) => problems[0].to_string(),
        }
    }

    #[test]
    fn an_edit_that_cannot_be_started_is_said_once_and_taken_when_the_machine_can() {
        let mut place = Place::new();
        place.edit("sh");
        let mut manifests = place.read();
        assert_eq!(command(manifests.look()), "the same");
        place.edit("./tool");
        let refused = command(manifests.look());
        assert!(
            refused.ends_with("KTL2001 Widget default/w, spec.process.command: ./tool does not exist"),
            "{refused}"
        );
        assert_eq!(command(manifests.look()), "the same");
        place.edit("./tool");
        assert_eq!(command(manifests.look()), "the same", "it was said");
        let tool = place.folder.path().join("tool");
        fs::write(&tool, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(command(manifests.look()), "./tool");
        assert_eq!(command(manifests.look()), "the same");
    }

    #[test]
    fn an_edit_that_is_taken_back_is_forgotten_and_a_mended_one_is_taken() {
        let mut place = Place::new();
        place.edit("sh");
        let mut manifests = place.read();
        place.edit("no-such-program");
        assert!(command(manifests.look()).contains("KTL2001"));
        place.edit("sh");
        assert_eq!(command(manifests.look()), "the same");
        place.edit("no-such-program");
        assert!(command(manifests.look()).contains("KTL2001"), "it is another edit");
        place.edit("cat");
        assert_eq!(command(manifests.look()), "cat");
        place.edit("[");
        assert!(command(manifests.look()).contains("KTL1001"));
        place.edit("cat");
        assert_eq!(command(manifests.look()), "the same");
    }
}
