//! What a restart costs, under a real `kontrol up`.

use std::{fmt::Write as _, time::Instant};

use anyhow::{Context as _, ensure};

use super::{quiet::Busy, results::Row, stats::Samples};
use crate::world::{self, Manifest, Notices, Signal, What, World, replica_of};

const ENDS: usize = 200;
const ROUNDS: usize = 30;
const WIDGETS: usize = 20;

/// A group of test widgets that say what happens to them; with an intensity that no benchmark exhausts.
fn manifest(strategy: &str, widgets: usize, notices: &Notices) -> anyhow::Result<Manifest> {
    let strategy = format!("strategy: {strategy}");
    let mut group = Manifest::group("bench", &[&strategy, "intensity: {maxRestarts: 1000, period: 1s}"]);
    let path = notices.path().display().to_string();
    for at in 0..widgets {
        group = group.widget(&format!("w-{at}"), &["--notify", &path], &["health: {report: {}}"])?;
    }
    Ok(group)
}

/// `restart.process`: from the end of the process to its replacement's first report.
pub(super) fn process() -> anyhow::Result<Vec<Row>> {
    super::runtime()?.block_on(async {
        let folder = world::folder()?;
        let notices = Notices::listen(folder.path())?;
        let mut world = World::start(folder, &manifest("OneForOne", 1, &notices)?)?;
        world.ready().await?;
        let (mut notice, _) = notices.next_of(What::Reported, "w-0").await?;
        let busy = Busy::begin()?;
        let mut samples = Samples::default();
        let ends = [("exit 1", Signal::USR1), ("SIGKILL", Signal::KILL), ("SIGSEGV", Signal::SEGV)];
        let mut of_each = ends.map(|_| Samples::default());
        for (at, &(_, signal)) in ends.iter().cycle().take(ENDS).enumerate() {
            let started = Instant::now();
            world::signal(notice.pid, signal)?;
            let (next, heard) = notices.next_of(What::Reported, "w-0").await?;
            ensure!(next.incarnation == notice.incarnation + 1, "{next} follows {notice}");
            notice = next;
            samples.push(heard - started);
            of_each[at % ends.len()].push(heard - started);
            let incarnation = notice.incarnation;
            world
                .wait("the replacement is ready", |tree| {
                    let replica = replica_of(tree, "bench", "w-0")?;
                    (tree.ready && replica.incarnation == incarnation).then_some(())
                })
                .await?;
        }
        let mut note = "end → replacement's first report heard by its sidecar".to_owned();
        for ((name, _), samples) in ends.iter().zip(&of_each) {
            write!(note, "; {name}: {} ends, p50 {:.1}", samples.len(), samples.percentile(50.0))?;
        }
        write!(note, "; {}", busy.end()?)?;
        Ok(vec![samples.row("restart.process", "ms", note)])
    })
}

/// `restart.one_for_all_20`: one of twenty is killed; all are stopped in reverse and started in order.
pub(super) fn one_for_all() -> anyhow::Result<Vec<Row>> {
    super::runtime()?.block_on(async {
        let folder = world::folder()?;
        let notices = Notices::listen(folder.path())?;
        let mut world = World::start(folder, &manifest("OneForAll", WIDGETS, &notices)?)?;
        let mut pids = started(&notices).await?.0;
        world.ready().await?;
        let busy = Busy::begin()?;
        let mut samples = Samples::default();
        for round in 0..ROUNDS {
            // 7 and 20 have no common divisor: every place is killed once before one is killed twice.
            let victim = round * 7 % WIDGETS;
            let begun = Instant::now();
            world::signal(*pids.get(victim).context("a widget is missing")?, Signal::KILL)?;
            for at in (0..WIDGETS).rev().filter(|at| *at != victim) {
                let (notice, _) = notices.next().await?;
                ensure!(
                    notice.what == What::Stopping && notice.name == format!("w-{at}"),
                    "round {round}: w-{at} was to stop, and {notice} came"
                );
            }
            let (replaced, at) = started(&notices).await?;
            samples.push(at - begun);
            ensure!(replaced.iter().all(|pid| !pids.contains(pid)), "a widget was not replaced");
            pids = replaced;
            world.ready().await?;
        }
        let note = format!(
            "{WIDGETS} widgets, one killed → {} stopped in reverse, all started in order (asserted), the last one's first report heard; {}",
            WIDGETS - 1,
            busy.end()?
        );
        Ok(vec![samples.row("restart.one_for_all_20", "ms", note)])
    })
}

/// Hears all widgets report in order; their processes, and when the last one came.
async fn started(notices: &Notices) -> anyhow::Result<(Vec<u32>, Instant)> {
    let mut pids = Vec::new();
    let mut last = Instant::now();
    for at in 0..WIDGETS {
        let (notice, heard) = notices.next().await?;
        ensure!(
            notice.what == What::Reported && notice.name == format!("w-{at}"),
            "w-{at} was to start, and {notice} came"
        );
        pids.push(notice.pid);
        last = heard;
    }
    Ok((pids, last))
}
