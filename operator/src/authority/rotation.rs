//! Rotating the authority's key with overlap, as a pure state machine over [`Keys`].
//!
//! ```text
//!             announce                 switch, one leaf's life later          forget, one leaf's life later
//!   current ───────────► current,next ───────────────────────────► next is current, ───────────► current
//!                        both trusted                              the old one is trusted
//! ```
//!
//! A leaf lives no longer than `leaf`, and who holds one has heard of every trusted certificate with it: one leaf's life after the
//! announcement nobody is left that would not trust what the next key signs, and one leaf's life after the switch nothing is left
//! that the old key signed. All times are read from the keys themselves, so a new leader goes on where the last one stopped.

use std::time::Duration;

use kontrol_core::time::Timestamp;

use super::{Error, Keys, Previous, SKEW, Signer};

/// How long things live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// A certificate of the authority; it is replaced two thirds through. Default one year.
    pub authority: Duration,
    /// A certificate that it signs. Default 24 hours.
    pub leaf: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self { authority: Duration::from_hours(24 * 365), leaf: super::LEAF_LIFE }
    }
}

/// One step of a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make the next key, and let everybody trust it.
    Announce,
    /// Sign with the next key.
    Switch,
    /// Trust the old one no more.
    Forget,
}

/// What is to be done with the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// This step, now.
    Now(Step),
    /// Nothing before then.
    At(Timestamp),
}

/// What is due. `requested`: somebody asked for a rotation, which begins one where none is going on.
pub fn due(keys: &Keys, policy: Policy, requested: bool, now: Timestamp) -> Result<Due, Error> {
    let (made, ends) = keys.current.life()?;
    let (step, at) = if let Some(next) = &keys.next {
        (Step::Switch, next.life()?.0.plus(policy.leaf))
    } else if let Some(previous) = &keys.previous {
        (Step::Forget, previous.until)
    } else if requested {
        (Step::Announce, now)
    } else {
        // Two leaves' lives before the end at the latest, whatever the policy was when the key was made.
        let latest = ends.minus(policy.leaf * 2).minus(SKEW);
        (Step::Announce, made.plus(ends.since(made) * 2 / 3).min(latest))
    };
    Ok(if at <= now { Due::Now(step) } else { Due::At(at) })
}

/// Takes a step. One that does not fit the keys leaves them as they are: another leader has taken it.
pub fn take(keys: &Keys, step: Step, policy: Policy, now: Timestamp) -> Result<Keys, Error> {
    let mut keys = keys.clone();
    match step {
        Step::Announce if keys.next.is_none() => {
            keys.next = Some(Signer::generate("Kontrol authority", policy.authority, now)?);
        }
        Step::Switch => {
            if let Some(next) = keys.next.take() {
                let old = std::mem::replace(&mut keys.current, next);
                let until = now.plus(policy.leaf).plus(SKEW);
                keys.previous = Some(Previous { certificate: old.certificate, until });
            }
        }
        Step::Forget => keys.previous = None,
        Step::Announce => {}
    }
    Ok(keys)
}
