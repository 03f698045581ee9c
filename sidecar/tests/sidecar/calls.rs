//! Calls through the real binaries: door, sidecar, link, sidecar, Serve stream, and back.

use std::time::Duration;

use kontrol_proto::v1::{
    self, calls_client::CallsClient, serve_request as answer, serve_response as tell,
    session_response::Message,
};
use tonic::Code;

use crate::support::{self, Process, World, serve, soon, widget::Answering};

const CALLER: &str = "default/shop/front/0";
const CALLEE: &str = "default/shop/back/0";

fn callee() -> v1::SidecarConfig {
    v1::SidecarConfig {
        version: 1,
        incarnation: 1,
        serves: vec![serve("echo")],
        resilience: Some(support::resilience()),
        ..Default::default()
    }
}

fn caller(callee: &str) -> v1::SidecarConfig {
    let endpoint = v1::Endpoint { instance: CALLEE.into(), address: callee.to_owned(), ready: true };
    let target = |widget: &str, endpoints| v1::Target { widget: widget.to_owned(), endpoints };
    v1::SidecarConfig {
        version: 1,
        incarnation: 1,
        targets: vec![target("default/shop/back", vec![endpoint]), target("default/shop/empty", Vec::new())],
        resilience: Some(support::resilience()),
        ..Default::default()
    }
}

fn call(target: &str, method: &str, text: &str) -> v1::CallRequest {
    let headers = [("traceparent".to_owned(), "00-1-2-01".to_owned())].into();
    let (target, method, data) = (target.to_owned(), method.to_owned(), text.to_owned().into());
    v1::CallRequest { target, method, headers, datacontenttype: "text/plain".into(), data }
}

async fn start() -> (World, Process, Process) {
    let world = World::new().await;
    let back = world.sidecar(CALLEE, callee()).await;
    let front = world.sidecar(CALLER, caller(&back.hello.peer)).await;
    (world, front, back)
}

fn code(status: &tonic::Status) -> String {
    kontrol_sidecar::grpc::problem_of(status).map(|problem| problem.code).unwrap_or_default()
}

#[tokio::test]
async fn a_call_is_answered_by_the_target() {
    let (_world, front, back) = start().await;
    let mut widget = Answering::open(&back, 0).await;
    let mut client = CallsClient::new(front.channel().await);
    let answering = async {
        let request = widget.request().await;
        assert_eq!((request.method.as_str(), request.caller.as_str()), ("echo", "default/shop/front"));
        assert_eq!(request.headers["traceparent"], "00-1-2-01");
        assert!(!request.streamed && request.deadline_ms > 0 && request.deadline_ms <= 5_000);
        widget.chunk(request.call, "hello yourself", true);
    };
    let (reply, ()) = tokio::join!(client.call(call("back", "echo", "hello")), answering);
    let reply = reply.unwrap().into_inner();
    assert_eq!((&reply.data[..], reply.answered_by.as_str()), (&b"hello yourself"[..], CALLEE));
}

