//! What the end of a supervisor means above it, and supervisors that end with their significant children.

use super::{
    AllSignificant, AnySignificant, Crash, Normal, OneForAll, OneForOne, Permanent, RestForOne, Temporary,
    Transient, auto, below, brute, ends, fact, facts, significant, supervisor, worker,
};

facts! {
    supervisor_that_gave_up_is_restarted_where_it_is_permanent: fact(
        supervisor(0, RestForOne, 1, vec![
            below(Permanent, supervisor(1, OneForOne, 0, vec![brute(2)])),
            brute(3),
        ]),
        [ends(1, [(2, Crash)])],
        "start 2, start 1, start 3, start 0 | 0 1 2 3
         give_up 1, end 1, kill 3, start 2, start 1, start 3 | 0 1 2 3",
    );

    /// Its reason is `shutdown`, and that is a normal end.
    supervisor_that_gave_up_stays_ended_where_it_is_transient: fact(
        supervisor(0, OneForAll, 1, vec![
            below(Transient, supervisor(1, OneForOne, 0, vec![brute(2)])),
            brute(3),
        ]),
        [ends(1, [(2, Crash)])],
        "start 2, start 1, start 3, start 0 | 0 1 2 3
         give_up 1, end 1 | 0 (1) 3",
    );

    supervisor_that_gave_up_is_forgotten_where_it_is_temporary: fact(
        supervisor(0, OneForAll, 1, vec![
            below(Temporary, supervisor(1, OneForOne, 0, vec![brute(2)])),
            brute(3),
        ]),
        [ends(1, [(2, Crash)])],
        "start 2, start 1, start 3, start 0 | 0 1 2 3
         give_up 1, end 1 | 0 3",
    );

    one_end_of_a_leaf_can_end_every_supervisor_up_to_the_root: fact(
        supervisor(0, OneForOne, 0, vec![
            below(Permanent, supervisor(1, OneForOne, 0, vec![
                brute(2),
                below(Permanent, supervisor(3, OneForOne, 0, vec![brute(4), brute(5)])),
            ])),
            brute(6),
        ]),
        [ends(3, [(4, Crash)]), ends(3, [(4, Crash)])],
        "start 2, start 4, start 5, start 3, start 1, start 6, start 0 | 0 1 2 3 4 5 6
         give_up 3, kill 5, end 3, give_up 1, kill 2, end 1, give_up 0, kill 6, end 0 |",
    );

    any_significant_child_that_stays_ended_ends_its_supervisor: fact(
        auto(AnySignificant, supervisor(0, OneForOne, 1, vec![
            significant(worker(1, Transient)),
            significant(worker(2, Transient)),
            brute(3),
        ])),
        [ends(0, [(1, Crash)]), ends(0, [(2, Normal)])],
        "start 1, start 2, start 3, start 0 | 0 1 2 3
         start 1 | 0 1 2 3
         shut_down 0, kill 3, stop 1, end 0 |",
    );

    significant_temporary_child_ends_its_supervisor_by_a_crash_too: fact(
        auto(AnySignificant, supervisor(0, OneForOne, 1, vec![significant(worker(1, Temporary)), brute(2)])),
        [ends(0, [(1, Crash)])],
        "start 1, start 2, start 0 | 0 1 2
         shut_down 0, kill 2, end 0 |",
    );

    last_significant_child_ends_its_supervisor: fact(
        auto(AllSignificant, supervisor(0, OneForOne, 1, vec![
            significant(worker(1, Transient)),
            worker(2, Transient),
            significant(worker(3, Temporary)),
            brute(4),
        ])),
        [ends(0, [(1, Normal)]), ends(0, [(2, Normal)]), ends(0, [(3, Normal)])],
        "start 1, start 2, start 3, start 4, start 0 | 0 1 2 3 4
         | 0 (1) 2 3 4
         | 0 (1) (2) 3 4
         shut_down 0, kill 4, end 0 |",
    );

    group_restart_that_forgets_a_significant_child_does_not_end_its_supervisor: fact(
        auto(AnySignificant, supervisor(0, OneForAll, 1, vec![brute(1), significant(worker(2, Temporary))])),
        [ends(0, [(1, Crash)])],
        "start 1, start 2, start 0 | 0 1 2
         stop 2, start 1 | 0 1",
    );

    significant_end_that_a_group_restart_swallows_does_not_end_its_supervisor: fact(
        auto(AnySignificant, supervisor(0, OneForAll, 1, vec![brute(1), significant(worker(2, Transient))])),
        [ends(0, [(1, Crash), (2, Normal)])],
        "start 1, start 2, start 0 | 0 1 2
         start 1, start 2 | 0 1 2",
    );

    supervisor_that_shut_down_by_itself_ended_normally_for_its_parent: fact(
        supervisor(0, OneForOne, 1, vec![
            below(Transient, auto(AnySignificant, supervisor(1, OneForOne, 0, vec![significant(worker(2, Transient))]))),
            below(Permanent, auto(AnySignificant, supervisor(3, OneForOne, 0, vec![significant(worker(4, Transient))]))),
        ]),
        [ends(1, [(2, Normal)]), ends(3, [(4, Normal)])],
        "start 2, start 1, start 4, start 3, start 0 | 0 1 2 3 4
         shut_down 1, end 1 | 0 (1) 3 4
         shut_down 3, end 3, start 4, start 3 | 0 (1) 3 4",
    );

    significant_supervisor_that_gave_up_ends_its_parent: fact(
        auto(AnySignificant, supervisor(0, OneForOne, 9, vec![
            brute(1),
            significant(below(Transient, supervisor(2, OneForOne, 0, vec![brute(3)]))),
        ])),
        [ends(2, [(3, Crash)])],
        "start 1, start 3, start 2, start 0 | 0 1 2 3
         give_up 2, end 2, shut_down 0, kill 1, end 0 |",
    );
}
