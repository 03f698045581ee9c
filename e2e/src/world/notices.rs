//! What test widgets say of themselves, as datagrams: heard at once, whoever else is busy.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    time::Instant,
};

use anyhow::Context as _;
use tokio::net::UnixDatagram;

use super::DEADLINE;

/// What happened to a test widget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Its first report was heard by its sidecar.
    Reported,
    /// It was asked to stop.
    Stopping,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reported => "reported",
            Self::Stopping => "stopping",
        })
    }
}

/// One thing that a test widget said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What.
    pub what: What,
    /// The widget's name.
    pub name: String,
    /// Of which incarnation.
    pub incarnation: u64,
    /// Of which process.
    pub pid: u32,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.what, self.name, self.incarnation, self.pid)
    }
}

impl FromStr for Notice {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let parts: Vec<_> = text.split(' ').collect();
        let [what, name, incarnation, pid] = parts[..] else { anyhow::bail!("{text:?} is no notice") };
        let what = match what {
            "reported" => What::Reported,
            "stopping" => What::Stopping,
            _ => anyhow::bail!("{text:?} is no notice"),
        };
        Ok(Self { what, name: name.to_owned(), incarnation: incarnation.parse()?, pid: pid.parse()? })
    }
}

/// Where test widgets say it.
#[derive(Debug)]
pub struct Notices {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Notices {
    /// Listens in this folder.
    pub fn listen(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join("notices");
        let socket = UnixDatagram::bind(&path).with_context(|| format!("listening at {}", path.display()))?;
        Ok(Self { socket, path })
    }

    /// What a test widget is given with `--notify`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next notice, and when it came.
    pub async fn next(&self) -> anyhow::Result<(Notice, Instant)> {
        let mut buffer = [0; 256];
        let read = tokio::time::timeout(DEADLINE, self.socket.recv(&mut buffer));
        let length = read.await.context("no test widget has said anything")??;
        let at = Instant::now();
        Ok((std::str::from_utf8(buffer.get(..length).unwrap_or_default())?.parse()?, at))
    }

    /// The next notice of this kind of this widget; others are passed over.
    pub async fn next_of(&self, what: What, name: &str) -> anyhow::Result<(Notice, Instant)> {
        loop {
            let (notice, at) = self.next().await?;
            if notice.what == what && notice.name == name {
                return Ok((notice, at));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_reads_back() {
        let notice = Notice { what: What::Stopping, name: "w-1".into(), incarnation: 3, pid: 77 };
        assert_eq!(notice.to_string().parse::<Notice>().unwrap(), notice);
        assert!("started w 1".parse::<Notice>().is_err());
    }
}
