//! Kontrol's own images: static programs, the roots of the certificate authorities, and nothing else.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use super::{Content, Image, Written, roots};
use crate::{
    Error, Result,
    error::{at, json},
    network::command,
};

/// An image, and the programs in it; the first is what it runs.
const IMAGES: [(&str, &[&str]); 4] = [
    ("kontrol-operator", &["kontrol-operator"]),
    ("kontrol-sidecar", &["kontrol-sidecar", "kontrol-shim"]),
    ("kontrol-test-widget", &["kontrol-test-widget", "kontrol-shim"]),
    ("kontrol-probe", &["kontrol-probe", "kontrol-shim"]),
];

/// How the programs are compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// As for tests: minutes.
    Ci,
    /// As for a release: smaller and faster, and longer to wait for.
    Release,
}

impl Profile {
    /// Cargo's name of it for a program.
    fn of(self, program: &str) -> &'static str {
        match (self, program) {
            (Self::Ci, _) => "ci",
            (Self::Release, "kontrol-operator") => "release-operator",
            (Self::Release, _) => "release",
        }
    }
}

/// Compiles the programs and writes the images called `only` (all, where it is empty) into the target folder's `images`.
/// A program that no crate has is left out, with a word.
pub fn build(profile: Profile, only: &[String], say: &mut dyn FnMut(&str)) -> Result<Vec<Written>> {
    if let Some(name) = only.iter().find(|name| IMAGES.iter().all(|(known, _)| known != name)) {
        let known = IMAGES.map(|(name, _)| name).join(", ");
        return Err(Error::Unknown { kind: "image", name: name.clone(), known });
    }
    let workspace = Workspace::read()?;
    let wanted = IMAGES.iter().filter(|(name, _)| only.is_empty() || only.iter().any(|o| o == name));
    let mut images = Vec::new();
    for (name, programs) in wanted {
        match programs.iter().find(|program| !workspace.packages.contains_key(**program)) {
            Some(program) => {
                say(&format!("skipped {name}: no crate of the workspace has a program {program}"));
            }
            None => images.push((*name, *programs)),
        }
    }
    let programs: Vec<&str> = images.iter().flat_map(|(_, programs)| programs.iter().copied()).collect();
    if programs.is_empty() {
        return Ok(Vec::new());
    }
    let mut folders = BTreeMap::new();
    for program in unique(&programs) {
        folders.entry(profile.of(program)).or_insert_with(Vec::new).push(program);
    }
    let mut files = BTreeMap::new();
    for (profile, programs) in folders {
        say(&format!("compiling {} (static, profile {profile})", programs.join(", ")));
        let folder = workspace.compile(profile, &programs)?;
        files.extend(programs.iter().map(|program| (*program, folder.join(program))));
    }
    let write = |(name, programs): (&str, &[&str])| {
        let mut content: Vec<Content> =
            programs.iter().filter_map(|p| Some(Content::program(p, files.get(p)?))).collect();
        if let Some(roots) = roots() {
            content.push(Content::File { path: roots.display().to_string(), source: roots.to_owned() });
        }
        let image = Image {
            names: vec![format!("kontrol.local/{name}:dev")],
            content,
            entrypoint: programs.iter().take(1).map(|program| format!("/bin/{program}")).collect(),
            ..Image::default()
        };
        image.write(&workspace.target.join("images").join(format!("{name}.tar")))
    };
    images.into_iter().map(write).collect()
}

fn unique<'a>(names: &[&'a str]) -> Vec<&'a str> {
    let mut names = names.to_vec();
    names.sort_unstable();
    names.dedup();
    names
}

/// The workspace that this crate is in.
struct Workspace {
    root: PathBuf,
    target: PathBuf,
    /// Each program, and the package that has it.
    packages: BTreeMap<String, String>,
}

impl Workspace {
    fn read() -> Result<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml").display().to_string();
        let arguments =
            ["metadata", "--no-deps", "--locked", "--format-version=1", "--manifest-path", &manifest];
        let text = command("cargo", &arguments)?;
        let metadata: Value = serde_json::from_str(&text).map_err(json("cargo metadata"))?;
        let path = |name: &str| PathBuf::from(metadata[name].as_str().unwrap_or_default());
        let mut packages = BTreeMap::new();
        for package in metadata["packages"].as_array().into_iter().flatten() {
            for target in package["targets"].as_array().into_iter().flatten() {
                let program =
                    target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "bin"));
                if let (true, Some(name), Some(package)) =
                    (program, target["name"].as_str(), package["name"].as_str())
                {
                    packages.insert(name.to_owned(), package.to_owned());
                }
            }
        }
        Ok(Self { root: path("workspace_root"), target: path("target_directory"), packages })
    }

    /// Compiles static programs with a profile of cargo's; gives the folder they are in. Paths of this machine are kept out of them, so that two machines make the same.
    fn compile(&self, profile: &str, programs: &[&str]) -> Result<PathBuf> {
        let host = command("rustc", &["-vV"])?;
        let host = host
            .lines()
            .find_map(|line| line.strip_prefix("host: "))
            .unwrap_or("x86_64-unknown-linux-gnu")
            .to_owned();
        let home = std::env::var_os("CARGO_HOME")
            .map(PathBuf::from)
            .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")))
            .unwrap_or_default();
        let mut flags = vec![
            "-Ctarget-feature=+crt-static".to_owned(),
            format!("--remap-path-prefix={}=/kontrol", self.root.display()),
            format!("--remap-path-prefix={}=/cargo", home.display()),
        ];
        if packs_relocations() {
            // What is to be set right where a program is loaded: 20 KB of the operator's instead of 1.3 MB.
            flags.push("-Clink-arg=-Wl,-z,pack-relative-relocs".to_owned());
        }
        let target = self.target.join("static");
        let mut cargo = Command::new("cargo");
        cargo
            .args(["build", "--locked", "--profile", profile, "--target", &host, "--target-dir"])
            .arg(&target)
            .current_dir(&self.root)
            // Flags are parted by the unit separator, since a path may hold a space.
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
        for program in programs {
            if let Some(package) = self.packages.get(*program) {
                cargo.args(["-p", package, "--bin", program]);
            }
        }
        let status = cargo.status().map_err(at("cargo"))?;
        if !status.success() {
            return Err(Error::Command { command: "cargo build".to_owned(), reason: status.to_string() });
        }
        strip(&target.join(host).join(profile), programs)
    }
}

/// Whether a static program of this machine's C library sets packed relocations right when it starts: glibc does since 2.36.
fn packs_relocations() -> bool {
    let said = command("getconf", &["GNU_LIBC_VERSION"]).unwrap_or_default();
    let version = said.trim().strip_prefix("glibc ").and_then(|version| version.split_once('.'));
    version.is_some_and(|(major, minor)| major == "2" && minor.parse::<u32>().is_ok_and(|minor| minor >= 36))
}

/// Copies of the programs without their symbols, which are a quarter of them; gives the folder. The ones with symbols stay, to read a
/// backtrace with.
fn strip(folder: &Path, programs: &[&str]) -> Result<PathBuf> {
    let stripped = folder.join("stripped");
    fs::create_dir_all(&stripped).map_err(at(&stripped))?;
    for program in programs {
        let [from, to] = [folder, &stripped].map(|folder| folder.join(program).display().to_string());
        command("strip", &["--strip-all", "-o", &to, &from])?;
    }
    Ok(stripped)
}
