//! One watch: where it stands in the history, and the lines that follow.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    failure::Failure,
    resource::Resource,
    selector::Selector,
    state::{Change, State, partial},
};

/// A watch, between two looks at the state.
#[expect(clippy::struct_excessive_bools, reason = "what a client asked for, each by a parameter of its own")]
pub(crate) struct Watch {
    pub(crate) resource: Arc<Resource>,
    pub(crate) namespace: String,
    pub(crate) selector: Selector,
    /// The version up to which everything was told.
    pub(crate) cursor: u64,
    /// The snapshot must be at least this new.
    pub(crate) wait_for: u64,
    /// Whether what there is must still be told first.
    pub(crate) snapshot: bool,
    /// Whether the bookmark that ends a streaming list is due after the snapshot.
    pub(crate) initial_end: bool,
    pub(crate) bookmarks: bool,
    pub(crate) only_metadata: bool,
    /// Seconds after which the server ends it.
    pub(crate) timeout: u64,
    /// The version asked for is forgotten: an error event, and the end.
    pub(crate) expired: Option<Failure>,
}

impl Watch {
    /// The lines that are due, given that this watch sees the history up to `bound`.
    pub(crate) fn due(&mut self, state: &State, bound: u64) -> Vec<String> {
        let mut lines = Vec::new();
        if self.snapshot {
            if bound < self.wait_for {
                return lines;
            }
            self.snapshot = false;
            for object in state.at(&self.resource.id(), &self.namespace, bound) {
                if self.selector.matches(&object) {
                    lines.push(self.line("ADDED", &object));
                }
            }
            self.cursor = bound;
            if self.initial_end {
                lines.push(self.bookmark(&json!({"k8s.io/initial-events-end": "true"})));
            }
        }
        let from = state.log.partition_point(|change| change.version <= self.cursor);
        for change in state.log[from..].iter().take_while(|change| change.version <= bound) {
            lines.extend(self.event(change));
        }
        self.cursor = self.cursor.max(bound.min(state.version));
        lines
    }

    fn event(&self, change: &Change) -> Option<String> {
        let mine = *change.key.0 == *self.resource.id()
            && (self.namespace.is_empty() || change.key.1 == self.namespace);
        if !mine {
            return None;
        }
        let was = change.before.as_ref().is_some_and(|object| self.selector.matches(object));
        let is = change.after.as_ref().is_some_and(|object| self.selector.matches(object));
        match (was, is) {
            (false, true) => Some(self.line("ADDED", &change.last)),
            (true, true) => Some(self.line("MODIFIED", &change.last)),
            (true, false) => {
                // What left the selection is shown as it was, with the version of the change.
                let mut object = change.before.as_deref().cloned().unwrap_or_default();
                object["metadata"]["resourceVersion"] = change.version.to_string().into();
                Some(self.line("DELETED", &object))
            }
            (false, false) => None,
        }
    }

    fn line(&self, kind: &str, object: &Value) -> String {
        let shown = if self.only_metadata { partial(object) } else { object.clone() };
        format!("{}\n", json!({"type": kind, "object": shown}))
    }

    /// A bookmark at the place where the watch stands.
    pub(crate) fn bookmark(&self, annotations: &Value) -> String {
        let object = json!({
            "apiVersion": self.resource.api_version(), "kind": self.resource.kind,
            "metadata": {
                "resourceVersion": self.cursor.to_string(), "creationTimestamp": null, "annotations": annotations,
            },
        });
        format!("{}\n", json!({"type": "BOOKMARK", "object": object}))
    }

    /// An error event.
    pub(crate) fn error(failure: &Failure) -> String {
        format!("{}\n", json!({"type": "ERROR", "object": failure.status()}))
    }
}
