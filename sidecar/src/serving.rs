//! Answering calls: a call that came in goes to the widget's `Serve` session at a door, or to its own endpoint.
//!
//! Invariants: a call is answered exactly once, by a last chunk or a failure, whatever becomes of the widget; no session gets more
//! calls than the concurrency that it opened with.

mod reply;

pub(crate) use reply::{CallHandle, OpenCalls, ReplySink, Slot};

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU32, Ordering},
};

use kontrol_core::code::Code;
use tokio::sync::mpsc;

use crate::{
    bus::draining,
    service::{Error, Incoming, Replies, Request, ServeEvent, ServeSession, WidgetEndpoint},
    shared::Shared,
};

/// Calls that a session takes at once where it names no number, and that an endpoint takes at once.
const CONCURRENCY: u32 = 64;

/// What dispatches calls. Shared by `Arc`.
pub struct Serving {
    shared: Arc<Shared>,
    endpoint: Arc<dyn WidgetEndpoint>,
    endpoint_in_flight: Arc<AtomicU32>,
    sessions: Mutex<Vec<Session>>,
}

impl std::fmt::Debug for Serving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Serving").field("sessions", &self.lock().len()).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Session {
    id: u64,
    events: mpsc::UnboundedSender<ServeEvent>,
    concurrency: u32,
    in_flight: Arc<AtomicU32>,
}

/// Takes a session out when its widget has gone.
#[derive(Debug)]
pub struct SessionGuard {
    serving: Arc<Serving>,
    id: u64,
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        self.serving.lock().retain(|session| session.id != self.id);
    }
}

impl Serving {
    /// No session is open; calls to declared paths go to `endpoint`.
    pub fn new(shared: Arc<Shared>, endpoint: Arc<dyn WidgetEndpoint>) -> Arc<Self> {
        Arc::new(Self { shared, endpoint, endpoint_in_flight: Arc::default(), sessions: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a session for the widget's calls; 0 stands for the default concurrency.
    pub fn open(self: &Arc<Self>, concurrency: u32) -> Result<ServeSession, Error> {
        if self.shared.is_draining() {
            return Err(draining(&self.shared.widget));
        }
        let config = self.shared.config();
        let methods =
            config.serves.iter().filter(|(_, path)| path.is_empty()).map(|(name, _)| name.clone()).collect();
        let (events, receiver) = mpsc::unbounded_channel();
        let id = self.shared.next_id();
        let concurrency = if concurrency == 0 { CONCURRENCY } else { concurrency };
        self.lock().push(Session { id, events, concurrency, in_flight: Arc::default() });
        let guard = SessionGuard { serving: Arc::clone(self), id };
        Ok(ServeSession { methods, events: receiver, _guard: guard })
    }

    /// Ends every session when the widget is replaced, and tells sessions of a drain, for as long as it is polled.
    pub async fn run(self: Arc<Self>) {
        let (mut lives, mut draining) = (self.shared.lives(), self.shared.draining());
        loop {
            tokio::select! {
                changed = lives.changed() => match changed {
                    Ok(()) => self.lock().clear(),
                    Err(_) => return,
                },
                changed = draining.changed() => match changed {
                    Ok(()) => for session in self.lock().iter() {
                        drop(session.events.send(ServeEvent::Draining));
                    },
                    Err(_) => return,
                },
            }
        }
    }

    /// Hands a call to the widget; a refusal is answered for here.
    pub(crate) fn dispatch(self: &Arc<Self>, request: Request, mut sink: ReplySink) {
        self.shared.stats.calls_in.inc();
        match self.place(&request) {
            Ok(Place::Session(events, in_flight)) => {
                sink.occupy(Slot::new(Arc::clone(&self.shared), in_flight));
                sink.tell_session(&events);
                let incoming = Incoming { request, replies: Replies { sink } };
                // A session that ends this moment drops the call, which answers it.
                drop(events.send(ServeEvent::Request(Box::new(incoming))));
            }
            Ok(Place::Endpoint { address, path }) => {
                sink.occupy(Slot::new(Arc::clone(&self.shared), Arc::clone(&self.endpoint_in_flight)));
                let endpoint = Arc::clone(&self.endpoint);
                let incoming = Incoming { request, replies: Replies { sink } };
                self.shared.tasks.spawn(async move { endpoint.call(&address, &path, incoming).await });
            }
            Err(error) => {
                self.shared.stats.calls_in_errors.inc();
                sink.fail(&error);
            }
        }
    }

    fn place(&self, request: &Request) -> Result<Place, Error> {
        let widget = &self.shared.widget;
        if self.shared.is_draining() {
            return Err(draining(widget));
        }
        let config = self.shared.peek();
        let full = || {
            let message = format!("{} works on as many calls as it takes at once", self.shared.subject);
            Err(Error::new(Code::Overloaded, widget.as_str(), message))
        };
        match config.serves.get(&request.method).map(String::as_str) {
            None => {
                let message = format!("{widget} does not declare {} under serves", request.method);
                Err(Error::new(Code::MethodNotServed, request.method.as_str(), message))
            }
            Some("") => {
                let sessions = self.lock();
                let Some(session) =
                    sessions.iter().min_by_key(|session| session.in_flight.load(Ordering::Relaxed))
                else {
                    let message = format!("{} holds no Serve stream at its sidecar", self.shared.subject);
                    return Err(Error::new(Code::NoReadyReplica, widget.as_str(), message));
                };
                if session.in_flight.load(Ordering::Relaxed) >= session.concurrency {
                    return full();
                }
                Ok(Place::Session(session.events.clone(), Arc::clone(&session.in_flight)))
            }
            Some(path) => {
                let Some(address) = config.endpoint.clone() else {
                    let message = format!("{widget} serves {} over HTTP but has no endpoint", request.method);
                    return Err(Error::new(Code::EndpointUnreachable, widget.as_str(), message));
                };
                if self.endpoint_in_flight.load(Ordering::Relaxed) >= CONCURRENCY {
                    return full();
                }
                Ok(Place::Endpoint { address, path: path.to_owned() })
            }
        }
    }
}

enum Place {
    Session(mpsc::UnboundedSender<ServeEvent>, Arc<AtomicU32>),
    Endpoint { address: String, path: String },
}
