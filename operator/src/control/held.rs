//! The session that a sidecar, or a hub, is told by. With a new certificate it opens another beside the one that it has, and ends that once the
//! other is there.

use super::{Session, SessionId};

/// What one sidecar, or hub, holds of sessions.
#[derive(Debug, Default)]
pub struct Held {
    current: Option<(SessionId, Session)>,
    /// Those before it, the oldest first.
    former: Vec<(SessionId, Session)>,
}

/// What has ended.
#[derive(Debug)]
pub enum Closed {
    /// One that another has taken the place of.
    Former,
    /// The one that was told. With it those before that are left: it was given up before it was used, and its sidecar still listens on one
    /// of them, where nothing is told. They are to be ended, so that it comes back.
    Current(Vec<Session>),
}

impl Held {
    /// It is told on this one from now on.
    pub fn open(&mut self, id: SessionId, session: Session) {
        self.former.extend(self.current.replace((id, session)));
    }

    /// This one has ended.
    pub fn close(&mut self, id: SessionId) -> Closed {
        if self.id() == Some(id) {
            self.current = None;
            let former = std::mem::take(&mut self.former);
            return Closed::Current(former.into_iter().map(|(_, former)| former).collect());
        }
        self.former.retain(|(former, _)| *former != id);
        Closed::Former
    }

    /// The one that it is told on.
    pub fn session(&self) -> Option<&Session> {
        self.current.as_ref().map(|(_, session)| session)
    }

    /// Which that is.
    pub fn id(&self) -> Option<SessionId> {
        self.current.as_ref().map(|(id, _)| *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(opened: &[u64]) -> Held {
        let mut held = Held::default();
        for number in opened {
            let (id, session) = Session::unheard(*number);
            held.open(id, session);
        }
        held
    }

    /// How many are to be ended.
    fn left(closed: Closed) -> usize {
        match closed {
            Closed::Current(former) => former.len(),
            Closed::Former => panic!("not the one that was told"),
        }
    }

    fn id(number: u64) -> SessionId {
        Session::unheard(number).0
    }

    #[test]
    fn the_newest_is_told_and_the_one_before_it_ends_by_itself() {
        let mut held = of(&[1, 2]);
        assert!(matches!(held.close(id(1)), Closed::Former));
        assert_eq!(held.id(), Some(id(2)));
        assert_eq!(left(held.close(id(2))), 0);
        assert!(held.session().is_none());
    }

    #[test]
    fn one_that_is_given_up_before_it_was_used_takes_the_one_before_along() {
        let mut held = of(&[1, 2]);
        assert_eq!(left(held.close(id(2))), 1, "or it is never told anything again");
        assert!(matches!(held.close(id(1)), Closed::Former));
        // Its certificate was renewed twice while it opened them.
        let mut held = of(&[1, 2, 3]);
        assert!(matches!(held.close(id(2)), Closed::Former));
        assert_eq!(left(held.close(id(3))), 1);
    }

    #[test]
    fn one_that_comes_back_while_the_one_before_still_ends_is_told() {
        let mut held = of(&[1, 2]);
        drop(held.close(id(2)));
        let (third, session) = Session::unheard(3);
        held.open(third, session);
        assert!(matches!(held.close(id(1)), Closed::Former));
        assert_eq!(held.id(), Some(third));
    }
}
