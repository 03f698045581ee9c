//! Trees as Kontrol has them: a supervisor has widgets or supervisors, never both.

use kontrol_otp::{
    AutoShutdown, Case, Child, Event, Id, Node, Restart, Schedule, Strategy, Supervisor, Tree, Worker,
};

/// The same case with each worker that has a supervisor among its siblings under a supervisor of its own.
pub(in crate::tests) fn layered(case: &Case) -> Case {
    let mut next = 1_000;
    let mut tree = case.tree.clone();
    let mut moved = Vec::new();
    layer(&mut tree.root, &mut next, &mut moved);
    let mut events = Vec::new();
    for event in &case.schedule.events {
        match event {
            Event::Ends { supervisor, ends } => {
                let place = |worker: Id| {
                    moved.iter().find(|(moved, _)| *moved == worker).map_or(*supervisor, |(_, to)| *to)
                };
                for part in ends.chunk_by(|a, b| place(a.worker) == place(b.worker)) {
                    let supervisor = place(part[0].worker);
                    events.push(Event::Ends { supervisor, ends: part.to_vec() });
                }
            }
            other => events.push(other.clone()),
        }
    }
    Case {
        tree: Tree { root: tree.root },
        schedule: Schedule { refusals: case.schedule.refusals.clone(), events },
    }
}

fn layer(supervisor: &mut Supervisor, next: &mut u32, moved: &mut Vec<(Id, Id)>) {
    let mixed = supervisor.children.iter().any(|child| matches!(child.node, Node::Supervisor(_)));
    for child in &mut supervisor.children {
        match &mut child.node {
            Node::Supervisor(below) => layer(below, next, moved),
            Node::Worker(worker) if mixed => {
                let id = Id(*next);
                *next += 1;
                moved.push((worker.id, id));
                child.node = Node::Supervisor(shelter(id, worker.clone()));
            }
            Node::Worker(_) => {}
        }
    }
}

/// A supervisor of one worker; its kind follows from their names.
fn shelter(id: Id, worker: Worker) -> Supervisor {
    let dice = (id.0.wrapping_mul(7) + worker.id.0.wrapping_mul(13)) as usize;
    let restart = [Restart::Permanent, Restart::Transient, Restart::Temporary][dice % 3];
    let auto_shutdown =
        [AutoShutdown::Never, AutoShutdown::AnySignificant, AutoShutdown::AllSignificant][dice / 3 % 3];
    let significant =
        restart != Restart::Permanent && auto_shutdown != AutoShutdown::Never && dice.is_multiple_of(2);
    Supervisor {
        id,
        strategy: [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne][dice / 9 % 3],
        intensity: u32::try_from(dice % 5).unwrap(),
        period: 1 + dice as u64 % 7,
        auto_shutdown,
        children: vec![Child { restart, significant, node: Node::Worker(worker) }],
    }
}
