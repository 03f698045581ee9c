//! What a process of the world says of itself at its admin address.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, ensure};

/// The loopback TCP addresses that a process listens on.
fn listening(pid: u32) -> anyhow::Result<Vec<SocketAddr>> {
    let links = fs::read_dir(format!("/proc/{pid}/fd"))?
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok());
    let inodes: Vec<String> = links
        .filter_map(|link| {
            let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
            Some(inode.to_owned())
        })
        .collect();
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp"))?;
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    Ok(rows
        .filter_map(|row| {
            let (local, state, inode) = (row.get(1)?, row.get(3)?, row.get(9)?);
            let port = u16::from_str_radix(local.split_once(':')?.1, 16).ok()?;
            let ours = *state == "0A" && inodes.iter().any(|other| other == inode);
            ours.then(|| SocketAddr::from(([127, 0, 0, 1], port)))
        })
        .collect())
}

fn get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").context("no HTTP came back")?;
    ensure!(head.contains(" 200 "), "{path} answered {head}");
    Ok(body.to_owned())
}

/// The metrics of a process, wherever it serves them.
#[derive(Clone, Debug)]
pub(super) struct Metrics(String);

impl Metrics {
    pub(super) fn of(pid: u32) -> anyhow::Result<Self> {
        let mut addresses = listening(pid)?.into_iter();
        let text = addresses.find_map(|address| get(address, "/metrics").ok());
        Ok(Self(text.with_context(|| format!("process {pid} serves no metrics"))?))
    }

    /// The sum of all series of this name.
    pub(super) fn sum(&self, name: &str) -> anyhow::Result<f64> {
        let mut series = self.0.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ') || rest.starts_with('{'))
        });
        let mut sum = None;
        series.try_for_each(|line| {
            let value: f64 = line.rsplit(' ').next().unwrap_or_default().parse()?;
            *sum.get_or_insert(0.0) += value;
            anyhow::Ok(())
        })?;
        sum.with_context(|| format!("there is no metric {name} in:\n{}", self.0))
    }
}
