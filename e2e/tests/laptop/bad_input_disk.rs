//! A disk that is full, under a whole world.

use std::{fs, process::Command};

use kontrol_e2e::world::{self, Manifest, Signal, World, signal, until};
use kontrol_proto::{
    Bytes,
    v1::{Event, PublishRequest, topics_client::TopicsClient},
};
use kontrol_sidecar::grpc::problem_of;
use tonic::Code;

/// Room for the hub's first segment, and not for a second one.
const SIZE: &str = "20m";

/// A shell that mounts memory of [`SIZE`] at this folder, which only it and what it becomes see.
fn small(folder: &str) -> Vec<String> {
    let script = format!("mkdir -p {folder} && mount -t tmpfs -o size={SIZE} tmpfs {folder} && exec \"$@\"");
    ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", &script, "sh"].map(str::to_owned).to_vec()
}

#[tokio::test]
async fn a_full_disk_refuses_what_it_cannot_keep_and_keeps_what_it_acknowledged() {
    let folder = world::folder().unwrap();
    let hub = folder.path().join(".kontrol/hub").display().to_string();
    let by = small(&hub);
    let tried = Command::new(&by[0]).args(&by[1..]).arg("true").output();
    if !tried.is_ok_and(|output| output.status.success()) {
        world::skip("bad_input_disk: this system lets nobody mount anything in a namespace of their own")
            .unwrap();
        return;
    }
    let manifest = Manifest::group("g", &[])
        .widget("w", &[], &["health: {report: {}}", "produces: [{topic: t}]"])
        .unwrap()
        .topic("t", &["dedupWindow: 10m"]);
    let bus = "---\napiVersion: kontrol.dev/v1alpha1\nkind: MessageBus\nmetadata: {name: default}\nspec: {embedded: {storage: {size: 10Gi, segmentSize: 8Mi}}}\n";
    fs::write(folder.path().join("world.yaml"), format!("{manifest}{bus}")).unwrap();
    let mut world = World::start_by(folder, "world.yaml", &by).unwrap();
    world.ready().await.unwrap();
    let mut topics = TopicsClient::new(world.door("g", "w").await.unwrap());
    let event = |id: u32| PublishRequest {
        topic: "t".into(),
        event: Some(Event {
            id: id.to_string(),
            data: Bytes::from(vec![b'x'; 256 << 10]),
            ..Event::default()
        }),
    };
    let mut stored = 0;
    let full = loop {
        match topics.publish(event(stored)).await {
            Ok(_) => stored += 1,
            Err(status) => break status,
        }
        assert!(stored < 200, "50 MiB fit into {SIZE}");
    };
    assert_eq!(full.code(), Code::ResourceExhausted, "{full}");
    assert_eq!(problem_of(&full).unwrap().code, "KTL3005", "{full}");
    assert!(stored > 0);

    // A hub that starts on a full disk knows all that it acknowledged: the same ids are duplicates.
    let before = world.process("hub", None).await.unwrap();
    signal(before, Signal::KILL).unwrap();
    world.process("hub", Some(before)).await.unwrap();
    for id in 0..stored {
        let published = until("the hub answers", async || Ok(topics.publish(event(id)).await.ok()));
        assert!(published.await.unwrap().into_inner().duplicate, "event {id} was lost");
    }
}
