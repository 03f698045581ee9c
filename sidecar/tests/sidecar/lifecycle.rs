//! A sidecar over time: what it says of itself, silence, an operator that goes away, and draining.

use kontrol_proto::v1::{
    self, calls_client::CallsClient, serve_response as served, subscribe_request as ask,
    topics_client::TopicsClient, widget_client::WidgetClient,
};
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::support::{
    self, Process, World, event, eventually, serve, shop, soon, topic,
    web::get,
    widget::{Answering, Reader, text},
};

const INSTANCE: &str = "default/shop/shop/0";

fn config(hub: &Process, topics: Vec<v1::TopicConfig>) -> v1::SidecarConfig {
    v1::SidecarConfig { serves: vec![serve("echo")], ..shop(hub, topics) }
}

fn topics() -> Vec<v1::TopicConfig> {
    vec![topic("orders", &["workers"])]
}

async fn start() -> (World, Process, Process) {
    let world = World::new().await;
    let hub = world.hub(topics()).await;
    let sidecar = world.sidecar(INSTANCE, config(&hub, topics())).await;
    (world, hub, sidecar)
}

async fn publish(sidecar: &Process, id: &str) -> Result<v1::PublishResponse, tonic::Status> {
    let mut client = TopicsClient::new(sidecar.channel().await);
    let request = v1::PublishRequest { topic: "orders".into(), event: Some(event(id, id)) };
    soon("published", client.publish(request)).await.map(tonic::Response::into_inner)
}

async fn drains(sidecar: &Process) {
    eventually("draining", || async {
        let state = WidgetClient::new(sidecar.channel().await).state(v1::StateRequest {}).await;
        state.ok()?.into_inner().draining.then_some(())
    })
    .await;
}

fn callers_config(back: &Process) -> v1::SidecarConfig {
    let endpoint = v1::Endpoint { instance: INSTANCE.into(), address: back.hello.peer.clone(), ready: true };
    v1::SidecarConfig {
        version: 1,
        incarnation: 1,
        targets: vec![v1::Target { widget: "default/shop/shop".into(), endpoints: vec![endpoint] }],
        resilience: Some(support::resilience()),
        ..Default::default()
    }
}

fn call(text: &str) -> v1::CallRequest {
    let (target, method, data) = ("shop".into(), "echo".into(), text.to_owned().into());
    v1::CallRequest { target, method, data, ..Default::default() }
}

#[tokio::test]
async fn the_standard_health_and_reflection_services_answer_at_the_door() {
    let (_world, _hub, sidecar) = start().await;
    let channel = sidecar.channel().await;
    for service in ["", "kontrol.v1.Topics", "kontrol.v1.Calls", "kontrol.v1.Widget"] {
        let request = HealthCheckRequest { service: service.into() };
        eventually("serving", || {
            let (mut client, request) = (HealthClient::new(channel.clone()), request.clone());
            async move {
                let status = client.check(request).await.ok()?.into_inner().status();
                (status == ServingStatus::Serving).then_some(())
            }
        })
        .await;
    }
    let list = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(channel);
    let mut answers = client.server_reflection_info(tokio_stream::iter([list])).await.unwrap().into_inner();
    let answer = soon("an answer", answers.message()).await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("{answer:?}")
    };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    for service in ["kontrol.v1.Topics", "kontrol.v1.Calls", "kontrol.v1.Widget", "grpc.health.v1.Health"] {
        assert!(names.iter().any(|name| name == service), "{service} is missing from {names:?}");
    }
}

