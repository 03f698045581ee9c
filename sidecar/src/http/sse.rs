//! Writing server-sent events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).

use axum::{
    body::Body,
    http::{HeaderValue, header},
    response::Response,
};
use bytes::Bytes;
use futures::{Stream, StreamExt};

/// The media type.
pub(super) const MEDIA_TYPE: &str = "text/event-stream";

/// A comment: it says that the stream lives, and readers skip it.
pub(super) const COMMENT: Bytes = Bytes::from_static(b":\n\n");

/// One event. Lines of the data become lines of the event, which readers put together again. The name and the data have no carriage return.
pub(super) fn event(name: &str, id: Option<u64>, data: &str) -> Bytes {
    let mut text = String::with_capacity(name.len() + data.len() + 40);
    text.push_str("event: ");
    text.push_str(name);
    if let Some(id) = id {
        text.push_str("\nid: ");
        text.push_str(&id.to_string());
    }
    for line in data.split('\n') {
        text.push_str("\ndata: ");
        text.push_str(line);
    }
    text.push_str("\n\n");
    text.into()
}

/// A response that streams.
pub(super) fn response(
    media_type: &'static str,
    stream: impl Stream<Item = Bytes> + Send + 'static,
) -> Response {
    let mut response = Response::new(Body::from_stream(stream.map(Ok::<_, std::convert::Infallible>)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
