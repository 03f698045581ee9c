//! How a watch goes on, pure: what it asks for next, what it says of what it hears, and how long it waits after an end.
//!
//! ```text
//!            all pages             opened                 quiet, a bookmark
//!   lists ────────────► has a place ─────► is not proven ──────────────────► works
//!     ▲                  ▲                   │         │                       │
//!     │                  └── over, failed ───┼─────────┴───────────────────────┤
//!     └──────────────────────── too old ─────┴─────────────────────────────────┘
//! ```
//!
//! That a watch was opened proves nothing: the API server answers well, and only then says that the place is too old, or tells all that was
//! missed. So it works once nothing more comes. One that ends at once, or always at the same place, is taken up after growing pauses.

use std::{borrow::Cow, collections::BTreeSet, time::Duration};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::kubernetes::{
    object::{Key, Owned},
    store::{Seen, Source},
};

/// Objects of one page of a list: what is read at once, several kilobytes each and twice over, is what a process needs beyond what it keeps.
pub(super) const PAGE: usize = 250;
/// A watch that was open for so long works, and one that ends before has failed.
pub const PROOF: Duration = Duration::from_secs(1);
/// So long after its last word a watch that has told something has told all that it had.
const QUIET: Duration = Duration::from_millis(100);
/// The first and the longest pause after something failed.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// What is asked for next: a path with its query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// A page of a list.
    List(String),
    /// All changes after a place.
    Follow(String),
}

/// Why a list or a watch ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The API server ended it.
    Over,
    /// Its place is too old.
    Old,
    /// It is not allowed.
    Refused(String),
    /// It failed; not to be tried again before so much time has passed.
    Failed(String, Option<Duration>),
}

impl End {
    /// It failed like this.
    pub fn failed(error: &(impl std::fmt::Display + ?Sized)) -> Self {
        Self::Failed(error.to_string(), None)
    }
}

/// How a watch goes on.
#[derive(Debug)]
pub struct Course {
    source: Source,
    /// What the objects are selected by beside the source's label, as `&fieldSelector=…`.
    selector: String,
    /// The place after which it follows; none: a list is needed.
    version: Option<u64>,
    /// What the pages of the present list had so far, and where the next one begins.
    keys: BTreeSet<Key>,
    page: Option<String>,
    works: bool,
    /// Whether anything came since it was opened.
    spoke: bool,
    /// Ends without progress, one after the other.
    failures: u32,
}

#[derive(Deserialize)]
struct List<'a> {
    metadata: ListMeta<'a>,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMeta<'a> {
    #[serde(borrow)]
    resource_version: Cow<'a, str>,
    #[serde(borrow, default)]
    r#continue: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    #[serde(borrow)]
    object: &'a RawValue,
}

impl Course {
    /// A watch that knows nothing yet.
    pub fn new(source: Source, selector: String) -> Self {
        Self {
            source,
            selector,
            version: None,
            keys: BTreeSet::new(),
            page: None,
            works: false,
            spoke: false,
            failures: 0,
        }
    }

    /// What is asked for next; a watch is to be ended by the API server after `life`.
    pub fn next(&self, life: Duration) -> Next {
        let Some(version) = self.version else {
            let more = self.page.as_deref().map(|page| format!("&continue={page}")).unwrap_or_default();
            return Next::List(self.uri(&format!("limit={PAGE}{more}")));
        };
        let life = life.as_secs();
        Next::Follow(self.uri(&format!(
            "watch=true&allowWatchBookmarks=true&timeoutSeconds={life}&resourceVersion={version}"
        )))
    }

    fn uri(&self, query: &str) -> String {
        let path = self.source.kind.path(self.source.namespace.as_deref());
        let label = match self.source.label {
            "" => String::new(),
            label => format!("&labelSelector={}", label.replace('/', "%2F")),
        };
        format!("{path}?{query}{label}{}", self.selector)
    }

