//! Starts that fail.

use super::{
    AllSignificant, Crash, Normal, OneForAll, OneForOne, Permanent, RestForOne, Transient, auto, below,
    brute, ends, fact, facts, refuse, significant, supervisor, worker,
};

facts! {
    first_start_that_fails_is_undone_in_reverse_and_not_tried_again: fact(
        supervisor(0, OneForOne, 9, vec![
            brute(1),
            below(Permanent, supervisor(2, OneForOne, 9, vec![brute(3), worker(4, Permanent), brute(5), brute(6)])),
        ]),
        [],
        "start 1, start 3, start 4, refuse 5, stop 4, kill 3, refuse 2, kill 1, refuse 0 |",
    ).refusing(5);

    each_try_of_a_restart_counts: fact(
        supervisor(0, OneForOne, 3, vec![brute(1)]),
        [refuse(1, 2), ends(0, [(1, Crash)]), ends(0, [(1, Crash)])],
        "start 1, start 0 | 0 1
         | 0 1
         refuse 1, refuse 1, start 1 | 0 1
         give_up 0, end 0 |",
    );

    restart_that_fails_more_often_than_the_intensity_ends_the_supervisor: fact(
        supervisor(0, OneForOne, 2, vec![brute(1), brute(2)]),
        [refuse(1, 9), ends(0, [(1, Crash)])],
        "start 1, start 2, start 0 | 0 1 2
         | 0 1 2
         refuse 1, refuse 1, give_up 0, kill 2, end 0 |",
    );

    one_for_all_tries_again_with_every_child: fact(
        supervisor(0, OneForAll, 2, vec![brute(1), brute(2), brute(3)]),
        [refuse(2, 1), ends(0, [(3, Crash)]), ends(0, [(1, Crash)])],
        "start 1, start 2, start 3, start 0 | 0 1 2 3
         | 0 1 2 3
         kill 2, kill 1, start 1, refuse 2, kill 1, start 1, start 2, start 3 | 0 1 2 3
         give_up 0, kill 3, kill 2, end 0 |",
    );

    rest_for_one_tries_again_from_the_child_that_failed: fact(
        supervisor(0, RestForOne, 2, vec![brute(1), brute(2), brute(3), brute(4)]),
        [refuse(3, 1), ends(0, [(2, Crash)]), ends(0, [(1, Crash)])],
        "start 1, start 2, start 3, start 4, start 0 | 0 1 2 3 4
         | 0 1 2 3 4
         kill 4, kill 3, start 2, refuse 3, start 3, start 4 | 0 1 2 3 4
         give_up 0, kill 4, kill 3, kill 2, end 0 |",
    );

    children_behind_a_failed_start_are_not_stopped_again_when_the_supervisor_gives_up: fact(
        supervisor(0, OneForAll, 1, vec![brute(1), brute(2), brute(3)]),
        [refuse(2, 9), ends(0, [(2, Crash)])],
        "start 1, start 2, start 3, start 0 | 0 1 2 3
         | 0 1 2 3
         kill 3, kill 1, start 1, refuse 2, give_up 0, kill 1, end 0 |",
    );

    next_try_comes_after_the_ends_that_are_already_queued: fact(
        supervisor(0, OneForOne, 3, vec![brute(1), brute(2)]),
        [refuse(1, 1), ends(0, [(1, Crash), (2, Crash)])],
        "start 1, start 2, start 0 | 0 1 2
         | 0 1 2
         refuse 1, start 2, start 1 | 0 1 2",
    );

    /// The end of 1 restarts 2 too, so that the try that is queued for 2 has nothing to do and counts nothing.
    queued_try_is_dropped_when_another_restart_started_the_child: fact(
        supervisor(0, RestForOne, 2, vec![brute(1), brute(2)]),
        [refuse(2, 1), ends(0, [(2, Crash), (1, Crash)]), ends(0, [(1, Crash)])],
        "start 1, start 2, start 0 | 0 1 2
         | 0 1 2
         refuse 2, start 1, start 2 | 0 1 2
         give_up 0, kill 2, end 0 |",
    );

    /// Both tries stay queued: the first starts 2, the second finds it running.
    child_that_fails_in_two_restarts_has_two_tries_queued: fact(
        supervisor(0, RestForOne, 3, vec![brute(1), brute(2)]),
        [refuse(2, 2), ends(0, [(2, Crash), (1, Crash)]), ends(0, [(1, Crash)])],
        "start 1, start 2, start 0 | 0 1 2
         | 0 1 2
         refuse 2, start 1, refuse 2, start 2 | 0 1 2
         give_up 0, kill 2, end 0 |",
    );

    /// Supervisor 1 is not running, so its own intensity has no say: each failed start of it counts for supervisor 0.
    start_that_fails_within_a_restarted_subtree_counts_for_the_parent: fact(
        supervisor(0, OneForOne, 2, vec![
            below(Permanent, supervisor(1, OneForOne, 0, vec![brute(2), brute(3)])),
        ]),
        [refuse(3, 1), ends(1, [(2, Crash)])],
        "start 2, start 3, start 1, start 0 | 0 1 2 3
         | 0 1 2 3
         give_up 1, kill 3, end 1, start 2, refuse 3, kill 2, refuse 1, start 2, start 3, start 1 | 0 1 2 3",
    );

    /// When 1 ends, 3 is down only because the restart of 2 is not done yet; OTP takes it for ended all the same.
    significant_child_that_waits_behind_a_failed_start_is_not_active: fact(
        auto(AllSignificant, supervisor(0, RestForOne, 9, vec![
            significant(worker(1, Transient)),
            brute(2),
            significant(worker(3, Transient)),
        ])),
        [refuse(2, 1), ends(0, [(2, Crash), (1, Normal)])],
        "start 1, start 2, start 3, start 0 | 0 1 2 3
         | 0 1 2 3
         stop 3, refuse 2, shut_down 0, end 0 |",
    );

    significant_child_whose_restart_is_tried_again_is_active: fact(
        auto(AllSignificant, supervisor(0, OneForOne, 9, vec![
            significant(worker(1, Transient)),
            significant(worker(2, Transient)),
        ])),
        [refuse(2, 1), ends(0, [(2, Crash), (1, Normal)])],
        "start 1, start 2, start 0 | 0 1 2
         | 0 1 2
         refuse 2, start 2 | 0 (1) 2",
    );
}
