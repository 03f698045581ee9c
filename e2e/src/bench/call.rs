//! What two sidecars add to a call: 256 B at 1,000 a second, open loop, against the same client and server with nothing between.

use std::{
    cell::RefCell,
    io::{BufRead as _, BufReader},
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use kontrol_proto::{
    Bytes,
    v1::{CallRequest, calls_client::CallsClient},
};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::{io::unix::AsyncFd, task::LocalSet};
use tonic::transport::{Channel, Endpoint};

use super::{quiet::Busy, results::Row, stats::Samples};
use crate::world::{self, Manifest, World, cpu, replica_of};

const ROUNDS: usize = 6;
const CALLS: u64 = 2_500;
const WARM_UP: u64 = 500;
const EACH: Duration = Duration::from_millis(1);
const BODY: &[u8] = &[0x5a; 256];

fn manifest() -> anyhow::Result<Manifest> {
    Manifest::group("bench", &[]).widget("callee", &["--serve"], &["serves: [{method: echo}]"])?.widget(
        "caller",
        &["--reports=once"],
        &["calls: [{target: callee}]"],
    )
}

/// The kernel's timer: one of the runtime's has steps of a millisecond.
struct Pace(AsyncFd<OwnedFd>);

impl Pace {
    fn begin() -> anyhow::Result<Self> {
        let each = Timespec { tv_sec: 0, tv_nsec: i64::from(EACH.subsec_nanos()) };
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        timerfd_settime(
            &timer,
            TimerfdTimerFlags::empty(),
            &Itimerspec { it_interval: each, it_value: each },
        )?;
        #[allow(
            deprecated,
            reason = "the other way in is unsafe, and this one owns the only handle of its timer"
        )]
        Ok(Self(AsyncFd::new(timer)?))
    }

    /// Waits for the next tick; how many have passed since the last one.
    async fn ticks(&self) -> anyhow::Result<u64> {
        loop {
            let mut ready = self.0.readable().await?;
            let mut count = [0; 8];
            match ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut count)?)) {
                Ok(read) => {
                    read?;
                    return Ok(u64::from_ne_bytes(count));
                }
                Err(_not_yet) => {}
            }
        }
    }
}

/// Calls 1,000 times a second; each latency counts from when the call was meant to begin.
async fn open_loop(channel: &Channel, calls: u64, samples: &Rc<RefCell<Samples>>) -> anyhow::Result<()> {
    let local = LocalSet::new();
    local
        .run_until(async {
            let begun = Instant::now();
            let pace = Pace::begin()?;
            let mut tasks = Vec::new();
            let mut due = 0;
            while due < calls {
                for _ in 0..pace.ticks().await?.min(calls - due) {
                    due += 1;
                    let meant = begun + EACH * u32::try_from(due)?;
                    let (mut client, samples) = (CallsClient::new(channel.clone()), Rc::clone(samples));
                    tasks.push(tokio::task::spawn_local(async move {
                        let request = CallRequest {
                            target: "callee".into(),
                            method: "echo".into(),
                            data: Bytes::from_static(BODY),
                            ..CallRequest::default()
                        };
                        let reply = client.call(request).await?.into_inner();
                        let took = Instant::now().saturating_duration_since(meant);
                        ensure!(reply.data == BODY, "the echo changed what it was given");
                        samples.borrow_mut().push(took);
                        anyhow::Ok(())
                    }));
                }
            }
            for task in tasks {
                task.await??;
            }
            Ok(())
        })
        .await
}

/// The echo without sidecars.
struct Direct(Child);

impl Direct {
    async fn begin() -> anyhow::Result<(Self, Channel)> {
        let program = world::test_widget()?;
        let mut child =
            Command::new(program).args(["--direct", "127.0.0.1:0"]).stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().context("no stdout")?;
        let direct = Self(child);
        let mut address = String::new();
        BufReader::new(output).read_line(&mut address)?;
        let endpoint = Endpoint::from_shared(format!("http://{}", address.trim()))?.tcp_nodelay(true);
        Ok((direct, endpoint.connect().await?))
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        // What cannot be killed has ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// `call.added` and `call.path`.
pub(super) fn added() -> anyhow::Result<Vec<Row>> {
    super::runtime()?.block_on(async {
        let mut world = World::up(&manifest()?).await?;
        let tree = world.ready().await?;
        let sidecar = |name| replica_of(&tree, "bench", name).map(|replica| replica.sidecar_pid);
        let sidecars = [sidecar("caller").context("no caller")?, sidecar("callee").context("no callee")?];
        let used = || anyhow::Ok(cpu(sidecars[0])? + cpu(sidecars[1])?);
        let path = world.door("bench", "caller").await?;
        let (_direct, straight) = Direct::begin().await?;
        let ignored = Rc::default();
        open_loop(&path, WARM_UP, &ignored).await?;
        open_loop(&straight, WARM_UP, &ignored).await?;
        let (ours, bare) = (Rc::new(RefCell::new(Samples::default())), Rc::new(RefCell::new(Samples::default())));
        let busy = Busy::begin()?;
        let mut spent = Duration::ZERO;
        for _ in 0..ROUNDS {
            let before = used()?;
            open_loop(&path, CALLS, &ours).await?;
            spent += used()?.saturating_sub(before);
            open_loop(&straight, CALLS, &bare).await?;
        }
        let busy = busy.end()?;
        let per_call = spent.as_secs_f64() * 1e6 / ours.borrow().len() as f64;
        let bare = bare.borrow().row("direct", "ms", "");
        let note = format!(
            "widget → sidecar → sidecar → widget, 256 B, 1,000 a second, open loop, mTLS on; {ROUNDS} rounds of {CALLS} calls; {busy}"
        );
        let path = ours.borrow().row("call.path", "ms", note).against(&bare);
        let note = format!(
            "call.path less the same client and server direct over TCP, in alternation: p50 {:.1} times the direct p50, p99 {:.1} times the direct p99; \
             {per_call:.0} µs of CPU in both sidecars a call",
            (path.p50 - bare.p50) / bare.p50,
            (path.p99 - bare.p99) / bare.p99,
        );
        let added = Row {
            name: "call.added".into(),
            p50: path.p50 - bare.p50,
            p99: path.p99 - bare.p99,
            max: path.max - bare.max,
            note,
            ..path.clone()
        };
        Ok(vec![added.against(&bare), path])
    })
}
