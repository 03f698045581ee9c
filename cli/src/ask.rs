//! Commands that ask a running `kontrol up`.

use std::path::Path;

use kontrol_core::code::Code;
use kontrol_operator::local::{connect_admin, running};
use kontrol_proto::{
    status::problem_of,
    v1::{
        DownRequest, LogLine, LogsRequest, RestartRequest, ScaleRequest, TreeRequest, TreeResponse,
        WhyRequest, admin_client::AdminClient,
    },
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio_stream::StreamExt;
use tonic::{Status, transport::Channel};

use crate::{
    Outcome,
    args::{Ask, Format, Lines},
    complain, print, render, view,
};

/// Moves the cursor to the top and clears what is below, for `tree -w` on a terminal.
const HOME: &str = "\x1b[H\x1b[J";

pub(crate) async fn run(command: Ask, place: &Path, named: bool) -> Outcome {
    let mut client = match reach(place, named).await {
        Ok(client) => client,
        Err(text) => {
            complain(&format!("{}: {text}", Code::NotRunning));
            return Outcome::NotRunning;
        }
    };
    match answer(&mut client, command).await {
        Ok(()) => Outcome::Done,
        Err(refused) => {
            complain(&said(&refused));
            Outcome::Failed
        }
    }
}

/// The world of this state folder; where none was named and none runs in the default one, the only one that runs.
async fn reach(place: &Path, named: bool) -> Result<AdminClient<Channel>, String> {
    if let Some(client) = connect_admin(place).await {
        return Ok(client);
    }
    if named {
        return Err(format!("no `kontrol up` runs in {}", place.display()));
    }
    let running = running().await;
    if let [only] = running.as_slice()
        && let Some(client) = connect_admin(only).await
    {
        return Ok(client);
    }
    if running.is_empty() {
        return Err(
            "no `kontrol up` runs here; start it, or name its state folder with --state-dir".to_owned()
        );
    }
    let list: Vec<String> =
        running.iter().map(|place| format!("\n  --state-dir {}", place.display())).collect();
    Err(format!("no `kontrol up` runs here, but several do elsewhere; name one:{}", list.concat()))
}

async fn answer(client: &mut AdminClient<Channel>, command: Ask) -> Result<(), Status> {
    match command {
        Ask::Tree { watch: false, output } => {
            show(client.tree(TreeRequest {}).await?.into_inner(), output, false);
        }
        Ask::Tree { watch: true, output } => {
            let mut trees = client.watch(TreeRequest {}).await?.into_inner();
            while let Some(tree) = trees.next().await {
                show(tree?, output, true);
                if nobody_reads() {
                    break;
                }
            }
        }
        Ask::Why { name, output } => {
            let answer = client.why(WhyRequest { name }).await?.into_inner();
            match output {
                Format::Text => print(&render::why(&answer)),
                format => render::structured(format, &view::Why::from(answer)),
            }
        }
        Ask::Logs { name, follow, tail, sidecars, output } => {
            let all = sidecars || name.as_deref() == Some("hub");
            let request = LogsRequest { name: name.unwrap_or_default(), follow, tail };
            let mut lines = client.logs(request).await?.into_inner();
            while let Some(line) = lines.next().await {
                let line = line?;
                if all || !is_routine(&line) {
                    log(line, output);
                }
                if nobody_reads() {
                    break;
                }
            }
        }
        Ask::Restart { name } => {
            let restarted = client.restart(RestartRequest { name }).await?.into_inner();
            print(&format!("{} is being restarted", restarted.target));
        }
        Ask::Scale { name, replicas } => {
            let scaled = client.scale(ScaleRequest { name, replicas }).await?.into_inner();
            let text = match scaled.before {
                before if before == replicas => format!("{} has {replicas} already", scaled.widget),
                before => format!("{} is scaled from {before} to {replicas}", scaled.widget),
            };
            print(&text);
        }
        Ask::Down { force } => {
            client.down(DownRequest { force }).await?;
            print("everything has stopped");
        }
    }
    Ok(())
}

fn show(tree: TreeResponse, output: Format, live: bool) {
    match output {
        Format::Text if live && rustix::termios::isatty(std::io::stdout()) => {
            print(&format!("{HOME}{}", render::tree(&tree)));
        }
        // Without a terminal to clear, an empty line ends each tree.
        Format::Text if live => print(&render::tree(&tree)),
        Format::Text => print(render::tree(&tree).trim_end()),
        Format::Json if live => render::compact(&view::Tree::from(tree)),
        format => {
            if live {
                print("---");
            }
            render::structured(format, &view::Tree::from(tree));
        }
    }
}

/// Whether who read stdout has gone, such as a `head` that has enough.
fn nobody_reads() -> bool {
    let stdout = std::io::stdout();
    let mut polled = [PollFd::new(&stdout, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut polled, Some(&now)).is_ok() && polled[0].revents().contains(PollFlags::ERR)
}

/// Whether a line is what sidecars and the hub say in the ordinary way.
pub(crate) fn is_routine(line: &LogLine) -> bool {
    let companion = line.source == "hub" || line.source.ends_with(" sidecar");
    companion && matches!(line.level.as_str(), "info" | "debug")
}

/// Prints one line.
pub(crate) fn log(line: LogLine, output: Lines) {
    match output {
        Lines::Text => print(&render::line(&line)),
        Lines::Json => render::compact(&view::Line::from(line)),
    }
}

fn said(refused: &Status) -> String {
    match problem_of(refused).filter(|problem| !problem.code.is_empty()) {
        Some(problem) => format!("{}: {}", problem.code, problem.message),
        None => refused.message().to_owned(),
    }
}
