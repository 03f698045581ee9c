//! An open subscription: what it was promised, what the widget holds of it, and what it waits to hear of.
//!
//! ```text
//!   wanted ─grant─► credits ─deliver─► held ─take─► taken ─settle─► (confirming) ─► settled
//!                                       │             │                  │
//!                                  lease ends    lease ends         hub refuses: taken again
//!                                       ▼             ▼
//!                            stale, until the door    lapsed
//!                            comes to it
//! ```

use std::collections::{BTreeMap, BTreeSet};

use kontrol_core::code::Code;
use kontrol_proto::v1;
use tokio::sync::{mpsc, oneshot};

use crate::{
    link::{Frame, Link},
    service::{Error, Outcome, SubscriptionEvent},
};

/// See the module.
#[derive(Debug)]
pub(in crate::bus) struct Entry {
    pub(super) topic: String,
    pub(super) name: String,
    /// Messages that the widget takes, and that the hub is asked for when `maxInFlight` leaves room.
    pub(super) wanted: u64,
    /// Messages that the hub may still deliver.
    pub(super) credits: u64,
    /// Added to the hub's numbers on this link, so that none is used twice.
    pub(super) base: u64,
    /// The highest number given out.
    pub(super) highest: u64,
    /// The stream on the present link; none: no link.
    pub(super) stream: Option<u64>,
    /// Deliveries that are not settled, and whether the widget has taken them.
    pub(super) held: BTreeMap<u64, bool>,
    /// Deliveries whose leases ended before the widget took them. They are among its events still, and keep their places until it comes to
    /// them: else a widget that does not read would draw one message after the other.
    stale: BTreeSet<u64>,
    /// Deliveries whose settlements the widget waits to hear of.
    confirming: BTreeMap<u64, Confirming>,
    pub(super) opened: Option<oneshot::Sender<Result<(), Error>>>,
    /// Whether it was open on an earlier link.
    pub(super) known: bool,
    events: Events,
}

type Events = mpsc::UnboundedSender<Result<SubscriptionEvent, Error>>;

/// Takes what became of a settlement.
pub(super) type Answer = oneshot::Sender<Result<(), Error>>;

/// Whether a settlement is to be confirmed.
pub(super) enum Confirm {
    No,
    /// By an event of the subscription.
    Told,
    /// The same, and to this one.
    Answered(Answer),
}

/// A settlement that was sent and not answered.
#[derive(Debug)]
struct Confirming {
    outcome: Outcome,
    /// Who waits for it beside.
    answer: Option<Answer>,
}

/// What a refusal of the hub changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Nothing but that it is told.
    Told,
    /// The delivery is held again.
    Back,
    /// The delivery is held no longer.
    Lapsed,
}

/// What is said where the hub did not answer.
pub(super) fn uncertain(delivery: u64, because: &str) -> Error {
    let message = format!(
        "{because} before it was known what became of delivery {delivery}: its settlement may or may not be stored; if it is not, the message comes again"
    );
    Error::new(Code::SettleUncertain, delivery.to_string(), message)
}

impl Entry {
    /// One that is not open yet.
    pub(super) fn new(
        topic: &str,
        name: &str,
        credits: u32,
        opened: oneshot::Sender<Result<(), Error>>,
        events: Events,
    ) -> Self {
        Self {
            topic: topic.to_owned(),
            name: name.to_owned(),
            wanted: credits.into(),
            credits: 0,
            base: 0,
            highest: 0,
            stream: None,
            held: BTreeMap::new(),
            stale: BTreeSet::new(),
            confirming: BTreeMap::new(),
            opened: Some(opened),
            known: false,
            events,
        }
    }

    /// Settlements that the widget waits to hear of.
    pub(in crate::bus) fn confirming(&self) -> u64 {
        self.confirming.len() as u64
    }

