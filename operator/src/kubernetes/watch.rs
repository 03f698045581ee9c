//! Watches: a paged list, then every change after it, for ever.
//!
//! A watch that ends is taken up where it was; one whose place is too old begins with a list again. That a watch works is known from what
//! comes on it, bookmarks among it, and from that it could be opened: silence of the API server makes its kind stale.

#[cfg(test)]
mod tests;

use std::{borrow::Cow, collections::BTreeSet, time::Duration};

use http_body_util::BodyExt as _;
use kube::client::Body;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    client::Client,
    object::Owned,
    request::Outcome,
    store::{Seen, Source},
};

/// Objects of one page of a list.
const PAGE: usize = 500;
/// The API server ends a watch after so long. It may say nothing until then: not even bookmarks come where nothing changes.
pub(super) const LIFE: Duration = Duration::from_secs(290);
/// A watch that has not ended by then is broken, and so is a list.
const SILENCE: Duration = Duration::from_secs(305);
/// The first and the longest pause after something failed.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// What a watch says, with its source.
pub(super) type Heard = (Source, Seen);

/// One watch.
pub(super) struct Watch {
    pub(super) client: Client,
    pub(super) source: Source,
    /// What the objects are selected by beside the source's label, as `&fieldSelector=…`.
    pub(super) selector: String,
    pub(super) heard: mpsc::Sender<Heard>,
    /// After how long the API server ends it; [`LIFE`].
    pub(super) life: Duration,
    pub(super) stop: CancellationToken,
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

/// Why a watch ended.
enum End {
    /// It was as long as it may be.
    Over,
    /// Its place is too old.
    Old,
    /// It failed.
    Failed(String, Option<Duration>),
    /// Nobody listens any more.
    Deaf,
}

impl Watch {
    /// Watches until `stop`.
    pub(super) async fn run(self) {
        let stop = self.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.go_on() => {}
        }
    }

    async fn go_on(self) {
        let mut pause = PAUSES.0;
        let mut version: Option<u64> = None;
        loop {
            let end = match version {
                None => match self.list().await {
                    Ok(listed) => {
                        version = Some(listed);
                        pause = PAUSES.0;
                        continue;
                    }
                    Err(end) => end,
                },
                Some(ref mut version) => {
                    let before = *version;
                    let end = self.follow(version).await;
                    if *version != before {
                        pause = PAUSES.0;
                    }
                    end
                }
            };
            match end {
                End::Over => {}
                End::Old => version = None,
                End::Deaf => return,
                End::Failed(message, after) => {
                    let Source { kind, namespace, .. } = &self.source;
                    if pause == PAUSES.0 {
                        tracing::warn!(kind = kind.as_str(), namespace, error = message, "a watch is broken");
                    } else {
                        tracing::debug!(
                            kind = kind.as_str(),
                            namespace,
                            error = message,
                            "a watch is broken still"
                        );
                    }
                    if self.say(Seen::Broken(message)).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(after.unwrap_or(pause).max(pause)).await;
                    pause = (pause * 2).min(PAUSES.1);
                }
            }
        }
    }

    async fn say(&self, seen: Seen) -> Result<(), End> {
        self.heard.send((self.source.clone(), seen)).await.map_err(|_| End::Deaf)
    }

    fn uri(&self, query: &str) -> String {
        let path = self.source.kind.path(self.source.namespace.as_deref());
        let label = match self.source.label {
            "" => String::new(),
            label => format!("&labelSelector={}", label.replace('/', "%2F")),
        };
        format!("{path}?{query}{label}{}", self.selector)
    }

    /// Lists all objects, page by page; gives the version that the list is of.
    async fn list(&self) -> Result<u64, End> {
        let mut keys = BTreeSet::new();
        let mut next: Option<String> = None;
        loop {
            let more = next.as_deref().map(|next| format!("&continue={next}")).unwrap_or_default();
            let body = self.open(&self.uri(&format!("limit={PAGE}{more}"))).await?;
            let text = timeout(SILENCE, body.collect()).await;
            let text = text.map_err(|_| failed("a list does not end"))?.map_err(|error| failed(&error))?;
            let text = text.to_bytes();
            let list: List<'_> = serde_json::from_slice(&text).map_err(|error| failed(&error))?;
            for item in list.items.unwrap_or_default() {
                if let Ok((key, _)) = Owned::read(item.get()) {
                    keys.insert(key);
                }
                self.say(Seen::Is(item.get().to_owned())).await?;
            }
            next = list.metadata.r#continue.filter(|next| !next.is_empty()).map(Cow::into_owned);
            if next.is_none() {
                let version = list.metadata.resource_version.parse().unwrap_or(0);
                self.say(Seen::Listed { version, keys }).await?;
                return Ok(version);
            }
        }
    }

    async fn open(&self, uri: &str) -> Result<Body, End> {
        self.client.open(uri).await.map_err(|outcome| match outcome {
            Outcome::Gone(message) if message.contains("too old") => End::Old,
            Outcome::Busy(after) => {
                End::Failed("the API server has too much to do, or begins".to_owned(), Some(after))
            }
            other => failed(&other.message()),
        })
    }

    /// Follows all changes after a version.
    async fn follow(&self, version: &mut u64) -> End {
        let life = self.life.as_secs();
        let query =
            format!("watch=true&allowWatchBookmarks=true&timeoutSeconds={life}&resourceVersion={version}");
        let mut body = match self.open(&self.uri(&query)).await {
            Ok(body) => body,
            Err(end) => return end,
        };
        if let Err(end) = self.say(Seen::Alive).await {
            return end;
        }
        let mut buffer: Vec<u8> = Vec::new();
        loop {
            let frame = match timeout(SILENCE, body.frame()).await {
                Err(_) => return failed("nothing was heard for too long"),
                Ok(None) => return End::Over,
                Ok(Some(Err(error))) => return failed(&error),
                Ok(Some(Ok(frame))) => frame,
            };
            let Ok(data) = frame.into_data() else { continue };
            let mut from = buffer.len();
            buffer.extend_from_slice(&data);
            let mut begin = 0;
            while let Some(at) =
                buffer.get(from..).and_then(|rest| rest.iter().position(|byte| *byte == b'\n'))
            {
                let stop = from + at;
                let text = buffer.get(begin..stop).unwrap_or_default();
                if let Err(over) = self.hear(text, version).await {
                    return over;
                }
                begin = stop + 1;
                from = begin;
            }
            buffer.drain(..begin);
            if buffer.is_empty() && buffer.capacity() > 1 << 20 {
                buffer = Vec::new();
            }
        }
    }

    async fn hear(&self, line: &[u8], version: &mut u64) -> Result<(), End> {
        if line.is_empty() {
            return Ok(());
        }
        let event: Event<'_> = serde_json::from_slice(line).map_err(|error| failed(&error))?;
        let text = event.object.get();
        let seen = match &*event.r#type {
            "ADDED" | "MODIFIED" => Seen::Is(text.to_owned()),
            "DELETED" => Seen::Removed(text.to_owned()),
            "BOOKMARK" => Seen::Alive,
            _ => {
                let status: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
                if status["code"] == 410 {
                    return Err(End::Old);
                }
                return Err(failed(&status["message"].as_str().unwrap_or("the watch failed")));
            }
        };
        if let Ok((_, owned)) = Owned::read(text) {
            *version = (*version).max(owned.meta.version);
        }
        self.say(seen).await
    }
}

fn failed(error: &(impl std::fmt::Display + ?Sized)) -> End {
    End::Failed(error.to_string(), None)
}
