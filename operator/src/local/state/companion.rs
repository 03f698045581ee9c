//! A sidecar or the hub: a process that serves others, is started again whenever it ends, and listens where it listened before.

use std::time::Duration;

use kontrol_core::time::Timestamp;
use kontrol_proto::v1::Hello;

use crate::{
    control::{Closed, Held, Session, SessionId},
    view::Addresses,
};

/// The pauses before a companion that keeps ending is started again; the first time there is none. Only one that does not even come up
/// waits longer than the second: others need it, and it served.
const PAUSES: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(2),
    Duration::from_secs(5),
];
/// One that ran this long starts over with the pauses.
const STABLE: Duration = Duration::from_secs(10);
/// How often it may fail to come up on its old addresses before it may choose others.
const SAME_PLACE: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Down { until: Timestamp },
    Up { since: Timestamp },
    Stopping,
}

/// A companion.
#[derive(Debug)]
pub(super) struct Companion {
    phase: Phase,
    /// Counts its starts.
    generation: u64,
    failures: usize,
    /// Whether it has opened a session since it was started last.
    came_up: bool,
    pid: Option<u32>,
    addresses: Option<Addresses>,
    held: Held,
    was_up: bool,
}

impl Default for Companion {
    fn default() -> Self {
        Self {
            phase: Phase::Down { until: Timestamp::ZERO },
            generation: 0,
            failures: 0,
            came_up: false,
            pid: None,
            addresses: None,
            held: Held::default(),
            was_up: false,
        }
    }
}

impl Companion {
    pub(super) fn is_down(&self) -> bool {
        matches!(self.phase, Phase::Down { .. })
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.phase == Phase::Stopping
    }

    /// Whether it has said where it listens, at any time.
    pub(super) fn ever_up(&self) -> bool {
        self.was_up
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.pid
    }

    pub(super) fn addresses(&self) -> Option<&Addresses> {
        self.addresses.as_ref()
    }

    pub(super) fn session(&self) -> Option<&Session> {
        self.held.session()
    }

    pub(super) fn session_id(&self) -> Option<SessionId> {
        self.held.id()
    }

    /// When it is to be looked at again.
    pub(super) fn wake(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Down { until } if self.generation > 0 => Some(until),
            _ => None,
        }
    }

    /// Begins a start if it is time; gives the number of the start and where to listen.
    pub(super) fn start(&mut self, now: Timestamp) -> Option<(u64, Option<Addresses>)> {
        match self.phase {
            Phase::Down { until } if until <= now => {
                self.phase = Phase::Up { since: now };
                self.generation += 1;
                self.came_up = false;
                let addresses = self.addresses.clone().filter(|_| self.failures < SAME_PLACE);
                Some((self.generation, addresses))
            }
            _ => None,
        }
    }

    /// Begins to stop it; false where there is nothing to stop, or that was begun.
    pub(super) fn stop(&mut self) -> bool {
        let runs = matches!(self.phase, Phase::Up { .. });
        if runs {
            self.phase = Phase::Stopping;
        }
        runs
    }

    pub(super) fn started(&mut self, pid: u32) {
        self.pid = Some(pid);
    }

    /// It has ended; whether by itself.
    pub(super) fn ended(&mut self, now: Timestamp) -> bool {
        let by_itself = match self.phase {
            Phase::Up { since } => {
                self.failures = match self.came_up {
                    _ if now.since(since) >= STABLE => 0,
                    true => self.failures.min(1),
                    false => self.failures,
                };
                true
            }
            Phase::Down { .. } | Phase::Stopping => false,
        };
        let pause = PAUSES[self.failures.min(PAUSES.len() - 1)];
        self.failures += usize::from(by_itself);
        self.phase = Phase::Down { until: now.plus(pause) };
        self.pid = None;
        self.held = Held::default();
        by_itself
    }

    pub(super) fn opened(&mut self, id: SessionId, session: Session, hello: &Hello) {
        self.addresses = Some(Addresses {
            peer: hello.peer.clone(),
            grpc: hello.grpc.clone(),
            http: hello.http.clone(),
            admin: hello.admin.clone(),
            socket: hello.socket.clone(),
        });
        self.held.open(id, session);
        self.was_up = true;
        self.came_up = true;
    }

    /// A session has ended.
    pub(super) fn closed(&mut self, id: SessionId) -> Closed {
        self.held.close(id)
    }
}
