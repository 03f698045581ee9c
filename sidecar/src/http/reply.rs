//! The forms in which a streamed reply is written.

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::{Serialize, Serializer, ser::SerializeMap};

use super::{Problem, request::Accept, sse};
use crate::{cloudevents::Data, service::Chunk};

/// How chunks are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Server-sent events `chunk`, `end`, `error`.
    Events,
    /// A line of JSON for each.
    Lines,
}

impl Form {
    /// What the client asks for; none: a single reply.
    pub(super) fn of(accept: &Accept) -> Option<Self> {
        if accept.names(sse::MEDIA_TYPE) {
            Some(Self::Events)
        } else if accept.names("application/x-ndjson") {
            Some(Self::Lines)
        } else {
            None
        }
    }

    pub(super) const fn media_type(self) -> &'static str {
        match self {
            Self::Events => sse::MEDIA_TYPE,
            Self::Lines => "application/x-ndjson",
        }
    }

    /// A chunk. As an event it is the data itself; what no event can carry (bytes that are not UTF-8, carriage returns) is base64 in an
    /// event `chunk_base64`.
    pub(super) fn chunk(self, chunk: &Chunk, datacontenttype: &str) -> Bytes {
        match self {
            Self::Events => match std::str::from_utf8(&chunk.data) {
                Ok(text) if !text.contains(['\r', '\0']) => sse::event("chunk", Some(chunk.sequence), text),
                _ => sse::event("chunk_base64", Some(chunk.sequence), &BASE64_STANDARD.encode(&chunk.data)),
            },
            Self::Lines => line(&Line { chunk, datacontenttype }),
        }
    }

    /// The end of a whole reply, with the number of its chunks and who answered.
    pub(super) fn end(self, chunks: u64, answered_by: &str) -> Bytes {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Ending<'a> {
            #[serde(skip_serializing_if = "std::ops::Not::not")]
            end: bool,
            chunks: u64,
            answered_by: &'a str,
        }
        let end = |end| Ending { end, chunks, answered_by };
        match self {
            Self::Events => sse::event("end", None, &serde_json::to_string(&end(false)).unwrap_or_default()),
            Self::Lines => line(&end(true)),
        }
    }

    /// The end of a reply that failed on its way.
    pub(super) fn error(self, problem: &Problem) -> Bytes {
        match self {
            Self::Events => sse::event("error", None, &problem.to_json()),
            Self::Lines => format!("{{\"error\":{}}}\n", problem.to_json()).into(),
        }
    }

    /// A sign of life.
    pub(super) const fn keep_alive(self) -> Bytes {
        match self {
            Self::Events => sse::COMMENT,
            Self::Lines => Bytes::from_static(b"\n"),
        }
    }
}

fn line(value: &impl Serialize) -> Bytes {
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line.into()
}

/// A chunk as a line: `{"sequence":0,"datacontenttype":"…","data":…}`, or `data_base64`.
struct Line<'a> {
    chunk: &'a Chunk,
    datacontenttype: &'a str,
}

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("sequence", &self.chunk.sequence)?;
        if !self.datacontenttype.is_empty() {
            map.serialize_entry("datacontenttype", self.datacontenttype)?;
        }
        // A widget that names no type mostly streams text; what is not even UTF-8 is still base64.
        let form = if self.datacontenttype.is_empty() { "text/plain" } else { self.datacontenttype };
        Data::of(form, &self.chunk.data).write(&mut map)?;
        map.end()
    }
}