#[tokio::test]
async fn a_widget_that_falls_silent_is_hung_and_one_that_gives_up_has_failed() {
    let (world, hub, sidecar) = start().await;
    let health = v1::HealthConfig { http_path: String::new(), timeout_ms: 200, interval_ms: 50 };
    let duty = v1::SidecarConfig { version: 2, health: Some(health), ..config(&hub, topics()) };
    world.operator.configure(INSTANCE, v1::session_response::Message::Sidecar(duty.clone()));
    world.operator.applied(INSTANCE, 2).await;
    let mut widget = WidgetClient::new(sidecar.channel().await);
    let report = |health: v1::Health| v1::ReportRequest { health: health.into(), ..Default::default() };
    widget.report(report(v1::Health::Ready)).await.unwrap();
    world.operator.signals(INSTANCE, |signals| signals.health() == v1::Health::Ready).await;
    let hung = world.operator.signals(INSTANCE, |signals| signals.hung).await;
    assert_eq!((hung.incarnation, hung.health()), (1, v1::Health::NotReady));
    // The replacement starts with a clean record.
    let next = v1::SidecarConfig { version: 3, incarnation: 2, ..duty };
    world.operator.configure(INSTANCE, v1::session_response::Message::Sidecar(next));
    world.operator.signals(INSTANCE, |signals| signals.incarnation == 2 && !signals.hung).await;
    widget.report(report(v1::Health::Failed)).await.unwrap();
    world.operator.signals(INSTANCE, |signals| signals.health() == v1::Health::Failed).await;
}

