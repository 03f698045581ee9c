//! What pods answer over HTTP, asked from this machine.

use std::{io, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// How long one request may take.
const ONCE: Duration = Duration::from_secs(10);

/// Where a pod listens on `port`.
pub fn address(pod: &Pod, port: u16) -> String {
    format!("{}:{port}", pod.status.as_ref().and_then(|status| status.pod_ip.clone()).unwrap_or_default())
}

/// The body of what `address` answers to `GET path`.
pub async fn get(address: &str, path: &str) -> io::Result<String> {
    Ok(ask(address, path).await?.1)
}

/// The number in the line of `metrics` that begins with `begin`; none: there is no such line.
pub fn value(metrics: &str, begin: &str) -> Option<u64> {
    metrics.lines().find_map(|line| line.strip_prefix(begin)?.trim().parse().ok())
}

/// The number in the line of the metrics of `address` that begins with `begin`; none: there is no such line.
pub async fn figure(address: &str, begin: &str) -> io::Result<Option<u64>> {
    Ok(value(&get(address, "/metrics").await?, begin))
}

/// The status and the body of what `address` answers to `GET path`; no status: what came is no answer of HTTP.
pub async fn ask(address: &str, path: &str) -> io::Result<(Option<u16>, String)> {
    let asked = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        let body = answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned());
        Ok((status, body))
    };
    timeout(ONCE, asked).await.map_err(io::Error::from)?
}
