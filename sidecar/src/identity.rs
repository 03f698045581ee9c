//! Who this process is: a key that never leaves it, a certificate of the operator's authority, and what TLS needs of both.
//!
//! ```text
//!   token ──Identity.Issue──► operator ──chain, authorities──► Tls (swapped whole, two thirds through each certificate's life,
//!   file of authorities, looked at each 10 s ───────────────────┘   and when the authorities change)
//! ```
//!
//! Invariants: nothing of the key is written anywhere; a renewal changes nothing for connections that are open, which end when the
//! certificate that they were made with does.

mod dial;
mod issue;
pub mod spiffe;
mod tls;

pub(crate) use dial::{CONNECT, away, dial};
pub use issue::{Issuer, Token};
pub use tls::{Material, Tls, authorities};

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use crate::{clock, service::Error};

/// How often the file of authorities is looked at. The kubelet needs a minute to bring a change into a pod, and a rotation waits for hours.
const LOOK: Duration = Duration::from_secs(10);

/// Pauses between attempts to get a certificate: each is drawn from its upper half.
const RETRY: [Duration; 5] = [
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(10),
];

/// The longest pause before there is a certificate at all: nothing can begin without one, and its operator is only just coming.
const FIRST: Duration = Duration::from_secs(2);
/// Attempts between two warnings that there is no certificate.
const WARNINGS: usize = 8;

/// The bounds of the pause after so many failures in a row.
fn pause(failures: usize, first: bool) -> (Duration, Duration) {
    let most = RETRY[failures.min(RETRY.len() - 1)];
    let most = if first { most.min(FIRST) } else { most };
    (most / 2, most)
}

/// The identity as its users see it: none until the first certificate came.
#[derive(Clone, Debug)]
pub struct Identity(watch::Receiver<Option<Arc<Tls>>>);

impl Identity {
    /// An identity, and what sets it.
    pub fn new() -> (watch::Sender<Option<Arc<Tls>>>, Self) {
        let (sender, receiver) = watch::channel(None);
        (sender, Self(receiver))
    }

    /// What is in force.
    pub fn current(&self) -> Option<Arc<Tls>> {
        self.0.borrow().clone()
    }

    /// Waits for the first certificate. None: the process ends.
    pub async fn ready(&mut self) -> Option<Arc<Tls>> {
        self.0.wait_for(Option::is_some).await.ok().and_then(|tls| tls.clone())
    }

    /// Waits until the certificate has been renewed.
    pub async fn renewed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Gets the first certificate and renews it two thirds through its life, for as long as it is polled. Failures are logged and tried
/// again: until it expires, a certificate serves on.
pub async fn run(issuer: Issuer, sender: watch::Sender<Option<Arc<Tls>>>) {
    let mut failures = 0_usize;
    loop {
        match issue(&issuer, &sender).await {
            Ok((material, life)) => {
                failures = 0;
                let renew = u64::try_from(life.max(3)).unwrap_or(3) * 2 / 3;
                // It ends only by its time.
                drop(timeout(Duration::from_secs(renew), follow(&issuer, &sender, material)).await);
            }
            Err(error) => {
                if failures.is_multiple_of(WARNINGS) {
                    tracing::warn!(code = %error.code, %error, "no certificate yet");
                }
                let (least, most) = pause(failures, sender.borrow().is_none());
                failures += 1;
                sleep(clock::jitter(least, most)).await;
            }
        }
    }
}

async fn issue(issuer: &Issuer, sender: &watch::Sender<Option<Arc<Tls>>>) -> Result<(Material, i64), Error> {
    let material = issuer.issue().await?;
    let tls = Tls::new(&material, issuer.trust.clone())?;
    let life = tls.not_after().saturating_sub(clock::unix_micros() / 1_000_000);
    tracing::info!(subject = tls.subject(), expires_in_s = life, "certificate issued");
    sender.send_replace(Some(Arc::new(tls)));
    Ok((material, life))
}

/// Trusts what the file of authorities names besides what came with the certificate, as it changes.
async fn follow(issuer: &Issuer, sender: &watch::Sender<Option<Arc<Tls>>>, mut material: Material) {
    let issued = material.authorities.clone();
    loop {
        let mut trusted = issued.clone();
        match issuer.authorities() {
            Ok(named) => trusted.extend(named.into_iter().filter(|named| !issued.contains(named))),
            Err(error) => tracing::debug!(%error, "the authorities are those that came with the certificate"),
        }
        if trusted != material.authorities {
            material.authorities = trusted;
            match Tls::new(&material, issuer.trust.clone()) {
                Ok(tls) => {
                    tracing::info!(
                        authorities = material.authorities.len(),
                        "the trusted authorities have changed"
                    );
                    sender.send_replace(Some(Arc::new(tls)));
                }
                Err(error) => tracing::warn!(code = %error.code, %error, "the authorities cannot be used"),
            }
        }
        sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_certificate_is_asked_for_each_second_or_two_however_long_it_takes() {
        let seconds = |failures, first| {
            let (least, most) = pause(failures, first);
            (least.as_secs_f64(), most.as_secs_f64())
        };
        assert_eq!(seconds(0, true), (0.05, 0.1));
        for failures in [3, 10, 1000] {
            assert_eq!(seconds(failures, true), (1.0, 2.0));
            assert!(seconds(failures, false).1 > 2.0);
        }
    }
}
