//! Configurations on their way into the log. One that the log is too busy for is tried again, without holding up the control session, until it
//! is in force or a later one has come.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use futures::future::BoxFuture;
use kontrol_proto::v1;
use tokio::{sync::Mutex, time::sleep};

use crate::service::Error;

type Apply = dyn Fn(v1::HubConfig) -> BoxFuture<'static, Result<(), Error>> + Send + Sync;

/// See the module.
pub(super) struct Applying {
    apply: Box<Apply>,
    /// One at a time.
    turn: Mutex<()>,
    /// How many came so far: the last one rules.
    came: AtomicU64,
}

impl fmt::Debug for Applying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Applying").field("came", &self.came).finish_non_exhaustive()
    }
}

/// What became of a configuration.
pub(super) enum Outcome {
    /// It is in force.
    Applied(v1::Applied),
    /// The log is busy: this tries again, and is done when it is in force, is refused, or a later one has come. Nobody is told which: what was
    /// told late could come after the word of a later one.
    Waiting(BoxFuture<'static, ()>),
    /// It cannot be put in force.
    Refused(Error),
}

impl Applying {
    /// Puts configurations in force by `apply`; one that it refuses with a time to ask again is asked for again.
    pub(super) fn new(
        apply: impl Fn(v1::HubConfig) -> BoxFuture<'static, Result<(), Error>> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { apply: Box::new(apply), turn: Mutex::default(), came: AtomicU64::new(0) })
    }

    /// Tries once.
    pub(super) async fn apply(self: &Arc<Self>, config: v1::HubConfig) -> Outcome {
        let number = self.came.fetch_add(1, Ordering::Relaxed) + 1;
        let applied = v1::Applied { version: config.version, incarnation: 0 };
        let turn = self.turn.lock().await;
        let result = (self.apply)(config.clone()).await;
        drop(turn);
        match result {
            Ok(()) => Outcome::Applied(applied),
            Err(error) if error.retry_after.is_some() => {
                tracing::warn!(version = config.version, code = %error.code, %error, "the configuration has to wait");
                Outcome::Waiting(Box::pin(Arc::clone(self).again(number, config, error)))
            }
            Err(error) => Outcome::Refused(error),
        }
    }

    async fn again(self: Arc<Self>, number: u64, config: v1::HubConfig, mut last: Error) {
        let version = config.version;
        while let Some(pause) = last.retry_after {
            sleep(pause).await;
            let turn = self.turn.lock().await;
            if self.came.load(Ordering::Relaxed) != number {
                return;
            }
            let result = (self.apply)(config.clone()).await;
            drop(turn);
            match result {
                Ok(()) => return,
                Err(error) => last = error,
            }
        }
        tracing::error!(version, code = %last.code, error = %last, "the configuration cannot be applied");
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Mutex, time::Duration};

    use kontrol_core::code::Code;

    use super::*;

    /// Refuses as busy so often, and says what it was given.
    fn busy(times: usize) -> (Arc<Applying>, Arc<Mutex<Vec<u64>>>) {
        let given: Arc<Mutex<Vec<u64>>> = Arc::default();
        let seen = Arc::clone(&given);
        let applying = Applying::new(move |config| {
            let mut seen = seen.lock().unwrap();
            seen.push(config.version);
            let result = match seen.len() {
                tried if tried > times => Ok(()),
                _ => Err(Error::new(Code::HubUnavailable, "", "busy").retry_after(Duration::from_micros(10))),
            };
            Box::pin(async move { result })
        });
        (applying, given)
    }

    fn config(version: u64) -> v1::HubConfig {
        v1::HubConfig { version, ..Default::default() }
    }

    #[tokio::test]
    async fn what_the_log_is_too_busy_for_is_tried_again_while_the_session_goes_on() {
        let (applying, given) = busy(100);
        let Outcome::Waiting(again) = applying.apply(config(1)).await else { panic!("not busy") };
        assert_eq!(given.lock().unwrap().len(), 1);
        again.await;
        assert_eq!(given.lock().unwrap().len(), 101);
    }

    #[tokio::test]
    async fn a_later_configuration_ends_the_tries_of_an_earlier_one() {
        let (applying, given) = busy(1);
        let Outcome::Waiting(again) = applying.apply(config(1)).await else { panic!("not busy") };
        assert!(matches!(applying.apply(config(2)).await, Outcome::Applied(v1::Applied { version: 2, .. })));
        again.await;
        assert_eq!(given.lock().unwrap().clone(), [1, 2]);
    }

    #[tokio::test]
    async fn what_makes_no_sense_is_not_tried_again() {
        let applying = Applying::new(|_| {
            Box::pin(async { Err(Error::new(Code::ConfigurationRefused, "", "no such name")) })
        });
        assert!(matches!(applying.apply(config(1)).await, Outcome::Refused(_)));
    }
}
