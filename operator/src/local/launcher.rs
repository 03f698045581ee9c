//! Starts and collects shims on threads of their own: a fork takes as long as the system likes, and the world waits for nobody.

use std::{
    io,
    process::Child,
    sync::mpsc::{Receiver, Sender, channel},
    thread,
};

use kontrol_shim::{Launch, Launched};
use tokio::sync::oneshot;

type Request = (Launch, oneshot::Sender<io::Result<Launched>>);

/// The way to the threads. Cheap to clone; when the last one is dropped the threads end, and with them everything that they started.
#[derive(Clone, Debug)]
pub(super) struct Launcher {
    starts: Sender<Request>,
    ended: Sender<Child>,
}

impl Launcher {
    /// Begins the threads.
    pub(super) fn new() -> io::Result<Self> {
        let (starts, requests) = channel();
        let (ended, children) = channel();
        thread::Builder::new().name("launcher".into()).spawn(move || start_all(&requests))?;
        thread::Builder::new().name("reaper".into()).spawn(move || reap_all(&children))?;
        Ok(Self { starts, ended })
    }

    /// Starts a shim.
    pub(super) async fn start(&self, launch: Launch) -> io::Result<Launched> {
        let gone = || io::Error::other("the launcher has ended");
        let (reply, started) = oneshot::channel();
        self.starts.send((launch, reply)).map_err(|_| gone())?;
        started.await.map_err(|_| gone())?
    }

    /// Collects a shim that has ended, or is about to.
    pub(super) fn reap(&self, child: Child) {
        drop(self.ended.send(child));
    }
}

fn start_all(requests: &Receiver<Request>) {
    while let Ok((launch, reply)) = requests.recv() {
        drop(reply.send(launch.start()));
    }
}

fn reap_all(children: &Receiver<Child>) {
    while let Ok(mut child) = children.recv() {
        if let Err(error) = child.wait() {
            tracing::warn!(pid = child.id(), %error, "a shim could not be waited for");
        }
    }
}
