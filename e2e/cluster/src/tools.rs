//! The programs that the cluster is made of: built once from Go modules whose versions and checksums are pinned in `tools/`, and kept
//! outside the work tree.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};
use sha2::{Digest as _, Sha256};

use crate::{Error, Result, clock, error::at, network::command, process::tail};

/// How often the build of one program says that it goes on.
const WORD: Duration = Duration::from_secs(20);

/// A version of Kubernetes that the cluster can be made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Version {
    /// The newest one that can be built.
    #[serde(rename = "1.36")]
    V1_36,
    /// The oldest one that Kontrol supports.
    #[serde(rename = "1.33")]
    V1_33,
}

impl Version {
    /// The newest one.
    pub const NEWEST: Self = Self::V1_36;

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1_36 => "1.36",
            Self::V1_33 => "1.33",
        }
    }
}

impl std::str::FromStr for Version {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "1.36" => Ok(Self::V1_36),
            "1.33" => Ok(Self::V1_33),
            _ => Err(Error::Invalid(format!("there is no Kubernetes `{text}` here: use 1.36 or 1.33"))),
        }
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A Go module of `tools/`, and the programs built from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tool {
    /// Its folder in `tools/`.
    pub folder: &'static str,
    /// The module whose version is the programs'.
    module: &'static str,
    /// The programs: their packages, of which the last part is the name. `.` is the folder's own, named like it.
    packages: &'static [&'static str],
    /// Go's build tags.
    tags: &'static str,
    /// Variables that the linker sets to the version, with what stands before it.
    versions: &'static [(&'static str, &'static str)],
    /// Folders of the module that are kept beside the programs.
    data: &'static [&'static str],
}

const KUBERNETES: Tool = Tool {
    folder: "kubernetes-1.36",
    module: "k8s.io/kubernetes",
    packages: &[
        "k8s.io/kubernetes/cmd/kube-apiserver",
        "k8s.io/kubernetes/cmd/kube-controller-manager",
        "k8s.io/kubernetes/cmd/kube-scheduler",
        "k8s.io/kubernetes/cmd/kubelet",
        "k8s.io/kubernetes/cmd/kube-proxy",
        "k8s.io/kubernetes/cmd/kubectl",
    ],
    tags: "",
    versions: &[("k8s.io/component-base/version.gitVersion", "")],
    data: &[],
};

const OTHERS: [Tool; 7] = [
    Tool { folder: "pause", module: "", packages: &["."], tags: "", versions: &[], data: &[] },
    Tool {
        folder: "containerd",
        module: "github.com/containerd/containerd/v2",
        packages: &[
            "github.com/containerd/containerd/v2/cmd/containerd",
            "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
            "github.com/containerd/containerd/v2/cmd/ctr",
        ],
        tags: "no_btrfs no_devmapper no_zfs no_aufs",
        versions: &[("github.com/containerd/containerd/v2/version.Version", "")],
        data: &[],
    },
    Tool {
        folder: "coredns",
        module: "github.com/coredns/coredns",
        packages: &["."],
        tags: "",
        versions: &[],
        data: &[],
    },
    Tool {
        folder: "kwok",
        module: "sigs.k8s.io/kwok",
        packages: &["sigs.k8s.io/kwok/cmd/kwok"],
        tags: "",
        versions: &[("sigs.k8s.io/kwok/pkg/consts.Version", "")],
        data: &["kustomize/stage/node/fast", "kustomize/stage/node/heartbeat", "kustomize/stage/pod/fast"],
    },
    Tool {
        folder: "helm",
        module: "helm.sh/helm/v4",
        packages: &["helm.sh/helm/v4/cmd/helm"],
        tags: "",
        versions: &[("helm.sh/helm/v4/internal/version.version", "")],
        data: &[],
    },
    Tool {
        folder: "kubeconform",
        module: "github.com/yannh/kubeconform",
        packages: &["github.com/yannh/kubeconform/cmd/kubeconform"],
        tags: "",
        versions: &[("main.version", "")],
        data: &[],
    },
    Tool {
        folder: "kube-score",
        module: "github.com/zegl/kube-score",
        packages: &["github.com/zegl/kube-score/cmd/kube-score"],
        tags: "",
        versions: &[("main.version", "")],
        data: &[],
    },
];

impl Tool {
    /// The programs of Kubernetes.
    pub fn kubernetes(version: Version) -> Self {
        match version {
            Version::V1_36 => KUBERNETES,
            Version::V1_33 => Self { folder: "kubernetes-1.33", ..KUBERNETES },
        }
    }

    /// What a cluster needs to start.
    pub fn of_cluster(version: Version) -> Vec<Self> {
        let needed = ["pause", "containerd", "coredns"];
        let others = OTHERS.into_iter().filter(|tool| needed.contains(&tool.folder));
        std::iter::once(Self::kubernetes(version)).chain(others).collect()
    }

