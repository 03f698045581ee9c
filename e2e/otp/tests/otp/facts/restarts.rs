//! Who is restarted, in which order, and what counts.

use super::{
    Crash, Killed, Normal, OneForAll, OneForOne, Permanent, RestForOne, ShutdownTerm, Temporary, Transient,
    below, brute, ends, fact, facts, supervisor, worker,
};
use kontrol_otp::Reason;

facts! {
    one_for_one_restarts_only_the_child_that_ended: fact(
        supervisor(0, OneForOne, 1, vec![brute(1), brute(2), brute(3)]),
        [ends(0, [(2, Crash)])],
        "start 1, start 2, start 3, start 0 | 0 1 2 3
         start 2 | 0 1 2 3",
    );

    one_for_all_stops_in_reverse_and_starts_in_order: fact(
        supervisor(0, OneForAll, 1, vec![brute(1), worker(2, Permanent), brute(3)]),
        [ends(0, [(1, Crash)])],
        "start 1, start 2, start 3, start 0 | 0 1 2 3
         kill 3, stop 2, start 1, start 2, start 3 | 0 1 2 3",
    );

    rest_for_one_leaves_what_was_started_earlier_alone: fact(
        supervisor(0, RestForOne, 1, vec![brute(1), brute(2), brute(3), brute(4)]),
        [ends(0, [(2, Crash)])],
        "start 1, start 2, start 3, start 4, start 0 | 0 1 2 3 4
         kill 4, kill 3, start 2, start 3, start 4 | 0 1 2 3 4",
    );

    permanent_child_is_restarted_after_a_normal_end: fact(
        supervisor(0, OneForOne, 1, vec![brute(1)]),
        [ends(0, [(1, Normal)])],
        "start 1, start 0 | 0 1
         start 1 | 0 1",
    );

    transient_child_is_restarted_after_abnormal_ends_only: fact(
        supervisor(0, OneForOne, 2, [1, 2, 3, 4, 5].map(|id| worker(id, Transient)).to_vec()),
        [ends(0, [(1, Normal), (2, Reason::Shutdown), (3, ShutdownTerm), (4, Crash), (5, Killed)])],
        "start 1, start 2, start 3, start 4, start 5, start 0 | 0 1 2 3 4 5
         start 4, start 5 | 0 (1) (2) (3) 4 5",
    );

    temporary_child_is_forgotten_when_it_ends: fact(
        supervisor(0, OneForAll, 0, vec![worker(1, Temporary), brute(2)]),
        [ends(0, [(1, Crash)])],
        "start 1, start 2, start 0 | 0 1 2
         | 0 2",
    );

    temporary_sibling_is_stopped_and_forgotten_by_a_group_restart: fact(
        supervisor(0, RestForOne, 1, vec![worker(1, Temporary), brute(2), worker(3, Temporary)]),
        [ends(0, [(2, Crash)])],
        "start 1, start 2, start 3, start 0 | 0 1 2 3
         stop 3, start 2 | 0 1 2",
    );

    group_restart_brings_back_a_transient_child_that_ended_normally: fact(
        supervisor(0, OneForAll, 1, vec![worker(1, Transient), brute(2)]),
        [ends(0, [(1, Normal)]), ends(0, [(2, Crash)])],
        "start 1, start 2, start 0 | 0 1 2
         | 0 (1) 2
         start 1, start 2 | 0 1 2",
    );

    one_more_restart_than_the_intensity_ends_the_supervisor: fact(
        supervisor(0, OneForOne, 2, vec![brute(1), brute(2), brute(3)]),
        [ends(0, [(2, Crash)]), ends(0, [(3, Crash)]), ends(0, [(2, Crash)]), ends(0, [(1, Crash)])],
        "start 1, start 2, start 3, start 0 | 0 1 2 3
         start 2 | 0 1 2 3
         start 3 | 0 1 2 3
         give_up 0, kill 3, kill 1, end 0 |",
    );

    restarts_of_all_children_share_one_window: fact(
        supervisor(0, OneForOne, 1, vec![brute(1), brute(2)]),
        [ends(0, [(1, Crash), (2, Crash)])],
        "start 1, start 2, start 0 | 0 1 2
         start 1, give_up 0, kill 1, end 0 |",
    );

    ends_that_no_restart_follows_are_not_counted: fact(
        supervisor(0, OneForOne, 0, vec![worker(1, Transient), worker(2, Temporary), brute(3)]),
        [ends(0, [(1, Normal), (2, Crash)])],
        "start 1, start 2, start 3, start 0 | 0 1 2 3
         | 0 (1) 3",
    );

    sibling_that_ended_at_the_same_time_is_swallowed_by_the_group_restart: fact(
        supervisor(0, OneForAll, 1, vec![brute(1), brute(2), brute(3)]),
        [ends(0, [(3, Crash), (1, Crash), (2, Crash)])],
        "start 1, start 2, start 3, start 0 | 0 1 2 3
         start 1, start 2, start 3 | 0 1 2 3",
    );

    rest_for_one_counts_twice_when_the_later_child_ended_first: fact(
        supervisor(0, RestForOne, 2, vec![brute(1), brute(2), brute(3)]),
        [ends(0, [(2, Crash), (1, Crash)]), ends(0, [(3, Crash)])],
        "start 1, start 2, start 3, start 0 | 0 1 2 3
         kill 3, start 2, start 3, kill 3, kill 2, start 1, start 2, start 3 | 0 1 2 3
         give_up 0, kill 2, kill 1, end 0 |",
    );

    rest_for_one_counts_once_when_the_earlier_child_ended_first: fact(
        supervisor(0, RestForOne, 1, vec![brute(1), brute(2), brute(3)]),
        [ends(0, [(1, Crash), (2, Crash)])],
        "start 1, start 2, start 3, start 0 | 0 1 2 3
         kill 3, start 1, start 2, start 3 | 0 1 2 3",
    );

    restarted_subtree_has_all_its_children_and_a_new_window: fact(
        supervisor(0, OneForOne, 1, vec![
            below(Permanent, supervisor(1, OneForOne, 1, vec![worker(2, Temporary), worker(3, Transient), brute(4)])),
        ]),
        [ends(1, [(2, Normal), (3, Normal), (4, Crash)]), ends(1, [(4, Crash)]), ends(1, [(4, Crash)])],
        "start 2, start 3, start 4, start 1, start 0 | 0 1 2 3 4
         start 4 | 0 1 (3) 4
         give_up 1, end 1, start 2, start 3, start 4, start 1 | 0 1 2 3 4
         start 4 | 0 1 2 3 4",
    );

    subtree_is_stopped_from_its_last_leaf: fact(
        supervisor(0, OneForAll, 1, vec![
            brute(1),
            below(Permanent, supervisor(2, OneForOne, 0, vec![brute(3), worker(4, Permanent)])),
        ]),
        [ends(0, [(1, Crash)])],
        "start 1, start 3, start 4, start 2, start 0 | 0 1 2 3 4
         stop 4, kill 3, stop 2, start 1, start 3, start 4, start 2 | 0 1 2 3 4",
    );
}
