//! Who of those that share a subscription is asked for how many messages, so that the widget never has more than it may.

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    /// Its number.
    pub(super) id: u64,
    /// Messages that it has or was promised.
    pub(super) out: u64,
    /// Messages that it takes beside.
    pub(super) wanted: u64,
}

/// Divides what `max` leaves: whoever has least gets the next. The numbers are of those that get something.
pub(super) fn divide(max: u64, shares: &[Share]) -> Vec<(u64, u64)> {
    let mut room = max.saturating_sub(shares.iter().map(|share| share.out).sum());
    if let [share] = shares {
        let granted = share.wanted.min(room);
        return if granted == 0 { Vec::new() } else { vec![(share.id, granted)] };
    }
    let mut granted = vec![0_u64; shares.len()];
    while room > 0 {
        let wanting = (0..shares.len()).filter(|at| shares[*at].wanted > granted[*at]);
        let Some(next) = wanting.min_by_key(|at| (shares[*at].out + granted[*at], shares[*at].id)) else {
            break;
        };
        granted[next] += 1;
        room -= 1;
    }
    shares.iter().map(|share| share.id).zip(granted).filter(|(_, granted)| *granted > 0).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn share(id: u64, out: u64, wanted: u64) -> Share {
        Share { id, out, wanted }
    }

    #[test]
    fn one_alone_gets_what_it_wants_as_far_as_there_is_room() {
        for (max, out, wanted, granted) in [(16, 0, 5, 5), (16, 0, 5_000, 16), (16, 15, 3, 1), (2, 3, 1, 0)] {
            let expected = if granted == 0 { vec![] } else { vec![(1, granted)] };
            assert_eq!(divide(max, &[share(1, out, wanted)]), expected);
        }
    }

    #[test]
    fn of_several_whoever_has_least_gets_the_next() {
        assert_eq!(divide(10, &[share(1, 0, 100), share(2, 0, 100)]), [(1, 5), (2, 5)]);
        assert_eq!(divide(10, &[share(1, 6, 100), share(2, 0, 3)]), [(1, 1), (2, 3)]);
        assert_eq!(divide(4, &[share(1, 3, 5), share(2, 0, 5)]), [(2, 1)]);
    }

    proptest! {
        #[test]
        fn nobody_gets_more_than_it_wants_and_no_room_is_left_that_somebody_wants(
            max in 0_u64..200,
            shares in prop::collection::vec((0_u64..40, 0_u64..40), 0..6),
        ) {
            let shares: Vec<_> =
                (1..).zip(shares).map(|(id, (out, wanted))| share(id, out, wanted)).collect();
            let granted = divide(max, &shares);
            let room = max.saturating_sub(shares.iter().map(|share| share.out).sum());
            let wanted: u64 = shares.iter().map(|share| share.wanted).sum();
            prop_assert_eq!(granted.iter().map(|(_, granted)| granted).sum::<u64>(), room.min(wanted));
            for (id, granted) in granted {
                prop_assert!(shares.iter().any(|share| share.id == id && granted <= share.wanted));
            }
        }
    }
}
