//! `POST /v1/call/{target}/{method}`.

use std::collections::HashMap;

use axum::{
    body::Body,
    extract::State,
    http::{
        HeaderMap, HeaderValue,
        header::{CONTENT_TYPE, HeaderName},
    },
    response::Response,
};
use bytes::Bytes;
use futures::stream;
use kontrol_core::code::Code;
use tokio::time::timeout;

use super::{
    Door, KEEP_ALIVE, Problem, body,
    reply::Form,
    request::{self, Accept, Segments},
    sse,
};
use crate::service::{Call, Chunk, Error, ReplyStream};

/// Who answered.
const ANSWERED_BY: HeaderName = HeaderName::from_static("kontrol-answered-by");

pub(super) async fn call(
    State(door): State<Door>,
    Segments((target, method)): Segments<(String, String)>,
    accept: Accept,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let deadline = request::deadline(&headers)?;
    let data = body::read(body, Code::RequestTooLarge).await?;
    let form = Form::of(&accept);
    let call = Call {
        target,
        method,
        headers: carried(&headers),
        datacontenttype: content_type(&headers)?,
        data,
        deadline,
        streamed: form.is_some(),
    };
    let mut reply = door.service.call(call).await?;
    let answered_by = HeaderValue::from_str(reply.answered_by());
    let mut response = match form {
        Some(form) => sse::response(form.media_type(), chunks(reply, form)),
        None => single(&mut reply).await?,
    };
    if let Ok(answered_by) = answered_by {
        response.headers_mut().insert(ANSWERED_BY, answered_by);
    }
    Ok(response)
}

/// The headers that travel with a call: trace context, and everything that begins with `x-`.
fn carried(headers: &HeaderMap) -> HashMap<String, String> {
    headers
        .iter()
        .filter(|(name, _)| {
            let name = name.as_str();
            matches!(name, "traceparent" | "tracestate" | "baggage") || name.starts_with("x-")
        })
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
        .collect()
}

fn content_type(headers: &HeaderMap) -> Result<String, Problem> {
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(String::new()) };
    let text = value.to_str().map(str::to_owned);
    text.map_err(|_| request::invalid("Content-Type", "Content-Type is not printable ASCII".to_owned()))
}

async fn single(reply: &mut ReplyStream) -> Result<Response, Problem> {
    let Some(chunk) = reply.next().await else {
        return Err(Error::new(Code::InvalidReply, "", "the reply has no chunk").into());
    };
    let Chunk { datacontenttype, data, .. } = chunk?;
    let mut response = Response::new(Body::from(data));
    let content_type = if datacontenttype.is_empty() { "application/octet-stream" } else { &datacontenttype };
    let content_type = HeaderValue::from_str(content_type).map_err(|_| {
        let message = "the reply's content type is one that no header can carry";
        Problem::from(Error::new(Code::InvalidReply, "", message))
    })?;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    Ok(response)
}

/// A streamed reply on its way to the client.
struct Streaming {
    reply: ReplyStream,
    form: Form,
    datacontenttype: String,
    chunks: u64,
    over: bool,
}

fn chunks(reply: ReplyStream, form: Form) -> impl futures::Stream<Item = Bytes> + Send {
    let streaming = Streaming { reply, form, datacontenttype: String::new(), chunks: 0, over: false };
    stream::unfold(streaming, |mut streaming| async move {
        let bytes = streaming.next().await?;
        Some((bytes, streaming))
    })
}

impl Streaming {
    async fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        let Ok(next) = timeout(KEEP_ALIVE, self.reply.next()).await else {
            return Some(self.form.keep_alive());
        };
        Some(match next {
            None => self.end(),
            Some(Err(error)) => {
                self.over = true;
                self.form.error(&error.into())
            }
            Some(Ok(chunk)) => self.chunk(&chunk),
        })
    }

    fn end(&mut self) -> Bytes {
        self.over = true;
        self.form.end(self.chunks, self.reply.answered_by())
    }

    fn chunk(&mut self, chunk: &Chunk) -> Bytes {
        // A last chunk without data only says that the reply is whole.
        if chunk.last && chunk.data.is_empty() && chunk.sequence > 0 {
            return self.end();
        }
        if !chunk.datacontenttype.is_empty() {
            self.datacontenttype.clone_from(&chunk.datacontenttype);
        }
        self.chunks += 1;
        let bytes = self.form.chunk(chunk, &self.datacontenttype);
        if chunk.last { [bytes, self.end()].concat().into() } else { bytes }
    }
}
