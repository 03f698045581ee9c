//! Configurations on their way into force: one at a time, beside the session, which goes on meanwhile.

use futures::{FutureExt, future::BoxFuture};
use kontrol_proto::{session::Configuration, v1::session_request};

use super::Role;

/// Each replaces what came before it: of those that come while one is being taken the newest is taken next, the others never.
pub(super) struct Taking<'a, R> {
    role: &'a R,
    now: Option<BoxFuture<'a, Option<session_request::Message>>>,
    next: Option<Configuration>,
}

impl<'a, R: Role> Taking<'a, R> {
    pub(super) fn new(role: &'a R) -> Self {
        Self { role, now: None, next: None }
    }

    /// Begins to take this one, or does so next.
    pub(super) fn begin(&mut self, configuration: Configuration) {
        match self.now {
            None => self.now = Some(self.role.take(configuration).boxed()),
            Some(_) => self.next = Some(configuration),
        }
    }

    /// Waits until one was taken that there is something to say of. May be given up, and waited for again.
    pub(super) async fn answer(&mut self) -> session_request::Message {
        loop {
            let Some(taking) = &mut self.now else { std::future::pending().await };
            let answer = taking.await;
            self.now = None;
            if let Some(next) = self.next.take() {
                self.begin(next);
            }
            if let Some(answer) = answer {
                return answer;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use kontrol_proto::v1::{self, Applied, HubConfig};
    use tokio::sync::Semaphore;

    use super::*;

    /// Takes a configuration for each permit that it is given.
    struct Slow(Semaphore);

    impl Role for Slow {
        fn hello(&self) -> v1::Hello {
            v1::Hello::default()
        }

        async fn take(&self, configuration: Configuration) -> Option<session_request::Message> {
            let Configuration::Hub(config) = configuration else { return None };
            self.0.acquire().await.unwrap().forget();
            let applied = Applied { version: config.version, incarnation: 0 };
            (config.version != 0).then_some(session_request::Message::Applied(applied))
        }

        fn signals(&self) -> Vec<session_request::Message> {
            Vec::new()
        }

        async fn touched(&self) {}

        async fn alarmed(&self) {}

        fn connected(&self, _: bool) {}
    }

    fn config(version: u64) -> Configuration {
        Configuration::Hub(HubConfig { version, ..HubConfig::default() })
    }

    /// What is said after as many permits; none: nothing yet.
    fn said(role: &Slow, taking: &mut Taking<'_, Slow>, permits: usize) -> Option<u64> {
        role.0.add_permits(permits);
        match taking.answer().now_or_never()? {
            session_request::Message::Applied(applied) => Some(applied.version),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_comes_meanwhile_is_taken_afterwards_and_only_the_newest_of_it() {
        let role = Slow(Semaphore::new(0));
        let mut taking = Taking::new(&role);
        assert_eq!(said(&role, &mut taking, 0), None);
        for version in 1..=3 {
            taking.begin(config(version));
        }
        assert_eq!(said(&role, &mut taking, 0), None);
        assert_eq!(said(&role, &mut taking, 1), Some(1));
        assert_eq!(said(&role, &mut taking, 0), None);
        assert_eq!(said(&role, &mut taking, 1), Some(3));
        assert_eq!(said(&role, &mut taking, 1), None, "there is nothing left");
    }

    #[test]
    fn one_of_which_nothing_is_said_holds_up_none() {
        let role = Slow(Semaphore::new(0));
        let mut taking = Taking::new(&role);
        taking.begin(config(0));
        taking.begin(config(7));
        assert_eq!(said(&role, &mut taking, 2), Some(7));
    }
}
