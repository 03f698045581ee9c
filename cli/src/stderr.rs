//! What kontrol itself logs: lines that wait for a thread of their own, because a terminal that does not read must not stop what
//! supervises. What waits is bounded; what is beyond it is lost, counted, and said where it is missing.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// Bytes that may wait to be written.
const BACKLOG: usize = 1 << 20;

/// The way in. Cheap to clone; each write is one line.
#[derive(Clone, Debug)]
pub(crate) struct Lines(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Lines that found no room after those that wait.
    lost: u64,
    /// Whether the thread holds lines that it has not yet written.
    writing: bool,
}

impl Waiting {
    fn is_done(&self) -> bool {
        self.lines.is_empty() && self.lost == 0 && !self.writing
    }
}

impl Lines {
    /// Begins the thread that writes.
    pub(crate) fn new(writer: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let theirs = Arc::clone(&shared);
        thread::Builder::new().name("stderr".into()).spawn(move || theirs.write_all(writer))?;
        Ok(Self(shared))
    }

    /// Waits until everything is written, but no longer than this; whether it is.
    pub(crate) fn flush_within(&self, limit: Duration) -> bool {
        let wait = self.0.changed.wait_timeout_while(self.0.lock(), limit, |waiting| !waiting.is_done());
        !wait.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut waiting = self.0.lock();
        // A line after a lost one is lost as well until those before it are written, so that the gap is in one place.
        if waiting.lost == 0 && waiting.bytes + line.len() <= BACKLOG {
            waiting.bytes += line.len();
            waiting.lines.push_back(line.to_owned());
        } else {
            waiting.lost += 1;
        }
        self.0.changed.notify_all();
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_all(&self, mut writer: impl Write) {
        loop {
            let waits = |waiting: &mut Waiting| waiting.lines.is_empty() && waiting.lost == 0;
            let mut waiting =
                self.changed.wait_while(self.lock(), waits).unwrap_or_else(PoisonError::into_inner);
            let next = waiting.lines.pop_front();
            let lost = if next.is_some() { 0 } else { std::mem::take(&mut waiting.lost) };
            waiting.writing = true;
            drop(waiting);
            let line = next.unwrap_or_else(|| gap(lost).into_bytes());
            // A reader that has gone needs no more.
            drop(writer.write_all(&line));
            let mut waiting = self.lock();
            waiting.writing = false;
            if lost == 0 {
                waiting.bytes -= line.len();
            }
            drop(waiting);
            self.changed.notify_all();
        }
    }
}

fn gap(lost: u64) -> String {
    let (lines, were) = if lost == 1 { ("line", "was") } else { ("lines", "were") };
    format!("{lost} {lines} of kontrol's own log {were} lost here: nobody read them in time\n")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// A terminal that takes a write when it is let.
    struct Terminal {
        let_in: Receiver<()>,
        written: Sender<String>,
    }

    impl Write for Terminal {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.let_in.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
            drop(self.written.send(String::from_utf8_lossy(text).into_owned()));
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_terminal_that_does_not_read_holds_up_nobody_and_what_it_missed_is_said() {
        let (let_in, given) = channel();
        let (told, written) = channel();
        let mut lines = Lines::new(Terminal { let_in: given, written: told }).unwrap();
        let line = vec![b'x'; BACKLOG / 4];
        for _ in 0..10 {
            lines.write_all(&line).unwrap();
        }
        assert!(!lines.flush_within(Duration::from_millis(1)));
        for _ in 0..5 {
            let_in.send(()).unwrap();
        }
        let got: Vec<String> = written.iter().take(5).collect();
        assert!(got[..4].iter().all(|text| text.len() == line.len()));
        assert_eq!(got[4], "6 lines of kontrol's own log were lost here: nobody read them in time\n");
        lines.write_all(b"on\n").unwrap();
        let_in.send(()).unwrap();
        assert_eq!(written.recv().unwrap(), "on\n");
        assert!(lines.flush_within(Duration::from_mins(1)));
    }
}
