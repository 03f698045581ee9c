//! The answer to "why is it so?".

use kontrol_core::time::Timestamp;
use kontrol_proto::v1;

use super::State;
use crate::view::{self, Named};

impl State {
    /// Why it is as it is.
    pub fn why(&self, named: &Named, now: Timestamp) -> v1::WhyResponse {
        view::why(self, named, now)
    }
}
