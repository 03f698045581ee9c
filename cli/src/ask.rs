//! Commands that ask a running `kontrol up`.

use std::{future::Future, path::Path, time::Duration};

use kontrol_core::{code::Code, id::DEFAULT_NAMESPACE};
use kontrol_operator::local::{connect_admin, running};
use kontrol_proto::{
    status::problem_of,
    v1::{
        DownRequest, LogLine, LogsRequest, RestartRequest, ScaleRequest, TreeNode, TreeRequest, TreeResponse,
        WhyRequest, admin_client::AdminClient,
    },
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::time::timeout;
use tokio_stream::StreamExt;
use tonic::{Status, transport::Channel};

use crate::{
    Outcome,
    args::{Ask, Format, Lines},
    complain, print, render, status, view,
};

/// How long a `kontrol up` may take to begin an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Moves the cursor to the top and clears what is below, for `tree -w` on a terminal.
const HOME: &str = "\x1b[H\x1b[J";

pub(crate) async fn run(command: Ask, place: &Path, named: bool) -> Outcome {
    let Ok(reached) = timeout(PATIENCE, reach(place, named)).await else {
        complain(&silent());
        return Outcome::Failed;
    };
    let mut client = match reached {
        Ok(client) => client,
        Err(text) => {
            complain(&format!("{}: {text}", Code::NotRunning));
            return Outcome::NotRunning;
        }
    };
    match answer(&mut client, command).await {
        Ok(outcome) => outcome,
        Err(refused) => {
            complain(&said(&refused));
            Outcome::Failed
        }
    }
}

/// The names of everything that is there, for completion.
pub(crate) async fn names_there(place: &Path, named: bool) -> Option<Vec<String>> {
    let mut client = timeout(PATIENCE, reach(place, named)).await.ok()?.ok()?;
    let tree = soon(client.tree(TreeRequest {})).await.ok()?.into_inner();
    let mut all = Vec::new();
    for root in &tree.roots {
        walk(root, &mut |found| all.push(found.name));
    }
    Some(all)
}

fn silent() -> String {
    format!(
        "the `kontrol up` here has not answered for {} s: it may be stopped (Ctrl-Z in its terminal, or SIGSTOP); \
         `fg` there, or `kill -CONT` with the pid in the file `lock` of its state folder, lets it go on",
        PATIENCE.as_secs()
    )
}

/// What is answered at once by a `kontrol up` that runs.
async fn soon<T>(answer: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    timeout(PATIENCE, answer).await.unwrap_or_else(|_| Err(Status::deadline_exceeded(silent())))
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
        let text = "no `kontrol up` runs here; start it, or name its state folder with --state-dir; a cluster is asked with --cluster";
        return Err(text.to_owned());
    }
    let list: Vec<String> =
        running.iter().map(|place| format!("\n  --state-dir {}", place.display())).collect();
    Err(format!("no `kontrol up` runs here, but several do elsewhere; name one:{}", list.concat()))
}