    /// Takes note of a page of a list; gives what it says.
    pub fn listed<'a>(&mut self, text: &'a [u8]) -> Result<impl Iterator<Item = Seen> + use<'a>, End> {
        let list: List<'a> = serde_json::from_slice(text).map_err(|error| End::failed(&error))?;
        let items = list.items.unwrap_or_default();
        self.keys.extend(items.iter().filter_map(|item| Some(Owned::read(item.get()).ok()?.0)));
        self.page = list.metadata.r#continue.filter(|page| !page.is_empty()).map(Cow::into_owned);
        let complete = self.page.is_none().then(|| {
            let version = list.metadata.resource_version.parse().unwrap_or(0);
            self.version = Some(version);
            Seen::Listed { version, keys: std::mem::take(&mut self.keys) }
        });
        Ok(items.into_iter().map(|item| Seen::Is(item.get().to_owned())).chain(complete))
    }

    /// It was opened.
    pub fn opened(&mut self) {
        (self.works, self.spoke) = (false, false);
    }

    /// Takes note of a line; gives what it says.
    pub fn line(&mut self, line: &[u8]) -> Result<Option<Seen>, End> {
        if line.is_empty() {
            return Ok(None);
        }
        let event: Event<'_> = serde_json::from_slice(line).map_err(|error| End::failed(&error))?;
        let text = event.object.get();
        let seen = match &*event.r#type {
            "ADDED" | "MODIFIED" => Seen::Is(text.to_owned()),
            "DELETED" => Seen::Removed(text.to_owned()),
            // All that was before this place was told.
            "BOOKMARK" => Seen::Alive,
            _ => {
                let status: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
                if status["code"] == 410 {
                    return Err(End::Old);
                }
                return Err(End::failed(status["message"].as_str().unwrap_or("the watch failed")));
            }
        };
        if let Ok((_, owned)) = Owned::read(text)
            && self.version.is_none_or(|version| version < owned.meta.version)
        {
            self.version = Some(owned.meta.version);
            self.failures = 0;
        }
        self.spoke = true;
        self.works |= seen == Seen::Alive;
        Ok(Some(seen))
    }

    /// After how long without a word [`Self::works`] is to be called; none: it has been.
    pub fn patience(&self) -> Option<Duration> {
        let patience = if self.spoke { QUIET } else { PROOF };
        (!self.works).then_some(patience)
    }

    /// It works: nothing came for as long as [`Self::patience`] says, or it is open for [`PROOF`].
    pub fn works(&mut self) -> Option<Seen> {
        (!std::mem::replace(&mut self.works, true)).then_some(Seen::Alive)
    }

    /// Takes note of an end; gives what follows from it for what is known, and the time to wait. `lasted`: a watch was open for [`PROOF`].
    pub fn ended(&mut self, end: &End, lasted: bool) -> (Option<Seen>, Duration) {
        if lasted {
            self.failures = 0;
        }
        match end {
            End::Over if lasted => (None, Duration::ZERO),
            End::Over => (Some(Seen::Broken("the API server ends it at once".to_owned())), self.fails()),
            End::Old => {
                // A list that is too old in the middle begins again, and says nothing of what was known before.
                let followed = self.version.take().is_some();
                (self.page, self.keys) = (None, BTreeSet::new());
                let pause = if self.failures == 0 { Duration::ZERO } else { self.pause() };
                self.failures = self.failures.saturating_add(1);
                (followed.then(|| Seen::Broken("its place is too old".to_owned())), pause)
            }
            End::Refused(message) => (Some(Seen::Refused(message.clone())), self.fails()),
            End::Failed(message, after) => {
                let pause = self.fails();
                (Some(Seen::Broken(message.clone())), after.unwrap_or_default().max(pause))
            }
        }
    }

    /// Whether the last end was the first of its kind.
    pub fn is_news(&self) -> bool {
        self.failures <= 1
    }

    fn fails(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        // What of a list was read is read again.
        (self.page, self.keys) = (None, BTreeSet::new());
        self.pause()
    }

    fn pause(&self) -> Duration {
        let doubled = 1_u32.checked_shl(self.failures.saturating_sub(1)).unwrap_or(u32::MAX);
        PAUSES.0.saturating_mul(doubled).min(PAUSES.1)
    }
}
