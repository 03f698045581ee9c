use proptest::prelude::*;

use super::super::{
    MAX_REPLY,
    framing::{Error, Framing, Piece},
};

fn cut(content_type: &str, parts: &[&[u8]]) -> Result<Vec<Piece>, Error> {
    let mut framing = Framing::of(content_type).unwrap();
    let mut pieces = Vec::new();
    for part in parts {
        pieces.extend(framing.push(part)?);
    }
    pieces.extend(framing.finish());
    Ok(pieces)
}

fn chunk(data: &'static str) -> Piece {
    Piece::Chunk(data.into())
}

#[test]
fn a_body_of_another_type_is_one_reply() {
    assert!(Framing::of("application/json").is_none());
    assert!(Framing::of("").is_none());
    assert!(Framing::of("Text/Event-Stream; charset=utf-8").is_some());
}

#[test]
fn each_event_with_data_is_a_chunk() {
    let body = b"\xef\xbb\xbf: hello\n\nevent: token\nid: 1\ndata: a\n\ndata:  b\ndata\ndata:c\r\n\r\nid: 3\n\ndata: unfinished";
    assert_eq!(cut("text/event-stream", &[body]), Ok(vec![chunk("a"), chunk(" b\n\nc")]));
}

#[test]
fn the_events_end_and_error_end_a_reply() {
    let body = b"data: a\n\nevent: end\ndata: {}\n\n";
    assert_eq!(cut("text/event-stream", &[body]), Ok(vec![chunk("a"), Piece::End]));
    let body = b"event: error\ndata: out of memory\n\n";
    assert_eq!(cut("text/event-stream", &[body]), Ok(vec![Piece::Failed("out of memory".to_owned())]));
}

#[test]
fn each_line_is_a_chunk_and_the_last_needs_no_break() {
    let body = b"{\"a\":1}\r\n\n2\n\"end\"";
    let expected = vec![chunk("{\"a\":1}"), chunk("2"), chunk("\"end\"")];
    assert_eq!(cut("application/x-ndjson", &[body]), Ok(expected));
}

#[test]
fn a_chunk_over_the_limit_is_refused_before_it_is_whole() {
    let part = vec![b'x'; MAX_REPLY / 2 + 1];
    assert_eq!(cut("application/x-ndjson", &[&part, &part]), Err(Error::TooLarge));
    assert_eq!(
        cut("text/event-stream", &[b"data: ", &part, b"\ndata: ", &part, b"\n"]),
        Err(Error::TooLarge)
    );
}

proptest! {
    #[test]
    fn where_the_body_is_torn_makes_no_difference(
        body in "(data: [a-z ]{0,5}\r?\n|\r?\n|event: [a-z]{1,5}\n|:[a-z]\n){0,20}",
        at in any::<prop::sample::Index>(),
        events in any::<bool>(),
    ) {
        let content_type = if events { "text/event-stream" } else { "application/x-ndjson" };
        let body = body.as_bytes();
        let (first, second) = body.split_at(at.index(body.len() + 1));
        prop_assert_eq!(cut(content_type, &[first, second]), cut(content_type, &[body]));
    }
}