async fn answer(client: &mut AdminClient<Channel>, command: Ask) -> Result<Outcome, Status> {
    match command {
        Ask::Tree { watch: false, output } => {
            show(&soon(client.tree(TreeRequest {})).await?.into_inner(), output, false);
        }
        Ask::Tree { watch: true, output } => {
            let mut trees = soon(client.watch(TreeRequest {})).await?.into_inner();
            while let Some(tree) = trees.next().await {
                show(&tree?, output, true);
                if nobody_reads() {
                    break;
                }
            }
        }
        Ask::Status { name, wait, timeout, output } => {
            let look = async || {
                let mut client = client.clone();
                let tree = soon(client.tree(TreeRequest {})).await?.into_inner();
                let path = match &name {
                    Some(name) => Some(path_of(&mut client, &tree, name).await?),
                    None => None,
                };
                Ok::<_, Status>((tree, path))
            };
            return status::follow(look, wait.then_some(timeout), output).await;
        }
        Ask::Why { name, output } => {
            let answer = soon(client.why(WhyRequest { name })).await?.into_inner();
            match output {
                Format::Text => print(&render::why(&answer)),
                format => render::structured(format, &view::Why::from(answer)),
            }
        }
        Ask::Logs { name, follow, tail, sidecars, output } => {
            let all = sidecars || name.as_deref() == Some("hub");
            let request = LogsRequest { name: name.unwrap_or_default(), follow, tail };
            let mut lines = soon(client.logs(request)).await?.into_inner();
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
            let restarted = soon(client.restart(RestartRequest { name })).await?.into_inner();
            print(&format!("{} is being restarted", restarted.target));
        }
        Ask::Scale { name, replicas } => {
            let answer = soon(client.scale(ScaleRequest { name, replicas })).await?.into_inner();
            print(&scaled(&answer.widget, answer.before, replicas));
        }
        Ask::Rollout(_) => {
            complain(
                "here a roll-out is what the manifest says: an edit starts one, `rollout.paused: true` halts it, the old text undoes it, and \
                 `kontrol tree -w` follows it; `rollout` is for a cluster: `kubectl kontrol rollout`, or --cluster",
            );
            return Ok(Outcome::Invalid);
        }
        Ask::Down { force } => {
            // Draining takes as long as the graces of all widgets; one that does not even answer is told apart before.
            soon(client.tree(TreeRequest {})).await?;
            client.down(DownRequest { force }).await?;
            print("everything has stopped");
        }
    }
    Ok(Outcome::Done)
}

/// What became of a wish for replicas.
pub(crate) fn scaled(widget: &str, before: u32, replicas: u32) -> String {
    if before == replicas {
        format!("{widget} has {replicas} already")
    } else {
        format!("{widget} is scaled from {before} to {replicas}")
    }
}

/// A thing in a tree.
struct Found {
    kind: &'static str,
    /// Its full name.
    full: String,
    /// Its name as it is shortest.
    name: String,
}

/// Gives everything at and below a node.
fn walk(node: &TreeNode, give: &mut impl FnMut(Found)) {
    let short = |full: &str| match full.split_once('/') {
        Some((DEFAULT_NAMESPACE, rest)) => rest.to_owned(),
        _ => full.to_owned(),
    };
    let full = format!("{}/{}", node.namespace, node.name);
    let kind = if node.kind == "group" { "group" } else { "supervisor" };
    give(Found { kind, name: short(&full), full: full.clone() });
    for widget in &node.widgets {
        let full = format!("{full}/{}", widget.name);
        give(Found { kind: "widget", name: short(&full), full });
    }
    node.nodes.iter().for_each(|below| walk(below, give));
}

/// What a name means; where nothing has it, the world says what there is.
async fn path_of(
    client: &mut AdminClient<Channel>,
    tree: &TreeResponse,
    name: &str,
) -> Result<(&'static str, String), Status> {
    let mut all = Vec::new();
    tree.roots.iter().for_each(|root| walk(root, &mut |found| all.push(found)));
    let exact = all.iter().find(|found| found.full == name || found.name == name);
    let ends = || all.iter().find(|found| found.full.ends_with(&format!("/{name}")));
    if let Some(found) = exact.or_else(ends) {
        return Ok((found.kind, found.full.clone()));
    }
    soon(client.why(WhyRequest { name: name.to_owned() })).await?;
    Err(Status::not_found(format!("{name} is a replica; name its widget")))
}

pub(crate) fn show(tree: &TreeResponse, output: Format, live: bool) {
    match output {
        Format::Text if live && rustix::termios::isatty(std::io::stdout()) => {
            print(&format!("{HOME}{}", render::tree(tree)));
        }
        // Without a terminal to clear, an empty line ends each tree.
        Format::Text if live => print(&render::tree(tree)),
        Format::Text => print(render::tree(tree).trim_end()),
        Format::Json if live => render::compact(&view::Tree::from(tree.clone())),
        format => {
            if live {
                print("---");
            }
            render::structured(format, &view::Tree::from(tree.clone()));
        }
    }
}

/// Whether who read stdout has gone, such as a `head` that has enough.
pub(crate) fn nobody_reads() -> bool {
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
