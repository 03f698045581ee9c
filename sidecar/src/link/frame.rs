//! The frames of a link: `u32 length · u8 kind · u64 stream · body`, big-endian, the body a message of `link.proto`.
//!
//! Decoding is total: whatever the bytes are, it gives a frame, asks for more, or names what is wrong.

use bytes::{Buf, BufMut, BytesMut};
use kontrol_proto::{Message, v1};

/// The longest frame that is read or written, its header included: the largest message that a door takes, with room for its envelope.
pub const MAX_FRAME: usize = kontrol_core::limits::FRAME;

/// Bytes of kind and stream, which the length counts.
const HEAD: usize = 9;

/// Why bytes are no frame. Each of them ends the connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than [`MAX_FRAME`].
    #[error("a frame of {0} bytes is over the limit of {MAX_FRAME}")]
    TooLong(usize),
    /// Too short to have a kind and a stream.
    #[error("a frame of {0} bytes has no room for its kind and its stream")]
    TooShort(usize),
    /// No kind that this version knows.
    #[error("no frame has the kind {0}")]
    Kind(u8),
    /// The body is not the message that its kind says.
    #[error("the body of a frame of kind {kind} cannot be read: {reason}")]
    Body {
        /// The frame's kind.
        kind: u8,
        /// What the decoder says.
        reason: String,
    },
}

macro_rules! frames {
    ($($kind:literal $name:ident $body:ident;)*) => {
        /// A frame's body, by its kind. The messages are documented in `link.proto`.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs)]
        pub enum Frame { $($name(v1::$body),)* }

        impl Frame {
            /// The kind's number on the wire.
            pub fn kind(&self) -> u8 {
                match self { $(Self::$name(_) => $kind,)* }
            }

            fn body_len(&self) -> usize {
                match self { $(Self::$name(body) => body.encoded_len(),)* }
            }

            fn put_body(&self, out: &mut BytesMut) {
                match self { $(Self::$name(body) => body.encode_raw(out),)* }
            }

            fn read(kind: u8, body: bytes::Bytes) -> Result<Self, FrameError> {
                match kind {
                    $($kind => v1::$body::decode(body).map(Self::$name).map_err(|error| FrameError::Body {
                        kind,
                        reason: error.to_string(),
                    }),)*
                    _ => Err(FrameError::Kind(kind)),
                }
            }
        }
    };
}

frames! {
    1 Hello LinkHello;
    2 GoAway LinkGoAway;
    3 Ping LinkPing;
    4 Pong LinkPing;
    5 Failure LinkFailure;
    6 Credit LinkCredit;
    7 Cancel LinkCancel;
    16 Call LinkCall;
    17 Chunk LinkChunk;
    32 Publish LinkPublish;
    33 Published LinkPublished;
    34 Subscribe LinkSubscribe;
    35 Subscribed LinkSubscribed;
    36 Deliver LinkDeliver;
    37 Settle LinkSettle;
    38 Settled LinkSettled;
    39 Refused LinkRefused;
}

/// Whether a frame can be written, with the length that it then says. Refused where it would be longer than [`MAX_FRAME`].
pub fn check(frame: &Frame) -> Result<u32, FrameError> {
    let length = HEAD + frame.body_len();
    if length + 4 > MAX_FRAME {
        return Err(FrameError::TooLong(length));
    }
    u32::try_from(length).map_err(|_| FrameError::TooLong(length))
}

/// Appends a frame to `out`. Refused as [`check`] does; `out` is then as it was.
pub fn encode(stream: u64, frame: &Frame, out: &mut BytesMut) -> Result<(), FrameError> {
    let length = check(frame)?;
    out.reserve(length as usize + 4);
    out.put_u32(length);
    out.put_u8(frame.kind());
    out.put_u64(stream);
    frame.put_body(out);
    Ok(())
}

/// Takes the next frame off `input`, with its stream; none: more bytes are needed.
pub fn decode(input: &mut BytesMut) -> Result<Option<(u64, Frame)>, FrameError> {
    let Some(length) = input.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes) as usize) else {
        return Ok(None);
    };
    if length + 4 > MAX_FRAME {
        return Err(FrameError::TooLong(length));
    }
    if length < HEAD {
        return Err(FrameError::TooShort(length));
    }
    if input.len() < length + 4 {
        input.reserve(length + 4 - input.len());
        return Ok(None);
    }
    let mut frame = input.split_to(length + 4).freeze();
    frame.advance(4);
    let kind = frame.get_u8();
    let stream = frame.get_u64();
    Frame::read(kind, frame).map(|frame| Some((stream, frame)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chunk(data: Vec<u8>, sequence: u64) -> Frame {
        Frame::Chunk(v1::LinkChunk {
            sequence,
            r#final: true,
            datacontenttype: "text/plain".into(),
            data: data.into(),
        })
    }

    #[test]
    fn an_unknown_kind_is_named() {
        let mut input = BytesMut::from(&[0, 0, 0, 9, 99, 0, 0, 0, 0, 0, 0, 0, 1][..]);
        assert_eq!(decode(&mut input), Err(FrameError::Kind(99)));
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_its_bytes_are_awaited() {
        let mut input = BytesMut::from(&[0xff, 0xff, 0xff, 0xff][..]);
        assert_eq!(decode(&mut input), Err(FrameError::TooLong(0xffff_ffff)));
        let mut out = BytesMut::new();
        let frame = chunk(vec![0; MAX_FRAME], 0);
        assert!(matches!(encode(1, &frame, &mut out), Err(FrameError::TooLong(_))));
        assert!(out.is_empty());
    }

    #[test]
    fn a_length_without_room_for_the_head_is_refused() {
        let mut input = BytesMut::from(&[0, 0, 0, 8, 1, 0, 0, 0, 0, 0, 0, 0][..]);
        assert_eq!(decode(&mut input), Err(FrameError::TooShort(8)));
    }

    proptest! {
        #[test]
        fn frames_read_back_however_the_bytes_are_cut(
            data in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..300), any::<u64>()), 1..20),
            cut in 1_usize..50,
        ) {
            let mut wire = BytesMut::new();
            let frames: Vec<_> = data.into_iter().map(|(bytes, stream)| (stream, chunk(bytes, stream))).collect();
            for (stream, frame) in &frames {
                encode(*stream, frame, &mut wire).unwrap();
            }
            let mut input = BytesMut::new();
            let mut read = Vec::new();
            for part in wire.chunks(cut) {
                input.extend_from_slice(part);
                while let Some(frame) = decode(&mut input).unwrap() {
                    read.push(frame);
                }
            }
            prop_assert_eq!(read, frames);
        }

        #[test]
        fn any_bytes_are_a_frame_or_wait_or_are_named(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut input = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = decode(&mut input) {}
        }

        #[test]
        fn any_body_of_any_kind_is_a_frame_or_is_named(kind in any::<u8>(), body in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut input = BytesMut::new();
            input.put_u32(u32::try_from(body.len() + 9).unwrap());
            input.put_u8(kind);
            input.put_u64(7);
            input.extend_from_slice(&body);
            if let Ok(frame) = decode(&mut input) {
                prop_assert!(frame.is_some());
            }
        }
    }
}
