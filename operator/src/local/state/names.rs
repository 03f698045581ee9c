//! Names as people write them.

use kontrol_core::id::{InstanceId, WidgetId};

use super::State;
use crate::view::{self, Named};

impl State {
    /// Everything that a name may mean; see [`view::names::named`].
    pub fn named(&self, name: &str) -> Vec<Named> {
        view::names::named(self, name)
    }

    /// The replicas of a widget that have a place.
    pub fn instances(&self, widget: &WidgetId) -> Vec<InstanceId> {
        view::names::instances(self, widget)
    }

    /// Whether `kontrol scale` may set its replicas, and if not, why.
    pub fn may_scale(&self, id: &WidgetId, replicas: u32) -> Result<(), String> {
        view::names::may_scale(self, id, replicas)
    }
}
