//! Volumes on the nodes' disks: for each claim that the scheduler has found a node for, a folder there and a `local` volume bound to it.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use futures::{StreamExt as _, stream};
use k8s_openapi::{
    api::core::v1::{PersistentVolume, PersistentVolumeClaim},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, PostParams},
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::json;

use crate::{Error, Result, Run, error::at, error::json as json_error, wait};

/// The name that the storage class refers to.
pub(crate) const NAME: &str = "kontrol.dev/node-disk";
/// The storage class.
pub(crate) const CLASS: &str = "node-disk";
/// Where the scheduler writes the node that it has chosen for a claim.
const SELECTED: &str = "volume.kubernetes.io/selected-node";
/// Where a volume says who made it.
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// How long a failure is left alone before everything is looked at again.
const AGAIN: Duration = Duration::from_secs(1);

/// Makes and removes volumes for the run until the process is ended.
pub fn provision(run: &Run) -> Result<()> {
    wait::block_on(async {
        let client = crate::cluster::client(&run.kubeconfig_of("provisioner")).await?;
        loop {
            if let Err(error) = watch(run, &client).await {
                // The log is this program's standard error; with that gone there is nobody to tell.
                writeln!(io::stderr(), "{error}; looking again in {} s", AGAIN.as_secs()).ok();
            }
            tokio::time::sleep(AGAIN).await;
        }
    })
}

enum Seen {
    Claim(Box<PersistentVolumeClaim>),
    Volume(Box<PersistentVolume>),
}

async fn watch(run: &Run, client: &Client) -> Result<()> {
    let claims = watcher(Api::<PersistentVolumeClaim>::all(client.clone()), watcher::Config::default());
    let volumes = watcher(Api::<PersistentVolume>::all(client.clone()), watcher::Config::default());
    let claims =
        claims.default_backoff().applied_objects().map(|claim| claim.map(|c| Seen::Claim(Box::new(c))));
    let volumes = volumes.default_backoff().applied_objects().map(|v| v.map(|v| Seen::Volume(Box::new(v))));
    let mut seen = stream::select(Box::pin(claims), Box::pin(volumes));
    while let Some(seen) = seen.next().await {
        match seen {
            Ok(Seen::Claim(claim)) => make(run, client, &claim).await?,
            Ok(Seen::Volume(volume)) => remove(run, client, &volume).await?,
            // The watch goes on by itself when the API server is back.
            Err(error) => drop(writeln!(io::stderr(), "{error}")),
        }
    }
    Ok(())
}

fn folder(run: &Run, node: &str, volume: &str) -> PathBuf {
    run.node(node).join("volumes").join(volume)
}

/// Makes the volume of a claim that waits for one.
async fn make(run: &Run, client: &Client, claim: &PersistentVolumeClaim) -> Result<()> {
    let (Some(spec), Some(node)) = (&claim.spec, claim.annotations().get(SELECTED)) else { return Ok(()) };
    let wanted = spec.storage_class_name.as_deref() == Some(CLASS) && spec.volume_name.is_none();
    let Some(uid) = claim.uid().filter(|_| wanted && claim.metadata.deletion_timestamp.is_none()) else {
        return Ok(());
    };
    let name = format!("pvc-{uid}");
    let path = folder(run, node, &name);
    fs::create_dir_all(&path).map_err(at(&path))?;
    // Whoever the pod's user is, it may write here.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).map_err(at(&path))?;
    let volume = volume(claim, &name, node, &path)?;
    let api = Api::<PersistentVolume>::all(client.clone());
    match api.create(&PostParams::default(), &volume).await {
        Ok(_) => {
            drop(writeln!(io::stderr(), "made {name} on {node} for {}", claim.name_any()));
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        Err(error) => Err(Error::from(error)),
    }
}

fn volume(claim: &PersistentVolumeClaim, name: &str, node: &str, path: &Path) -> Result<PersistentVolume> {
    let spec = claim.spec.clone().unwrap_or_default();
    let size = spec.resources.and_then(|r| r.requests).and_then(|mut r| r.remove("storage"));
    let spec = json!({
        "capacity": {"storage": size.map_or_else(|| "1Gi".to_owned(), |size| size.0)},
        "accessModes": spec.access_modes,
        "persistentVolumeReclaimPolicy": "Delete",
        "storageClassName": CLASS,
        "volumeMode": spec.volume_mode.unwrap_or_else(|| "Filesystem".to_owned()),
        "local": {"path": path},
        "claimRef": {
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "namespace": claim.namespace(), "name": claim.name_any(), "uid": claim.uid(),
        },
        "nodeAffinity": {"required": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]},
        ]}},
    });
    Ok(PersistentVolume {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            annotations: Some([(PROVISIONED_BY.to_owned(), NAME.to_owned())].into()),
            ..ObjectMeta::default()
        },
        spec: serde_json::from_value(spec).map_err(json_error(name))?,
        status: None,
    })
}

/// Removes a volume whose claim is gone, with what is in it.
async fn remove(run: &Run, client: &Client, volume: &PersistentVolume) -> Result<()> {
    let ours = volume.annotations().get(PROVISIONED_BY).is_some_and(|by| by == NAME);
    let released = volume.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Released");
    let delete =
        volume.spec.as_ref().and_then(|s| s.persistent_volume_reclaim_policy.as_deref()) == Some("Delete");
    if !(ours && released && delete) || volume.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let (name, spec) = (volume.name_any(), volume.spec.as_ref());
    if let Some(path) = spec.and_then(|s| s.local.as_ref()).map(|local| PathBuf::from(&local.path)) {
        // Never outside of the run's folder, whatever the object says.
        if path.starts_with(run.root()) && path.file_name().is_some_and(|last| last == name.as_str()) {
            match fs::remove_dir_all(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(path)(error)),
                _ => {}
            }
        }
    }
    match Api::<PersistentVolume>::all(client.clone()).delete(&name, &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => {
            drop(writeln!(io::stderr(), "removed {name}"));
            Ok(())
        }
    }
}
