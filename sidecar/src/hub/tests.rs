use super::*;

fn config(version: u64, topic: &str) -> v1::HubConfig {
    let topic = v1::TopicConfig { namespace: "default".into(), name: topic.into(), ..Default::default() };
    v1::HubConfig {
        version,
        topics: vec![topic],
        fences: Vec::new(),
        storage_bytes: 1 << 20,
        segment_bytes: 64 << 10,
    }
}

async fn close(door: Arc<HubDoor>) {
    door.drain(Duration::ZERO);
    door.hub().unwrap().close().unwrap();
    door.tasks.close();
    door.tasks.wait().await;
}

#[tokio::test]
async fn a_configuration_that_was_refused_is_not_what_the_next_run_starts_with() {
    let folder = tempfile::tempdir().unwrap();
    let (fatal, _fatal) = mpsc::channel(1);
    let door = HubDoor::new(folder.path().to_owned(), "hub".to_owned(), fatal.clone());
    door.configure(config(1, "orders")).await.unwrap();
    let refused = door.configure(config(2, "No Such Name")).await.unwrap_err();
    assert_eq!((refused.code, door.version()), (Code::ConfigurationRefused, 1));
    close(door).await;
    let door = HubDoor::new(folder.path().to_owned(), "hub".to_owned(), fatal);
    door.resume().await.unwrap();
    assert_eq!(door.version(), 1);
    close(door).await;
}

#[tokio::test]
async fn a_last_configuration_that_cannot_be_applied_does_not_keep_the_log_closed() {
    let folder = tempfile::tempdir().unwrap();
    let (fatal, _fatal) = mpsc::channel(1);
    replace(folder.path(), "config.bin", &config(2, "No Such Name").encode_to_vec()).unwrap();
    let door = HubDoor::new(folder.path().to_owned(), "hub".to_owned(), fatal);
    door.resume().await.unwrap();
    assert_eq!(door.version(), 0);
    door.configure(config(3, "orders")).await.unwrap();
    assert_eq!(door.version(), 3);
    close(door).await;
}