#[tokio::test]
async fn a_streamed_reply_comes_chunk_by_chunk_and_a_slow_reader_holds_up_no_other_call() {
    let (_world, front, back) = start().await;
    let mut widget = Answering::open(&back, 0).await;
    let mut client = CallsClient::new(front.channel().await);
    let mut other = client.clone();
    let opening = client.call_stream(call("back", "echo", "many"));
    let answering = async {
        let request = widget.request().await;
        assert!(request.streamed);
        for number in 0..500 {
            widget.chunk(request.call, &number.to_string(), number == 499);
        }
        let request = widget.request().await;
        widget.chunk(request.call, "quick", true);
    };
    let reading = async {
        let mut slow = opening.await.unwrap().into_inner();
        let quick = soon("the quick call", other.call(call("back", "echo", "quick"))).await.unwrap();
        assert_eq!(&quick.into_inner().data[..], b"quick");
        for number in 0..500 {
            let chunk = soon("a chunk", slow.message()).await.unwrap().unwrap();
            assert_eq!((chunk.sequence, &chunk.data[..]), (number, number.to_string().as_bytes()));
            assert_eq!(chunk.r#final, number == 499);
        }
        assert!(slow.message().await.unwrap().is_none());
    };
    tokio::join!(answering, reading);
}

#[tokio::test]
async fn a_cancel_reaches_the_widget() {
    let (_world, front, back) = start().await;
    let mut widget = Answering::open(&back, 0).await;
    let mut client = CallsClient::new(front.channel().await);
    let mut calling = Box::pin(client.call(call("back", "echo", "never mind")));
    let request = tokio::select! {
        _ = &mut calling => panic!("nobody answered"),
        request = widget.request() => request,
    };
    drop(calling);
    assert_eq!(widget.event().await, tell::Event::Cancelled(tell::Cancelled { call: request.call }));
}

#[tokio::test]
async fn a_call_ends_at_its_deadline_on_both_sides() {
    let (_world, front, back) = start().await;
    let mut widget = Answering::open(&back, 0).await;
    let mut client = CallsClient::new(front.channel().await);
    let mut request = tonic::Request::new(call("back", "echo", "hurry"));
    request.set_timeout(Duration::from_millis(200));
    let (reply, request) = tokio::join!(client.call(request), widget.request());
    let status = reply.unwrap_err();
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status:?}");
    assert!(request.deadline_ms <= 200);
    assert_eq!(widget.event().await, tell::Event::Cancelled(tell::Cancelled { call: request.call }));
}

#[tokio::test]
async fn what_cannot_be_called_is_said_at_once_and_with_its_code() {
    let (_world, front, back) = start().await;
    let mut client = CallsClient::new(front.channel().await);
    let cases = [
        ("stranger", "echo", Code::PermissionDenied, "KTL4001"),
        ("a/b/c/d", "echo", Code::InvalidArgument, "KTL4002"),
        ("empty", "echo", Code::Unavailable, "KTL4003"),
        ("back", "echo", Code::Unavailable, "KTL4003"),
        ("back", "unheard-of", Code::Unimplemented, "KTL4004"),
    ];
    for (target, method, status, name) in cases {
        let began = tokio::time::Instant::now();
        let error = client.call(call(target, method, "")).await.unwrap_err();
        assert_eq!((error.code(), code(&error).as_str()), (status, name), "{target} {method}: {error:?}");
        assert!(began.elapsed() < Duration::from_secs(1));
    }
    drop(back);
    let gone = client.call(call("back", "echo", "")).await.unwrap_err();
    assert_eq!((gone.code(), code(&gone).as_str()), (Code::Unavailable, "KTL4009"));
}

#[tokio::test]
async fn a_widget_gets_no_more_calls_than_it_takes_at_once() {
    let (_world, front, back) = start().await;
    let mut widget = Answering::open(&back, 1).await;
    let client = CallsClient::new(front.channel().await);
    let mut first = client.clone();
    let mut held = Box::pin(first.call(call("back", "echo", "long")));
    let request = tokio::select! {
        _ = &mut held => panic!("nobody answered"),
        request = widget.request() => request,
    };
    let full = client.clone().call(call("back", "echo", "too much")).await.unwrap_err();
    assert_eq!((full.code(), code(&full).as_str()), (Code::ResourceExhausted, "KTL4008"));
    widget.chunk(request.call, "done", true);
    assert_eq!(&held.await.unwrap().into_inner().data[..], b"done");
}

#[tokio::test]
async fn the_widgets_own_error_arrives_as_it_is() {
    let (_world, front, back) = start().await;
    let mut widget = Answering::open(&back, 0).await;
    let mut client = CallsClient::new(front.channel().await);
    let answering = async {
        let request = widget.request().await;
        let failure = answer::Failure {
            call: request.call,
            status: Code::NotFound.into(),
            message: "no such thing".into(),
        };
        widget.say(answer::Action::Failure(failure));
    };
    let (reply, ()) = tokio::join!(client.call(call("back", "echo", "")), answering);
    let status = reply.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "no such thing"));
    assert_eq!(code(&status), "KTL4011");
}

