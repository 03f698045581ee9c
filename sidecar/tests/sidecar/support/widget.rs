//! A widget as its sidecar's gRPC door sees it: it subscribes, and it answers calls.

use std::collections::VecDeque;

use kontrol_proto::v1::{
    self, calls_client::CallsClient, serve_request as answer, serve_response as served,
    subscribe_request as ask, subscribe_response as tell, topics_client::TopicsClient,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Streaming;

use super::{Process, soon};

/// A subscription of a test.
pub(crate) struct Reader {
    requests: mpsc::UnboundedSender<v1::SubscribeRequest>,
    pub(crate) responses: Streaming<v1::SubscribeResponse>,
    /// Deliveries that came while a settlement was awaited.
    early: VecDeque<v1::Delivery>,
}

impl Reader {
    pub(crate) async fn open(sidecar: &Process, topic: &str, credits: u32) -> Self {
        let mut client = TopicsClient::new(sidecar.channel().await);
        let (requests, outgoing) = mpsc::unbounded_channel();
        let responses = client.subscribe(UnboundedReceiverStream::new(outgoing)).await.unwrap().into_inner();
        let mut reader = Self { requests, responses, early: VecDeque::new() };
        reader.say(ask::Action::Open(ask::Open {
            topic: topic.into(),
            subscription: String::new(),
            credits,
        }));
        assert!(matches!(reader.event().await, tell::Event::Opened(_)));
        reader
    }

    pub(crate) fn say(&self, action: ask::Action) {
        self.requests.send(v1::SubscribeRequest { action: Some(action) }).unwrap();
    }

    pub(crate) async fn event(&mut self) -> tell::Event {
        let message = soon("an event", self.responses.message()).await.unwrap().unwrap();
        message.event.unwrap()
    }

    pub(crate) async fn delivery(&mut self) -> v1::Delivery {
        if let Some(early) = self.early.pop_front() {
            return early;
        }
        match self.event().await {
            tell::Event::Delivery(delivery) => delivery,
            other => panic!("expected a delivery, got {other:?}"),
        }
    }

    pub(crate) async fn ack(&mut self, delivery: u64) {
        self.say(ask::Action::Ack(ask::Ack { delivery, confirm: true }));
        loop {
            match self.event().await {
                tell::Event::Delivery(early) => self.early.push_back(early),
                settled => {
                    assert_eq!(settled, tell::Event::Settled(tell::Settled { delivery }));
                    return;
                }
            }
        }
    }
}

/// The text of a delivery.
pub(crate) fn text(delivery: &v1::Delivery) -> String {
    String::from_utf8(delivery.event.as_ref().unwrap().data.to_vec()).unwrap()
}

/// A widget that answers calls.
pub(crate) struct Answering {
    requests: mpsc::UnboundedSender<v1::ServeRequest>,
    pub(crate) responses: Streaming<v1::ServeResponse>,
}

impl Answering {
    pub(crate) async fn open(sidecar: &Process, concurrency: u32) -> Self {
        let mut client = CallsClient::new(sidecar.channel().await);
        let (requests, outgoing) = mpsc::unbounded_channel();
        let responses = client.serve(UnboundedReceiverStream::new(outgoing)).await.unwrap().into_inner();
        let mut answering = Self { requests, responses };
        answering.say(answer::Action::Open(answer::Open { concurrency }));
        assert!(matches!(answering.event().await, served::Event::Opened(_)));
        answering
    }

    pub(crate) fn say(&self, action: answer::Action) {
        self.requests.send(v1::ServeRequest { action: Some(action) }).unwrap();
    }

    pub(crate) async fn event(&mut self) -> served::Event {
        let response = soon("an event", self.responses.message()).await.unwrap().unwrap();
        response.event.unwrap()
    }

    pub(crate) async fn request(&mut self) -> served::Request {
        match self.event().await {
            served::Event::Request(request) => request,
            other => panic!("expected a request, got {other:?}"),
        }
    }

    pub(crate) fn chunk(&self, call: u64, text: &str, last: bool) {
        let data = text.to_owned().into();
        let datacontenttype = "text/plain".into();
        self.say(answer::Action::Chunk(answer::Chunk { call, r#final: last, datacontenttype, data }));
    }
}