    /// Messages that it has or was promised.
    pub(super) fn out(&self) -> u64 {
        self.credits + (self.held.len() + self.stale.len()) as u64
    }

    /// Opens the subscription on a link, without credits yet.
    pub(in crate::bus) fn open(&mut self, stream: u64, link: &Link) {
        let (topic, subscription) = (self.topic.clone(), self.name.clone());
        let frame = Frame::Subscribe(v1::LinkSubscribe { topic, subscription, credits: 0 });
        self.stream = link.push(stream, &frame).is_ok().then_some(stream);
        self.base = self.highest;
        if self.known {
            self.tell(Ok(SubscriptionEvent::Reopened));
        }
    }

    /// The link has ended, and with it every lease. Returns how many.
    pub(in crate::bus) fn lost(&mut self) -> u64 {
        self.stream = None;
        self.wanted += std::mem::take(&mut self.credits);
        let held = std::mem::take(&mut self.held);
        let lost = held.len() as u64;
        self.stale.extend(held.into_iter().filter(|(_, taken)| !taken).map(|(delivery, _)| delivery));
        for (delivery, Confirming { answer, .. }) in std::mem::take(&mut self.confirming) {
            self.tell_refusal(delivery, answer, uncertain(delivery, "the link to the hub ended"));
        }
        lost
    }

    /// The widget comes to a delivery. False: it is not to be worked on any more, and its place is free.
    pub(super) fn take(&mut self, delivery: u64) -> bool {
        self.stale.remove(&delivery);
        self.held.get_mut(&delivery).is_some_and(|taken| {
            *taken = true;
            true
        })
    }

    /// What became of a delivery was sent.
    pub(super) fn said(&mut self, delivery: u64, outcome: &Outcome, confirm: Confirm) {
        self.held.remove(&delivery);
        let answer = match confirm {
            Confirm::No => return,
            Confirm::Told => None,
            Confirm::Answered(answer) => Some(answer),
        };
        self.confirming.insert(delivery, Confirming { outcome: outcome.clone(), answer });
    }

    /// A settlement is durable. Returns it, if it was waited for.
    pub(super) fn settled(&mut self, delivery: u64) -> Option<Outcome> {
        let Confirming { outcome, answer } = self.confirming.remove(&delivery)?;
        if let Some(answer) = answer {
            // Whoever asked may have gone since.
            drop(answer.send(Ok(())));
        }
        self.tell(Ok(SubscriptionEvent::Settled(delivery)));
        Some(outcome)
    }

    /// The hub refuses a settlement, or says that a lease has ended.
    pub(super) fn refused(&mut self, delivery: u64, error: Error) -> Refusal {
        if let Some(Confirming { answer, .. }) = self.confirming.remove(&delivery) {
            let over = matches!(error.code, Code::UnknownDelivery | Code::SettleUncertain);
            if !over {
                self.held.insert(delivery, true);
            }
            self.tell_refusal(delivery, answer, error);
            return if over { Refusal::Told } else { Refusal::Back };
        }
        match self.held.remove(&delivery) {
            None => return Refusal::Told,
            Some(true) => self.tell(Ok(SubscriptionEvent::Lapsed(delivery))),
            Some(false) => drop(self.stale.insert(delivery)),
        }
        Refusal::Lapsed
    }

    /// What was said of a delivery is not known to be durable.
    fn tell_refusal(&self, delivery: u64, answer: Option<Answer>, error: Error) {
        if let Some(answer) = answer {
            // Whoever asked may have gone since.
            drop(answer.send(Err(error.clone())));
        }
        self.tell(Ok(SubscriptionEvent::Refused(delivery, error)));
    }

    pub(super) fn is_of(&self, topic: &str, name: &str) -> bool {
        self.topic == topic && self.name == name
    }

