//! Cutting the body of a streamed reply into chunks as it arrives. Pure.

use bytes::{Buf, Bytes, BytesMut};

use super::MAX_REPLY;

/// Why a body cannot be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    /// A chunk is over the limit.
    #[error("a chunk of the reply is over the limit of {MAX_REPLY} bytes")]
    TooLarge,
}

/// What a body holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// The data of a chunk.
    Chunk(Bytes),
    /// The reply is whole.
    End,
    /// The widget has failed, with its word for it.
    Failed(String),
}

/// The form of a reply, by its content type.
#[derive(Debug)]
pub(super) enum Framing {
    /// Server-sent events.
    Events(Events),
    /// Lines.
    Lines(Lines),
}

impl Framing {
    /// How a content type is cut; none: the body is one reply.
    pub(super) fn of(content_type: &str) -> Option<Self> {
        let media_type = content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
        match media_type.as_str() {
            "text/event-stream" => Some(Self::Events(Events::default())),
            "application/x-ndjson" | "application/jsonl" => Some(Self::Lines(Lines::default())),
            _ => None,
        }
    }

    /// The content type of the chunks.
    pub(super) const fn chunk_type(&self) -> &'static str {
        match self {
            Self::Events(_) => "text/plain; charset=utf-8",
            Self::Lines(_) => "application/json",
        }
    }

    /// Takes more of the body and gives what is complete.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Piece>, Error> {
        match self {
            Self::Events(events) => events.push(bytes),
            Self::Lines(lines) => {
                let lines = lines.push(bytes)?;
                Ok(lines.into_iter().filter(|line| !line.is_empty()).map(Piece::Chunk).collect())
            }
        }
    }

    /// The body has ended: a last line needs no line break. An event that is not complete is none.
    pub(super) fn finish(&mut self) -> Vec<Piece> {
        match self {
            Self::Events(_) => Vec::new(),
            Self::Lines(lines) => {
                lines.rest().filter(|line| !line.is_empty()).map(Piece::Chunk).into_iter().collect()
            }
        }
    }
}

/// Lines that end in LF or CRLF.
#[derive(Debug, Default)]
pub(super) struct Lines {
    buffer: BytesMut,
    /// Bytes of the buffer that are known to hold no line break.
    searched: usize,
}

impl Lines {
    fn push(&mut self, bytes: &[u8]) -> Result<Vec<Bytes>, Error> {
        self.buffer.extend_from_slice(bytes);
        let mut lines = Vec::new();
        while let Some(found) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
            let line = self.buffer.split_to(self.searched + found).freeze();
            self.buffer.advance(1);
            self.searched = 0;
            lines.push(without_return(line));
        }
        self.searched = self.buffer.len();
        if self.searched > MAX_REPLY || lines.iter().any(|line| line.len() > MAX_REPLY) {
            return Err(Error::TooLarge);
        }
        Ok(lines)
    }

    fn rest(&mut self) -> Option<Bytes> {
        self.searched = 0;
        let rest = self.buffer.split().freeze();
        (!rest.is_empty()).then(|| without_return(rest))
    }
}

fn without_return(mut line: Bytes) -> Bytes {
    if line.ends_with(b"\r") {
        line.truncate(line.len() - 1);
    }
    line
}

/// Server-sent events: each with data is a chunk, but one named `end` ends the reply and one named `error` fails it.
///
/// Lines end in LF or CRLF; the lone CR that the specification also allows is not taken for an end, since no writer uses it.
#[derive(Debug, Default)]
pub(super) struct Events {
    lines: Lines,
    name: Vec<u8>,
    data: Option<BytesMut>,
    begun: bool,
}

impl Events {
    fn push(&mut self, bytes: &[u8]) -> Result<Vec<Piece>, Error> {
        let mut pieces = Vec::new();
        for mut line in self.lines.push(bytes)? {
            if !std::mem::replace(&mut self.begun, true) && line.starts_with(b"\xef\xbb\xbf") {
                line.advance(3);
            }
            if line.is_empty() {
                pieces.extend(self.dispatch());
            } else {
                self.field(&line)?;
            }
        }
        Ok(pieces)
    }

    fn field(&mut self, line: &[u8]) -> Result<(), Error> {
        let colon = line.iter().position(|byte| *byte == b':');
        let (name, value) = colon.map_or((line, &[][..]), |at| (&line[..at], &line[at + 1..]));
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"event" => self.name = value.to_vec(),
            b"data" => {
                match &mut self.data {
                    None => self.data = Some(BytesMut::from(value)),
                    Some(data) => {
                        data.extend_from_slice(b"\n");
                        data.extend_from_slice(value);
                    }
                }
                if self.data.as_ref().is_some_and(|data| data.len() > MAX_REPLY) {
                    return Err(Error::TooLarge);
                }
            }
            // A comment, an id, a retry time, or a field of a later version.
            _ => {}
        }
        Ok(())
    }

    fn dispatch(&mut self) -> Option<Piece> {
        let (name, data) = (std::mem::take(&mut self.name), self.data.take());
        match name.as_slice() {
            b"end" => Some(Piece::End),
            b"error" => Some(Piece::Failed(String::from_utf8_lossy(&data.unwrap_or_default()).into_owned())),
            _ => data.map(|data| Piece::Chunk(data.freeze())),
        }
    }
}