    /// The tool of that name (but Kubernetes).
    pub fn named(name: &str) -> Result<Self> {
        OTHERS.into_iter().find(|tool| tool.folder == name).ok_or_else(|| Error::Unknown {
            kind: "tool",
            name: name.to_owned(),
            known: OTHERS.map(|tool| tool.folder).join(", "),
        })
    }

    /// All, with what tests and checks use besides.
    pub fn all(version: Version) -> Vec<Self> {
        std::iter::once(Self::kubernetes(version)).chain(OTHERS).collect()
    }

    /// Their names and packages.
    fn programs(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let name = move |package: &'static str| match package.rsplit('/').next() {
            Some(".") | None => self.folder,
            Some(name) => name,
        };
        self.packages.iter().map(move |package| (name(package), *package))
    }

    /// Where its go.mod is.
    fn source(self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tools").join(self.folder)
    }

    /// The version that its go.mod requires; this crate's where the program is this crate's own.
    fn version(self) -> Result<String> {
        if self.module.is_empty() {
            return Ok(format!("v{}", env!("CARGO_PKG_VERSION")));
        }
        let path = self.source().join("go.mod");
        let text = fs::read_to_string(&path).map_err(at(&path))?;
        let required = text.lines().find_map(|line| {
            let line = line.trim().trim_start_matches("require ");
            line.strip_prefix(self.module)?.strip_prefix(' ')?.split_whitespace().next().map(str::to_owned)
        });
        required
            .ok_or_else(|| Error::Invalid(format!("{}: does not require {}", path.display(), self.module)))
    }

    /// The linker's flags.
    fn link_flags(self) -> Result<String> {
        let version = self.version()?;
        let set = |(name, before): &(&str, &str)| format!(" -X {name}={before}{version}");
        Ok(self.versions.iter().map(set).fold("-s -w".to_owned(), |flags, set| flags + &set))
    }

    /// The folder that its programs are kept in: another one where anything that goes into them is another.
    fn folder_in(self, cache: &Path, go: &str) -> Result<PathBuf> {
        let mut hash = Sha256::new();
        let source = self.source();
        let mut names: Vec<PathBuf> = fs::read_dir(&source)
            .map_err(at(&source))?
            .map(|entry| entry.map(|entry| entry.path()).map_err(at(&source)))
            .collect::<Result<_>>()?;
        names.sort();
        for path in names {
            hash.update(fs::read(&path).map_err(at(&path))?);
            hash.update([0]);
        }
        for part in [self.tags, &self.link_flags()?, go] {
            hash.update(part);
            hash.update([0]);
        }
        let hash =
            hash.finalize().iter().take(8).fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        Ok(cache.join("tools").join(format!("{}-{hash}", self.folder)))
    }
}

/// Programs that are built, by name.
#[derive(Clone, Debug)]
pub struct Tools {
    programs: BTreeMap<String, PathBuf>,
}

impl Tools {
    /// The folder for what is built once for a machine: `KONTROL_CACHE`, or `kontrol` in the user's cache.
    pub fn cache() -> PathBuf {
        let of = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        of("KONTROL_CACHE")
            .or_else(|| of("XDG_CACHE_HOME").map(|path| path.join("kontrol")))
            .or_else(|| of("HOME").map(|path| path.join(".cache/kontrol")))
            .unwrap_or_else(|| std::env::temp_dir().join("kontrol-cache"))
    }

    /// Builds what is missing of `tools`, one program after the other, and says so by `say`.
    pub fn ensure(tools: &[Tool], say: &mut dyn FnMut(&str)) -> Result<Self> {
        let cache = Self::cache();
        fs::create_dir_all(&cache).map_err(at(&cache))?;
        let go = go_version()?;
        let mut programs = BTreeMap::new();
        let mut missing = Vec::new();
        for tool in tools {
            let folder = tool.folder_in(&cache, &go)?;
            for (name, package) in tool.programs() {
                let path = folder.join(name);
                if !path.exists() {
                    missing.push((*tool, folder.clone(), name, package));
                }
                programs.insert(name.to_owned(), path);
            }
        }
        if !missing.is_empty() {
            let path = cache.join("lock");
            let lock = File::create(&path).map_err(at(&path))?;
            if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
                say("waiting for another build of the cluster's tools to end");
                flock(&lock, FlockOperation::LockExclusive).map_err(|error| at(&path)(error.into()))?;
            }
            missing.retain(|(_, folder, name, _)| !folder.join(name).exists());
            let (count, begun) = (missing.len(), clock::now());
            for (index, (tool, folder, name, package)) in missing.into_iter().enumerate() {
                let title = format!("{name} {} ({} of {count})", tool.version()?, index + 1);
                build(tool, &folder, (name, package), &title, say)?;
            }
            if count > 0 {
                say(&format!(
                    "built {count} tools in {} s, into {}",
                    begun.elapsed().as_secs(),
                    cache.display()
                ));
            }
        }
        Ok(Self { programs })
    }

    /// Those of `tools` that are built already; builds nothing.
    pub fn built(tools: &[Tool]) -> Result<Self> {
        let (cache, go) = (Self::cache(), go_version()?);
        let mut programs = BTreeMap::new();
        for tool in tools {
            let folder = tool.folder_in(&cache, &go)?;
            let all = tool.programs().map(|(name, _)| (name.to_owned(), folder.join(name)));
            programs.extend(all.filter(|(_, path)| path.exists()));
        }
        Ok(Self { programs })
    }

    /// The path of a program.
    pub fn program(&self, name: &str) -> Result<String> {
        self.path(name).map(|path| path.display().to_string())
    }

    /// The path of a program.
    pub fn path(&self, name: &str) -> Result<&Path> {
        self.programs.get(name).map(PathBuf::as_path).ok_or_else(|| Error::Unknown {
            kind: "program",
            name: name.to_owned(),
            known: self.programs.keys().cloned().collect::<Vec<_>>().join(", "),
        })
    }

    /// The folder that a program is in.
    pub(crate) fn folder_of(&self, name: &str) -> Result<String> {
        Ok(self.path(name)?.parent().unwrap_or(Path::new("/")).display().to_string())
    }

    /// The folders of all programs, for a `PATH`.
    pub fn folders(&self) -> Vec<PathBuf> {
        let mut folders: Vec<PathBuf> =
            self.programs.values().filter_map(|p| p.parent()).map(Path::to_owned).collect();
        folders.sort();
        folders.dedup();
        folders
    }
}