    pub(super) fn tell(&self, event: Result<SubscriptionEvent, Error>) {
        // A receiver that is gone is about to remove this entry.
        drop(self.events.send(event));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Told = mpsc::UnboundedReceiver<Result<SubscriptionEvent, Error>>;

    /// An entry with so many deliveries, of which the widget has taken the first ones, and what it is told.
    fn entry(deliveries: u64, taken: u64) -> (Entry, Told) {
        let ((opened, _), (events, told)) = (oneshot::channel(), mpsc::unbounded_channel());
        let mut entry = Entry::new("orders", "workers", 0, opened, events);
        for delivery in 1..=deliveries {
            entry.held.insert(delivery, false);
            if delivery <= taken {
                assert!(entry.take(delivery));
            }
        }
        (entry, told)
    }

    fn late(delivery: u64) -> Error {
        Error::new(Code::UnknownDelivery, delivery.to_string(), "too late")
    }

    #[test]
    fn what_nobody_came_to_keeps_its_place_when_its_lease_ends() {
        let (mut entry, mut told) = entry(3, 1);
        for delivery in 1..=3 {
            assert_eq!(entry.refused(delivery, late(delivery)), Refusal::Lapsed);
        }
        assert_eq!(told.try_recv(), Ok(Ok(SubscriptionEvent::Lapsed(1))));
        assert!(told.try_recv().is_err(), "the widget does not know the others");
        assert_eq!((entry.held.len(), entry.out()), (0, 2));
        assert!(!entry.take(2));
        assert_eq!(entry.out(), 1);
        assert!(!entry.take(3));
        assert_eq!(entry.out(), 0);
    }

    #[test]
    fn what_nobody_came_to_keeps_its_place_when_its_link_ends() {
        let (mut entry, _told) = entry(3, 1);
        entry.credits = 4;
        assert_eq!(entry.lost(), 3);
        assert_eq!((entry.wanted, entry.out()), (4, 2));
        assert!(!entry.take(1) && !entry.take(2) && !entry.take(3));
        assert_eq!(entry.out(), 0);
    }

    #[test]
    fn what_the_hub_could_not_store_can_be_settled_again() {
        let (mut entry, mut told) = entry(1, 1);
        let (answer, mut answered) = oneshot::channel();
        entry.said(1, &Outcome::Ack, Confirm::Answered(answer));
        assert_eq!((entry.held.len(), entry.confirming()), (0, 1));
        let error = Error::new(Code::HubDraining, "1", "the hub is closing");
        assert_eq!(entry.refused(1, error.clone()), Refusal::Back);
        assert_eq!((entry.held.get(&1), entry.confirming()), (Some(&true), 0));
        assert_eq!(answered.try_recv(), Ok(Err(error.clone())));
        assert_eq!(told.try_recv(), Ok(Ok(SubscriptionEvent::Refused(1, error))));
        entry.said(1, &Outcome::Ack, Confirm::Told);
        assert_eq!(entry.settled(1), Some(Outcome::Ack));
    }

    #[test]
    fn what_came_too_late_or_may_be_stored_cannot_be_settled_again() {
        for error in [late(1), uncertain(1, "the hub failed")] {
            let (mut entry, _told) = entry(1, 1);
            entry.said(1, &Outcome::Ack, Confirm::Told);
            assert_eq!(entry.refused(1, error), Refusal::Told);
            assert_eq!((entry.out(), entry.settled(1)), (0, None));
        }
    }

    #[test]
    fn a_link_that_ends_before_the_answer_leaves_open_whether_it_is_stored() {
        let (mut entry, mut told) = entry(1, 1);
        let (answer, mut answered) = oneshot::channel();
        entry.said(1, &Outcome::Ack, Confirm::Answered(answer));
        entry.lost();
        assert_eq!(answered.try_recv().unwrap().unwrap_err().code, Code::SettleUncertain);
        let Ok(Ok(SubscriptionEvent::Refused(1, error))) = told.try_recv() else { panic!("not told") };
        assert_eq!(error.code, Code::SettleUncertain);
    }
}