#[tokio::test]
async fn while_the_operator_is_away_everything_goes_on_and_a_restart_keeps_the_configuration() {
    let (mut world, _hub, mut sidecar) = start().await;
    let mut reader = Reader::open(&sidecar, "orders", 10).await;
    world.operator.stop();
    eventually("the operator is away", || async {
        let state = WidgetClient::new(sidecar.channel().await).state(v1::StateRequest {}).await;
        (!state.ok()?.into_inner().control_connected).then_some(())
    })
    .await;
    publish(&sidecar, "1").await.unwrap();
    let delivery = reader.delivery().await;
    reader.ack(delivery.delivery).await;
    let ready = get(&format!("http://{}/readyz", sidecar.hello.admin)).await;
    assert_eq!((ready.status, ready.json()["away"].clone()), (200, serde_json::json!(["operator"])));
    // A sidecar that starts without the operator has its last configuration, and waits for its certificate alone.
    sidecar.kill();
    let again = world.sidecar_alone(INSTANCE);
    eventually("the last configuration", || async {
        let state = WidgetClient::new(again.try_channel().await?).state(v1::StateRequest {}).await;
        let state = state.ok()?.into_inner();
        (state.config_version == 1 && state.incarnation == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_drain_lets_calls_end_on_both_sides_and_takes_no_new_ones() {
    let world = World::new().await;
    let hub = world.hub(topics()).await;
    let mut back = world.sidecar(INSTANCE, config(&hub, topics())).await;
    let mut front = world.sidecar("default/shop/front/0", callers_config(&back)).await;
    let mut widget = Answering::open(&back, 0).await;
    let mut client = CallsClient::new(front.channel().await);
    let mut other = client.clone();
    let mut held = Box::pin(client.call_stream(call("long")));
    let request = tokio::select! {
        _ = &mut held => panic!("nobody answered"),
        request = widget.request() => request,
    };
    widget.chunk(request.call, "before", false);
    let mut reply = held.await.unwrap().into_inner();
    assert_eq!(&soon("a chunk", reply.message()).await.unwrap().unwrap().data[..], b"before");
    back.terminate();
    assert_eq!(widget.event().await, served::Event::Draining(served::Draining {}));
    let refused = soon("refused", other.call(call("late"))).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    front.terminate();
    drains(&front).await;
    widget.chunk(request.call, "after", true);
    assert_eq!(&soon("a chunk", reply.message()).await.unwrap().unwrap().data[..], b"after");
    assert!(soon("the end", reply.message()).await.unwrap().is_none());
    drop((reply, other));
    assert!(back.ended().await.success());
    assert!(front.ended().await.success());
}

#[tokio::test]
async fn what_is_acknowledged_while_draining_stays_acknowledged_and_the_grace_ends_the_rest() {
    let world = World::new().await;
    let hub = world.hub(topics()).await;
    let mut sidecar = world.sidecar_with_grace(INSTANCE, config(&hub, topics()), "4s").await;
    for id in ["acked", "held"] {
        publish(&sidecar, id).await.unwrap();
    }
    let mut reader = Reader::open(&sidecar, "orders", 10).await;
    let acked = reader.delivery().await;
    let held = reader.delivery().await;
    sidecar.terminate();
    drains(&sidecar).await;
    // What is in flight may have something to publish before it ends; nothing new is begun.
    publish(&sidecar, "result").await.unwrap();
    let mut client = TopicsClient::new(sidecar.channel().await);
    let open = ask::Open { topic: "orders".into(), subscription: String::new(), credits: 1 };
    let open = v1::SubscribeRequest { action: Some(ask::Action::Open(open)) };
    let late =
        client.subscribe(tokio_stream::iter([open])).await.unwrap().into_inner().message().await.unwrap_err();
    assert_eq!(late.code(), Code::Unavailable, "{late:?}");
    reader.ack(acked.delivery).await;
    // Still held: nothing cuts it off before the grace ends.
    reader.say(ask::Action::Progress(ask::Progress { delivery: held.delivery }));
    assert!(sidecar.ended().await.success());
    let sidecar = world.sidecar_again(INSTANCE).await;
    let mut reader = Reader::open(&sidecar, "orders", 10).await;
    let again = reader.delivery().await;
    assert_eq!((text(&again).as_str(), again.attempt), ("held", 1), "a drain uses up no attempt");
}

#[tokio::test]
async fn the_admin_pages_of_sidecar_and_hub_tell_how_they_are() {
    let (_world, hub, sidecar) = start().await;
    publish(&sidecar, "1").await.unwrap();
    for (process, metrics) in [
        (
            &sidecar,
            &["kontrol_publish_messages_total 1", "kontrol_hub_connected 1", "kontrol_build_info"][..],
        ),
        (
            &hub,
            &[
                "kontrol_hub_published_messages_total 1",
                "kontrol_log_syncs_total",
                "kontrol_hub_connections 1",
            ],
        ),
    ] {
        let page = |path: &str| format!("http://{}{path}", process.hello.admin);
        assert_eq!(get(&page("/healthz")).await.body, "ok\n");
        eventually("ready", || async { (get(&page("/readyz")).await.status == 200).then_some(()) }).await;
        let answer = get(&page("/metrics")).await;
        for metric in metrics {
            assert!(answer.body.contains(metric), "{metric} is missing from\n{}", answer.body);
        }
    }
}

#[tokio::test]
async fn a_widget_without_topics_misses_no_hub() {
    let world = World::new().await;
    let sidecar =
        world.sidecar(INSTANCE, v1::SidecarConfig { version: 1, incarnation: 1, ..Default::default() }).await;
    let page = |path: &str| format!("http://{}{path}", sidecar.hello.admin);
    let away = eventually("ready", || async {
        let answer = get(&page("/readyz")).await;
        (answer.status == 200).then(|| answer.json()["away"].clone())
    })
    .await;
    assert_eq!(away, serde_json::json!([]));
    let metrics = get(&page("/metrics")).await.body;
    assert!(
        metrics.contains("kontrol_control_connected 1") && !metrics.contains("kontrol_hub_connected"),
        "{metrics}"
    );
}

#[tokio::test]
async fn certificates_are_renewed_without_a_restart_and_connections_end_with_the_old_ones() {
    let world = World::new().await;
    world.operator.authority.live(4);
    let hub = world.hub(topics()).await;
    let sidecar = world.sidecar(INSTANCE, config(&hub, topics())).await;
    publish(&sidecar, "1").await.unwrap();
    let mut widget = WidgetClient::new(sidecar.channel().await);
    let first = widget.state(v1::StateRequest {}).await.unwrap().into_inner().certificate_expires;
    eventually("a renewed certificate, and a connection made with it", || {
        let (mut widget, admin) = (widget.clone(), sidecar.hello.admin.clone());
        async move {
            let state = widget.state(v1::StateRequest {}).await.ok()?.into_inner();
            let metrics = get(&format!("http://{admin}/metrics")).await.body;
            let connects = metrics.lines().find(|line| line.starts_with("kontrol_hub_connects_total "))?;
            let again = !connects.ends_with(" 1");
            (state.certificate_expires > first && state.hub_connected && again).then_some(())
        }
    })
    .await;
    publish(&sidecar, "2").await.unwrap();
}
