//! Publishing: a record is checked and encoded once, and stays until the hub has answered for it.

use std::sync::Arc;

use kontrol_core::{code::Code, limits};
use kontrol_proto::{Message, v1};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::{Bus, PAGE, PAGES};
use crate::{
    clock,
    link::{Frame, frame},
    service::{Error, Event, Published},
};

/// A publish that has no answer yet.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) frame: Frame,
    pub(super) sent: bool,
    answer: oneshot::Sender<Result<Vec<v1::LinkStored>, Error>>,
}

/// Takes the publish back when nobody waits for it any longer.
struct Waiting<'a> {
    bus: &'a Bus,
    stream: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.bus.lock().pending.remove(&self.stream);
    }
}

impl Bus {
    /// Stores an event, and the copies that routes make of it, in one write. Answers when it is durable. While the hub is away it waits,
    /// until `deadline`.
    pub async fn publish(
        &self,
        topic: &str,
        mut event: Event,
        deadline: Instant,
    ) -> Result<Published, Error> {
        let config = self.shared.config();
        if config.version == 0 {
            return Err(self.not_configured(topic));
        }
        if !config.produces.iter().any(|declared| declared == topic) {
            let message = format!("{} does not declare {topic} under produces", self.shared.widget);
            return Err(Error::new(Code::PublishNotDeclared, topic, message));
        }
        complete(&mut event, &self.shared.widget)?;
        let key = config.topics.get(topic).and_then(|topic| topic.key.as_deref());
        let encoded = bytes::Bytes::from(event.encode_to_vec());
        if encoded.len() > limits::MESSAGE {
            let message = format!("a message of {} bytes is {}", encoded.len(), Error::over_every_limit());
            return Err(Error::new(Code::MessageTooLarge, topic, message));
        }
        if let Some(limit) = config.topics.get(topic).map(|topic| topic.max_message)
            && limit > 0
            && encoded.len() as u64 > limit
        {
            let message =
                format!("a message of {} bytes is over the limit of {limit} of topic {topic}", encoded.len());
            return Err(Error::new(Code::MessageTooLarge, topic, message));
        }
        let record = |topic: &str, key: Option<&str>| v1::LinkRecord {
            topic: topic.to_owned(),
            id: event.id.clone(),
            key: key.map(|key| attribute(&event, key).to_owned()).unwrap_or_default(),
            event: encoded.clone(),
        };
        let mut records = vec![record(topic, key)];
        let copies = self.routes.copies(&config, topic, &event, &self.shared);
        for to in &copies {
            let key = config.topics.get(to).and_then(|topic| topic.key.as_deref());
            records.push(record(to, key));
        }
        let mut stored = self.store(topic, &event.id, records, deadline).await?.into_iter();
        let Some(v1::LinkStored { sequence, duplicate, dropped, dropped_by }) = stored.next() else {
            return Err(Error::new(Code::InvalidReply, topic, "the hub answered for no record"));
        };
        let mut published = Published { id: event.id, sequence, duplicate, dropped, dropped_by };
        for (to, copy) in copies.iter().zip(stored) {
            published.dropped += copy.dropped;
            published
                .dropped_by
                .extend(copy.dropped_by.iter().map(|subscription| format!("{to}/{subscription}")));
        }
        Ok(published)
    }

    async fn store(
        &self,
        topic: &str,
        id: &str,
        records: Vec<v1::LinkRecord>,
        deadline: Instant,
    ) -> Result<Vec<v1::LinkStored>, Error> {
        let bytes: usize = records.iter().map(|record| record.event.len()).sum();
        let copies = records.len() - 1;
        let frame = Frame::Publish(v1::LinkPublish { records });
        if let Err(error) = frame::check(&frame) {
            let message = format!(
                "a message with {copies} copies by routes: {error}; send less, or let routes lead to fewer topics"
            );
            return Err(Error::new(Code::MessageTooLarge, topic, message));
        }
        let pages = u32::try_from((bytes / PAGE + 1).min(PAGES)).unwrap_or(1);
        let Ok(Ok(_room)) = timeout_at(deadline, self.room.acquire_many(pages)).await else {
            return Err(self.away(topic));
        };
        let (answer, answered) = oneshot::channel();
        let waiting = self.enqueue(frame, answer);
        match timeout_at(deadline, answered).await {
            Ok(Ok(stored)) => stored,
            Ok(Err(_)) => Err(self.away(topic)),
            Err(_) => {
                let state = self.lock();
                let sent = state.pending.get(&waiting.stream).is_some_and(|pending| pending.sent);
                let because = if state.reason.is_empty() { "" } else { "; " };
                let message = format!(
                    "the hub did not answer in time: the message of id {id:?} may or may not be stored{because}{}",
                    state.reason
                );
                drop(state);
                Err(if sent { Error::new(Code::PublishUncertain, topic, message) } else { self.away(topic) })
            }
        }
    }

