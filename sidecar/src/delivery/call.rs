//! One call, posted; the response streamed back as chunks.

use http::{
    HeaderMap, HeaderName, HeaderValue, Response,
    header::{ACCEPT, CONTENT_TYPE},
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming as Body;
use kontrol_core::code::Code;
use tokio::time::timeout_at;

use super::{
    Failed, HttpEndpoint, MAX_REPLY, causes,
    framing::{Framing, Piece},
    post, printable, put, reason, verdict,
};
use crate::{
    clock,
    service::{Chunk, Error, Incoming, Replies, Request, Status},
};

pub(super) async fn call(to: &HttpEndpoint, address: &str, path: &str, incoming: Incoming) {
    let Incoming { request, mut replies } = incoming;
    let (cancelled, deadline) = (replies.cancelled().clone(), request.deadline);
    let method = request.method.clone();
    // Whatever ends first, the others are dropped, and with them the request on its way.
    let result = tokio::select! {
        result = timeout_at(deadline, answer(to, address, path, request, &mut replies)) => result.unwrap_or_else(|_| {
            let message = format!("the widget did not answer {method} before the deadline");
            Err(Error::new(Code::DeadlineExceeded, method.as_str(), message))
        }),
        () = cancelled.cancelled() => Ok(()),
    };
    if let Err(error) = result {
        replies.fail(&error);
    }
}

async fn answer(
    to: &HttpEndpoint,
    address: &str,
    path: &str,
    request: Request,
    replies: &mut Replies,
) -> Result<(), Error> {
    let (method, streamed) = (request.method.clone(), request.streamed);
    let headers = headers(&request);
    let post = post(address, path, headers, request.data).map_err(|error| {
        let message = format!("http://{address}{path} cannot be posted to: {error}");
        Error::new(Code::EndpointUnreachable, method.as_str(), message)
    })?;
    let response = to.send(post).await.map_err(|failed| {
        let code = match failed {
            Failed::NotListening(_) => Code::EndpointUnreachable,
            Failed::Broken(_) => Code::ReplyBroken,
        };
        Error::new(code, method.as_str(), failed.to_string())
    })?;
    if let Some(status) = verdict::of_call(response.status()) {
        return Err(refused(status, &method, path, response).await);
    }
    let content_type =
        response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
    match Framing::of(&content_type) {
        Some(framing) => stream(framing, response.into_body(), streamed, &method, replies).await,
        None => whole(content_type, response.into_body(), &method, replies).await,
    }
}

/// The headers of the call that are headers of HTTP too, and what the widget must know of it.
fn headers(request: &Request) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in &request.headers {
        let reserved = ["kontrol-", "ce-", "content-", "transfer-", "proxy-"];
        let name = name.to_ascii_lowercase();
        let hop = matches!(
            name.as_str(),
            "host" | "connection" | "upgrade" | "te" | "trailer" | "keep-alive" | "expect"
        );
        if hop || reserved.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        if let Ok(name) = HeaderName::try_from(name) {
            headers.insert(name, printable(value));
        }
    }
    let content_type = if request.datacontenttype.is_empty() {
        HeaderValue::from_static("application/octet-stream")
    } else {
        printable(&request.datacontenttype)
    };
    headers.insert(CONTENT_TYPE, content_type);
    let accept = if request.streamed { "text/event-stream, application/x-ndjson, */*;q=0.9" } else { "*/*" };
    headers.insert(ACCEPT, HeaderValue::from_static(accept));
    put(&mut headers, "kontrol-method", &request.method);
    put(&mut headers, "kontrol-caller", &request.caller);
    let left = request.deadline.saturating_duration_since(clock::now()).as_millis();
    headers.insert("kontrol-deadline-ms", u64::try_from(left).unwrap_or(u64::MAX).into());
    headers
}

async fn refused(status: Status, method: &str, path: &str, response: Response<Body>) -> Error {
    let code = response.status();
    let retry_after = verdict::retry_after(response.headers(), clock::unix_micros());
    let said = reason(response.into_body()).await;
    let said = if said.is_empty() { String::new() } else { format!(": {said}") };
    let error =
        Error::of_widget(status, method, format!("the widget answered POST {path} with {code}{said}"));
    Error { retry_after, ..error }
}

/// A body that is one reply.
async fn whole(content_type: String, body: Body, method: &str, replies: &mut Replies) -> Result<(), Error> {
    let collected = Limited::new(body, MAX_REPLY).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            let message = format!(
                "the reply of {method} is over the limit of {MAX_REPLY} bytes; let the widget stream it"
            );
            return Error::new(Code::RequestTooLarge, method, message);
        }
        Error::new(Code::ReplyBroken, method, format!("the reply of {method} broke off: {error}"))
    })?;
    let data = collected.to_bytes();
    gone(replies.send(Chunk { sequence: 0, last: true, datacontenttype: content_type, data }).await)
}

/// A body that is many chunks; whoever does not read a stream gets the first one. Reads no faster than the caller takes.
async fn stream(
    mut framing: Framing,
    mut body: Body,
    streamed: bool,
    method: &str,
    replies: &mut Replies,
) -> Result<(), Error> {
    let chunk_type = framing.chunk_type();
    let mut sent = 0_u64;
    loop {
        let (pieces, ended) = match body.frame().await {
            None => (framing.finish(), true),
            Some(Ok(frame)) => {
                let Ok(bytes) = frame.into_data() else { continue };
                let pieces = framing.push(&bytes);
                (pieces.map_err(|error| Error::new(Code::RequestTooLarge, method, error.to_string()))?, false)
            }
            Some(Err(error)) => {
                let message =
                    format!("the reply of {method} broke off after {sent} chunks: {}", causes(&error));
                return Err(Error::new(Code::ReplyBroken, method, message));
            }
        };
        for piece in pieces {
            match piece {
                Piece::Chunk(data) => {
                    let datacontenttype = if sent == 0 { chunk_type.to_owned() } else { String::new() };
                    let chunk = Chunk { sequence: sent, last: !streamed, datacontenttype, data };
                    let result = replies.send(chunk).await;
                    if result.is_err() || !streamed {
                        return gone(result);
                    }
                    sent += 1;
                }
                Piece::End => return gone(replies.send(Chunk { last: true, ..Chunk::default() }).await),
                Piece::Failed(word) => return Err(Error::of_widget(Status::Internal, method, word)),
            }
        }
        if ended {
            return gone(replies.send(Chunk { last: true, ..Chunk::default() }).await);
        }
    }
}

/// A caller that has gone needs no answer.
fn gone(sent: Result<(), Error>) -> Result<(), Error> {
    match sent {
        Err(error) if error.code == Code::Cancelled => Ok(()),
        sent => sent,
    }
}
