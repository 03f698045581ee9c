//! The tree as it is, for the command line.

use kontrol_core::time::Timestamp;
use kontrol_proto::v1;

use super::State;
use crate::view;

impl State {
    /// Everything that is declared, and how it is.
    pub fn tree(&self, now: Timestamp) -> v1::TreeResponse {
        v1::TreeResponse {
            roots: view::tree(self, now),
            ready: self.ready(),
            draining: self.draining(),
            pid: std::process::id(),
            hub: self.hub.addresses().map(|addresses| addresses.peer.clone()).unwrap_or_default(),
            hub_admin: self.hub.addresses().map(|addresses| addresses.admin.clone()).unwrap_or_default(),
        }
    }
}
