//! What processes write and what is decided: one line at a time into files of bounded size, and to whoever follows.

use std::{
    collections::HashMap,
    fs,
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    thread,
};

use kontrol_core::time::Timestamp;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead},
    sync::{broadcast, mpsc},
};

use crate::clock;
pub use crate::view::Level;

/// A log file that has grown beyond this becomes `.1`, and the `.1` before it goes.
const FILE_LIMIT: u64 = 8 << 20;
/// A line is cut here.
const LINE_LIMIT: usize = 16 << 10;
/// Lines that a follower may be behind before it misses some.
const FOLLOW: usize = 8192;
/// Lines that may wait for the disk before their writers do.
const BACKLOG: usize = 1024;

/// Where a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    /// A process's stdout.
    Out,
    /// A process's stderr.
    Err,
    /// A decision or an observation of the world.
    Event,
}

impl Stream {
    /// `out`, `err` or `event`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::Err => "err",
            Self::Event => "event",
        }
    }
}

impl Level {
    fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "trace" | "debug" => Some(Self::Debug),
            "info" | "notice" => Some(Self::Info),
            "warn" | "warning" => Some(Self::Warn),
            "error" | "fatal" | "critical" => Some(Self::Error),
            _ => None,
        }
    }

    /// A structured line says its level itself; of others only stdout is known to be ordinary.
    pub fn of(stream: Stream, text: &str) -> Self {
        let said =
            text.starts_with('{').then(|| serde_json::from_str::<serde_json::Value>(text).ok()).flatten();
        said.and_then(|value| Self::parse(value.get("level")?.as_str()?))
            .unwrap_or(if stream == Stream::Err { Self::Warn } else { Self::Info })
    }
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When it was read.
    pub at: Timestamp,
    /// `group/widget-ordinal`, after `namespace/` where that is not `default`, with ` sidecar` for its sidecar; `hub`; empty for decisions.
    pub source: String,
    /// Where it came from.
    pub stream: Stream,
    /// How much it matters.
    pub level: Level,
    /// What it says, without its end.
    pub text: String,
}

impl Line {
    /// The name of the file that holds the lines of a source: `namespace.group.widget.ordinal[.sidecar].log`, of which no two are the same,
    /// for a name has no dot; `hub.log`; `kontrol.log` for decisions.
    pub fn file_of(source: &str) -> String {
        let (instance, suffix) = match source.strip_suffix(" sidecar") {
            Some(instance) => (instance, ".sidecar"),
            None => (source, ""),
        };
        let parts: Vec<&str> = instance.split('/').collect();
        let (namespace, group, replica) = match parts[..] {
            [group, replica] => ("default", group, replica),
            [namespace, group, replica] => (namespace, group, replica),
            _ if source.is_empty() => return "kontrol.log".to_owned(),
            _ => return format!("{}.log", source.replace(['/', ' '], "-")),
        };
        let (widget, ordinal) = replica.rsplit_once('-').unwrap_or((replica, "0"));
        format!("{namespace}.{group}.{widget}.{ordinal}{suffix}.log")
    }

    /// As it stands in its file.
    pub fn stored(&self) -> String {
        format!("{} {} {} {}", self.at.as_micros(), self.stream.as_str(), self.level.as_str(), self.text)
    }

    /// Reads what [`Line::stored`] wrote.
    pub fn read(source: &str, stored: &str) -> Option<Self> {
        let mut parts = stored.splitn(4, ' ');
        let at = Timestamp::from_micros(parts.next()?.parse().ok()?);
        let stream = match parts.next()? {
            "out" => Stream::Out,
            "err" => Stream::Err,
            "event" => Stream::Event,
            _ => return None,
        };
        let level = Level::parse(parts.next()?)?;
        Some(Self {
            at,
            source: source.to_owned(),
            stream,
            level,
            text: parts.next().unwrap_or("").to_owned(),
        })
    }
}

/// The way in, and to the lines as they come. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Logs {
    folder: PathBuf,
    writer: mpsc::Sender<Line>,
    followers: broadcast::Sender<Line>,
}

impl Logs {
    /// Begins the thread that writes.
    pub fn new(folder: PathBuf) -> io::Result<Self> {
        let (writer, lines) = mpsc::channel(BACKLOG);
        let (followers, _) = broadcast::channel(FOLLOW);
        let files = Files { folder: folder.clone(), open: HashMap::new(), failing: false };
        thread::Builder::new().name("logs".into()).spawn(move || files.write_all(lines))?;
        Ok(Self { folder, writer, followers })
    }

    /// All lines from now on.
    pub fn follow(&self) -> broadcast::Receiver<Line> {
        self.followers.subscribe()
    }

    /// A line of the world's own.
    pub fn event(&self, at: Timestamp, level: Level, text: String) {
        let line = Line { at, source: String::new(), stream: Stream::Event, level, text };
        // A disk that cannot keep up costs lines in the file, never a decision.
        drop(self.writer.try_send(line.clone()));
        drop(self.followers.send(line));
    }

    /// Takes the lines of a process until it closes its end. A process that writes faster than the disk waits.
    pub async fn capture(&self, source: String, stream: Stream, output: impl AsyncRead + Unpin) {
        let mut reader = tokio::io::BufReader::new(output);
        let mut bytes = Vec::new();
        while let Ok(true) = read_line(&mut reader, &mut bytes).await {
            let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            let level = Level::of(stream, &text);
            let line = Line { at: clock::now(), source: source.clone(), stream, level, text };
            drop(self.followers.send(line.clone()));
            if self.writer.send(line).await.is_err() {
                return;
            }
        }
    }

