//! A world of real processes: `kontrol up` on a manifest in a folder of its own, seen through its Admin service.
//!
//! Waiting is always for a condition with a deadline; what the world wrote is part of every failure. A world that is dropped is killed,
//! and all that it started dies with it.

mod manifest;
mod notices;
mod process;

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use kontrol_proto::v1::{
    DownRequest, TreeReplica, TreeRequest, TreeResponse, TreeWidget, admin_client::AdminClient,
};
pub use manifest::Manifest;
pub use notices::{Notice, Notices, What};
pub use process::{Signal, alive, children, cpu, resident, signal};
use tempfile::TempDir;
use tonic::transport::Channel;

use crate::widget;

/// How long anything may take that should take moments.
pub const DEADLINE: Duration = Duration::from_mins(1);
/// The file that a manifest is written to.
pub const MANIFEST: &str = "world.yaml";
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// The folder with Kontrol's programs: `KONTROL_BIN_DIR`, or the one that this program is in.
pub fn programs() -> anyhow::Result<PathBuf> {
    let mut places: Vec<PathBuf> =
        std::env::var_os("KONTROL_BIN_DIR").map(PathBuf::from).into_iter().collect();
    let own = std::env::current_exe()?;
    places.extend(own.ancestors().skip(1).take(2).map(Path::to_owned));
    let complete = |place: &&PathBuf| {
        ["kontrol", "kontrol-sidecar", "kontrol-shim", "kontrol-test-widget"]
            .iter()
            .all(|name| place.join(name).is_file())
    };
    let found = places.iter().find(complete).cloned();
    found.with_context(|| {
        format!("kontrol and its programs are in none of {places:?}: `make test` and `make bench` build them")
    })
}

/// The test widget.
pub fn test_widget() -> anyhow::Result<PathBuf> {
    Ok(programs()?.join("kontrol-test-widget"))
}

/// Characters that the path of a world's folder may have, so that the sockets in it stay within the system's limit.
const PATH_LIMIT: usize = 50;

/// A folder for a world: on the disk that the project is built on, because `/tmp` may be memory; unless its path is too long.
pub fn folder() -> anyhow::Result<TempDir> {
    let own = std::env::current_exe()?;
    let target = own.parent().context("this program is in no folder")?;
    let mut builder = tempfile::Builder::new();
    let builder = builder.prefix("w-");
    let made =
        if target.as_os_str().len() < PATH_LIMIT { builder.tempdir_in(target) } else { builder.tempdir() };
    made.context("creating a folder for a world")
}

/// A running `kontrol up`.
#[derive(Debug)]
pub struct World {
    folder: TempDir,
    up: Child,
    admin: Option<AdminClient<Channel>>,
}

impl World {
    /// Starts `kontrol up` on a manifest and waits until everything is ready.
    pub async fn up(manifest: &Manifest) -> anyhow::Result<Self> {
        let mut world = Self::start(folder()?, manifest)?;
        world.ready().await?;
        Ok(world)
    }

    /// Starts `kontrol up` on the manifest that `of` makes, which is given the arguments by which test widgets say what happens to them,
    /// and waits until everything is ready.
    pub async fn heard(
        of: impl FnOnce(&[&str]) -> anyhow::Result<Manifest>,
    ) -> anyhow::Result<(Self, Notices)> {
        let folder = folder()?;
        let notices = Notices::listen(folder.path())?;
        let path = notices.path().display().to_string();
        let mut world = Self::start(folder, &of(&["--notify", &path])?)?;
        world.ready().await?;
        Ok((world, notices))
    }

    /// Starts `kontrol up` on a manifest in this folder, and waits for nothing.
    pub fn start(folder: TempDir, manifest: &Manifest) -> anyhow::Result<Self> {
        fs::write(folder.path().join(MANIFEST), manifest.to_string())?;
        Self::start_at(folder, MANIFEST)
    }

    /// Starts `kontrol up` on this file of the folder.
    pub fn start_at(folder: TempDir, manifest: &str) -> anyhow::Result<Self> {
        Self::start_by(folder, manifest, &[])
    }

