use super::*;
use crate::local::logs::Stream;

/// A world that knows one widget, and its logs.
fn service(folder: &Path) -> Service {
    let (mailbox, mut messages) = mpsc::channel(1);
    let tasks = TaskTracker::new();
    tasks.spawn(async move {
        while let Some(Message::Ask(Ask::Sources(_, reply))) = messages.recv().await {
            drop(reply.send(Ok(vec!["g/w-0".to_owned()])));
        }
    });
    let logs = Arc::new(Logs::new(folder.to_owned()).unwrap());
    let changes = watch::channel(0).1;
    Service { mailbox, logs, changes, stop: CancellationToken::new(), tasks }
}

async fn write(service: &Service, text: &str) {
    service.logs.capture("g/w-0".into(), Stream::Out, text.as_bytes()).await;
}

async fn logs(service: &Service, follow: bool, tail: u32) -> Streamed<LogLine> {
    let request = LogsRequest { name: "g/w".into(), follow, tail };
    service.logs(Request::new(request)).await.unwrap().into_inner()
}

#[tokio::test]
async fn no_lines_of_the_past_are_none_and_what_is_new_comes_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let service = service(folder.path());
    write(&service, "old\n").await;
    while service.logs.tail("g/w-0", 1).is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(logs(&service, false, 0).await.next().await.is_none());
    let old = logs(&service, false, 1).await.next().await.unwrap().unwrap();
    assert_eq!(old.text, "old");
    let mut followed = logs(&service, true, 0).await;
    write(&service, "new\n").await;
    assert_eq!(followed.next().await.unwrap().unwrap().text, "new");
}

#[tokio::test]
async fn a_reader_that_is_too_slow_is_told_what_it_missed() {
    let folder = tempfile::tempdir().unwrap();
    let service = service(folder.path());
    let followed = logs(&service, true, 0).await;
    write(&service, &"line\n".repeat(20_000)).await;
    let told = followed.filter_map(Result::ok).skip_while(|line| line.text == "line").next().await.unwrap();
    assert!(told.text.contains("were not shown") && told.level == "warn", "{told:?}");
}
