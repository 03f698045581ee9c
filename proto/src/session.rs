//! The frames of a control session, as `control.proto` describes them: `u32 length · message`, big-endian.
//!
//! Nothing is kept ready between two messages: an operator has thousands of sessions, and most of the time they say nothing.

use std::io;

use prost::Message;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::v1::{HubConfig, SidecarConfig, session_response};

/// What both sides agree upon by ALPN (RFC 7301) before they speak it.
pub const ALPN: &[u8] = b"kontrol-session/1";

/// The longest response, in bytes: the configuration of a sidecar or of a hub.
pub const RESPONSE: usize = 4 << 20;

/// Bytes of the length.
const LENGTH: usize = 4;

/// All that a sidecar, or a hub, needs; replaces what it had.
#[derive(Clone, Debug, PartialEq)]
pub enum Configuration {
    /// Of a sidecar.
    Sidecar(Box<SidecarConfig>),
    /// Of a hub.
    Hub(HubConfig),
}

impl Configuration {
    /// The same with this version.
    #[must_use]
    pub fn with_version(mut self, version: u64) -> Self {
        match &mut self {
            Self::Sidecar(config) => config.version = version,
            Self::Hub(config) => config.version = version,
        }
        self
    }
}

impl From<Configuration> for session_response::Message {
    fn from(configuration: Configuration) -> Self {
        match configuration {
            Configuration::Sidecar(config) => Self::Sidecar(*config),
            Configuration::Hub(config) => Self::Hub(config),
        }
    }
}

/// Why there is no next message. Each of them ends the session.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection failed, or ended in the middle of a message.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// Longer than the reader takes. Nothing of it was read.
    #[error("a message of {length} bytes is over the limit of {most}")]
    TooLong {
        /// What it says.
        length: usize,
        /// What the reader takes.
        most: usize,
    },
    /// Not the message that it should be.
    #[error("a message cannot be read: {0}")]
    Malformed(#[from] prost::DecodeError),
}

/// Reads the next message of at most `most` bytes. None: the other side is done. A read that is given up in the middle loses its place.
pub async fn read<M: Message + Default>(
    from: &mut (impl AsyncRead + Unpin),
    most: usize,
) -> Result<Option<M>, Error> {
    let mut length = [0; LENGTH];
    if from.read(&mut length[..1]).await? == 0 {
        return Ok(None);
    }
    from.read_exact(&mut length[1..]).await?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > most {
        return Err(Error::TooLong { length, most });
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body).await?;
    Ok(Some(M::decode(body.as_slice())?))
}

/// A message of at most `most` bytes as it is written: who holds this need not hold the message while it is on its way.
pub fn frame(message: &impl Message, most: usize) -> Result<Vec<u8>, Error> {
    let length = message.encoded_len();
    let said = u32::try_from(length).ok().filter(|_| length <= most);
    let said = said.ok_or(Error::TooLong { length, most })?;
    let mut frame = Vec::with_capacity(LENGTH + length);
    frame.extend(said.to_be_bytes());
    message.encode_raw(&mut frame);
    Ok(frame)
}

/// Writes a [`frame`], as one piece. A write that is given up in the middle loses its place.
pub async fn write_frame(into: &mut (impl AsyncWrite + Unpin), frame: Vec<u8>) -> io::Result<()> {
    into.write_all(&frame).await?;
    into.flush().await
}

/// Writes a message of at most `most` bytes. A write that is given up in the middle loses its place.
pub async fn write(
    into: &mut (impl AsyncWrite + Unpin),
    message: &impl Message,
    most: usize,
) -> Result<(), Error> {
    Ok(write_frame(into, frame(message, most)?).await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{Hello, SessionRequest, session_request};

    fn hello(subject: &str) -> SessionRequest {
        let hello = Hello { subject: subject.to_owned(), ..Hello::default() };
        SessionRequest { message: Some(session_request::Message::Hello(hello)) }
    }

    async fn written(messages: &[SessionRequest]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for message in messages {
            write(&mut bytes, message, 1000).await.unwrap();
        }
        bytes
    }

    #[tokio::test]
    async fn messages_are_read_as_they_were_written_until_the_end() {
        let messages = [hello("default/rag/llm/0"), SessionRequest::default(), hello("hub")];
        let bytes = written(&messages).await;
        let mut from = bytes.as_slice();
        for message in &messages {
            assert_eq!(read(&mut from, 1000).await.unwrap().as_ref(), Some(message));
        }
        assert_eq!(read::<SessionRequest>(&mut from, 1000).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_message_that_ends_in_the_middle_is_none() {
        let bytes = written(&[hello("hub")]).await;
        for end in 1..bytes.len() {
            let error = read::<SessionRequest>(&mut &bytes[..end], 1000).await.unwrap_err();
            assert!(matches!(&error, Error::Io(io) if io.kind() == io::ErrorKind::UnexpectedEof), "{error}");
        }
    }

    #[tokio::test]
    async fn a_message_over_the_limit_is_neither_read_nor_written() {
        let message = hello(&"x".repeat(100));
        let length = message.encoded_len();
        let mut bytes = written(std::slice::from_ref(&message)).await;
        assert!(read::<SessionRequest>(&mut bytes.as_slice(), length).await.is_ok());
        let unread = read::<SessionRequest>(&mut bytes.as_slice(), length - 1).await.unwrap_err();
        assert!(unread.to_string().contains(&format!("over the limit of {}", length - 1)), "{unread}");
        bytes.clear();
        write(&mut bytes, &message, length - 1).await.unwrap_err();
        assert!(bytes.is_empty());
    }

    #[tokio::test]
    async fn what_is_no_message_is_malformed() {
        let error = read::<SessionRequest>(&mut [0, 0, 0, 2, 0xff, 0xff].as_slice(), 1000).await.unwrap_err();
        assert!(matches!(error, Error::Malformed(_)), "{error}");
    }
}
