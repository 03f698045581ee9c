//! The programs that a world starts, and how each is called.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use kontrol_core::id::InstanceId;
use kontrol_shim::Launch;

use super::Error;
use crate::{
    authority::{Authority, HUB, write_secret},
    local::{
        folder::Folder,
        state::{Command, WidgetCommand},
        user::private_parent,
    },
    view::Addresses,
};

/// From SIGTERM to SIGKILL for sidecars and the hub.
const COMPANION_GRACE: Duration = Duration::from_secs(10);

/// The programs that a world starts.
#[derive(Clone, Debug)]
pub struct Binaries {
    shim: PathBuf,
    sidecar: PathBuf,
}

impl Binaries {
    /// Finds them in a folder.
    pub fn find(folder: &Path) -> Result<Self, Error> {
        let find = |name: &'static str| {
            let path = folder.join(name);
            if path.is_file() { Ok(path) } else { Err(Error::Binary { name, folder: folder.to_owned() }) }
        };
        Ok(Self { shim: find("kontrol-shim")?, sidecar: find("kontrol-sidecar")? })
    }

    /// A shim and a sidecar from different places.
    pub fn new(shim: PathBuf, sidecar: PathBuf) -> Self {
        Self { shim, sidecar }
    }
}

/// All that it takes to call them.
#[derive(Debug)]
pub(super) struct Programs {
    pub(super) binaries: Binaries,
    /// Where relative working folders start from.
    pub(super) origin: PathBuf,
    pub(super) folder: Arc<Folder>,
    pub(super) authority: Arc<Authority>,
    /// Where the control server listens.
    pub(super) control: String,
}

impl Programs {
    /// How a process is started, and the port that must be free for it.
    pub(super) fn launch(&self, command: Command) -> io::Result<(Launch, Option<u16>)> {
        match command {
            Command::Widget(widget) => Ok(self.widget(widget)),
            Command::Sidecar(instance, addresses) => Ok((self.sidecar(&instance, addresses)?, None)),
            Command::Hub(addresses) => Ok((self.hub(addresses)?, None)),
        }
    }

    fn widget(&self, widget: WidgetCommand) -> (Launch, Option<u16>) {
        let mut options = kontrol_shim::Options::new(widget.command);
        options.limits =
            kontrol_shim::Limits { memory: widget.limits.memory, open_files: widget.limits.open_files };
        let folder = widget.folder.map_or_else(|| self.origin.clone(), |folder| self.origin.join(folder));
        let launch =
            Launch { shim: self.binaries.shim.clone(), options, environment: widget.environment, folder };
        (launch, widget.port)
    }

    fn sidecar(&self, instance: &InstanceId, addresses: Option<Addresses>) -> io::Result<Launch> {
        let name = run_name(instance);
        let folder = self.folder.run(&name);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let subject = instance.to_string();
        let token = folder.join("token");
        write_secret(&token, self.authority.token(&subject).as_bytes())?;
        let socket = self.folder.sidecar_socket(&name).map_err(io::Error::other)?;
        private_parent(&socket)?;
        let at = addresses.unwrap_or_default();
        let arguments = [
            ("--instance", subject),
            ("--socket", text(&socket)),
            ("--grpc", or_free(at.grpc)),
            ("--http", or_free(at.http)),
            ("--peer", or_free(at.peer)),
            ("--admin", or_free(at.admin)),
            ("--state-dir", text(&folder)),
            ("--join-token-file", text(&token)),
        ];
        Ok(self.companion("run", &arguments))
    }

    fn hub(&self, addresses: Option<Addresses>) -> io::Result<Launch> {
        let folder = self.folder.hub();
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let token = self.folder.run("hub.token");
        write_secret(&token, self.authority.token(HUB).as_bytes())?;
        let at = addresses.unwrap_or_default();
        let arguments = [
            ("--dir", text(&folder)),
            ("--peer", or_free(at.peer)),
            ("--admin", or_free(at.admin)),
            ("--join-token-file", text(&token)),
        ];
        Ok(self.companion("hub", &arguments))
    }

    fn companion(&self, mode: &str, arguments: &[(&str, String)]) -> Launch {
        let mut command = vec![self.binaries.sidecar.clone().into_os_string(), mode.into()];
        for (name, value) in arguments {
            command.extend([(*name).into(), value.into()]);
        }
        command.extend(["--control".into(), self.control.clone().into()]);
        command.extend(["--ca-file".into(), self.authority.ca_file().as_os_str().to_owned()]);
        let mut options = kontrol_shim::Options::new(command);
        options.grace = COMPANION_GRACE;
        Launch {
            shim: self.binaries.shim.clone(),
            options,
            environment: BTreeMap::new(),
            folder: self.folder.root().to_owned(),
        }
    }
}

/// What the folder of a replica's sidecar is called.
pub(super) fn run_name(instance: &InstanceId) -> String {
    let id = &instance.widget;
    format!("{}.{}.{}.{}", id.namespace, id.group, id.widget, instance.ordinal)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn or_free(address: String) -> String {
    if address.is_empty() { "127.0.0.1:0".to_owned() } else { address }
}
