//! The case as an Erlang term, for the player that runs it under the real `supervisor`.

use crate::{
    AutoShutdown, Case, Child, End, Event, Node, Reason, Refusal, Request, Restart, Shutdown, Strategy,
    Supervisor,
};

/// One line without its end: `{Name, Tree, Refusals, Events}.`
///
/// - a supervisor: `{supervisor, Id, Strategy, Intensity, Period, AutoShutdown, [Child]}`
/// - a child: `{Restart, Significant, Supervisor | {worker, Id, Shutdown}}`
/// - an event: `{ends, SupervisorId, [{WorkerId, ExitReason}]}`, `{refuse, WorkerId, Starts}`, `{pass, Seconds}` or
///   `{Request, SupervisorId, ChildId}` with `terminate_child`, `restart_child` or `delete_child`.
pub fn term(name: u64, case: &Case) -> String {
    let refusals = list(case.schedule.refusals.iter().copied().map(refusal));
    let events = list(case.schedule.events.iter().map(event));
    format!("{{{name},{},{refusals},{events}}}.", supervisor(&case.tree.root))
}

fn list(of: impl Iterator<Item = String>) -> String {
    format!("[{}]", of.collect::<Vec<_>>().join(","))
}

fn supervisor(of: &Supervisor) -> String {
    let Supervisor { id, intensity, period, .. } = of;
    let strategy = match of.strategy {
        Strategy::OneForOne => "one_for_one",
        Strategy::OneForAll => "one_for_all",
        Strategy::RestForOne => "rest_for_one",
    };
    let auto_shutdown = match of.auto_shutdown {
        AutoShutdown::Never => "never",
        AutoShutdown::AnySignificant => "any_significant",
        AutoShutdown::AllSignificant => "all_significant",
    };
    let children = list(of.children.iter().map(child));
    format!("{{supervisor,{id},{strategy},{intensity},{period},{auto_shutdown},{children}}}")
}

fn child(of: &Child) -> String {
    let restart = match of.restart {
        Restart::Permanent => "permanent",
        Restart::Transient => "transient",
        Restart::Temporary => "temporary",
    };
    let node = match &of.node {
        Node::Worker(worker) => {
            let shutdown = match worker.shutdown {
                Shutdown::Grace => "grace",
                Shutdown::BrutalKill => "brutal_kill",
            };
            format!("{{worker,{},{shutdown}}}", worker.id)
        }
        Node::Supervisor(below) => supervisor(below),
    };
    format!("{{{restart},{},{node}}}", of.significant)
}

fn event(of: &Event) -> String {
    match of {
        Event::Ends { supervisor, ends } => {
            format!("{{ends,{supervisor},{}}}", list(ends.iter().copied().map(end)))
        }
        Event::Refuse(Refusal { worker, starts }) => format!("{{refuse,{worker},{starts}}}"),
        Event::Pass { seconds } => format!("{{pass,{seconds}}}"),
        Event::Request { supervisor, child, request } => {
            let call = match request {
                Request::Terminate => "terminate_child",
                Request::Restart => "restart_child",
                Request::Delete => "delete_child",
            };
            format!("{{{call},{supervisor},{child}}}")
        }
    }
}

fn refusal(of: Refusal) -> String {
    format!("{{{},{}}}", of.worker, of.starts)
}

fn end(of: End) -> String {
    let reason = match of.reason {
        Reason::Normal => "normal",
        Reason::Shutdown => "shutdown",
        Reason::ShutdownTerm => "{shutdown,done}",
        Reason::Crash => "crash",
        Reason::Killed => "killed",
    };
    format!("{{{},{reason}}}", of.worker)
}
