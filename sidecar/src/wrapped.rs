//! The shim of a wrapped container: grants go to it as they come, and what it says of ends and restarts goes into the signals.
//!
//! ```text
//!   configuration ──grant──► Wrapped ──line──► shim
//!   signals ◄──restarts, last end── Wrapped ◄──line── shim
//! ```
//!
//! Invariants: a restart in place ends what the doors hold open for the process that is gone, and nothing else; the count of restarts never
//! falls while this process lives; a shim that is not there yet, or not any more, is waited for.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kontrol_core::wrapped::{Ended, Order, State};
use kontrol_proto::v1;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{UnixStream, unix::OwnedWriteHalf},
    time::sleep,
};

use crate::shared::Shared;

/// The pause between attempts to reach the shim, first and longest: it starts after the sidecar, and the wait costs one system call.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));

/// See the module. Shared by `Arc`.
#[derive(Debug)]
pub struct Wrapped {
    shared: Arc<Shared>,
    state: Mutex<Heard>,
}

/// What was heard of shims.
#[derive(Debug, Default)]
struct Heard {
    /// What the newest shim said last.
    state: Option<State>,
    /// Restarts of shims before it.
    before: u64,
}

/// What the signals say of a wrapped container.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// Restarts in place.
    pub restarts: u64,
    /// The newest end.
    pub last_end: Option<v1::WidgetEnd>,
    /// The widget's process; 0: none runs.
    pub pid: u32,
    /// What the shim holds of a grant.
    pub purse: Option<v1::Purse>,
}

impl Wrapped {
    /// A shim of which nothing is known yet.
    pub fn new(shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self { shared, state: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known now.
    pub fn seen(&self) -> Seen {
        let heard = self.lock();
        let Some(state) = &heard.state else { return Seen::default() };
        Seen {
            restarts: heard.before + state.restarts,
            last_end: state.last_end.as_ref().map(end),
            pid: state.pid,
            purse: Some(v1::Purse { epoch: state.epoch.unwrap_or(0), spent: state.spent, open: state.open }),
        }
    }

    /// Keeps the connection to the shim for as long as it is polled.
    pub async fn run(self: Arc<Self>, socket: PathBuf) {
        let mut pause = PAUSE.0;
        loop {
            match UnixStream::connect(&socket).await {
                Ok(stream) => {
                    pause = PAUSE.0;
                    self.shared.stats.shim_connected.set(1);
                    let ended = self.talk(stream).await;
                    self.shared.stats.shim_connected.set(0);
                    tracing::info!(shim = %socket.display(), error = ended.err().map(tracing::field::display), "the shim is gone");
                }
                Err(error) if refuses(&error) => {
                    tracing::warn!(shim = %socket.display(), %error, "the shim's socket cannot be used");
                    pause = PAUSE.1;
                }
                Err(_) => {}
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    async fn talk(&self, stream: UnixStream) -> io::Result<()> {
        let (reader, mut writer) = stream.into_split();
        let mut lines = BufReader::new(reader).lines();
        let mut changes = self.shared.changes();
        let mut given = None;
        loop {
            let grant = self.shared.config().grant;
            if grant != given {
                give(&mut writer, grant.as_ref()).await?;
                given = grant;
            }
            tokio::select! {
                line = lines.next_line() => match line? {
                    None => return Ok(()),
                    Some(line) => self.hear(&line),
                },
                changed = changes.changed() => if changed.is_err() { return Ok(()) },
            }
        }
    }

    fn hear(&self, line: &str) {
        let state = match serde_json::from_str::<State>(line) {
            Ok(state) => state,
            Err(error) => return tracing::warn!(%error, "a line of the shim cannot be read"),
        };
        let mut heard = self.lock();
        let (other, gone) = match &heard.state {
            // What a shim says first is of the process that runs already.
            None => (false, false),
            Some(last) => (last.shim != state.shim, last.pid != state.pid && last.pid != 0),
        };
        if other {
            heard.before += heard.state.as_ref().map_or(0, |last| last.restarts);
        }
        let changed = heard.state.as_ref() != Some(&state);
        self.shared.stats.restarts.set(heard.before + state.restarts);
        heard.state = Some(state.clone());
        drop(heard);
        if gone || other {
            tracing::info!(pid = state.pid, restarts = state.restarts, end = ?state.last_end, "the widget's process has ended");
            self.shared.replaced();
        }
        if changed {
            self.shared.alarm();
        }
    }
}

/// Whether an attempt failed for another reason than that nobody is there.
fn refuses(error: &io::Error) -> bool {
    !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

async fn give(writer: &mut OwnedWriteHalf, grant: Option<&v1::RestartGrant>) -> io::Result<()> {
    let Some(grant) = grant else { return Ok(()) };
    let v1::RestartGrant { epoch, count, window_ms, revoked, only_failures } = *grant;
    let order = if revoked {
        Order::Revoke { epoch }
    } else {
        Order::Give { epoch, count, window_ms, only_failures }
    };
    let mut line = serde_json::to_vec(&order)?;
    line.push(b'\n');
    writer.write_all(&line).await
}

fn end(ended: &Ended) -> v1::WidgetEnd {
    let code = ended.code.map(v1::widget_end::How::ExitCode);
    v1::WidgetEnd {
        how: code.or(ended.signal.map(v1::widget_end::How::Signal)),
        at_micros: i64::try_from(ended.at_micros).unwrap_or(i64::MAX),
        restarted: ended.denied.is_none(),
        denied: ended.denied.map(|why| why.as_str().to_owned()).unwrap_or_default(),
        left: ended.left,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;

    fn wrapped() -> (Arc<Shared>, Arc<Wrapped>) {
        let (_certificates, identity) = Identity::new();
        let shared = Arc::new(Shared::new("default/shop/shop/0".parse().unwrap(), identity));
        (Arc::clone(&shared), Wrapped::new(shared))
    }

    fn line(shim: u64, pid: u32, restarts: u64) -> String {
        serde_json::to_string(&State { shim, pid, restarts, ..State::default() }).unwrap()
    }

    #[test]
    fn the_count_of_restarts_never_falls() {
        let (_shared, wrapped) = wrapped();
        assert_eq!(wrapped.seen(), Seen::default());
        wrapped.hear(&line(1, 7, 0));
        wrapped.hear(&line(1, 8, 2));
        assert_eq!(wrapped.seen().restarts, 2);
        wrapped.hear("rubbish");
        wrapped.hear(&line(2, 7, 0));
        assert_eq!(wrapped.seen().restarts, 2);
        wrapped.hear(&line(2, 9, 1));
        assert_eq!((wrapped.seen().restarts, wrapped.seen().pid), (3, 9));
    }

    #[test]
    fn a_process_that_is_gone_is_told_once_and_one_that_is_found_running_is_not() {
        let (shared, wrapped) = wrapped();
        let lives = shared.lives();
        wrapped.hear(&line(1, 7, 0));
        assert!(!lives.has_changed().unwrap());
        wrapped.hear(&line(1, 7, 0));
        assert!(!lives.has_changed().unwrap());
        wrapped.hear(&line(1, 0, 0));
        assert_eq!(*lives.borrow(), 1);
        wrapped.hear(&line(1, 8, 1));
        assert_eq!(*lives.borrow(), 1);
        wrapped.hear(&line(1, 9, 2));
        assert_eq!(*lives.borrow(), 2);
    }
}
