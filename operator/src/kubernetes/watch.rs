//! Watches: a paged list, then every change after it, for ever.
//!
//! A watch that ends is taken up where it was; one whose place is too old begins with a list again, and its kind is stale until that is
//! complete. How a watch goes on is [`Course`]'s, pure; here are its requests.

mod course;
#[cfg(test)]
mod tests;

use std::time::Duration;

use http_body_util::BodyExt as _;
use kube::client::Body;
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    client::{Client, METADATA, METADATA_LIST, WHOLE},
    request::Outcome,
    rights::Asked,
    store::{Seen, Source},
};
pub use course::{Course, End, Next, PROOF};

/// The API server ends a watch after so long. It may say nothing until then: not even bookmarks come where nothing changes.
pub(super) const LIFE: Duration = Duration::from_secs(290);
/// A watch that has not ended by then is broken, and so is a list.
const SILENCE: Duration = Duration::from_secs(305);

/// Bytes for which room is kept between two events.
const ROOM: usize = 16 << 10;

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

/// Why a watch does not go on as it was.
enum Stop {
    /// It ended.
    End(End),
    /// Nobody listens any more.
    Deaf,
}

impl From<End> for Stop {
    fn from(end: End) -> Self {
        Self::End(end)
    }
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
        let mut course = Course::new(self.source.clone(), self.selector.clone());
        loop {
            let mut lasted = false;
            let ended = match course.next(self.life) {
                Next::List(uri) => self.list(&mut course, &uri).await,
                Next::Follow(uri) => self.follow(&mut course, &uri, &mut lasted).await,
            };
            let end = match ended {
                Ok(()) => continue,
                Err(Stop::Deaf) => return,
                Err(Stop::End(end)) => end,
            };
            let (seen, pause) = course.ended(&end, lasted);
            if let Some(Seen::Broken(message) | Seen::Refused(message)) = &seen {
                let Source { kind, namespace, .. } = &self.source;
                if course.is_news() && end != End::Old {
                    tracing::warn!(kind = kind.as_str(), namespace, error = message, "a watch is broken");
                } else {
                    tracing::debug!(
                        kind = kind.as_str(),
                        namespace,
                        error = message,
                        "a watch is broken still"
                    );
                }
            }
            if let Some(seen) = seen
                && self.say(seen).await.is_err()
            {
                return;
            }
            if !pause.is_zero() {
                sleep(pause).await;
            }
        }
    }

    async fn say(&self, seen: Seen) -> Result<(), Stop> {
        self.heard.send((self.source.clone(), seen)).await.map_err(|_| Stop::Deaf)
    }

    /// Reads a page of a list.
    async fn list(&self, course: &mut Course, uri: &str) -> Result<(), Stop> {
        let body = self.open("list", uri, METADATA_LIST).await?;
        let text = timeout(SILENCE, body.collect()).await.map_err(|_| End::failed("a list does not end"))?;
        let text = text.map_err(|error| End::failed(&error))?.to_bytes();
        for seen in course.listed(&text)? {
            self.say(seen).await?;
        }
        Ok(())
    }

    /// `metadata` is how it is wanted where metadata is all that is kept.
    async fn open(&self, verb: &str, uri: &str, metadata: &'static str) -> Result<Body, End> {
        let asked = Asked::all(verb, self.source.kind, self.source.namespace.as_deref());
        let accept = if self.source.kind.is_metadata_alone() { metadata } else { WHOLE };
        self.client.open(&asked, uri, accept).await.map_err(|outcome| match outcome {
            Outcome::Gone(message) if message.contains("too old") => End::Old,
            Outcome::Forbidden(message) => End::Refused(message),
            Outcome::Busy(after) => {
                End::Failed("the API server has too much to do, or begins".to_owned(), Some(after))
            }
            other => End::failed(other.message()),
        })
    }

    /// Follows all changes after a place; says in `lasted` whether it did so for [`PROOF`].
    async fn follow(&self, course: &mut Course, uri: &str, lasted: &mut bool) -> Result<(), Stop> {
        let mut body = self.open("watch", uri, METADATA).await?;
        course.opened();
        let proof = sleep(PROOF);
        tokio::pin!(proof);
        let mut buffer: Vec<u8> = Vec::new();
        loop {
            let patience = course.patience();
            let frame = tokio::select! {
                biased;
                () = &mut proof, if !*lasted => {
                    *lasted = true;
                    self.say_so(course.works()).await?;
                    continue;
                }
                frame = timeout(patience.unwrap_or(SILENCE), body.frame()) => frame,
            };
            let frame = match frame {
                Err(_) if patience.is_some() => {
                    self.say_so(course.works()).await?;
                    continue;
                }
                Err(_) => return Err(End::failed("nothing was heard for too long").into()),
                Ok(None) => return Err(End::Over.into()),
                Ok(Some(Err(error))) => return Err(End::failed(&error).into()),
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
                let seen = course.line(text)?;
                self.say_so(seen).await?;
                begin = stop + 1;
                from = begin;
            }
            buffer.drain(..begin);
            if buffer.is_empty() && buffer.capacity() > ROOM {
                buffer = Vec::new();
            }
        }
    }

    async fn say_so(&self, seen: Option<Seen>) -> Result<(), Stop> {
        match seen {
            Some(seen) => self.say(seen).await,
            None => Ok(()),
        }
    }
}
