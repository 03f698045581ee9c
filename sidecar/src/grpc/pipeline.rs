//! A stream of publishes: many are on their way at once, and each is answered when it is durable.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures::{FutureExt, Stream, future::BoxFuture, stream::FuturesUnordered};
use kontrol_core::limits;
use kontrol_proto::{
    Message,
    v1::{self, publish_stream_response as out},
};
use tonic::Status;

use crate::service::{Error, Published};

/// Publishes of one stream that are on their way at once; beyond, the stream is not read.
const PUBLISHES: usize = 1024;
/// Bytes of them; the last one that is read may be over it.
const BYTES: usize = 2 * limits::MESSAGE;

type Publish = dyn Fn(v1::PublishRequest) -> BoxFuture<'static, Result<Published, Error>> + Send;

/// The answers of a publish stream: it reads requests while it has room and gives answers as they come.
pub(super) struct Pipeline<R> {
    requests: R,
    publish: Box<Publish>,
    ended: bool,
    /// Why the requests ended; told when everything is answered.
    failure: Option<Status>,
    bytes: usize,
    /// Each with its bytes.
    on_their_way: FuturesUnordered<BoxFuture<'static, (usize, v1::PublishStreamResponse)>>,
}

impl<R> Pipeline<R> {
    /// The answers to `requests`, which `publish` stores.
    pub(super) fn new(
        requests: R,
        publish: impl Fn(v1::PublishRequest) -> BoxFuture<'static, Result<Published, Error>> + Send + 'static,
    ) -> Self {
        let on_their_way = FuturesUnordered::new();
        Self { requests, publish: Box::new(publish), ended: false, failure: None, bytes: 0, on_their_way }
    }

    fn has_room(&self) -> bool {
        self.on_their_way.len() < PUBLISHES && self.bytes < BYTES
    }

    fn start(&mut self, request: v1::PublishStreamRequest) {
        let bytes = request.encoded_len();
        let v1::PublishStreamRequest { tag, publish } = request;
        let answer = (self.publish)(publish.unwrap_or_default()).map(move |result| {
            let outcome = match result {
                Ok(published) => out::Outcome::Published(published.into()),
                Err(error) => out::Outcome::Error(v1::PublishError {
                    status: error.status.number(),
                    problem: Some(error.problem()),
                }),
            };
            (bytes, v1::PublishStreamResponse { tag, outcome: Some(outcome) })
        });
        self.bytes += bytes;
        self.on_their_way.push(answer.boxed());
    }
}

impl<R> Stream for Pipeline<R>
where
    R: Stream<Item = Result<v1::PublishStreamRequest, Status>> + Unpin,
{
    type Item = Result<v1::PublishStreamResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        while !self.ended && self.has_room() {
            match Pin::new(&mut self.requests).poll_next(cx) {
                Poll::Ready(Some(Ok(request))) => self.start(request),
                Poll::Ready(Some(Err(status))) => {
                    (self.ended, self.failure) = (true, Some(status));
                }
                Poll::Ready(None) => self.ended = true,
                Poll::Pending => break,
            }
        }
        match Pin::new(&mut self.on_their_way).poll_next(cx) {
            Poll::Ready(Some((bytes, answer))) => {
                self.bytes -= bytes;
                Poll::Ready(Some(Ok(answer)))
            }
            Poll::Ready(None) if self.ended => Poll::Ready(self.failure.take().map(Err)),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use futures::{StreamExt, stream};
    use tokio::sync::Semaphore;

    use super::*;

    /// A pipeline of many publishes of this size that end as `release` has permits; and how many have begun.
    fn pipeline(
        size: usize,
    ) -> (impl Stream<Item = Result<v1::PublishStreamResponse, Status>>, Arc<AtomicUsize>, Arc<Semaphore>)
    {
        let requests = stream::iter(0..10_000).map(move |tag| {
            let event = v1::Event { data: vec![0; size].into(), ..Default::default() };
            let publish = v1::PublishRequest { topic: "t".into(), event: Some(event) };
            Ok(v1::PublishStreamRequest { tag, publish: Some(publish) })
        });
        let (begun, release) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let (count, permits) = (Arc::clone(&begun), Arc::clone(&release));
        let publish = move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            let permits = Arc::clone(&permits);
            async move {
                permits.acquire().await.unwrap().forget();
                Ok(Published::default())
            }
            .boxed()
        };
        (Pipeline::new(requests, publish), begun, release)
    }

    #[test]
    fn what_is_on_its_way_is_bounded_in_number_and_in_bytes() {
        for (size, most) in [(10, PUBLISHES), (1 << 20, 8), (3 << 20, 3), (100 << 20, 1)] {
            let (mut answers, begun, release) = pipeline(size);
            assert!(answers.next().now_or_never().is_none());
            assert_eq!(begun.load(Ordering::Relaxed), most, "of {size} bytes");
            release.add_permits(1);
            assert!(answers.next().now_or_never().is_some());
            assert!(answers.next().now_or_never().is_none());
            assert_eq!(begun.load(Ordering::Relaxed), most + 1, "of {size} bytes");
        }
    }

    #[test]
    fn a_request_that_cannot_be_read_ends_the_stream_after_the_answers_of_those_before_it() {
        let good = |tag| Ok(v1::PublishStreamRequest { tag, ..Default::default() });
        let requests = stream::iter([good(0), good(1), Err(Status::invalid_argument("no request")), good(2)]);
        let (stored, answer) = futures::channel::oneshot::channel::<()>();
        let stored_once = answer.shared();
        let publish = move |_| stored_once.clone().map(|_| Ok(Published::default())).boxed();
        let mut answers = Pipeline::new(requests, publish);
        assert!(answers.next().now_or_never().is_none(), "nothing is stored yet");
        stored.send(()).unwrap();
        let mut answers = answers.collect::<Vec<_>>().now_or_never().unwrap();
        let failure = answers.pop().unwrap().unwrap_err();
        assert_eq!(failure.code(), tonic::Code::InvalidArgument);
        let mut tags: Vec<_> = answers.into_iter().map(|answer| answer.unwrap().tag).collect();
        tags.sort_unstable();
        assert_eq!(tags, [0, 1]);
    }
}
