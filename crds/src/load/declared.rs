//! Where widgets are declared, for what only those find wrong who are to run them.

use kontrol_core::{code::Code, id::WidgetId};

use super::{Entry, object, whole};
use crate::{Problem, Source, convert::Runtime, yaml};

/// Where the widgets of some manifests are declared. What is wrong with the manifests themselves is for [`load`](super::load) to say.
#[derive(Debug)]
pub struct Declared {
    entries: Vec<Entry>,
    first: String,
}

impl Declared {
    /// Reads them.
    pub fn read(sources: &[Source]) -> Self {
        let mut said = Vec::new();
        let mut entries = Vec::new();
        for source in sources {
            let documents = yaml::documents(&source.text).unwrap_or_default();
            entries.extend(
                documents
                    .into_iter()
                    .filter_map(|node| object::read(source, node, Runtime::Local, &mut said)),
            );
        }
        Self { entries, first: sources.first().map_or_else(String::new, |source| source.name.clone()) }
    }

    /// What is wrong with a field of a widget's template, such as `process.command`, with its place as far as it is known.
    pub fn problem(&self, widget: &WidgetId, field: &str, code: Code, message: &str) -> Problem {
        let found = self.entries.iter().find_map(|entry| {
            let at = entry.group()?.widgets.iter().position(|declared| declared.id == *widget)?;
            Some(entry.problem(&format!("{}.{field}", entry.widget_path(at)), code, message))
        });
        found.unwrap_or_else(|| Problem {
            object: Some(format!("Widget {widget}")),
            path: format!("spec.{field}"),
            ..whole(&self.first, None, code, message.to_owned())
        })
    }
}
