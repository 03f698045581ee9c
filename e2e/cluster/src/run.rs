//! Where things of a run are.

use std::path::{Path, PathBuf};

use crate::RunName;

/// A run: its name, and the folder with all that it keeps on disk.
#[derive(Clone, Debug)]
pub struct Run {
    name: RunName,
    base: PathBuf,
}

impl Run {
    /// The folder that holds the folders of all runs.
    pub fn default_base() -> PathBuf {
        std::env::var_os("KONTROL_CLUSTER_DIR")
            .map_or_else(|| std::env::temp_dir().join("kontrol-cluster"), PathBuf::from)
    }

    /// The run `name` below [`Run::default_base`].
    pub fn new(name: RunName) -> Self {
        Self::at(name, Self::default_base())
    }

    /// The run `name` below `base`.
    pub fn at(name: RunName, base: impl Into<PathBuf>) -> Self {
        Self { name, base: base.into() }
    }

    /// The name of the run that belongs to the work tree this crate was built from.
    pub fn default_name() -> RunName {
        RunName::of_work_tree(Path::new(env!("CARGO_MANIFEST_DIR")))
    }

    /// The run's name.
    pub fn name(&self) -> &RunName {
        &self.name
    }

    /// The folder of all runs.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// The run's folder.
    pub fn root(&self) -> PathBuf {
        self.base.join(self.name.as_str())
    }

    /// Keys and certificates.
    pub fn pki(&self) -> PathBuf {
        self.root().join("pki")
    }

    /// What the components write.
    pub fn logs(&self) -> PathBuf {
        self.root().join("logs")
    }

    /// The folder of the node `name`: its containerd's, its kubelet's and its volumes.
    pub fn node(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    /// The kubeconfig of an administrator, with the keys in it.
    pub fn kubeconfig(&self) -> PathBuf {
        self.root().join("kubeconfig")
    }

    /// The kubeconfig of one component.
    pub fn kubeconfig_of(&self, component: &str) -> PathBuf {
        self.root().join(format!("{component}.kubeconfig"))
    }

    /// What is to be cleaned up.
    pub fn ledger(&self) -> PathBuf {
        self.root().join("ledger.jsonl")
    }

    /// What the run is made of.
    pub fn state(&self) -> PathBuf {
        self.root().join("cluster.json")
    }

    /// The audit log of the API server.
    pub fn audit(&self) -> PathBuf {
        self.logs().join("audit.jsonl")
    }

    /// The control plane's network namespace.
    pub fn namespace(&self) -> String {
        format!("kc-{}", self.name)
    }

    /// The network namespace of the node `name`.
    pub fn node_namespace(&self, name: &str) -> String {
        format!("kc-{}-{name}", self.name)
    }

    /// The cgroup, below each hierarchy's root, of the whole run.
    pub fn cgroup(&self) -> String {
        format!("kontrol-{}", self.name)
    }

    /// The cgroup of a part of the run: `control`, or a node.
    pub fn cgroup_of(&self, part: &str) -> String {
        format!("{}/{part}", self.cgroup())
    }
}
