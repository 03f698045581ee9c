//! What a widget says to its sidecar and hears from it, said from the outside by stepping into its pod's network.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::fd::AsFd as _,
    sync::mpsc,
    time::Duration,
};

use k8s_openapi::api::core::v1::Pod;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;
use tokio::time::timeout;

use super::{
    Lab, PATIENCE,
    kontrol::{name_of, process_of},
};
use crate::{Error, Result, error::at};

/// The sidecar's HTTP door in a pod.
const HTTP: u16 = 7411;
/// How long one request may take.
const ONCE: Duration = Duration::from_secs(20);

/// An answer of the door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status, such as 200.
    pub status: u16,
    /// The body.
    pub body: String,
}

impl Answer {
    /// The body as JSON; `null` where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

/// Sends a request to `address` and reads until `enough` says so, or the other side ends.
fn exchange(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
    mut enough: impl FnMut(&str) -> bool,
) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, ONCE)?;
    stream.set_read_timeout(Some(ONCE))?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes())?;
    let mut answer = Vec::new();
    let mut piece = [0; 16 * 1024];
    loop {
        let text = String::from_utf8_lossy(&answer);
        if enough(&text) {
            return Ok(text.into_owned());
        }
        match stream.read(&mut piece)? {
            0 => return Ok(text.into_owned()),
            length => answer.extend_from_slice(piece.get(..length).unwrap_or_default()),
        }
    }
}

fn parse(text: &str) -> io::Result<Answer> {
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| io::Error::other("no answer"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("no status in {head}")))?;
    Ok(Answer { status, body: body.to_owned() })
}

/// The data of the server-sent events of one kind that have come so far.
fn events(text: &str, kind: &str) -> Vec<Value> {
    let data = |event: &str| {
        let data = event.lines().find_map(|line| line.strip_prefix("data: "))?;
        serde_json::from_str(data).ok()
    };
    text.split("event: ").filter_map(|event| event.strip_prefix(kind)).filter_map(data).collect()
}

/// Says of a message that it is done, in the network of its sidecar; answers when that is on disk.
fn settle(session: &Value, delivery: &Value) -> io::Result<Answer> {
    let session = session.as_str().unwrap_or_default();
    let path = format!("/v1/subscriptions/{session}/deliveries/{delivery}/ack?confirm=true");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, HTTP));
    exchange(address, "POST", &path, "", |_| false).and_then(|text| parse(&text))
}

impl Lab {
    /// Asks the HTTP door of a pod's sidecar, as the widget in it would.
    pub async fn door(&self, pod: &Pod, method: &str, path: &str, body: &str) -> Result<Answer> {
        self.inside(pod, HTTP, (method, path, body), |_| false).await
    }

    /// Subscribes to a topic at the door of a pod's sidecar, and gives what was received until `count` messages have come. Nothing is settled.
    pub async fn subscribe(&self, pod: &Pod, topic: &str, count: usize) -> Result<Vec<Value>> {
        self.listen(pod, topic, count, move |text| events(text, "message").len() >= count).await
    }

    /// Subscribes likewise, and holds up to `count` messages, of which none is settled, until the sidecar goes. Gives what was received.
    pub async fn hold(&self, pod: &Pod, topic: &str, count: usize) -> Result<Vec<Value>> {
        self.listen(pod, topic, count, |_| false).await
    }

    /// Subscribes likewise, and says of each message that it is done, until that is on disk of `count` of them. Gives those.
    pub async fn take(&self, pod: &Pod, topic: &str, count: usize) -> Result<Vec<Value>> {
        let (tell, settled) = mpsc::channel();
        let (mut asked, mut done) = (0, 0);
        let settles = move |text: &str| {
            let session = events(text, "open").pop().unwrap_or_default();
            for message in events(text, "message").into_iter().skip(asked) {
                asked += 1;
                // What is refused comes again.
                if settle(&session["session"], &message["kontroldelivery"])
                    .is_ok_and(|answer| answer.status == 204)
                {
                    done += 1;
                    tell.send(message).ok();
                }
            }
            done >= count
        };
        self.listen(pod, topic, count, settles).await?;
        Ok(settled.try_iter().collect())
    }

    async fn listen(
        &self,
        pod: &Pod,
        topic: &str,
        credits: usize,
        enough: impl FnMut(&str) -> bool + Send + 'static,
    ) -> Result<Vec<Value>> {
        let path = format!("/v1/topics/{topic}/subscribe?credits={credits}");
        let answer = timeout(PATIENCE, self.inside(pod, HTTP, ("GET", &path, ""), enough)).await;
        let late = |_| Error::Timeout {
            what: format!("{credits} messages of {topic}"),
            after: PATIENCE,
            last: self.describe(),
        };
        Ok(events(&answer.map_err(late)??.body, "message"))
    }

    /// Sends a request to a port that a pod listens on for itself alone, and reads until `enough` says so or the answer ends.
    pub async fn inside(
        &self,
        pod: &Pod,
        port: u16,
        (method, path, body): (&str, &str, &str),
        enough: impl FnMut(&str) -> bool + Send + 'static,
    ) -> Result<Answer> {
        let process = process_of(self.cluster(), pod, "kontrol-sidecar")?;
        let (method, path, body) = (method.to_owned(), path.to_owned(), body.to_owned());
        let name = name_of(pod);
        // A thread of its own, since it cannot come back from the namespace.
        let asked = move || -> Result<Answer> {
            let space = format!("/proc/{process}/ns/net");
            let file = File::open(&space).map_err(at(&space))?;
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(|error| at(&space)(error.into()))?;
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let text = exchange(address, &method, &path, &body, enough);
            text.and_then(|text| parse(&text)).map_err(at(format!("{name}: {method} {path}")))
        };
        let (told, hears) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || drop(told.send(asked())));
        hears.await.map_err(|error| Error::Invalid(error.to_string()))?
    }
}
