//! What an operator asks.

use super::{
    Again, AnySignificant, Crash, Delete, Normal, OneForAll, OneForOne, Permanent, Temporary, Terminate,
    Transient, ask, auto, below, brute, ends, fact, facts, refuse, significant, supervisor, worker,
};

facts! {
    terminated_child_keeps_its_place: fact(
        supervisor(0, OneForAll, 1, vec![brute(1), brute(2), brute(3)]),
        [ask(0, 2, Terminate), ask(0, 2, Again), ends(0, [(1, Crash)])],
        "start 1, start 2, start 3, start 0 | 0 1 2 3
         kill 2 | 0 1 (2) 3
         start 2 | 0 1 2 3
         kill 3, kill 2, start 1, start 2, start 3 | 0 1 2 3",
    );

    group_restart_brings_back_a_terminated_child: fact(
        supervisor(0, OneForAll, 1, vec![brute(1), brute(2)]),
        [ask(0, 1, Terminate), ends(0, [(2, Crash)])],
        "start 1, start 2, start 0 | 0 1 2
         kill 1 | 0 (1) 2
         start 1, start 2 | 0 1 2",
    );

    terminated_temporary_child_is_forgotten: fact(
        supervisor(0, OneForOne, 1, vec![worker(1, Temporary)]),
        [ask(0, 1, Terminate), ask(0, 1, Again)],
        "start 1, start 0 | 0 1
         stop 1 | 0
         | 0",
    );

    terminated_significant_child_does_not_end_its_supervisor: fact(
        auto(AnySignificant, supervisor(0, OneForOne, 1, vec![significant(worker(1, Transient))])),
        [ask(0, 1, Terminate)],
        "start 1, start 0 | 0 1
         stop 1 | 0 (1)",
    );

    requested_start_that_fails_is_neither_counted_nor_tried_again: fact(
        supervisor(0, OneForOne, 1, vec![brute(1)]),
        [ask(0, 1, Terminate), refuse(1, 1), ask(0, 1, Again), ask(0, 1, Again), ends(0, [(1, Crash)])],
        "start 1, start 0 | 0 1
         kill 1 | 0 (1)
         | 0 (1)
         refuse 1 | 0 (1)
         start 1 | 0 1
         start 1 | 0 1",
    );

    running_child_is_neither_started_nor_deleted: fact(
        supervisor(0, OneForOne, 1, vec![brute(1)]),
        [ask(0, 1, Again), ask(0, 1, Delete)],
        "start 1, start 0 | 0 1
         | 0 1
         | 0 1",
    );

    deleted_child_comes_back_with_its_supervisor: fact(
        supervisor(0, OneForOne, 1, vec![
            below(Permanent, supervisor(1, OneForOne, 0, vec![worker(2, Transient), brute(3)])),
        ]),
        [ends(1, [(2, Normal)]), ask(1, 2, Delete), ends(1, [(3, Crash)])],
        "start 2, start 3, start 1, start 0 | 0 1 2 3
         | 0 1 (2) 3
         | 0 1 3
         give_up 1, end 1, start 2, start 3, start 1 | 0 1 2 3",
    );

    terminated_subtree_can_be_started_again: fact(
        supervisor(0, OneForOne, 1, vec![
            below(Permanent, supervisor(1, OneForOne, 0, vec![brute(2), worker(3, Temporary)])),
        ]),
        [ask(0, 1, Terminate), ask(0, 1, Again)],
        "start 2, start 3, start 1, start 0 | 0 1 2 3
         stop 3, kill 2, stop 1 | 0 (1)
         start 2, start 3, start 1 | 0 1 2 3",
    );
}
