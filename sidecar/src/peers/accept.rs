//! The door for other sidecars: their calls come in here.

use std::{
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};

use kontrol_core::code::Code;
use kontrol_proto::v1;
use tokio::sync::watch;

use crate::{
    clock,
    link::{Ended, Frame, Inbound, Link, Peer, server::Accept},
    service::{Error, Request},
    serving::{CallHandle, OpenCalls, ReplySink, Serving},
    shared::Shared,
};

/// Calls that one link may have open at once; the widget's own concurrency is far below.
const OPEN_CALLS: usize = 4096;

/// See the module.
#[derive(Debug)]
pub struct PeerDoor {
    shared: Arc<Shared>,
    serving: Arc<Serving>,
}

impl PeerDoor {
    /// A door whose calls go to `serving`.
    pub fn new(shared: Arc<Shared>, serving: Arc<Serving>) -> Arc<Self> {
        Arc::new(Self { shared, serving })
    }
}

impl Accept for PeerDoor {
    type Inbound = FromCaller;

    fn hello(&self) -> v1::LinkHello {
        self.shared.hello()
    }

    fn fence(&self, subject: &str) -> u64 {
        self.shared.peek().fence(subject)
    }

    fn fences(&self) -> watch::Receiver<u64> {
        self.shared.changes()
    }

    fn draining(&self) -> watch::Receiver<Option<Duration>> {
        self.shared.draining()
    }

    fn incarnations(&self) -> Option<watch::Receiver<u64>> {
        Some(self.shared.incarnation())
    }

    fn admit(&self, peer: &Peer, link: &Link) -> Result<FromCaller, Error> {
        let caller =
            peer.subject.rsplit_once('/').map_or(peer.subject.as_str(), |(widget, _)| widget).to_owned();
        let (shared, serving) = (Arc::clone(&self.shared), Arc::clone(&self.serving));
        Ok(FromCaller { shared, serving, caller, link: link.clone(), open: OpenCalls::default() })
    }

    fn ended(&self, peer: Option<&Peer>, ended: &Ended) {
        let peer = peer.map_or("unknown", |peer| peer.subject.as_str());
        match ended {
            Ended::Refused(error) => {
                let stats = &self.shared.stats;
                match error.code {
                    Code::StaleIncarnation => stats.fenced.inc(),
                    Code::ForeignCertificate => stats.foreign_certificates.inc(),
                    _ => stats.malformed_frames.inc(),
                }
                tracing::warn!(peer, code = %error.code, %error, "a peer was refused");
            }
            Ended::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                self.shared.stats.foreign_certificates.inc();
                tracing::warn!(peer, code = %Code::ForeignCertificate, %error, "a peer was refused: its certificate is not one of this authority");
            }
            ended => tracing::debug!(peer, %ended, "a peer's connection ended"),
        }
    }
}

/// The calls of one connection.
#[derive(Debug)]
pub struct FromCaller {
    shared: Arc<Shared>,
    serving: Arc<Serving>,
    caller: String,
    link: Link,
    open: OpenCalls,
}

impl FromCaller {
    fn open(&self) -> MutexGuard<'_, std::collections::HashMap<u64, Arc<CallHandle>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call(&self, stream: u64, call: v1::LinkCall) -> Result<(), Error> {
        let id = self.shared.next_id();
        let handle = CallHandle::new(id, call.credits);
        {
            let mut open = self.open();
            if open.len() >= OPEN_CALLS {
                drop(open);
                let message = format!("{} calls of {} are open already", OPEN_CALLS, self.caller);
                drop(self.link.fail(stream, &Error::new(Code::Overloaded, self.caller.as_str(), message)));
                return Ok(());
            }
            if open.insert(stream, Arc::clone(&handle)).is_some() {
                let message = format!("stream {stream} is open already");
                return Err(Error::new(Code::OutOfOrder, self.caller.as_str(), message));
            }
        }
        let sink = ReplySink::new(self.link.clone(), stream, call.streamed, handle, Arc::clone(&self.open));
        if call.target != self.shared.widget {
            let message = format!("this is the sidecar of {}, not of {}", self.shared.widget, call.target);
            sink.fail(&Error::new(Code::NoReadyReplica, call.target, message));
            return Ok(());
        }
        let request = Request {
            call: id,
            method: call.method,
            caller: self.caller.clone(),
            headers: call.headers,
            datacontenttype: call.datacontenttype,
            data: call.data,
            deadline: clock::now() + Duration::from_millis(call.deadline_ms.min(u64::from(u32::MAX))),
            streamed: call.streamed,
        };
        self.serving.dispatch(request, sink);
        Ok(())
    }
}

impl Inbound for FromCaller {
    fn frame(&mut self, stream: u64, frame: Frame) -> Result<(), Error> {
        match frame {
            Frame::Call(call) => return self.call(stream, call),
            Frame::Credit(v1::LinkCredit { messages }) => {
                if let Some(call) = self.open().get(&stream) {
                    call.credit(messages);
                }
            }
            Frame::Cancel(_) => {
                let call = self.open().remove(&stream);
                if let Some(call) = call {
                    call.cancel();
                }
            }
            other => {
                let message =
                    format!("a frame of kind {} makes no sense to a sidecar that is called", other.kind());
                return Err(Error::new(Code::OutOfOrder, self.caller.as_str(), message));
            }
        }
        Ok(())
    }
}

impl Drop for FromCaller {
    fn drop(&mut self) {
        let open = std::mem::take(&mut *self.open());
        for call in open.values() {
            call.cancel();
        }
    }
}
