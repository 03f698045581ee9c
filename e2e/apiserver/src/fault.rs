//! What goes wrong between a client and the server, as a script or drawn from a seed.

use std::{sync::Arc, time::Duration};

/// One call of a client, as it reaches the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// How many calls of this session came before.
    pub index: usize,
    /// How many writes of this session came before; of a write, its own number.
    pub writes: usize,
    /// As RBAC names it: `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: &'static str,
    /// `pods`, `widgets.kontrol.dev`; the path where it is no resource.
    pub resource: String,
    /// `status`, `scale`, `eviction`, or empty.
    pub subresource: String,
    /// Empty for resources of the cluster and for lists over all namespaces.
    pub namespace: String,
    /// Empty for a list, and where a body names the object.
    pub name: String,
}

impl Call {
    /// Whether it changes something.
    pub fn is_write(&self) -> bool {
        let review = self.resource.ends_with("reviews.authentication.k8s.io")
            || self.resource.ends_with("reviews.authorization.k8s.io");
        !review && !matches!(self.verb, "get" | "list" | "watch")
    }

    /// `patch pods/a-0-1`, for messages of tests.
    pub fn line(&self) -> String {
        let sub = if self.subresource.is_empty() { String::new() } else { format!("/{}", self.subresource) };
        format!("{} {}{sub} {}/{}", self.verb, self.resource, self.namespace, self.name)
    }
}

/// What becomes of one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `409 Conflict`; nothing is written.
    Conflict,
    /// `429 Too Many Requests` with this many seconds in `Retry-After`; nothing is written.
    TooMany(u64),
    /// `500 Internal Server Error`; nothing is written.
    ErrorBefore,
    /// `500 Internal Server Error`, and yet it was written.
    ErrorAfter,
    /// The connection breaks before the server reads the call.
    LostBefore,
    /// The connection breaks after the write: nobody knows.
    LostAfter,
    /// The call waits this long and is then carried out.
    Slow(Duration),
    /// The call is carried out, and the client's process ends without reading the answer: its session is cut.
    Crash,
}

/// Decides for each call what becomes of it.
pub type Faults = Arc<dyn Fn(&Call) -> Option<Fault> + Send + Sync>;

/// Nothing goes wrong.
pub fn none() -> Faults {
    Arc::new(|_| None)
}

/// The n-th write, counted from 0, meets a fault.
pub fn nth_write(n: usize, fault: Fault) -> Faults {
    Arc::new(move |call| (call.is_write() && call.writes == n).then(|| fault.clone()))
}

/// The n-th call, counted from 0, meets a fault.
pub fn nth_call(n: usize, fault: Fault) -> Faults {
    Arc::new(move |call| (call.index == n).then(|| fault.clone()))
}

/// Each of the first `calls` calls meets one of the faults, with a chance of so many in a thousand, drawn from the seed.
pub fn seeded(seed: u64, per_mille: u64, calls: usize, faults: &[Fault]) -> Faults {
    let faults = faults.to_vec();
    Arc::new(move |call| {
        if call.index >= calls || faults.is_empty() {
            return None;
        }
        let index = u64::try_from(call.index).unwrap_or_default();
        let draw = mix(seed ^ mix(index + 1));
        let which = usize::try_from(mix(draw) % u64::try_from(faults.len()).unwrap_or(1)).unwrap_or_default();
        (draw % 1000 < per_mille).then(|| faults[which].clone())
    })
}

/// `SplitMix64`'s finish: every bit of the input moves every bit of the output.
pub(crate) fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
