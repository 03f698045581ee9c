//! An object of the cluster's own that a test changes, and that is put back whatever becomes of the test.

use std::io::Write as _;

use serde_json::Value;

use kontrol_e2e_cluster::{Cluster, Result};

/// An object as it was. Dropping it puts it back.
#[derive(Debug)]
pub(crate) struct Changed {
    cluster: Cluster,
    before: Value,
    back: bool,
}

impl Changed {
    /// Changes an object, named as for `kubectl get`: `["clusterrole", "kontrol-operator"]`.
    pub(crate) fn new(cluster: &Cluster, named: &[&str], change: impl FnOnce(&mut Value)) -> Result<Self> {
        let text = cluster.kubectl(&[&["get", "-o", "json"], named].concat())?;
        let mut before: Value = serde_json::from_str(&text).unwrap();
        if let Some(metadata) = before["metadata"].as_object_mut() {
            metadata
                .retain(|field, _| matches!(field.as_str(), "name" | "namespace" | "labels" | "annotations"));
        }
        if let Some(object) = before.as_object_mut() {
            object.remove("status");
        }
        let mut changed = before.clone();
        change(&mut changed);
        let kept = Self { cluster: cluster.clone(), before, back: false };
        kept.put(&changed)?;
        Ok(kept)
    }

    /// Puts it back now.
    pub(crate) fn put_back(mut self) -> Result<()> {
        self.back = true;
        self.put(&self.before)
    }

    /// In the name of Helm, which has made it: what another manager owns is a conflict to the next upgrade.
    fn put(&self, object: &Value) -> Result<()> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(object.to_string().as_bytes()).unwrap();
        let path = file.path().display().to_string();
        let apply = ["apply", "--server-side", "--force-conflicts", "--field-manager=helm", "-f", &path];
        self.cluster.kubectl(&apply).map(drop)
    }
}

impl Drop for Changed {
    fn drop(&mut self) {
        if !self.back {
            // A test that fails says why itself.
            drop(self.put(&self.before));
        }
    }
}
