//! Which trees are legal.

use kontrol_otp::{Id, Illegal, Supervisor, Tree};

use crate::facts::{
    AllSignificant, AnySignificant, OneForOne, Permanent, Transient, auto, below, brute, significant,
    supervisor, worker,
};

/// Trees that OTP refuses too, and what is wrong with each.
pub(crate) fn illegal() -> Vec<(Supervisor, Illegal)> {
    vec![
        (supervisor(0, OneForOne, 1, vec![brute(1), brute(1)]), Illegal::Duplicate(Id(1))),
        (
            auto(AllSignificant, supervisor(0, OneForOne, 1, vec![significant(brute(1))])),
            Illegal::SignificantPermanent(Id(1)),
        ),
        (
            supervisor(0, OneForOne, 1, vec![significant(worker(1, Transient))]),
            Illegal::SignificantNever(Id(1)),
        ),
        (Supervisor { period: 0, ..supervisor(0, OneForOne, 1, vec![]) }, Illegal::NoPeriod(Id(0))),
    ]
}

#[test]
fn illegal_trees_are_named_with_the_child() {
    for (root, why) in illegal() {
        assert_eq!(Tree { root }.check(), Err(why));
    }
}

#[test]
fn name_is_unique_in_the_whole_tree() {
    let root = supervisor(
        0,
        OneForOne,
        1,
        vec![brute(1), below(Permanent, supervisor(2, OneForOne, 1, vec![brute(1)]))],
    );
    assert_eq!(Tree { root }.check(), Err(Illegal::Duplicate(Id(1))));
}

#[test]
fn significant_subtree_is_legal_where_its_supervisor_shuts_down() {
    let subtree = below(Transient, supervisor(1, OneForOne, 1, vec![brute(2)]));
    let root = auto(AnySignificant, supervisor(0, OneForOne, 1, vec![significant(subtree)]));
    assert_eq!(Tree { root }.check(), Ok(()));
}
