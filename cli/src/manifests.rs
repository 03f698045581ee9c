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
use tokio::{
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};

use crate::{
    lint::{desired_of, sources},
    preflight::{Found, obstacles, problems},
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
    /// What was said that it waits for.
    said: Vec<Found>,
}

/// An edit without mistakes of its own.
struct Edit {
    sources: Vec<Source>,
    desired: Desired,
}

/// What a look has found.
#[derive(Debug)]
enum Look {
    /// Nothing to do.
    Same,
    /// The world is to be this. The starts that will fail are those of trees of their own: they take down nothing that runs.
    Changed(Desired, Vec<Problem>),
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
        Ok((Self { paths, origin, stamps, running, waiting: None, said: Vec::new() }, desired))
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
            // Files are read and manifests checked where nothing that supervises waits for it.
            let looked = spawn_blocking(move || {
                let look = self.look();
                (self, look)
            });
            let Ok((manifests, look)) = looked.await else { return };
            self = manifests;
            match look {
                Look::Same => {}
                Look::Changed(desired, doubts) => {
                    handle.say(Level::Info, "the manifest has changed".to_owned());
                    for doubt in doubts {
                        handle.say(Level::Warn, doubt.to_string());
                    }
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
            self.waiting = None;
            let read = sources(&self.paths).and_then(|sources| Ok((desired_of(&sources)?, sources)));
            match read {
                Ok((desired, _)) if desired == self.running => {}
                Ok((desired, sources)) => self.waiting = Some(Edit { sources, desired }),
                Err(problems) => {
                    self.said.clear();
                    return Look::Refused(problems);
                }
            }
        }
        let Some(edit) = self.waiting.take() else {
            self.said.clear();
            return Look::Same;
        };
        let found = obstacles(&edit.desired, &self.running, &self.origin);
        if !found.iter().any(|found| found.harmful) {
            let doubts = problems(&found, &edit.sources);
            self.said.clear();
            self.running.clone_from(&edit.desired);
            return Look::Changed(edit.desired, doubts);
        }
        let look =
            if found == self.said { Look::Same } else { Look::Refused(problems(&found, &edit.sources)) };
        self.said = found;
        self.waiting = Some(edit);
        look
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
            self.write(command, "");
        }

        fn write(&mut self, command: &str, more: &str) {
            let text = format!(
                "apiVersion: kontrol.dev/v1alpha1\nkind: Widget\nmetadata: {{name: w}}\nspec: {{process: {{command: [{command}]}}}}\n{more}"
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
            Look::Changed(desired, _) => {
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
    fn a_new_tree_may_bring_what_it_starts() {
        let mut place = Place::new();
        place.edit("sh");
        let mut manifests = place.read();
        place.write("sh", "---\napiVersion: kontrol.dev/v1alpha1\nkind: WidgetGroup\nmetadata: {name: g}\nspec: {widgets: [{name: build, process: {command: [sh]}}, {name: serve, process: {command: [./out]}}]}\n");
        let Look::Changed(desired, doubts) = manifests.look() else { panic!("the edit is not taken") };
        assert_eq!(desired.widgets().count(), 3);
        let doubt = doubts[0].to_string();
        assert!(doubt.ends_with("spec.widgets[1].process.command: ./out does not exist"), "{doubt}");
        assert_eq!(doubts.len(), 1);
        assert_eq!(command(manifests.look()), "the same");
    }

    #[test]
    fn other_reasons_for_the_same_edit_are_said() {
        let mut place = Place::new();
        place.edit("sh");
        let mut manifests = place.read();
        place.edit("./tool");
        assert!(command(manifests.look()).contains("does not exist"));
        fs::write(place.folder.path().join("tool"), "#!/bin/sh\n").unwrap();
        let refused = command(manifests.look());
        assert!(refused.contains("KTL2002"), "{refused}");
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
