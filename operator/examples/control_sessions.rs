//! What control sessions cost the operator: a server in this process, and its sessions in another one.
//!
//! `control_sessions 1000 10`: 1,000 sessions that each send signals once a second, for 10 seconds; prints the server's processor time and memory.
#![allow(clippy::print_stdout, reason = "it prints its figures")]
#![allow(clippy::unwrap_used, reason = "what it shares with tests fails the test")]

#[path = "../src/control/tests/client.rs"]
mod client;

use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use kontrol_core::trust::TrustDomain;
use kontrol_operator::{
    authority::{Authority, Keys, Policy},
    clock,
    control::{Event, Proof, Server, Serving},
};
use kontrol_proto::v1::{self, session_request::Message};
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::{sync::mpsc, time::sleep};
use tokio_util::sync::CancellationToken;

const SUBJECT: &str = "default/load/load/0";

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let number = |at: usize, default: u64| arguments.get(at).map_or(Ok(default), |text| text.parse());
    match arguments.first().map(String::as_str) {
        Some("--client") => {
            let (address, folder) =
                (arguments.get(1).context("address")?, arguments.get(2).context("folder")?);
            runtime.block_on(clients(address, Path::new(folder), number(3, 1000)?))
        }
        _ => runtime.block_on(server(number(0, 1000)?, number(1, 10)?)),
    }
}

/// Processor time in seconds and resident memory in MiB.
fn usage() -> anyhow::Result<(f64, f64)> {
    let status = fs::read_to_string("/proc/self/status")?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    let kib: f64 = resident.trim().trim_end_matches(" kB").parse()?;
    let stat = fs::read_to_string("/proc/self/schedstat")?;
    let nanos: f64 = stat.split_whitespace().next().context("schedstat")?.parse()?;
    Ok((nanos / 1e9, kib / 1024.0))
}

async fn server(streams: u64, seconds: u64) -> anyhow::Result<()> {
    let keys = Keys::generate(Policy::default(), clock::now())?;
    let authority = Arc::new(Authority::from_keys(&keys, TrustDomain::default(), Policy::default())?);
    let key = KeyPair::generate()?;
    let request = CertificateParams::default().serialize_request(&key)?;
    let issued = authority.issue(SUBJECT, request.der(), clock::now())?;
    let folder = env::temp_dir().join(format!("control-streams-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("leaf"), &issued.chain[0])?;
    fs::write(folder.join("key"), key.serialize_der())?;
    fs::write(folder.join("ca"), keys.bundle())?;

    let server = Server::bind("127.0.0.1:0").await?;
    let (address, figures) = (server.address().to_string(), server.figures());
    let (events, mut heard) = mpsc::channel::<Event>(4096);
    let (stop, before) = (CancellationToken::new(), usage()?);
    let serving = Serving { authority, proof: Proof::JoinToken, known: Arc::new(|_| true), events };
    let run = server.run(serving, stop.clone());
    let measure = async {
        let mut child = Command::new(env::current_exe()?)
            .args(["--client", &address])
            .arg(&folder)
            .arg(streams.to_string())
            .stdin(Stdio::null())
            .spawn()?;
        let mut sessions = Vec::new();
        let mut said = 0_u64;
        let mut listen = async |until: Duration, enough: u64| {
            let end = sleep(until);
            tokio::pin!(end);
            while figures.sessions() < enough || enough == 0 {
                tokio::select! {
                    event = heard.recv() => match event {
                        Some(Event::Opened { session, .. }) => sessions.push(session),
                        Some(Event::Said { .. }) => said += 1,
                        _ => {}
                    },
                    () = &mut end => break,
                }
            }
            said
        };
        listen(Duration::from_mins(2), streams).await;
        let opened = usage()?;
        let first = listen(Duration::from_secs(2), 0).await;
        let (from, at) = (usage()?, clock::now());
        let last = listen(Duration::from_secs(seconds), 0).await;
        let (to, took) = (usage()?, clock::now().since(at).as_secs_f64());
        println!(
            "{} sessions: {:.0} ms of processor time to open each, {:.1} KiB each; {} messages in {took:.1} s: {:.1} % of one core, {:.0} us each; {:.1} MiB in all",
            figures.sessions(),
            (opened.0 - before.0) * 1e3 / streams as f64,
            (to.1 - before.1) * 1024.0 / streams as f64,
            last - first,
            (to.0 - from.0) / took * 100.0,
            (to.0 - from.0) * 1e6 / (last - first).max(1) as f64,
            to.1,
        );
        child.kill()?;
        child.wait()?;
        stop.cancel();
        anyhow::Ok(())
    };
    let (ended, measured) = tokio::join!(run, measure);
    fs::remove_dir_all(&folder)?;
    measured.and(ended.map_err(Into::into))
}

async fn clients(address: &str, folder: &Path, streams: u64) -> anyhow::Result<()> {
    let leaf = CertificateDer::from(fs::read(folder.join("leaf"))?);
    let key = PrivateKeyDer::Pkcs8(fs::read(folder.join("key"))?.into());
    let mut open = Vec::new();
    for number in 0..streams {
        let identity = (vec![leaf.clone()], key.clone_key());
        let hello = v1::Hello { subject: SUBJECT.into(), ..v1::Hello::default() };
        let mut session = client::Session::open(address, Some(identity), hello).await?;
        session.taken().await?;
        open.push(async move {
            sleep(Duration::from_micros(number * 1_000_000 / streams)).await;
            loop {
                let load = [("inFlight".to_owned(), 3.0)].into();
                let signals = v1::Signals { incarnation: 1, in_flight: 3, load, ..v1::Signals::default() };
                if session.say(Message::Signals(signals)).await.is_err() {
                    return;
                }
                sleep(Duration::from_secs(1)).await;
            }
        });
    }
    futures::future::join_all(open).await;
    Ok(())
}