    /// The last lines of a source, the oldest first.
    pub fn tail(&self, source: &str, count: usize) -> Vec<Line> {
        let file = self.folder.join(Line::file_of(source));
        let mut lines = lines_of(&rotated(&file), source);
        lines.extend(lines_of(&file, source));
        let skip = lines.len().saturating_sub(count);
        lines.drain(..skip);
        lines
    }
}

/// Reads to the end of a line, keeping at most [`LINE_LIMIT`] bytes of it; false at the end of the stream.
async fn read_line(
    reader: &mut tokio::io::BufReader<impl AsyncRead + Unpin>,
    line: &mut Vec<u8>,
) -> io::Result<bool> {
    line.clear();
    let mut any = false;
    loop {
        let available = reader.fill_buf().await?;
        if available.is_empty() {
            return Ok(any);
        }
        any = true;
        let end = available.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(available.len(), |end| end + 1);
        let room = LINE_LIMIT.saturating_sub(line.len()).min(taken);
        line.extend_from_slice(&available[..room]);
        reader.consume(taken);
        if end.is_some() {
            return Ok(true);
        }
    }
}

fn rotated(file: &Path) -> PathBuf {
    file.with_extension("log.1")
}

fn lines_of(file: &Path, source: &str) -> Vec<Line> {
    let Ok(file) = fs::File::open(file) else { return Vec::new() };
    let mut lines: Vec<Line> = Vec::new();
    for stored in BufReader::new(file).lines().map_while(Result::ok) {
        match (Line::read(source, &stored), lines.last_mut()) {
            (Some(line), _) => lines.push(line),
            // What Kontrol says may have more lines than one.
            (None, Some(last)) => {
                last.text.push('\n');
                last.text.push_str(&stored);
            }
            (None, None) => {}
        }
    }
    lines
}

struct Files {
    folder: PathBuf,
    open: HashMap<String, (fs::File, u64)>,
    failing: bool,
}

impl Files {
    fn write_all(mut self, mut lines: mpsc::Receiver<Line>) {
        while let Some(line) = lines.blocking_recv() {
            let outcome = self.write(&line);
            if let (Err(error), false) = (&outcome, self.failing) {
                tracing::warn!(%error, "log lines are lost: they cannot be written");
            }
            self.failing = outcome.is_err();
        }
    }

    fn write(&mut self, line: &Line) -> io::Result<()> {
        let path = self.folder.join(Line::file_of(&line.source));
        let mut stored = line.stored();
        stored.push('\n');
        if self.open.get(&line.source).is_some_and(|(_, size)| *size > FILE_LIMIT) {
            self.open.remove(&line.source);
            fs::rename(&path, rotated(&path))?;
        }
        let (file, size) = match self.open.entry(line.source.clone()) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                let file = fs::OpenOptions::new().create(true).append(true).open(&path)?;
                let size = file.metadata()?.len();
                entry.insert((file, size))
            }
        };
        file.write_all(stored.as_bytes())?;
        *size += stored.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_back_as_it_was_stored() {
        let line = Line {
            at: Timestamp::from_micros(12),
            source: "rag/llm-0".into(),
            stream: Stream::Err,
            level: Level::Warn,
            text: "a b  c".into(),
        };
        assert_eq!(Line::read("rag/llm-0", &line.stored()), Some(line));
    }

    #[test]
    fn each_source_has_a_file_of_its_own() {
        let of = Line::file_of;
        assert_eq!(of("rag/llm-0 sidecar"), "default.rag.llm.0.sidecar.log");
        assert_eq!(
            (of("a-b/c-0"), of("a/b-c-0")),
            ("default.a-b.c.0.log".into(), "default.a.b-c.0.log".into())
        );
        assert_eq!(of("shop/a/b-1"), "shop.a.b.1.log");
        assert_eq!((of("hub"), of("")), ("hub.log".into(), "kontrol.log".into()));
    }

    #[test]
    fn a_structured_line_says_its_level_itself() {
        assert_eq!(Level::of(Stream::Err, r#"{"level":"INFO","fields":{}}"#), Level::Info);
        assert_eq!(Level::of(Stream::Err, "oops"), Level::Warn);
        assert_eq!(Level::of(Stream::Out, "{not json"), Level::Info);
    }

    #[tokio::test]
    async fn an_event_of_several_lines_is_read_back_whole() {
        let folder = tempfile::tempdir().unwrap();
        let logs = Logs::new(folder.path().to_owned()).unwrap();
        logs.event(Timestamp::from_micros(1), Level::Error, "refused\n  for this\n  and that".into());
        logs.event(Timestamp::from_micros(2), Level::Info, "taken".into());
        while logs.tail("", 9).len() < 2 {
            tokio::task::yield_now().await;
        }
        let texts = logs.tail("", 9).into_iter().map(|line| line.text);
        assert_eq!(texts.collect::<Vec<_>>(), ["refused\n  for this\n  and that", "taken"]);
    }

    #[tokio::test]
    async fn lines_are_followed_and_stored_and_long_ones_cut() {
        let folder = tempfile::tempdir().unwrap();
        let logs = Logs::new(folder.path().to_owned()).unwrap();
        let mut follower = logs.follow();
        let text = format!("one\n{}\nlast", "x".repeat(LINE_LIMIT + 100));
        logs.capture("rag/llm-0".into(), Stream::Out, text.as_bytes()).await;
        assert_eq!(follower.recv().await.unwrap().text, "one");
        assert_eq!(follower.recv().await.unwrap().text.len(), LINE_LIMIT);
        assert_eq!(follower.recv().await.unwrap().text, "last");
        let stored = || logs.tail("rag/llm-0", 2);
        while stored().len() < 2 || stored()[1].text != "last" {
            tokio::task::yield_now().await;
        }
    }
}