#[tokio::test]
async fn a_reply_that_breaks_gives_what_was_received_and_is_not_retried() {
    let (_world, front, mut back) = start().await;
    let mut widget = Answering::open(&back, 0).await;
    let mut client = CallsClient::new(front.channel().await);
    let answering = async {
        let request = widget.request().await;
        widget.chunk(request.call, "one", false);
    };
    let (reply, ()) = tokio::join!(client.call_stream(call("back", "echo", "")), answering);
    let mut reply = reply.unwrap().into_inner();
    assert_eq!(&reply.message().await.unwrap().unwrap().data[..], b"one");
    back.kill();
    let status = soon("the end", reply.message()).await.unwrap_err();
    assert_eq!((status.code(), code(&status).as_str()), (Code::Unavailable, "KTL4010"), "{status:?}");
}

#[tokio::test]
async fn a_call_goes_to_the_replica_that_answers() {
    let world = World::new().await;
    let back = world.sidecar(CALLEE, callee()).await;
    let mut widget = Answering::open(&back, 0).await;
    let gone =
        v1::Endpoint { instance: "default/shop/back/1".into(), address: "127.0.0.1:1".into(), ready: true };
    let mut config = caller(&back.hello.peer);
    config.targets[0].endpoints.insert(0, gone);
    let front = world.sidecar(CALLER, config).await;
    let client = CallsClient::new(front.channel().await);
    for _ in 0..3 {
        let mut client = client.clone();
        let answering = async {
            let request = widget.request().await;
            widget.chunk(request.call, "here", true);
        };
        let (reply, ()) = tokio::join!(client.call(call("back", "echo", "")), answering);
        assert_eq!(reply.unwrap().into_inner().answered_by, CALLEE);
    }
}

#[tokio::test]
async fn a_new_incarnation_ends_the_serve_stream_of_the_old_one_and_the_calls_that_it_had_open() {
    let (world, front, back) = start().await;
    let mut widget = Answering::open(&back, 0).await;
    let mut client = CallsClient::new(front.channel().await);
    let replacing = async {
        widget.request().await;
        let next = v1::SidecarConfig { version: 2, incarnation: 2, ..callee() };
        world.operator.configure(CALLEE, Message::Sidecar(next));
        soon("the end of the stream", widget.responses.message()).await.unwrap_err()
    };
    let (broken, ended) = tokio::join!(client.call(call("back", "echo", "")), replacing);
    assert_eq!((ended.code(), code(&ended).as_str()), (Code::FailedPrecondition, "KTL4012"), "{ended:?}");
    assert_eq!(broken.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn a_caller_below_its_fence_is_refused() {
    let (world, front, back) = start().await;
    let _widget = Answering::open(&back, 0).await;
    let fence = v1::Fence { instance: CALLER.into(), incarnation: 2 };
    let fenced = v1::SidecarConfig { version: 2, fences: vec![fence], ..callee() };
    world.operator.configure(CALLEE, Message::Sidecar(fenced));
    world.operator.applied(CALLEE, 2).await;
    let mut client = CallsClient::new(front.channel().await);
    let status = client.call(call("back", "echo", "")).await.unwrap_err();
    assert_eq!((status.code(), code(&status).as_str()), (Code::FailedPrecondition, "KTL4012"), "{status:?}");
}

#[tokio::test]
async fn a_foreign_certificate_is_refused_on_both_sides() {
    let (world, front, back) = start().await;
    let foreign = World::new().await;
    let stranger = foreign.sidecar(CALLEE, callee()).await;
    let mut config = caller(&stranger.hello.peer);
    config.version = 2;
    world.operator.configure(CALLER, Message::Sidecar(config));
    world.operator.applied(CALLER, 2).await;
    let mut client = CallsClient::new(front.channel().await);
    let status = client.call(call("back", "echo", "")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    let other = foreign.sidecar(CALLER, caller(&back.hello.peer)).await;
    let mut client = CallsClient::new(other.channel().await);
    let status = client.call(call("back", "echo", "")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
}
