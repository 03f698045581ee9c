//! Trees and events in few words.

use kontrol_otp::{
    AutoShutdown, Case, Child, End, Event, Id, Node, Reason, Refusal, Request, Restart, Schedule, Shutdown,
    Strategy, Supervisor, Tree, Worker,
};

use super::Fact;

pub(crate) use kontrol_otp::{
    AutoShutdown::{AllSignificant, AnySignificant},
    Reason::{Crash, Killed, Normal, ShutdownTerm},
    Request::{Delete, Restart as Again, Terminate},
    Restart::{Permanent, Temporary, Transient},
    Strategy::{OneForAll, OneForOne, RestForOne},
};

/// A supervisor with a period of an hour.
pub(crate) fn supervisor(id: u32, strategy: Strategy, intensity: u32, children: Vec<Child>) -> Supervisor {
    Supervisor { id: Id(id), strategy, intensity, period: 3600, auto_shutdown: AutoShutdown::Never, children }
}

/// The same supervisor, which shuts down by itself.
pub(crate) fn auto(auto_shutdown: AutoShutdown, supervisor: Supervisor) -> Supervisor {
    Supervisor { auto_shutdown, ..supervisor }
}

/// A worker that is asked to stop.
pub(crate) fn worker(id: u32, restart: Restart) -> Child {
    let node = Node::Worker(Worker { id: Id(id), shutdown: Shutdown::Grace });
    Child { restart, significant: false, node }
}

/// A permanent worker that is killed.
pub(crate) fn brute(id: u32) -> Child {
    let node = Node::Worker(Worker { id: Id(id), shutdown: Shutdown::BrutalKill });
    Child { restart: Restart::Permanent, significant: false, node }
}

/// A subtree.
pub(crate) fn below(restart: Restart, supervisor: Supervisor) -> Child {
    Child { restart, significant: false, node: Node::Supervisor(supervisor) }
}

/// The same child, significant.
pub(crate) fn significant(child: Child) -> Child {
    Child { significant: true, ..child }
}

/// Workers of one supervisor end at once.
pub(crate) fn ends<const N: usize>(supervisor: u32, ends: [(u32, Reason); N]) -> Event {
    let ends = ends.map(|(worker, reason)| End { worker: Id(worker), reason }).to_vec();
    Event::Ends { supervisor: Id(supervisor), ends }
}

/// A worker's next starts fail.
pub(crate) fn refuse(worker: u32, starts: u32) -> Event {
    Event::Refuse(Refusal { worker: Id(worker), starts })
}

/// Time passes.
pub(crate) fn pass(seconds: u64) -> Event {
    Event::Pass { seconds }
}

/// An operator asks.
pub(crate) fn ask(supervisor: u32, child: u32, request: Request) -> Event {
    Event::Request { supervisor: Id(supervisor), child: Id(child), request }
}

/// A tree, what happens to it, and what is seen: a line for the start, then one for each event.
pub(crate) fn fact<const N: usize>(root: Supervisor, events: [Event; N], trace: &'static str) -> Fact {
    let schedule = Schedule { refusals: Vec::new(), events: Vec::from(events) };
    Fact { case: Case { tree: Tree { root }, schedule }, trace }
}

impl Fact {
    /// With a worker whose first start fails.
    pub(crate) fn refusing(mut self, worker: u32) -> Self {
        self.case.schedule.refusals.push(Refusal { worker: Id(worker), starts: 1 });
        self
    }
}
