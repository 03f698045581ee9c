//! `kontrol-probe`: what a pod of a test does. It is linked statically, so that an image needs nothing else.
//!
//! ```text
//! kontrol-probe serve PORT       answers HTTP with its host name; GET /exit/CODE ends it; ends with 0 on SIGTERM
//! kontrol-probe get HOST:PORT    prints the answer, asking again until there is one
//! kontrol-probe resolve NAME...  prints name, address and milliseconds, asking again until there is an address
//! kontrol-probe write FILE TEXT  writes a file
//! kontrol-probe read FILE        prints a file
//! kontrol-probe wait             waits for SIGTERM
//! kontrol-probe exit CODE        ends
//! kontrol-probe eat MIB          takes that much memory, then waits for SIGTERM
//! ```

use std::{
    fs, io,
    io::Write as _,
    process::ExitCode,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, lookup_host},
    signal::unix::{SignalKind, signal},
    time::{sleep, timeout},
};

/// How long is asked again.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long one question may take.
const ONCE: Duration = Duration::from_secs(2);
/// How long to wait before asking again.
const PAUSE: Duration = Duration::from_millis(20);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    match runtime.block_on(run(&arguments)) {
        Ok(code) => code,
        Err(error) => failed(&error),
    }
}

fn failed(error: &io::Error) -> ExitCode {
    // With standard error gone there is nobody to tell.
    writeln!(io::stderr(), "kontrol-probe: {error}").ok();
    ExitCode::FAILURE
}

async fn run(arguments: &[&str]) -> io::Result<ExitCode> {
    let mut out = io::stdout();
    match arguments {
        ["serve", port] => return serve(port).await,
        ["get", address] => writeln!(out, "{}", again(|| get(address)).await?)?,
        ["resolve", names @ ..] => {
            for name in names {
                #[allow(clippy::disallowed_methods, reason = "what is measured is this program's own time")]
                let begun = Instant::now();
                let address = again(|| resolve(name)).await?;
                writeln!(out, "{name} {address} {:.3}", begun.elapsed().as_secs_f64() * 1000.0)?;
            }
        }
        ["write", file, text] => fs::write(file, text)?,
        ["read", file] => writeln!(out, "{}", fs::read_to_string(file)?)?,
        ["wait"] => stop().await?,
        ["eat", size] => {
            let bytes = size.parse::<usize>().map_err(io::Error::other)? << 20;
            // Written to, or the system would give none.
            let eaten = std::hint::black_box(vec![1_u8; bytes]);
            stop().await?;
            drop(eaten);
        }
        ["exit", code] => return Ok(ExitCode::from(code.parse().unwrap_or(1))),
        _ => return Err(io::Error::other("see its source for how it is used")),
    }
    Ok(ExitCode::SUCCESS)
}

/// Waits until somebody wants it to end.
async fn stop() -> io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

async fn serve(port: &str) -> io::Result<ExitCode> {
    let port: u16 = port.parse().map_err(io::Error::other)?;
    let listener = TcpListener::bind(("0.0.0.0", port)).await?;
    let mut stopped = std::pin::pin!(stop());
    loop {
        tokio::select! {
            ended = &mut stopped => return ended.map(|()| ExitCode::SUCCESS),
            accepted = listener.accept() => {
                // A caller that goes away is no reason to end.
                if let Ok(Ok(Some(code))) = timeout(ONCE, answer(accepted?.0)).await {
                    return Ok(ExitCode::from(code));
                }
            }
        }
    }
}

/// Answers one request; gives the code to end with, where it asked for that.
async fn answer(mut stream: TcpStream) -> io::Result<Option<u8>> {
    let mut request = [0; 1024];
    let length = stream.read(&mut request).await?;
    let request = String::from_utf8_lossy(request.get(..length).unwrap_or_default()).into_owned();
    let path = request.split(' ').nth(1).unwrap_or_default();
    if let Some(code) = path.strip_prefix("/exit/") {
        return Ok(code.parse().ok());
    }
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let body = name.trim();
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    stream.write_all(head.as_bytes()).await?;
    Ok(None)
}

async fn get(address: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    body.ok_or_else(|| io::Error::other("no answer"))
}

async fn resolve(name: &str) -> io::Result<String> {
    let found = lookup_host((name, 0)).await?.next();
    found.map(|address| address.ip().to_string()).ok_or_else(|| io::Error::other("no address"))
}

/// Asks until there is an answer.
async fn again<T, F: Future<Output = io::Result<T>>>(mut ask: impl FnMut() -> F) -> io::Result<T> {
    let asked = async {
        let mut last = io::Error::other("never asked");
        timeout(PATIENCE, async {
            loop {
                match timeout(ONCE, ask()).await {
                    Ok(Ok(answer)) => return Some(answer),
                    Ok(Err(error)) => last = error,
                    Err(_) => last = io::Error::from(io::ErrorKind::TimedOut),
                }
                sleep(PAUSE).await;
            }
        })
        .await
        .ok()
        .flatten()
        .ok_or(last)
    };
    asked.await
}
