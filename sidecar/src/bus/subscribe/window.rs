//! Who of those that share a subscription is asked for how many messages, so that the widget never has more than it may.

use kontrol_proto::v1;

use crate::{
    bus::{Bus, State},
    link::Frame,
};

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Share {
    /// Its number.
    id: u64,
    /// Messages that it has or was promised.
    out: u64,
    /// Messages that it takes beside.
    wanted: u64,
}

/// Divides what `max` leaves: whoever has least gets the next. The numbers are of those that get something.
fn divide(max: u64, shares: &[Share]) -> Vec<(u64, u64)> {
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

impl Bus {
    pub(super) fn credit(&self, id: u64, messages: u32) {
        if self.shared.is_draining() {
            return;
        }
        let mut state = self.lock();
        let Some(entry) = state.subscriptions.get_mut(&id) else { return };
        entry.wanted += u64::from(messages);
        self.grant_beside(&mut state, id);
    }

    /// Asks the hub for what those that share a subscription want, as far as the widget's `maxInFlight` leaves room.
    pub(super) fn grant(&self, state: &mut State, topic: &str, name: &str) {
        let State { subscriptions, link, .. } = state;
        let Some(link) = link else { return };
        let sharing = || subscriptions.iter().filter(|(_, entry)| entry.is_of(topic, name));
        if self.shared.is_draining() || sharing().all(|(_, entry)| entry.wanted == 0) {
            return;
        }
        // What is no longer declared has nothing to wait for.
        let Some(max) = self.shared.peek().consume(topic, name).map(|consume| consume.max_in_flight) else {
            return;
        };
        let shares: Vec<_> = sharing()
            .map(|(id, entry)| Share {
                id: *id,
                out: entry.out(),
                wanted: if entry.stream.is_some() { entry.wanted } else { 0 },
            })
            .collect();
        for (id, granted) in divide(max.into(), &shares) {
            let Some(entry) = subscriptions.get_mut(&id) else { continue };
            let (Some(stream), Ok(messages)) = (entry.stream, u32::try_from(granted)) else { continue };
            entry.wanted -= granted;
            entry.credits += granted;
            // A link that has just ended is asked anew when it is back.
            drop(link.push(stream, &Frame::Credit(v1::LinkCredit { messages })));
        }
    }

    /// The same for those that share a subscription with this one.
    pub(super) fn grant_beside(&self, state: &mut State, id: u64) {
        if state.subscriptions.values().all(|entry| entry.wanted == 0) {
            return;
        }
        if let Some((topic, name)) =
            state.subscriptions.get(&id).map(|entry| (entry.topic.clone(), entry.name.clone()))
        {
            self.grant(state, &topic, &name);
        }
    }

    /// Asks a hub that has just come for what every subscription wants.
    pub(in crate::bus) fn grant_all(&self, state: &mut State) {
        let ids: Vec<_> = state.subscriptions.keys().copied().collect();
        for id in ids {
            self.grant_beside(state, id);
        }
    }
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