/// The version of Go here.
fn go_version() -> Result<String> {
    let version = command("go", &["env", "GOVERSION"]).map_err(|error| {
        Error::Machine(format!(
            "{error}\nThe cluster's tools are built with Go 1.26 or newer: install it from https://go.dev/dl"
        ))
    })?;
    Ok(version.trim().to_owned())
}

/// Builds one program into `folder`. It appears there whole, or not at all.
fn build(
    tool: Tool,
    folder: &Path,
    (name, package): (&str, &str),
    title: &str,
    say: &mut dyn FnMut(&str),
) -> Result<()> {
    say(&format!("building {title}"));
    let begun = clock::now();
    fs::create_dir_all(folder).map_err(at(folder))?;
    let (new, log) = (folder.join(format!(".{name}.new")), folder.join(format!("{name}.log")));
    let output = File::create(&log).map_err(at(&log))?;
    let errors = output.try_clone().map_err(at(&log))?;
    let mut go = Command::new("nice");
    go.args([
        "-n",
        "5",
        "go",
        "build",
        "-v",
        "-mod=readonly",
        "-trimpath",
        "-buildvcs=false",
        "-tags",
        tool.tags,
    ])
    .args(["-ldflags", &tool.link_flags()?, "-o"])
    .arg(&new)
    .arg(package)
    .current_dir(tool.source())
    .env("CGO_ENABLED", "0")
    .env("GOFLAGS", "")
    .stdin(Stdio::null())
    .stdout(output)
    .stderr(errors);
    let mut child = go.spawn().map_err(at("go"))?;
    let status = watch(&mut child, title, &log, say).map_err(at("go"))?;
    if !status.success() {
        return Err(Error::Command {
            command: format!("go build {package}"),
            reason: format!("{status}; the end of {}:\n{}", log.display(), tail(&log)),
        });
    }
    for data in tool.data {
        keep(tool, folder, data)?;
    }
    let path = folder.join(name);
    fs::rename(&new, &path).map_err(at(&path))?;
    let size = fs::metadata(&path).map_err(at(&path))?.len() / (1024 * 1024);
    say(&format!("built {name} in {} s ({size} MiB)", begun.elapsed().as_secs()));
    Ok(())
}

/// Waits for a build, and says now and then that it goes on.
fn watch(
    child: &mut Child,
    title: &str,
    log: &Path,
    say: &mut dyn FnMut(&str),
) -> std::io::Result<ExitStatus> {
    let begun = clock::now();
    let mut next = WORD;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if begun.elapsed() > next {
            next += WORD;
            let packages = fs::read_to_string(log).unwrap_or_default().lines().count();
            say(&format!("  {title}: {} s, {packages} packages compiled", begun.elapsed().as_secs()));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Copies a folder of the tool's module beside its programs.
fn keep(tool: Tool, folder: &Path, data: &str) -> Result<()> {
    let source = tool.source().display().to_string();
    let module = command("go", &["-C", &source, "list", "-m", "-f", "{{.Dir}}", tool.module])?;
    let from = Path::new(module.trim()).join(data);
    let to = folder.join(data);
    fs::create_dir_all(&to).map_err(at(&to))?;
    for entry in fs::read_dir(&from).map_err(at(&from))? {
        let path = entry.map_err(at(&from))?.path();
        if let (Some("yaml"), Some(name)) = (path.extension().and_then(|e| e.to_str()), path.file_name()) {
            let bytes = fs::read(&path).map_err(at(&path))?;
            fs::write(to.join(name), bytes).map_err(at(to.join(name)))?;
        }
    }
    Ok(())
}
