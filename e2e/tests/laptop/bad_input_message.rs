//! Messages and calls that a manifest does not allow, at the doors of a whole world.

use kontrol_e2e::world::{Manifest, World};
use kontrol_proto::{
    Bytes,
    v1::{
        CallRequest, Event, PublishRequest, SubscribeRequest,
        calls_client::CallsClient,
        subscribe_request::{Action, Open},
        topics_client::TopicsClient,
    },
};
use kontrol_sidecar::grpc::problem_of;
use tonic::{Code, Status};

fn event(topic: &str, size: usize) -> PublishRequest {
    PublishRequest {
        topic: topic.into(),
        event: Some(Event { data: Bytes::from(vec![b'x'; size]), ..Event::default() }),
    }
}

fn refused(status: &Status) -> (Code, String) {
    (status.code(), problem_of(status).unwrap().code)
}

#[tokio::test]
async fn what_the_manifest_does_not_allow_is_refused_with_its_code() {
    let manifest = Manifest::group("g", &[])
        .widget("sink", &[], &["consumes: [{topic: small}]", "serves: [{method: echo}]"])
        .unwrap()
        .widget("source", &[], &["produces: [{topic: small}]"])
        .unwrap()
        .topic("small", &["buffer: {limit: 3, overflow: RejectNew}", "maxMessageSize: 1Ki"])
        .topic("other", &[]);
    let world = World::up(&manifest).await.unwrap();
    let door = world.door("g", "source").await.unwrap();
    let mut topics = TopicsClient::new(door.clone());

    // Nobody takes them, so the fourth is one too many.
    for _ in 0..3 {
        topics.publish(event("small", 10)).await.unwrap();
    }
    let full = topics.publish(event("small", 10)).await.unwrap_err();
    assert_eq!(refused(&full), (Code::ResourceExhausted, "KTL3004".into()), "{full}");
    assert!(full.message().contains("g-sink"), "{full}");

    let large = topics.publish(event("small", 2 << 10)).await.unwrap_err();
    assert_eq!(refused(&large), (Code::ResourceExhausted, "KTL3003".into()), "{large}");
    let undeclared = topics.publish(event("other", 10)).await.unwrap_err();
    assert_eq!(refused(&undeclared).0, Code::PermissionDenied, "{undeclared}");

    let open = Open { topic: "small".into(), subscription: "nobody".into(), credits: 1 };
    let open = SubscribeRequest { action: Some(Action::Open(open)) };
    let mut sink = TopicsClient::new(world.door("g", "sink").await.unwrap());
    let mut events = sink.subscribe(tokio_stream::iter([open])).await.unwrap().into_inner();
    let unknown = events.message().await.unwrap_err();
    assert_eq!(refused(&unknown).0, Code::NotFound, "{unknown}");

    let call = CallRequest { target: "sink".into(), method: "echo".into(), ..CallRequest::default() };
    let stranger = CallsClient::new(door).call(call).await.unwrap_err();
    assert_eq!(refused(&stranger).1.get(..4), Some("KTL4"), "{stranger}");
}