    /// Starts `kontrol up` on a manifest by a command that becomes it, such as one that changes its mounts first.
    pub fn start_by(folder: TempDir, manifest: &str, by: &[String]) -> anyhow::Result<Self> {
        Self::start_with(folder, manifest, by, |_| {})
    }

    /// As [`World::start_by`], after `change` had its way with the command, such as with where its output goes.
    pub fn start_with(
        folder: TempDir,
        manifest: &str,
        by: &[String],
        change: impl FnOnce(&mut Command),
    ) -> anyhow::Result<Self> {
        let output = fs::File::options().create(true).append(true).open(folder.path().join("up.log"))?;
        let mut words = by.iter().map(Into::into).chain([programs()?.join("kontrol").into_os_string()]);
        let program: std::ffi::OsString = words.next().context("no program")?;
        let mut up = Command::new(program);
        up.args(words)
            .arg("up")
            .arg(folder.path().join(manifest))
            .arg("--state-dir")
            .arg(folder.path().join(".kontrol"))
            .env("KONTROL_BIN_DIR", programs()?)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        change(&mut up);
        let up = up.spawn().context("starting kontrol up")?;
        Ok(Self { folder, up, admin: None })
    }

    /// Starts `kontrol up` once more where an earlier one ended.
    pub fn again(mut self) -> anyhow::Result<Self> {
        ensure!(self.up.try_wait()?.is_some(), "kontrol up still runs");
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir()?);
        drop(self);
        Self::start_at(folder, MANIFEST)
    }

    /// The folder of the manifest.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The state folder.
    pub fn state(&self) -> PathBuf {
        self.folder.path().join(".kontrol")
    }

    /// The process id of `kontrol up`.
    pub fn pid(&self) -> u32 {
        self.up.id()
    }

    /// Everything that `kontrol up` wrote.
    pub fn output(&self) -> String {
        fs::read_to_string(self.folder.path().join("up.log")).unwrap_or_default()
    }

    /// What the processes of one source wrote, such as `default/group/widget-0`, out of the logs folder; all of them for an empty one.
    pub fn log(&self, part: &str) -> String {
        let mut text = String::new();
        let entries = fs::read_dir(self.state().join("logs")).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()) {
            if path.file_name().is_some_and(|name| name.to_string_lossy().contains(part)) {
                text.push_str(&fs::read_to_string(&path).unwrap_or_default());
            }
        }
        text
    }

    /// Another command of `kontrol` on this world.
    pub fn kontrol(&self, arguments: &[&str]) -> anyhow::Result<std::process::Output> {
        Command::new(programs()?.join("kontrol"))
            .args(arguments)
            .arg("--state-dir")
            .arg(self.state())
            .env("KONTROL_BIN_DIR", programs()?)
            .stdin(Stdio::null())
            .output()
            .context("running kontrol")
    }

    /// The Unix socket of a replica's door.
    pub fn socket(&self, group: &str, widget: &str, ordinal: u32) -> PathBuf {
        self.state().join(format!("run/default.{group}.{widget}.{ordinal}/socket"))
    }

    /// A channel to a replica's door, as its widget has one.
    pub async fn door(&self, group: &str, widget: &str) -> anyhow::Result<Channel> {
        widget::door(self.socket(group, widget, 0)).await
    }

    /// The Admin service of `kontrol up`.
    pub async fn admin(&mut self) -> anyhow::Result<AdminClient<Channel>> {
        if let Some(admin) = &self.admin {
            return Ok(admin.clone());
        }
        let admin = AdminClient::new(widget::door(self.state().join("control.sock")).await?);
        Ok(self.admin.insert(admin).clone())
    }

    /// The trees as they are now.
    pub async fn tree(&mut self) -> anyhow::Result<TreeResponse> {
        let mut admin = self.admin().await?;
        let answer = tokio::time::timeout(DEADLINE, admin.tree(TreeRequest {})).await;
        Ok(answer.context("kontrol up does not say what its trees are")??.into_inner())
    }

    /// Waits until everything that is wanted is ready.
    pub async fn ready(&mut self) -> anyhow::Result<TreeResponse> {
        self.wait("everything is ready", |tree| tree.ready.then(|| tree.clone())).await
    }

    /// Waits until `look` finds in the trees what it looks for.
    pub async fn wait<T>(
        &mut self,
        what: &str,
        mut look: impl FnMut(&TreeResponse) -> Option<T>,
    ) -> anyhow::Result<T> {
        let deadline = Instant::now() + DEADLINE;
        let mut last = None;
        loop {
            if let Some(status) = self.up.try_wait()? {
                bail!("kontrol up ended with {status} while {what:?} was waited for:\n{}", self.output());
            }
            match self.tree().await {
                Ok(tree) => {
                    if let Some(found) = look(&tree) {
                        return Ok(found);
                    }
                    last = Some(tree);
                }
                // Not there yet; a later connection may be to another process.
                Err(_) => self.admin = None,
            }
            if Instant::now() > deadline {
                bail!(
                    "{what:?} was waited for in vain; the trees: {last:#?}\nkontrol up wrote:\n{}",
                    self.output()
                );
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until `kontrol up` has ended by itself.
    pub async fn ended(&mut self) -> anyhow::Result<ExitStatus> {
        let up = &mut self.up;
        until("kontrol up ends", async || Ok(up.try_wait()?)).await
    }

    /// Drains the world as `kontrol down` does, and waits until `kontrol up` has ended.
    pub async fn down(&mut self) -> anyhow::Result<ExitStatus> {
        let mut admin = self.admin().await?;
        let answer = tokio::time::timeout(DEADLINE, admin.down(DownRequest { force: false })).await;
        answer.with_context(|| format!("kontrol up does not drain; it wrote:\n{}", self.output()))??;
        self.ended().await
    }

    /// Ends `kontrol up` as a crash would.
    pub fn crash(&mut self) -> anyhow::Result<()> {
        self.up.kill()?;
        self.up.wait()?;
        self.admin = None;
        Ok(())
    }

    /// The processes that the world has recorded, by what they are.
    pub fn processes(&self) -> Vec<(String, u32)> {
        let text = fs::read(self.state().join("processes.json")).unwrap_or_default();
        let record: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
        let entries = record["processes"].as_object().into_iter().flatten();
        entries
            .filter_map(|(_, entry)| {
                let pid = u32::try_from(entry["pid"].as_u64()?).ok()?;
                Some((entry["name"].as_str()?.to_owned(), pid))
            })
            .collect()
    }

    /// The id of the process of this name, such as `hub` or `group/widget-0 sidecar`, as soon as there is one other than `before`.
    pub async fn process(&self, name: &str, before: Option<u32>) -> anyhow::Result<u32> {
        let other = || {
            let mut processes = self.processes().into_iter();
            processes.find(|(other, pid)| other == name && Some(*pid) != before && alive(*pid))
        };
        until(&format!("{name} runs"), async || Ok(other().map(|(_, pid)| pid))).await
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // What cannot be killed has ended already.
        drop(self.up.kill());
        drop(self.up.wait());
    }
}

/// Notes a test that could not run, where `make test` counts them.
pub fn skip(what: &str) -> anyhow::Result<()> {
    if let Some(path) = std::env::var_os("KONTROL_SKIPPED") {
        let mut file = fs::File::options().create(true).append(true).open(path)?;
        writeln!(file, "{what}")?;
    }
    Ok(())
}

/// Waits until `look` finds something.
pub async fn until<T>(
    what: &str,
    mut look: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        ensure!(Instant::now() < deadline, "{what:?} was waited for in vain");
        tokio::time::sleep(LOOK).await;
    }
}

/// A widget of a group at the root of the trees.
pub fn widget_of<'a>(tree: &'a TreeResponse, group: &str, widget: &str) -> Option<&'a TreeWidget> {
    let group = tree.roots.iter().find(|root| root.name == group)?;
    group.widgets.iter().find(|other| other.name == widget)
}

/// The first replica of a widget of a group at the root of the trees.
pub fn replica_of<'a>(tree: &'a TreeResponse, group: &str, widget: &str) -> Option<&'a TreeReplica> {
    widget_of(tree, group, widget)?.replicas.first()
}