    fn enqueue(
        &self,
        frame: Frame,
        answer: oneshot::Sender<Result<Vec<v1::LinkStored>, Error>>,
    ) -> Waiting<'_> {
        let stream = self.shared.next_id();
        let mut state = self.lock();
        let mut pending = Pending { frame, sent: false, answer };
        if let Some(link) = state.link.clone() {
            pending.send(stream, &link);
        }
        state.pending.insert(stream, pending);
        Waiting { bus: self, stream }
    }

    /// The hub has stored the records of a stream.
    pub(super) fn published(&self, stream: u64, stored: Vec<v1::LinkStored>) {
        let mut state = self.lock();
        state.reason.clear();
        if let Some(pending) = state.pending.remove(&stream) {
            drop(state);
            pending.answer(Ok(stored));
        }
    }

    /// The hub has refused the records of a stream. What it says of itself, not of the message, waits for the next link.
    pub(super) fn refused(&self, stream: u64, error: Error) -> bool {
        let mut state = self.lock();
        let Some(pending) = state.pending.remove(&stream) else { return false };
        if matches!(error.code, Code::HubDraining | Code::StorageFailed) {
            state.pending.insert(stream, pending);
        } else {
            pending.answer(Err(error));
        }
        true
    }
}

impl Pending {
    /// Sends the frame, which was checked: it is refused only by a link that has ended.
    pub(super) fn send(&mut self, stream: u64, link: &crate::link::Link) {
        // A link that has just ended is not sent on: the next one is.
        self.sent |= link.push(stream, &self.frame).is_ok();
    }

    fn answer(self, result: Result<Vec<v1::LinkStored>, Error>) {
        // Nobody waits any longer: then nobody misses it.
        drop(self.answer.send(result));
    }
}

/// Sets what the widget left open and checks the rest against `CloudEvents` 1.0.
fn complete(event: &mut Event, widget: &str) -> Result<(), Error> {
    if event.id.is_empty() {
        event.id = uuid::Uuid::now_v7().to_string();
    }
    event.source.clear();
    event.source.push('/');
    event.source.push_str(widget);
    if event.r#type.is_empty() {
        "kontrol.message".clone_into(&mut event.r#type);
    }
    if event.time_micros == 0 {
        event.time_micros = clock::unix_micros();
    }
    let valid = |name: &str| {
        !name.is_empty()
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
            && name != "data"
    };
    match event.extensions.keys().find(|name| !valid(name)) {
        None => Ok(()),
        Some(name) => {
            let message =
                format!("the extension attribute {name:?} is not made of lower-case letters and digits");
            Err(Error::new(Code::InvalidEvent, name.as_str(), message))
        }
    }
}

/// The value of an attribute, which is the ordering key; empty: not there.
fn attribute<'a>(event: &'a Event, name: &str) -> &'a str {
    match name {
        "id" => &event.id,
        "source" => &event.source,
        "type" => &event.r#type,
        "subject" => &event.subject,
        "datacontenttype" => &event.datacontenttype,
        other => event.extensions.get(other).map_or("", String::as_str),
    }
}

/// Publishes with the means to be polled on its own, so that a stream keeps many on their way.
pub(crate) async fn owned(
    bus: Arc<Bus>,
    topic: String,
    event: Event,
    deadline: Instant,
) -> Result<Published, Error> {
    let result = bus.publish(&topic, event, deadline).await;
    let stats = &bus.shared.stats;
    match &result {
        Ok(published) => {
            stats.published.inc();
            if published.duplicate {
                stats.duplicates.inc();
            }
        }
        Err(_) => stats.publish_errors.inc(),
    }
    result
}
